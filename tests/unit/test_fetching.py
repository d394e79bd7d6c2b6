"""What the core adds to a fetcher: which one is asked, the tag it is asked with, and a place."""

from __future__ import annotations

import pytest

from lowcode_faas_core.admission import SOURCES, Admission
from lowcode_faas_core.errors import CapacityError, SourceBlocked, SourceInvalid, SourceUnavailable
from lowcode_faas_core.fetching import MAX_TAGS, SourceFetching
from lowcode_faas_core.interfaces.source import FetchedSource, FetchLimits
from lowcode_faas_core.testing.memory_source import MemorySourceFetcher

LIMITS = FetchLimits(1000, 5.0)
ONE, TWO = b"export const handler = 1;", b"export const handler = 2;"


class Recording(MemorySourceFetcher):
    """Remembers the tags it was asked with."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str | None] = []

    def fetch(self, url: str, limits: FetchLimits, etag: str | None = None) -> FetchedSource | None:
        self.tags.append(etag)
        return super().fetch(url, limits, etag)


@pytest.fixture
def fetcher() -> Recording:
    found = Recording()
    found.sources = {"memory:a": ONE}
    return found


@pytest.fixture
def admission() -> Admission:
    return Admission(3)


@pytest.fixture
def fetching(fetcher: Recording, admission: Admission) -> SourceFetching:
    return SourceFetching([fetcher], LIMITS, admission)


def test_a_tag_is_sent_only_by_whoever_has_its_source(
    fetching: SourceFetching, fetcher: Recording
) -> None:
    found = fetching.fetch("memory:a")
    assert found is not None
    assert fetching.fetch("memory:a", kept=found.sha256) is None
    assert fetching.fetch("memory:a", kept="other") is not None
    assert fetching.fetch("memory:a") is not None
    assert fetcher.tags == [None, found.etag, None, None]


def test_a_source_that_was_refused_leaves_no_tag(
    fetching: SourceFetching, fetcher: Recording
) -> None:
    fetcher.sources["memory:a"] = b"nothing"
    for _ in range(2):
        with pytest.raises(SourceInvalid):
            fetching.fetch("memory:a", kept="x")
    fetcher.sources["memory:a"] = TWO
    assert fetching.fetch("memory:a", kept="x") is not None
    assert fetcher.tags == [None] * 3


def test_so_many_tags_are_remembered(fetching: SourceFetching, fetcher: Recording) -> None:
    for number in range(MAX_TAGS + 1):
        fetcher.sources[f"memory:{number}"] = ONE
        fetching.fetch(f"memory:{number}")
    assert len(fetching._tags) == MAX_TAGS
    assert "memory:0" not in fetching._tags


def test_what_is_pinned_is_held_to_whatever_the_server_says(
    fetching: SourceFetching, fetcher: Recording
) -> None:
    found = fetching.fetch("memory:a")
    assert found is not None
    assert fetching.fetch("memory:a", pinned=found.sha256, kept=found.sha256) is None
    with pytest.raises(SourceInvalid, match=found.sha256):
        fetching.fetch("memory:a", pinned="0" * 64, kept=found.sha256)


def test_it_takes_a_place_and_gives_it_back(
    fetching: SourceFetching, admission: Admission, fetcher: Recording
) -> None:
    seat = admission.enter(SOURCES, lambda: False)
    with pytest.raises(CapacityError):
        fetching.fetch("memory:a")
    admission.leave(seat)
    with pytest.raises(SourceUnavailable):
        fetching.fetch("memory:absent")
    assert fetching.fetch("memory:a") is not None
    assert admission.occupied == 0


def test_a_scheme_that_nobody_serves_is_told_with_those_that_are(
    fetching: SourceFetching, admission: Admission
) -> None:
    with pytest.raises(SourceBlocked, match="one of the schemes memory"):
        fetching.fetch("https://example.org/")
    with pytest.raises(SourceBlocked, match="LOWCODE_FAAS_SOURCE_FETCHERS names no plugin"):
        SourceFetching([], LIMITS, admission).fetch("https://example.org/")
