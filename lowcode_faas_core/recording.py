"""From runs to the store of executions: after the answer, in batches, by a thread of its own.

Nothing here waits for the store on the way of an invocation, but for the one row that takes an id
its caller chose. What runs is written while it runs only when somebody shows interest in it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Final

from lowcode_faas_core.configuration import ExecutionSettings
from lowcode_faas_core.errors import FaasError, RequestError, StorageUnavailable
from lowcode_faas_core.interfaces.executions import EVERY, ExecutionStore
from lowcode_faas_core.lanes import elsewhere
from lowcode_faas_core.model import Invocation, LogEvent, Outcome, RunResult
from lowcode_faas_core.record_queue import RecordQueue
from lowcode_faas_core.recorded_run import Run, started_record
from lowcode_faas_core.records import Record, RecordedLine, RecordStatus, line_of, record_of

__all__ = ["FLUSH_S", "LOOK_S", "Recorder"]

_log = logging.getLogger(__name__)

#: Age from which a run may be of interest, and time between two looks at who is interested, in
#: seconds.
LOOK_S: Final = 0.1
#: Time between two looks while what runs is followed: a line is to be seen within 0.2 s.
FOLLOWED_S: Final = 0.05
#: Most that one look hands over, of all runs together: a store may refuse a longer statement, and
#: everything else waits for it. The next look goes on.
LOOK_LINES: Final = 2000
LOOK_CHARACTERS: Final = 1 << 20
#: Executions to be withdrawn that the store did not hear of yet.
MOST_WITHDRAWN: Final = 1000
#: Time between two batches, in seconds.
FLUSH_S: Final = 0.1
#: Time between two rounds of upkeep, in seconds: when nothing happens, and while records come.
TEND_S: Final = 5.0
TEND_BUSY_S: Final = 1.0
#: The first round: what an earlier life left is closed at once, but not by a start that only tries.
TEND_FIRST_S: Final = 0.3
#: Longest spell of upkeep between two batches, in seconds.
TEND_SPELL_S: Final = 0.1
#: Pause after the store was found down, in seconds.
DOWN_S: Final = 1.0
#: Shortest time between two warnings, in seconds.
WARN_EVERY_S: Final = 10.0
#: Time for what still ends, and to write what is left, at close, in seconds.
CLOSE_S: Final = 2.0


class Recorder:
    """Records what this process runs. Used by many threads; :meth:`close` ends its own."""

    def __init__(self, store: ExecutionStore, settings: ExecutionSettings) -> None:
        self._store = store
        self._settings = settings
        self._running: dict[int, Run] = {}
        self._queue = RecordQueue()
        #: Ids whose records are to go, the oldest first.
        self._withdrawn: deque[str] = deque(maxlen=MOST_WITHDRAWN)
        self._urgent = False
        self._followed = False
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._closed = False
        self.recorded = 0
        #: Why the store took nothing the last time; ``None`` when it did.
        self.trouble: str | None = None
        self._warned_at = -WARN_EVERY_S
        self._warned_count = 0
        self._lines_warned_at = -WARN_EVERY_S
        self._warned_lines = 0
        self._down_until = 0.0
        self._tend_at = time.monotonic() + TEND_FIRST_S
        self._thread = threading.Thread(target=self._work, name="executions", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """How many records were dropped."""
        return self._queue.dropped

    def open(
        self,
        invocation: Invocation,
        started_ns: int,
        emit: Callable[[LogEvent], None] | None = None,
    ) -> Run:
        """Begin to record a run; an id that its caller chose is taken in the store first.

        :raises ExecutionIdTaken: there is a record of that id.
        """
        run = Run(self, invocation, started_ns, emit)
        if invocation.chosen:
            try:
                elsewhere(lambda: self._store.begin(started_record(run, invocation)))
                run.written = True
            except StorageUnavailable as error:
                # Unique among the runs in flight, then, which the invoker sees to.
                run.doubtful = True
                self._note(str(error))
        self._running[id(run)] = run
        if not self._wake.is_set():
            self._wake.set()
        return run

    def finish(self, run: Run, result: RunResult) -> None:
        """Queue the verdict."""
        run.ended = True
        invocation, run.invocation = run.invocation, None
        assert invocation is not None  # noqa: S101  # it ends once
        if self._settings.keep_io:
            given, answered = self._text(invocation.input), self._text(result.output)
            record = record_of(
                result, replay_of=invocation.replay_of, given=given, answered=answered
            )
        else:
            record = record_of(result, replay_of=invocation.replay_of)
        self._end(run, record)

    def fail(self, run: Run, error: BaseException) -> None:
        """Forget what never started; record as lost what may have done anything."""
        run.ended = True
        invocation, run.invocation = run.invocation, None
        assert invocation is not None  # noqa: S101  # it ends once
        if _never_started(error):
            run.forgotten = True
            self._running.pop(id(run), None)
            self._withdraw(run)
        else:
            self._end(run, started_record(run, invocation, RecordStatus.LOST))

    def late(self, event: LogEvent) -> None:
        """Queue a line that came after its run."""
        self._put(None, [event])

    def degraded(self) -> list[str]:
        """Return a sentence when the store takes nothing."""
        return [f"executions: {self.trouble}"] if self.trouble else []

    def counts(self) -> dict[str, int]:
        """Return how many records the store took, and how many were dropped."""
        return {"recorded": self.recorded, "dropped": self.dropped}

    def close(self) -> None:
        """Write what is left within the time; may be called twice."""
        if self._closed:
            return
        self._closed = True
        end = time.monotonic() + CLOSE_S / 2
        while self._running and time.monotonic() < end:
            time.sleep(0.01)  # what was cancelled is about to say so
        self._closing.set()
        self._wake.set()
        self._thread.join(CLOSE_S)
        self._queue.clear()
        self._warn(at_close=True)

    def _end(self, run: Run, record: Record) -> None:
        self._running.pop(id(run), None)
        if run.written:
            self._urgent = True
        lines, run.lines = run.lines, []
        self._put(record, lines[run.handed :] if run.handed else lines)

    def _put(self, record: Record | None, lines: list[LogEvent]) -> None:
        self._queue.put(record, lines)
        if not self._wake.is_set():
            self._wake.set()

    def _work(self) -> None:
        flush_at = 0.0
        while not self._closing.is_set():
            busy = bool(self._running or self._queue or self._withdrawn)
            if busy:
                self._closing.wait(FOLLOWED_S if self._followed else LOOK_S)
            else:
                self._followed = False
                flush_at = 0.0
                self._wake.clear()
                # Cleared first, looked second: whoever ends this sets the two the other way round.
                if not (self._running or self._queue or self._withdrawn or self._closing.is_set()):
                    due = max(self._tend_at, self._down_until)
                    self._wake.wait(max(0.0, due - time.monotonic()))
                if self._running or self._queue or self._withdrawn:
                    continue
            now = time.monotonic()
            if now < self._down_until:
                continue
            steps: list[Callable[[], None]] = [self._withdraw_more]
            if busy:
                steps.append(self._look)
                if self._urgent or now >= flush_at or self._queue.has_batch():
                    self._urgent = False
                    steps.append(self._flush)
                    flush_at = now + FLUSH_S
            steps.append(partial(self._tend, busy))
            # Each by itself: whoever follows what cannot be written keeps no verdict from being so,
            # nor this process's claim on what it runs from being renewed.
            for step in steps:
                self._try(step)
            self._warn()
        self._last_flush()

    def _try(self, step: Callable[[], None]) -> None:
        try:
            step()
        except Exception as error:  # the store's trouble is nobody else's
            self._note(_said(error))
            self._down_until = time.monotonic() + DOWN_S

    def _look(self) -> None:
        """Write what runs, and what it has printed so far, where somebody wants to see it."""
        before = time.monotonic_ns() - int(LOOK_S * 1e9)
        old = [run for run in list(self._running.values()) if run.begun_ns <= before]
        self._followed = False
        if not old:
            return
        wanted = self._store.interests()
        if not wanted:
            return
        every = EVERY in wanted
        begun: list[Run] = []
        records: list[Record] = []
        lines: list[RecordedLine] = []
        printed: list[tuple[Run, int]] = []
        share = LOOK_LINES // max(1, sum(run.execution_id in wanted for run in old)) or 1
        for run in old:
            followed = run.execution_id in wanted
            invocation = run.invocation
            if not (followed or every) or invocation is None:
                continue
            if not run.written:
                begun.append(run)
                records.append(started_record(run, invocation))
            if followed:
                self._followed = True
                there = run.lines[run.handed : run.handed + share]
                some = _within(there, LOOK_CHARACTERS * share // LOOK_LINES)
                if some:
                    lines += map(line_of, some)
                    printed.append((run, run.handed + len(some)))
        if not (records or lines):
            return
        self._store.record(records, lines)
        for run, until in printed:
            run.handed = until
        for run in begun:
            run.written = True
            if run.forgotten:  # it was turned away while this was written
                self._withdraw(run)

    def _flush(self) -> None:
        # What comes meanwhile waits for the next time: a store plans and commits each batch anew.
        left = len(self._queue)
        while left > 0:
            batch = self._queue.take()
            left = min(left - len(batch), len(self._queue))
            records = [record for record, _, _ in batch if record is not None]
            lines = [line_of(event) for _, events, _ in batch for event in events]
            try:
                self._store.record(records, lines)
            except StorageUnavailable:
                self._queue.put_back(batch)
                raise
            except Exception:
                self._queue.drop(batch)  # it will not be taken the next time either
                raise
            self.recorded += len(records)
            self.trouble = None

    def _tend(self, busy: bool) -> None:
        now = time.monotonic()
        if now < self._tend_at:
            return
        settings = self._settings
        due = True
        while due and time.monotonic() < now + TEND_SPELL_S and not self._closing.is_set():
            due = self._store.tend(settings.max_age_s, settings.max_bytes)
        pause = TEND_BUSY_S if busy else TEND_S
        self._tend_at = time.monotonic() + (0.0 if due else pause)
        self.trouble = None

    def _last_flush(self) -> None:
        try:
            while self._queue:  # there is no next time for what comes meanwhile
                self._flush()
        except Exception as error:  # as above
            self._note(_said(error))

    def _withdraw(self, run: Run) -> None:
        if run.written or run.doubtful:
            try:
                elsewhere(lambda: self._store.withdraw(run.execution_id))
            except Exception as error:  # as above
                self._note(_said(error))
                self._withdrawn.append(run.execution_id)

    def _withdraw_more(self) -> None:
        """Have the store forget what it did not hear of when it never started."""
        while self._withdrawn:
            execution_id = self._withdrawn[0]
            # Whoever chose the id may have asked again, and that runs.
            if not any(run.execution_id == execution_id for run in list(self._running.values())):
                self._store.withdraw(execution_id)
            self._withdrawn.popleft()

    def _text(self, raw: bytes | memoryview | None) -> tuple[str | None, bool]:
        if raw is None:
            return None, False
        limit = self._settings.io_bytes
        kept = bytes(raw)
        if len(kept) <= limit:
            return kept.decode(), False
        return kept[:limit].decode("utf-8", "ignore"), True

    def _note(self, trouble: str) -> None:
        self.trouble = trouble

    def _warn(self, *, at_close: bool = False) -> None:
        new = self.dropped - self._warned_count
        now = time.monotonic()
        if (new or self.trouble) and (at_close or now - self._warned_at >= WARN_EVERY_S):
            self._warned_at, self._warned_count = now, self.dropped
            reason = self.trouble or "more ran than the store took"
            if new:
                _log.warning("%d executions were not recorded: %s", new, reason)
            else:
                _log.warning("executions cannot be recorded now: %s", reason)
        lines = self._queue.dropped_lines - self._warned_lines
        if lines and (at_close or now - self._lines_warned_at >= WARN_EVERY_S):
            self._lines_warned_at, self._warned_lines = now, self._queue.dropped_lines
            _log.warning("%d lines were not kept with their executions: a run has too many", lines)


def _within(lines: list[LogEvent], most: int) -> list[LogEvent]:
    """Return the first of them that have so many characters together, and one in any case."""
    for number, line in enumerate(lines):
        most -= len(line.message)
        if most < 0:
            return lines[: max(1, number)]
    return lines


def _never_started(error: BaseException) -> bool:
    if isinstance(error, RequestError):
        return True
    return isinstance(error, FaasError) and error.outcome == Outcome.NOT_EXECUTED


def _said(error: BaseException) -> str:
    return str(error) or type(error).__name__
