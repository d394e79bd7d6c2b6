"""Invocations that take turns on one thread: while one waits, the others go on.

Threads that wait for sandboxes hand the interpreter's lock from one to the next, which costs more
than a short handler does. On a lane, a greenlet of the main loop, a wait is no more than a turn given
up. What may block in any other way is done by a thread, and awaited: see :func:`elsewhere`. Without a
lane everything here blocks as usual, so that the same code runs in a thread of its own.

gunicorn's master has this module, too: it imports nothing of ours.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final, TypeVar

from greenlet import getcurrent, greenlet

__all__ = ["LANES", "Lane", "Lanes", "Wait", "elsewhere", "lane", "pause"]

T = TypeVar("T")

#: Under which name an application's extensions say that it may be called on a lane, since all it
#: waits by is below; and of which requests it does the same whenever their heads repeat.
LANES: Final = "lowcode_faas_lanes"
_EDGES: Final = select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET
_ROOM: Final = select.EPOLLOUT | select.EPOLLET
#: Lanes that are kept for the next invocation: a new one costs a page or two each time.
MOST_FREE: Final = 64


def lane() -> Lane | None:
    """Return the lane this code runs on; ``None``: it has its thread for itself, and may block."""
    current = getcurrent()
    return current if type(current) is Lane else None


def elsewhere(work: Callable[[], T]) -> T:
    """Do what may block: here, or from a lane in a thread, whose end the lane awaits."""
    current = getcurrent()
    return current.lanes.elsewhere(current, work) if type(current) is Lane else work()


def pause(seconds: float) -> None:
    """Wait so long, in seconds."""
    current = lane()
    if current is None:
        time.sleep(seconds)
    else:
        current.lanes.wait(Wait(current.lanes), seconds)


class Wait:
    """What one lane at a time waits by, again and again."""

    __slots__ = ("lane", "lanes", "until")

    def __init__(self, lanes: Lanes) -> None:
        self.lanes = lanes
        #: Who waits now, and until when (``time.monotonic``).
        self.lane: Lane | None = None
        self.until = math.inf

    def end(self) -> None:
        """Have whoever waits go on; called on the main loop."""
        current, self.lane = self.lane, None
        if current is not None:
            current.switch(True)


class Lane(greenlet):  # type: ignore[misc]  # greenlet has no types
    """Runs one invocation after the other on the main loop."""

    lanes: Lanes
    work: Callable[[], None]

    def run(self) -> None:
        """Work until there are enough others that have nothing to do."""
        while True:
            self.work()
            if not self.lanes.keep(self):
                return
            self.parent.switch()


class Lanes:
    """The lanes of one main loop, and what they wait for; used on that loop but where it says so."""

    def __init__(self, submit: Callable[[Callable[[], Any]], Future[Any]]) -> None:
        """Have ``submit`` give work to a thread. Whoever makes this is the main loop."""
        self._submit = submit
        self._hub = getcurrent()
        self._thread = threading.get_ident()
        self._free: list[Lane] = []
        #: What goes on next, without an event.
        self._ready: deque[Callable[[], object]] = deque()
        self._on_event: dict[int, Callable[[], object]] = {}
        self._waits: set[Wait] = set()
        #: Bytes of answers that lanes hold until their clients take them.
        self.untaken = 0
        #: When the first of them ends at the earliest.
        self._next_end = math.inf
        self._epoll = select.epoll()
        self._bell = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.attend(self._bell, self._hear)

    def close(self) -> None:
        """Release the descriptors; no lane goes on after it."""
        self._epoll.close()
        os.close(self._bell)

    def start(self, work: Callable[[], None]) -> None:
        """Do ``work`` on a lane; it catches what may be raised."""
        if self._free:
            current = self._free.pop()
        else:
            current = Lane(parent=self._hub)
            current.lanes = self
        current.work = work
        # A lane goes on from the main loop only, which is what it gives its turn back to.
        if getcurrent() is self._hub:
            current.switch()
        else:
            self._ready.append(current.switch)

    def keep(self, current: Lane) -> bool:
        """Keep a lane that is done for what is started next, unless there are many."""
        if len(self._free) >= MOST_FREE:
            return False
        self._free.append(current)
        return True

    def soon(self, call: Callable[[], object]) -> None:
        """Call something from the main loop; from any thread."""
        self._ready.append(call)
        if threading.get_ident() != self._thread:
            os.eventfd_write(self._bell, 1)

    def attend(self, descriptor: int, on_event: Callable[[], object]) -> None:
        """Call ``on_event`` for as long as there is something to read."""
        self._on_event[descriptor] = on_event
        self._epoll.register(descriptor, select.EPOLLIN)

    def attend_news(self, descriptor: int, on_event: Callable[[], object]) -> None:
        """Call ``on_event`` whenever more has come, and once for what is there already."""
        self._on_event[descriptor] = on_event
        try:
            self._epoll.register(descriptor, _EDGES)
        except FileExistsError:
            self._epoll.modify(descriptor, _EDGES)

    def ignore(self, descriptor: int) -> None:
        """Call nothing any more; before the descriptor is closed."""
        self._on_event.pop(descriptor, None)
        with contextlib.suppress(OSError, ValueError):
            self._epoll.unregister(descriptor)

    def arrivals(self, descriptor: int) -> Wait:
        """Return what a lane waits by for ``descriptor``, as long as that is open."""
        found = Wait(self)
        # Closed, it is forgotten by the kernel; its number, used again, is attended to anew.
        self.attend_news(descriptor, found.end)
        return found

    def departures(self, descriptor: int) -> Wait:
        """Return what a lane waits by until more can be written to ``descriptor``, as long as it is open."""
        found = Wait(self)
        self._on_event[descriptor] = found.end
        self._epoll.register(descriptor, _ROOM)
        return found

    def wait(self, by: Wait, seconds: float) -> bool:
        """Wait on the present lane until ``by`` is ended, or so many seconds; tell which."""
        return self.wait_until(by, time.monotonic() + seconds)

    def wait_until(self, by: Wait, until: float) -> bool:
        """Wait on the present lane until ``by`` is ended, or a ``time.monotonic``; tell which.

        Of arrivals, what came between two waits counts: some may have been read meanwhile.
        """
        by.lane = current = getcurrent()
        by.until = until
        if until < self._next_end:
            self._next_end = until
        self._waits.add(by)
        ended: bool = current.parent.switch()
        self._waits.discard(by)
        return ended

    def turn(self) -> None:
        """Have all go on for whom something has come by now; the present lane after them."""
        current = getcurrent()
        self._ready.append(current.switch)
        current.parent.switch()

    def elsewhere(self, current: Lane, work: Callable[[], T]) -> T:
        """Have a thread do it, and wait on the present lane."""
        done: Future[T] = Future()
        # Taken once: a pool that cannot start one more thread says so, and may do the work all the same.
        claims = iter((None,))

        def do() -> None:
            for _ in claims:
                try:
                    done.set_result(work())
                except BaseException as error:  # it is the lane's
                    done.set_exception(error)

        try:
            self._submit(do)
        except RuntimeError:  # no thread can be had, or this process ends
            do()
        done.add_done_callback(lambda _: self.soon(current.switch))
        current.parent.switch()
        return done.result()

    def run(self, timeout: float) -> None:
        """Wait so many seconds for something to happen, and go on with what it is for."""
        ready = self._ready
        if ready:
            timeout = 0.0
        elif self._waits:
            timeout = max(0.0, min(timeout, self._next_end - time.monotonic()))
        on_event = self._on_event
        for descriptor, _ in self._epoll.poll(timeout):
            if (call := on_event.get(descriptor)) is not None:
                call()
        for _ in range(len(ready)):
            ready.popleft()()
        if self._waits and self._next_end <= time.monotonic():
            self._end_late()

    def _end_late(self) -> None:
        now = time.monotonic()
        for late in [each for each in self._waits if each.until <= now]:
            current, late.lane = late.lane, None
            if current is not None:
                current.switch(False)
        self._next_end = min((each.until for each in self._waits), default=math.inf)

    def _hear(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._bell)
