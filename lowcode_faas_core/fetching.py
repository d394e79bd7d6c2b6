"""A source named by a URL: whichever plugin serves its scheme, and what may pass as a module."""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

from lowcode_faas_core.admission import SOURCES, Admission
from lowcode_faas_core.errors import (
    CapacityError,
    InvalidValue,
    PluginError,
    SourceBlocked,
    SourceInvalid,
)
from lowcode_faas_core.interfaces.source import FetchedSource, FetchLimits, SourceFetcher

__all__ = ["MAX_URL", "SourceFetching"]

#: Characters of a URL, at most.
MAX_URL: Final = 2048
#: URLs whose tags one process remembers.
MAX_TAGS: Final = 1000

_POINTER: Final = "/source_url"
_EXPORT: Final = re.compile(rb"\bexport\b")
_MARK: Final = "\ufeff".encode()


class SourceFetching:
    """Fetches sources; for many threads at once. Tags are remembered here, for this process alone.

    A fetch takes the place of an invocation, and all of them half of the places at most, so that
    slow servers leave threads for others.
    """

    def __init__(
        self, fetchers: Sequence[SourceFetcher], limits: FetchLimits, admission: Admission
    ) -> None:
        """Ask each fetcher for its schemes.

        :raises PluginError: two of them serve the same.
        """
        self._by_scheme: dict[str, SourceFetcher] = {}
        for each in fetchers:
            for scheme in each.schemes:
                if self._by_scheme.setdefault(scheme, each) is not each:
                    raise PluginError(f"two source fetchers serve {scheme} URLs; keep one")
        self._limits = limits
        self._admission = admission
        self._at_once = max(1, admission.permits // 2)
        self._turns = threading.BoundedSemaphore(self._at_once)
        #: The tag and sha256 of what was last found under a URL, oldest first.
        self._tags: OrderedDict[str, tuple[str, str]] = OrderedDict()
        self._lock = threading.Lock()

    def fetch(
        self, url: str, *, pinned: str | None = None, kept: str | None = None
    ) -> FetchedSource | None:
        """Return what is there, or ``None`` when the server says it is the source ``kept`` names.

        Both ``pinned``, what it has to be, and ``kept``, what the caller has, are sha256.

        :raises SourceBlocked: the URL may not be fetched from.
        :raises SourceInvalid: what is there is no module, or has another sha256 than ``pinned``.
        :raises SourceUnavailable: the server failed.
        :raises CapacityError: too much is under way.
        """
        fetcher = self._fetcher(url)
        etag, known = self._tags.get(url, (None, None))
        if kept is None or known != kept:
            etag = None
        if not self._turns.acquire(blocking=False):
            raise CapacityError(f"{self._at_once} sources are being fetched by this process")
        try:
            seat = self._admission.enter(SOURCES, lambda: False)
            try:
                found = fetcher.fetch(url, self._limits, etag)
            finally:
                self._admission.leave(seat)
        finally:
            self._turns.release()
        sha256 = kept if found is None else found.sha256
        if pinned is not None and sha256 != pinned:
            raise SourceInvalid(f"the URL has a source whose sha256 is {sha256}", "/sha256")
        if found is not None:
            if found.sha256 != kept:
                _check_module(found.source, self._limits.max_bytes)
            self._remember(url, found)
        return found

    def _fetcher(self, url: str) -> SourceFetcher:
        if len(url) > MAX_URL:
            raise InvalidValue(f"a URL has at most {MAX_URL} characters", _POINTER)
        fetcher = self._by_scheme.get(url.partition(":")[0].lower())
        if fetcher is not None:
            return fetcher
        if not self._by_scheme:
            raise SourceBlocked(
                "this service fetches no sources: LOWCODE_FAAS_SOURCE_FETCHERS names no plugin",
                _POINTER,
            )
        schemes = ", ".join(sorted(self._by_scheme))
        raise SourceBlocked(f"the URL must have one of the schemes {schemes}", _POINTER)

    def _remember(self, url: str, found: FetchedSource) -> None:
        with self._lock:
            self._tags.pop(url, None)
            if found.etag is not None:
                self._tags[url] = (found.etag, found.sha256)
                if len(self._tags) > MAX_TAGS:
                    self._tags.popitem(last=False)


def _check_module(source: bytes, max_bytes: int) -> None:
    """Refuse what certainly is no module with a handler, whether or not Node can be asked.

    :raises SourceInvalid: with the reason, and nothing of the source.
    """
    if len(source) > max_bytes:
        raise SourceInvalid(f"the source has more than {max_bytes} bytes", _POINTER)
    start = source.lstrip()
    if not start:
        raise SourceInvalid("the source is empty", _POINTER)
    if source.startswith(_MARK):
        raise SourceInvalid("the source begins with a byte order mark", _POINTER)
    try:
        source.decode("utf-8")
    except UnicodeDecodeError:
        raise SourceInvalid("the source is not UTF-8", _POINTER) from None
    if start.startswith(b"<"):
        raise SourceInvalid("the source looks like a page, not like a module", _POINTER)
    if not _EXPORT.search(source):
        raise SourceInvalid("the source exports nothing, so it has no handler", _POINTER)
