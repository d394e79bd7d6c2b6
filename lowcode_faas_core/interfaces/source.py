"""Where sources named by a URL come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from lowcode_faas_core.interfaces.versioned import Versioned

__all__ = ["FetchLimits", "FetchedSource", "SourceFetcher"]


@dataclass(frozen=True)
class FetchLimits:
    """Bounds of one fetch: the source's size in bytes and the whole fetch's time in seconds."""

    max_bytes: int
    timeout_s: float


@dataclass(frozen=True)
class FetchedSource:
    """What was found; ``etag`` is opaque and may be handed back at the next fetch."""

    source: bytes
    sha256: str
    etag: str | None = None


class SourceFetcher(Versioned, ABC):
    """Fetches a function's source from a URL.

    ``SourceFetcherContract`` in ``lowcode_faas_core.testing`` checks it.
    """

    #: URL schemes it serves, lower case.
    schemes: ClassVar[frozenset[str]]

    @abstractmethod
    def fetch(self, url: str, limits: FetchLimits, etag: str | None = None) -> FetchedSource | None:
        """**Required.** Return the source, or ``None`` when it still is what ``etag`` named.

        Whether it is a module is for the caller to find out, and what ``etag`` is for the server.
        Nothing a message says may tell what is behind a URL that is refused.

        :raises SourceBlocked: when the URL is not one it may fetch.
        :raises SourceInvalid: when what is there cannot be a source.
        :raises SourceUnavailable: when the other side failed.
        """

    @abstractmethod
    def close(self) -> None:
        """**Required.** Release everything; may be called twice."""
