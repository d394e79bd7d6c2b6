"""A source fetcher written for version 1 of its interface."""

from __future__ import annotations

import hashlib
import os
import re
from pathlib import Path
from typing import ClassVar

from lowcode_faas_core.errors import SourceBlocked, SourceInvalid, SourceUnavailable
from lowcode_faas_core.interfaces.source import FetchedSource, FetchLimits, SourceFetcher

__all__ = ["FrozenFetcher"]

#: No separator, and no dot in front: a name leads neither up nor to hidden files.
_name = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}").fullmatch


class FrozenFetcher(SourceFetcher):
    """Serves ``frozen:NAME``."""

    interface_version = 1
    schemes: ClassVar[frozenset[str]] = frozenset(["frozen"])

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def fetch(self, url: str, limits: FetchLimits, etag: str | None = None) -> FetchedSource | None:
        """Return the bytes of one file; its tag is their hash."""
        scheme, _, name = url.partition(":")
        if scheme not in self.schemes or not _name(name):
            raise SourceBlocked("the URL must be frozen:FILE", "/source_url")
        try:
            # A link could lead to any file of the host, a pipe could keep us waiting.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
            with os.fdopen(os.open(self._folder / name, flags), "rb") as file:
                source = file.read(limits.max_bytes + 1)
        except OSError:
            raise SourceUnavailable("there is nothing behind the URL") from None
        if len(source) > limits.max_bytes:
            raise SourceInvalid(f"the source has more than {limits.max_bytes} bytes", "/source_url")
        sha256 = hashlib.sha256(source).hexdigest()
        return None if etag == sha256 else FetchedSource(source, sha256, sha256)

    def close(self) -> None:
        """Nothing is open."""
