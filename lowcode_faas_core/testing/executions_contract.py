"""What every execution store holds: subclass :class:`ExecutionStoreContract`, give it ``store``."""

from __future__ import annotations

import threading

import pytest

from lowcode_faas_core.errors import InvalidValue, NotFound, StorageUnavailable
from lowcode_faas_core.interfaces.executions import ExecutionStore
from lowcode_faas_core.model import (
    ErrorCode,
    ExecutionError,
    LogSummary,
    Phase,
    StartKind,
    Timings,
    Usage,
)
from lowcode_faas_core.records import Record, RecordFilter, RecordStatus
from lowcode_faas_core.testing.executions_upkeep import ExecutionUpkeepContract
from lowcode_faas_core.testing.samples import sample_line, sample_record, sample_running

__all__ = ["ExecutionStoreContract"]

ALL = RecordFilter()


def _at(second: int, **changes: object) -> Record:
    return sample_record(started_at=f"2026-01-01T00:00:{second:02}.000000Z", **changes)


def _ids(
    store: ExecutionStore, wanted: RecordFilter = ALL, limit: int = 100, pages: int = 1000
) -> list[str]:
    """Return the ids of a list, read page by page."""
    found: list[str] = []
    cursor = None
    for _ in range(pages):
        page = store.executions(wanted, limit, cursor)
        assert len(page.items) <= limit
        found += [record.execution_id for record in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    return found


class ExecutionStoreContract(ExecutionUpkeepContract):
    """The promises of :class:`ExecutionStore`; each check's docstring states one.

    Required: the fixture ``store``, an empty one. Optional: ``reopen``, which makes one more object
    on what ``store`` keeps, as another process would have it; picklable, where processes can share.
    """

    @pytest.fixture
    def store(self) -> ExecutionStore:
        """Return an empty store; overridden by the subclass."""
        raise NotImplementedError("a subclass of ExecutionStoreContract gives the fixture `store`")

    def test_a_record_comes_back_as_it_was(self, store: ExecutionStore) -> None:
        """Every field of a record survives, whether it has a verdict or not."""
        records = [
            sample_record(
                run_id="a run",
                status=RecordStatus.CRASHED,
                error=ExecutionError(
                    code=ErrorCode.EXITED, message="ü🙂\u2028", phase=Phase.RUN, stack="at x"
                ),
                start=StartKind.COLD,
                timings_ms=Timings(0.1, 12.25, 3.0, 15.35),
                usage=Usage(None, None),
                logs=LogSummary(7, True),
                replay_of="an-earlier-one",
                input='{"a":1}',
                output='{"ok":tr',
                output_cut=True,
            ),
            sample_record(),
            sample_running(),
            sample_running(status=RecordStatus.LOST),
        ]
        store.record(records, [])
        assert [store.execution(each.execution_id) for each in records] == records

    def test_a_list_leaves_out_input_and_output(self, store: ExecutionStore) -> None:
        """Input and output, which may be large, are in the one record that is asked for."""
        store.record([sample_record(input="{}", input_cut=True, output="{}", output_cut=True)], [])
        [listed] = store.executions(ALL, 10).items
        assert (listed.input, listed.output) == (None, None)
        assert (listed.input_cut, listed.output_cut) == (False, False)

    def test_an_unknown_execution_is_not_found(self, store: ExecutionStore) -> None:
        """An id that was never recorded raises NotFound, and has no lines."""
        other = sample_record()
        store.record([other], [sample_line(other.execution_id)])
        with pytest.raises(NotFound):
            store.execution("nobody-knows")
        assert store.lines("nobody-knows", 0, 10) == []

    def test_a_verdict_stays(self, store: ExecutionStore) -> None:
        """Recording an id again changes nothing: delivery may be repeated, and come late."""
        first = sample_record()
        store.record([first], [])
        for status in (RecordStatus.FAILED, RecordStatus.LOST, RecordStatus.RUNNING):
            store.record([sample_record(execution_id=first.execution_id, status=status)], [])
        assert store.execution(first.execution_id) == first
        assert _ids(store) == [first.execution_id]

    @pytest.mark.parametrize("before", [RecordStatus.RUNNING, RecordStatus.LOST])
    def test_a_verdict_takes_the_place_of_none(
        self, store: ExecutionStore, before: RecordStatus
    ) -> None:
        """A verdict replaces ``running`` and ``lost``, in lists and filters, too."""
        begun = sample_running(status=before)
        store.record([begun], [])
        done = sample_record(execution_id=begun.execution_id, status=RecordStatus.TIMEOUT)
        store.record([done], [])
        assert store.execution(begun.execution_id) == done
        assert _ids(store, RecordFilter(status=before)) == []
        assert _ids(store, RecordFilter(status=RecordStatus.TIMEOUT)) == [done.execution_id]
        assert _ids(store, RecordFilter(deployment_id=done.deployment_id)) == [done.execution_id]

    def test_lists_are_newest_first_and_paged(self, store: ExecutionStore) -> None:
        """Pages neither repeat nor leave out a record, in whatever order they were recorded."""
        records = [_at(n) for n in (3, 0, 6, 1, 5, 2, 4)]
        store.record(records, [])
        expected = sorted(records, key=lambda each: each.started_at, reverse=True)
        assert _ids(store, limit=3) == [each.execution_id for each in expected]
        assert store.executions(ALL, 7).next_cursor is None

    def test_records_of_one_moment_are_paged_too(self, store: ExecutionStore) -> None:
        """Equal start times are no reason to lose or repeat a record."""
        records = [_at(1, collection_path=f"c{n % 3}") for n in range(7)]
        store.record(records, [])
        got = _ids(store, limit=2)
        assert sorted(got) == sorted(each.execution_id for each in records)

    def test_what_is_recorded_meanwhile_disturbs_no_page(self, store: ExecutionStore) -> None:
        """A newer record between two pages makes no other appear twice or go missing."""
        records = [_at(n) for n in range(5)]
        store.record(records, [])
        first = store.executions(ALL, 2)
        store.record([_at(30)], [])
        second = store.executions(ALL, 10, first.next_cursor)
        got = [each.execution_id for page in (first, second) for each in page.items]
        assert got == [each.execution_id for each in reversed(records)]

    @pytest.mark.parametrize("cursor", ["not a cursor", "", "eA", "MjAyNg"])
    def test_a_foreign_cursor_is_refused(self, store: ExecutionStore, cursor: str) -> None:
        """A cursor no list has answered is an InvalidValue, not an empty page."""
        store.record([_at(1)], [])
        try:
            page = store.executions(ALL, 3, cursor)
        except InvalidValue:
            return
        # A text may happen to be a place in the order; then it is one, and nothing else.
        assert cursor not in ("not a cursor", "")
        assert page.next_cursor is None

    def test_a_collection_selects_its_subtree_and_no_namesake(self, store: ExecutionStore) -> None:
        """``org/team`` selects ``org/team/x``, and neither ``org/teamX`` nor ``org``."""
        paths = ["", "org", "org/team", "org/team/x", "org/teamX", "org_team", "orgXteam", "org-x"]
        store.record([_at(n, collection_path=path) for n, path in enumerate(paths)], [])

        def found(subtree: str | None) -> list[str]:
            items = store.executions(RecordFilter(collection_path=subtree), 100).items
            return sorted(record.collection_path for record in items)

        assert found("org/team") == ["org/team", "org/team/x"]
        assert found("org") == ["org", "org/team", "org/team/x", "org/teamX"]
        assert found("org_team") == ["org_team"]
        assert found("org/nothing") == []
        assert found("") == sorted(paths)
        assert found(None) == sorted(paths)

    def test_each_part_of_a_filter_selects(self, store: ExecutionStore) -> None:
        """Each part selects exactly, alone and with any other, page by page."""
        records = [
            _at(
                n,
                function_name="ab"[n % 2],
                collection_path=("org", "org/team")[n // 2 % 2],
                status=(RecordStatus.SUCCEEDED, RecordStatus.FAILED)[n // 4 % 2],
                start=(StartKind.WARM, StartKind.COLD)[n // 8 % 2],
                deployment_id=f"deployment-{n % 4}",
                run_id=f"run-{n % 3}",
            )
            for n in range(32)
        ]
        store.record(records, [])
        parts: list[dict[str, object]] = [
            {"function_name": "a"},
            {"collection_path": "org/team"},
            {"status": RecordStatus.SUCCEEDED},
            {"status": RecordStatus.FAILED},
            {"start": StartKind.WARM},
            {"start": StartKind.COLD},
            {"deployment_id": "deployment-2"},
            {"run_id": "run-1"},
            {"since": "2026-01-01T00:00:10.000000Z"},
            {"until": "2026-01-01T00:00:10.000000Z"},
        ]
        for one in parts:
            for two in parts:
                wanted = {**one, **two}
                expected = [
                    each.execution_id
                    for each in reversed(records)
                    if all(_has(each, name, value) for name, value in wanted.items())
                ]
                got = _ids(store, RecordFilter(**wanted), limit=3)  # type: ignore[arg-type]
                assert got == expected, wanted
        assert _ids(store, RecordFilter(function_name="A")) == []

    def test_a_run_of_its_own_id_is_found_by_it(self, store: ExecutionStore) -> None:
        """``run_id`` finds the execution it was named after, and those that joined it later."""
        first = _at(1)
        joined = _at(2, run_id=first.execution_id)
        store.record([first, joined, _at(3)], [])
        wanted = RecordFilter(run_id=first.execution_id)
        assert _ids(store, wanted, limit=1) == [joined.execution_id, first.execution_id]

    def test_lines_come_in_order_after_a_number(self, store: ExecutionStore) -> None:
        """Lines are in order of ``seq`` however they were written, from ``after_seq`` on."""
        record = sample_running()
        lines = [sample_line(record.execution_id, n, f"m{n}") for n in (3, 1, 2)]
        store.record([record], lines[:2])
        store.record([], lines[2:])
        assert [line.seq for line in store.lines(record.execution_id, 0, 10)] == [1, 2, 3]
        assert [line.seq for line in store.lines(record.execution_id, 1, 1)] == [2]

    def test_a_line_recorded_twice_is_one_line(self, store: ExecutionStore) -> None:
        """Delivery may be repeated for lines, too."""
        record = sample_record()
        line = sample_line(record.execution_id)
        store.record([record], [line])
        store.record([record], [line, line])
        assert store.lines(record.execution_id, 0, 10) == [line]

    def test_lines_of_nothing_are_dropped(self, store: ExecutionStore) -> None:
        """A line without a record is not kept: nothing would ever delete it."""
        record = sample_record()
        line = sample_line(record.execution_id)
        store.record([], [line])
        store.record([record], [])
        assert store.lines(record.execution_id, 0, 10) == []

    @pytest.mark.parametrize("message", ["", "\0", "ü🙂\u2028", "'; drop table x; --", "%_\\"])
    def test_any_text_survives(self, store: ExecutionStore, message: str) -> None:
        """Text comes back as it was, whatever it holds: lines, errors, inputs."""
        error = ExecutionError(code=ErrorCode.HANDLER_ERROR, message=message, phase=Phase.RUN)
        record = sample_record(error=error, input=message)
        store.record([record], [sample_line(record.execution_id, 1, message)])
        assert store.lines(record.execution_id, 0, 10)[0].message == message
        assert store.execution(record.execution_id) == record

    def test_many_threads_lose_nothing(self, store: ExecutionStore) -> None:
        """Records written at the same time are all there, while others read."""
        batches = [[_at(n) for n in range(10)] for _ in range(8)]
        threads = [threading.Thread(target=store.record, args=(b, [])) for b in batches]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            _ids(store)
        assert len(_ids(store)) == 80

    def test_after_close_it_is_unavailable(self, store: ExecutionStore) -> None:
        """A closed store raises StorageUnavailable, and may be closed again."""
        store.check()
        store.close()
        store.close()
        with pytest.raises(StorageUnavailable):
            store.check()
        with pytest.raises(StorageUnavailable):
            store.execution("whatever")
        with pytest.raises(StorageUnavailable):
            store.record([sample_record()], [])


def _has(record: Record, name: str, value: object) -> bool:
    if name == "collection_path":
        return record.collection_path == value or record.collection_path.startswith(f"{value}/")
    if name == "since":
        return record.started_at >= str(value)
    if name == "until":
        return record.started_at < str(value)
    return bool(getattr(record, name) == value)
