"""Looks at what is under way: waits for what is about to be written, and follows what is printed.

Whoever waits or follows has a thread, so there are bounds on both. What is looked for may run in
any process: interest shown in the store reaches whoever runs it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

from lowcode_faas_core.admission import Admission
from lowcode_faas_core.errors import CapacityError, NotFound
from lowcode_faas_core.interfaces.executions import EVERY, ExecutionStore
from lowcode_faas_core.model import FunctionRef
from lowcode_faas_core.records import Record, RecordedLine, RecordStatus

__all__ = ["Following"]

#: Whose place a follower has; no function can be called that.
FOLLOWERS: Final = FunctionRef("", "(followers)")
#: Of the places for invocations, one in so many may be a follower's.
PLACES_PER_FOLLOWER: Final = 4
#: Requests that may wait at a time for what they look for; another one is answered at once.
WAITING: Final = 2
#: Longest wait for a record, in seconds: a verdict is written some 0.1 s after the answer, and what
#: runs 0.1 s after somebody asked.
WAIT_S: Final = 0.3
#: How long shown interest holds, and time after which a follower shows it again, in seconds.
INTEREST_S: Final = 30.0
RENEW_S: Final = 10.0
#: Time between two looks, in seconds.
LOOK_S: Final = 0.05
#: Longest time without a word to a follower: a connection that nobody reads is found by it.
HEARTBEAT_S: Final = 10.0
#: Longest time of one connection, in seconds; a client makes another one.
LONGEST_S: Final = 900.0
#: Lines of one look.
MOST_LINES: Final = 500

_UNDER_WAY: Final = RecordStatus.RUNNING


class Following:
    """What views of executions need beside the store; for many threads."""

    def __init__(self, store: ExecutionStore, admission: Admission) -> None:
        self.store: Final = store
        self._admission = admission
        self._places = threading.BoundedSemaphore(max(1, admission.permits // PLACES_PER_FOLLOWER))
        self._waiting = threading.BoundedSemaphore(WAITING)
        self._ended = threading.Event()

    def find(self, execution_id: str) -> Record:
        """Return a record, waiting a moment for one that is about to be written.

        Only the first who asks for an id waits: from then on it is written as soon as it is there.

        :raises NotFound: there is none.
        """
        try:
            return self.store.execution(execution_id)
        except NotFound:
            if not self._waiting.acquire(blocking=False):
                raise
        try:
            news = self.store.show_interest(execution_id, INTEREST_S)
            end = time.monotonic() + (WAIT_S if news else 0.0)
            while True:
                try:
                    return self.store.execution(execution_id)
                except NotFound:
                    if time.monotonic() > end or self._ended.wait(LOOK_S):
                        raise
        finally:
            self._waiting.release()

    def ask_for_all(self) -> None:
        """Have everything that runs written, and wait a moment for that if nobody had asked."""
        if self.store.show_interest(EVERY, INTEREST_S) and self._waiting.acquire(blocking=False):
            try:
                self._ended.wait(WAIT_S / 2)
            finally:
                self._waiting.release()

    def enter(self) -> Callable[[], None]:
        """Take a place for a follower; call what this returns, once, to give it back.

        :raises CapacityError: as many as may follow here, or all places are taken.
        """
        if not self._places.acquire(blocking=False):
            raise CapacityError("as many follow here as may; the next is not taken in")
        try:
            seat = self._admission.enter(FOLLOWERS, lambda: False)
        except BaseException:
            self._places.release()
            raise

        def leave() -> None:
            self._admission.leave(seat)
            self._places.release()

        return leave

    def lines(
        self, execution_id: str, after_seq: int
    ) -> Iterator[list[RecordedLine] | Record | None]:
        """Yield lines as they come, ``None`` when nothing has come for a while, the record at last.

        It ends without the record when the process ends, and after a long time.
        """
        end = time.monotonic() + LONGEST_S
        renew_at = silent_since = 0.0
        while time.monotonic() < end:
            now = time.monotonic()
            if now >= renew_at:
                self.store.show_interest(execution_id, INTEREST_S)
                renew_at = now + RENEW_S
            # The record first: with a verdict, all lines are there.
            record = self.store.execution(execution_id)
            found = self.store.lines(execution_id, after_seq, MOST_LINES)
            if found:
                after_seq = found[-1].seq
                silent_since = now
                yield found
            elif record.status is not _UNDER_WAY:
                yield record
                return
            else:
                if now - silent_since >= HEARTBEAT_S:
                    silent_since = now
                    yield None
                if self._ended.wait(LOOK_S):
                    return

    def end(self) -> None:
        """Send everybody away who waits or follows: the process is about to end."""
        self._ended.set()
