"""A source fetcher whose world is a dictionary, for tests."""

from __future__ import annotations

import hashlib
from typing import ClassVar

from lowcode_faas_core.errors import SourceBlocked, SourceInvalid, SourceUnavailable
from lowcode_faas_core.interfaces.source import FetchedSource, FetchLimits, SourceFetcher

__all__ = ["MemorySourceFetcher"]


class MemorySourceFetcher(SourceFetcher):
    """Serves ``memory:`` URLs from :attr:`sources`."""

    schemes: ClassVar[frozenset[str]] = frozenset(("memory",))

    def __init__(self) -> None:
        self.sources: dict[str, bytes] = {}

    def fetch(self, url: str, limits: FetchLimits, etag: str | None = None) -> FetchedSource | None:
        """Return what is kept under ``url``."""
        scheme, colon, _ = url.partition(":")
        if not colon or scheme not in self.schemes:
            raise SourceBlocked("the URL must begin with memory:", "/source_url")
        try:
            source = self.sources[url]
        except KeyError:
            raise SourceUnavailable("there is nothing behind the URL") from None
        if len(source) > limits.max_bytes:
            raise SourceInvalid(f"the source has more than {limits.max_bytes} bytes", "/source_url")
        sha256 = hashlib.sha256(source).hexdigest()
        return None if etag == sha256 else FetchedSource(source, sha256, sha256)

    def close(self) -> None:
        """Do nothing: there is nothing to release."""
