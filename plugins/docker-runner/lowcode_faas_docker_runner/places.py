"""How many containers there may be, and who waits for the next one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from lowcode_faas_core.configuration import PoolSettings
from lowcode_faas_core.errors import CapacityError, Draining

__all__ = ["Places"]


class Places:
    """Places under the cap of this process, with a bounded queue before them; for many threads."""

    def __init__(self, pool: PoolSettings) -> None:
        self._queue_size = pool.queue
        self._queue_ns = pool.queue_timeout_ms * 1_000_000
        self.cap = self.free = pool.max_instances
        self.waiting = 0
        self._closed = False
        self._changed = threading.Condition()

    def take(self, deadline_ns: int) -> Callable[[], None]:
        """Wait for a place, and return what gives it back, the first time it is called.

        :raises CapacityError: the queue is full, or nothing came free in time.
        :raises Draining: closed.
        """
        began_ns = time.monotonic_ns()
        last_ns = min(deadline_ns, began_ns + self._queue_ns)
        with self._changed:
            self._refuse_when_closed()
            if not self.free and self.waiting >= self._queue_size:
                raise CapacityError(f"{self.waiting} invocations are waiting already")
            self.waiting += 1
            try:
                while not self.free:
                    now_ns = time.monotonic_ns()
                    if now_ns >= last_ns:
                        raise self._nothing((now_ns - began_ns) // 1_000_000, now_ns >= deadline_ns)
                    self._changed.wait((last_ns - now_ns) / 1e9)
                    self._refuse_when_closed()
            finally:
                self.waiting -= 1
            self.free -= 1
        return self._giver()

    def close(self) -> None:
        """Turn away who waits and who comes."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _giver(self) -> Callable[[], None]:
        given = False

        def give() -> None:
            nonlocal given
            with self._changed:
                if not given:
                    given = True
                    self.free += 1
                    self._changed.notify_all()

        return give

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise Draining("the service is shutting down")

    def _nothing(self, waited_ms: int, at_deadline: bool) -> CapacityError:
        if at_deadline:
            said = f"the deadline passed after {waited_ms} ms in the queue"
        else:
            said = f"no sandbox came free within {waited_ms} ms"
        return CapacityError(said, phase="queue")
