"""What every execution store holds: subclass :class:`ExecutionStoreContract`, give it ``store``."""

from __future__ import annotations

import threading

import pytest

from lowcode_faas_core.errors import InvalidValue, NotFound, StorageUnavailable
from lowcode_faas_core.interfaces.executions import ExecutionStore
from lowcode_faas_core.model import RunResult, Status
from lowcode_faas_core.testing.samples import sample_event, sample_result

__all__ = ["ExecutionStoreContract"]


def _at(second: int, **changes: object) -> RunResult:
    return sample_result(started_at=f"2026-01-01T00:00:{second:02}.000000Z", **changes)


class ExecutionStoreContract:
    """Give a fixture ``store``: an empty store."""

    @pytest.fixture
    def store(self) -> ExecutionStore:
        """Return an empty store; overridden by the subclass."""
        raise NotImplementedError("a subclass of ExecutionStoreContract gives the fixture `store`")

    def test_a_record_comes_back_as_it_was(self, store: ExecutionStore) -> None:
        """Every field of a result survives."""
        result = sample_result()
        store.record([result], [])
        assert store.execution(result.execution_id) == result

    def test_an_unknown_execution_is_not_found(self, store: ExecutionStore) -> None:
        """An id that was never recorded raises NotFound."""
        with pytest.raises(NotFound):
            store.execution("nobody-knows")

    def test_the_first_record_of_an_id_stays(self, store: ExecutionStore) -> None:
        """Recording an id again changes nothing: delivery may be repeated."""
        first = sample_result()
        store.record([first], [])
        again = sample_result(execution_id=first.execution_id, status=Status.FAILED)
        store.record([again], [])
        assert store.execution(first.execution_id).status is Status.SUCCEEDED
        assert len(store.executions(None, None, 10).items) == 1

    def test_lists_are_newest_first_and_paged(self, store: ExecutionStore) -> None:
        """Pages neither repeat nor leave out a record."""
        results = [_at(n) for n in range(7)]
        store.record(results, [])
        got: list[str] = []
        cursor = None
        while True:
            page = store.executions(None, None, 3, cursor)
            assert len(page.items) <= 3
            got += [result.execution_id for result in page.items]
            cursor = page.next_cursor
            if cursor is None:
                break
        assert got == [result.execution_id for result in reversed(results)]

    def test_records_of_one_moment_are_paged_too(self, store: ExecutionStore) -> None:
        """Equal start times are no reason to lose or repeat a record."""
        results = [_at(1) for _ in range(5)]
        store.record(results, [])
        first = store.executions(None, None, 3)
        second = store.executions(None, None, 3, first.next_cursor)
        got = [result.execution_id for page in (first, second) for result in page.items]
        assert sorted(got) == sorted(result.execution_id for result in results)

    def test_a_foreign_cursor_is_refused(self, store: ExecutionStore) -> None:
        """A cursor no list has answered is an InvalidValue, not an empty page."""
        with pytest.raises(InvalidValue):
            store.executions(None, None, 3, "not a cursor")

    def test_a_collection_selects_its_subtree_and_no_namesake(self, store: ExecutionStore) -> None:
        """``org/team`` selects ``org/team/x``, and neither ``org/teamX`` nor ``org``."""
        paths = ["", "org", "org/team", "org/team/x", "org/teamX", "org_team", "orgXteam"]
        store.record([_at(n, collection_path=path) for n, path in enumerate(paths)], [])

        def found(subtree: str | None) -> list[str]:
            items = store.executions(subtree, None, 100).items
            return sorted(result.collection_path for result in items)

        assert found("org/team") == ["org/team", "org/team/x"]
        assert found("org") == ["org", "org/team", "org/team/x", "org/teamX"]
        assert found("org_team") == ["org_team"]
        assert found("") == sorted(paths)
        assert found(None) == sorted(paths)

    def test_a_name_selects(self, store: ExecutionStore) -> None:
        """The function's name selects exactly."""
        store.record([_at(n, function_name=name) for n, name in enumerate("aba")], [])
        assert len(store.executions(None, "a", 10).items) == 2
        assert store.executions(None, "A", 10).items == []

    def test_lines_come_in_order_after_a_number(self, store: ExecutionStore) -> None:
        """Lines are in order of ``seq`` however they were written, from ``after_seq`` on."""
        result = sample_result()
        lines = [sample_event(n, f"m{n}", execution_id=result.execution_id) for n in (3, 1, 2)]
        store.record([result], lines[:2])
        store.record([], lines[2:])
        assert [line.seq for line in store.lines(result.execution_id, 0, 10)] == [1, 2, 3]
        assert [line.seq for line in store.lines(result.execution_id, 1, 1)] == [2]
        assert store.lines("another-one", 0, 10) == []

    def test_a_line_recorded_twice_is_one_line(self, store: ExecutionStore) -> None:
        """Delivery may be repeated for lines, too."""
        line = sample_event(1, execution_id="same-execution")
        store.record([], [line])
        store.record([], [line])
        assert store.lines("same-execution", 0, 10) == [line]

    @pytest.mark.parametrize("message", ["", "\0", "ü🙂\u2028", "'; drop table x; --", "%_\\"])
    def test_any_text_survives(self, store: ExecutionStore, message: str) -> None:
        """Text comes back as it was, whatever it holds."""
        store.record([], [sample_event(1, message, execution_id="odd-text-1")])
        assert store.lines("odd-text-1", 0, 10)[0].message == message

    def test_many_threads_lose_nothing(self, store: ExecutionStore) -> None:
        """Records written at the same time are all there."""
        batches = [[_at(n) for n in range(10)] for _ in range(8)]
        threads = [threading.Thread(target=store.record, args=(b, [])) for b in batches]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(store.executions(None, None, 1000).items) == 80

    def test_after_close_it_is_unavailable(self, store: ExecutionStore) -> None:
        """A closed store raises StorageUnavailable, and may be closed again."""
        store.check()
        store.close()
        store.close()
        with pytest.raises(StorageUnavailable):
            store.check()
        with pytest.raises(StorageUnavailable):
            store.execution("whatever")
