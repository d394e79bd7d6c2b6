"""What every source fetcher holds: subclass :class:`SourceFetcherContract`, give it two fixtures."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest

from lowcode_faas_core.errors import SourceBlocked, SourceInvalid, SourceUnavailable
from lowcode_faas_core.interfaces.source import FetchLimits, SourceFetcher

__all__ = ["SourceFetcherContract"]

LIMITS = FetchLimits(max_bytes=1000, timeout_s=5.0)


class SourceFetcherContract:
    """Give ``fetcher``, and ``publish``: puts bytes where the fetcher can find them, returns the URL.

    ``publish(b"…")`` of new bytes may return the same URL or another one.
    """

    @pytest.fixture
    def fetcher(self) -> SourceFetcher:
        """Return a fetcher; overridden by the subclass."""
        raise NotImplementedError("a subclass of SourceFetcherContract gives `fetcher`")

    @pytest.fixture
    def publish(self) -> Callable[[bytes], str]:
        """Return the publisher; overridden by the subclass."""
        raise NotImplementedError("a subclass of SourceFetcherContract gives `publish`")

    def test_the_url_has_one_of_its_schemes(
        self, fetcher: SourceFetcher, publish: Callable[[bytes], str]
    ) -> None:
        """``schemes`` are lower case and name what it fetches."""
        assert fetcher.schemes
        assert all(scheme == scheme.lower() for scheme in fetcher.schemes)
        assert publish(b"export {}").partition(":")[0] in fetcher.schemes

    def test_bytes_come_as_they_are_with_their_hash(
        self, fetcher: SourceFetcher, publish: Callable[[bytes], str]
    ) -> None:
        """Nothing is decoded, trimmed or translated on the way."""
        source = "export const handler = () => 'ü🙂';\r\n".encode()
        fetched = fetcher.fetch(publish(source), LIMITS)
        assert fetched is not None
        assert fetched.source == source
        assert fetched.sha256 == hashlib.sha256(source).hexdigest()

    def test_an_etag_saves_the_second_fetch_or_gives_the_same(
        self, fetcher: SourceFetcher, publish: Callable[[bytes], str]
    ) -> None:
        """With the tag of unchanged bytes the answer is ``None`` or those bytes, never others.

        With the tag of other bytes it is always the bytes that are there.
        """
        url = publish(b"export const handler = 1;")
        first = fetcher.fetch(url, LIMITS)
        assert first is not None
        again = fetcher.fetch(url, LIMITS, first.etag)
        assert again is None or again.source == first.source
        changed = fetcher.fetch(publish(b"export const handler = 2;"), LIMITS, first.etag)
        assert changed is not None
        assert changed.source == b"export const handler = 2;"

    def test_what_is_too_large_is_refused(
        self, fetcher: SourceFetcher, publish: Callable[[bytes], str]
    ) -> None:
        """One byte above the limit is a SourceInvalid, exactly the limit is not."""
        fits = fetcher.fetch(publish(b"x" * LIMITS.max_bytes), LIMITS)
        assert fits is not None
        with pytest.raises(SourceInvalid):
            fetcher.fetch(publish(b"x" * (LIMITS.max_bytes + 1)), LIMITS)

    def test_what_is_not_there_is_an_error_of_ours(
        self, fetcher: SourceFetcher, publish: Callable[[bytes], str]
    ) -> None:
        """A URL with nothing behind it raises SourceInvalid or SourceUnavailable."""
        with pytest.raises((SourceInvalid, SourceUnavailable)):
            fetcher.fetch(publish(b"x") + "-not-there", LIMITS)

    def test_another_scheme_is_refused(
        self, fetcher: SourceFetcher, publish: Callable[[bytes], str]
    ) -> None:
        """A URL whose scheme is not one of ``schemes`` is a SourceBlocked, and nothing is fetched."""
        _, _, rest = publish(b"x").partition(":")
        for url in (f"unheard-of:{rest}", "", rest.lstrip("/")):
            with pytest.raises(SourceBlocked):
                fetcher.fetch(url, LIMITS)

    def test_close_may_be_called_twice(self, fetcher: SourceFetcher) -> None:
        """The second ``close`` does nothing."""
        fetcher.close()
        fetcher.close()
