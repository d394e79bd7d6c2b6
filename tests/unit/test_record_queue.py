"""What waits for the store of executions: in order, in batches, and never more than is bearable."""

from __future__ import annotations

import msgspec
import pytest

from lowcode_faas_core import record_queue
from lowcode_faas_core.record_queue import Entry, RecordQueue
from lowcode_faas_core.testing.samples import sample_event, sample_record


def filled(count: int) -> RecordQueue:
    queue = RecordQueue()
    for number in range(count):
        queue.put(None, [sample_event(number)])
    return queue


def numbers(batch: list[Entry]) -> list[int]:
    return [line.seq for _, lines, _ in batch for line in lines]


def test_a_batch_holds_so_many_of_the_oldest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_queue, "BATCH_RECORDS", 3)
    queue = filled(5)
    assert queue.has_batch()
    assert numbers(queue.take()) == [0, 1, 2]
    assert not queue.has_batch()
    assert numbers(queue.take()) == [3, 4]
    assert queue.take() == []


def test_a_batch_ends_with_the_entry_that_fills_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_queue, "BATCH_BYTES", record_queue.LINE_BYTES + 1)
    assert numbers(filled(3).take()) == [0]


def test_what_is_put_back_is_taken_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_queue, "BATCH_RECORDS", 2)
    queue = filled(3)
    queue.put_back(queue.take())
    assert numbers(queue.take()) == [0, 1]


def test_what_is_put_back_counts_towards_the_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_queue, "MOST_BYTES", 30_000)
    queue = RecordQueue()
    large = msgspec.structs.replace(sample_event(1), message="x" * 20_000)
    queue.put(None, [large])
    taken = queue.take()
    queue.put(None, [large])
    queue.put_back(taken)
    queue.put(None, [sample_event(2)])
    assert (len(queue), queue.dropped) == (2, 1)


def test_what_is_taken_leaves_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_queue, "MOST_RECORDS", 2)
    monkeypatch.setattr(record_queue, "MOST_BYTES", 5 * record_queue.LINE_BYTES)
    queue = filled(2)
    for _ in range(20):
        queue.take()
        queue.put(None, [sample_event(9)])
    assert queue.dropped == 0


def test_all_that_is_lost_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_queue, "MOST_RECORDS", 4)
    monkeypatch.setattr(record_queue, "BATCH_RECORDS", 2)
    queue = filled(6)
    assert queue.dropped == 2
    queue.drop(queue.take())
    assert queue.dropped == 4
    queue.clear()
    assert (len(queue), queue.dropped) == (0, 6)


def test_no_run_prints_itself_or_others_out_of_the_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many lines as a run may log, of a letter each, take more memory than all may."""
    monkeypatch.setattr(record_queue, "MOST_BYTES", 400_000)
    queue = RecordQueue()
    other, own = sample_record(execution_id="other"), sample_record(execution_id="own")
    queue.put(other, [sample_event(1)])
    queue.put(own, [sample_event(number) for number in range(1, 2000)])
    (first, _, _), (second, lines, _) = queue.take()
    assert (first, second) == (other, own)
    kept = [line.seq for line in lines]
    assert kept == list(range(1, len(kept) + 1))
    assert 100 < len(kept) < 200
    gap = lines[-1]
    assert (gap.log_stream, gap.level) == ("platform", "warn")
    assert gap.message == f"{2000 - len(kept)} more lines of this run are not kept here"
    assert (queue.dropped, queue.dropped_lines) == (0, 2000 - len(kept))
