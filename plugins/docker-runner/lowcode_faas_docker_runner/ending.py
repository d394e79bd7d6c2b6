"""How one container comes to its end, found out by the threads of ``Ends``, never by a request's."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Final

from lowcode_faas_core.interfaces.launcher import End
from lowcode_faas_docker_runner.ends import Ends
from lowcode_faas_docker_runner.engine import Engine

__all__ = ["Ending", "end_of"]

#: The container's init reports a child killed by signal n as exit code 128 + n.
_SIGNAL_BASE: Final = 128
_LAST_SIGNAL: Final = 64
_KILLED: Final = 128 + 9
#: The engine learns of an out-of-memory kill beside the end, sometimes after it, in seconds.
_FLAG_LATE_S: Final = 0.3


def end_of(state: dict[str, Any], *, vanished: bool = False) -> End:
    """Return the end that the ``State`` of an inspected container tells."""
    code = int(state.get("ExitCode") or 0)
    by_signal = _SIGNAL_BASE < code <= _SIGNAL_BASE + _LAST_SIGNAL
    return End(
        exit_code=None if by_signal else code,
        signal=code - _SIGNAL_BASE if by_signal else None,
        out_of_memory=bool(state.get("OOMKilled")),
        vanished=vanished,
    )


class Ending:
    """Kills a started container when that is wanted, and knows its end once the engine does.

    ``before_kill`` is called once, from whoever asks for the kill; ``on_end`` once, when the end is
    certain, from one of the threads of ``ends``.
    """

    def __init__(
        self,
        engine: Engine,
        ends: Ends,
        container: str,
        before_kill: Callable[[], None],
        on_end: Callable[[], None],
    ) -> None:
        self.end: End | None = None
        #: It was removed before any start of it took effect. False where that is not certain.
        self.never_started = False
        self._engine = engine
        self._ends = ends
        self._container = container
        self._before_kill = before_kill
        self._on_end = on_end
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._asked = False
        self._kill_wanted = False
        #: The container's side ended before anybody here wanted the end.
        self._ended_first = False
        self._engine_was_lost = False
        self._flag_awaited_until = 0.0

    @property
    def asked(self) -> bool:
        """Whether somebody is finding out, or killing it, already."""
        return self._asked

    def ask(self, *, it_ended: bool) -> None:
        """Have found out whether it is over; ``it_ended`` says that its streams suggest so."""
        with self._lock:
            first, self._asked = not self._asked, True
            if it_ended and not self._kill_wanted:
                self._ended_first = True
        if first:
            self._ends.settle(self._settle)
        elif it_ended:
            self._ends.hurry()

    def kill(self) -> None:
        """Have it killed by a thread of its own; may be repeated."""
        with self._lock:
            if self._kill_wanted or self.end is not None:
                return
            self._kill_wanted = True
            first, self._asked = not self._asked, True
        self._before_kill()
        if first:
            self._ends.settle(self._settle)
        else:
            self._ends.hurry()

    def wait(self, timeout_s: float) -> End | None:
        """Return the end once it is certain, ``None`` when it still may live."""
        self._over.wait(max(0.0, timeout_s))
        return self.end

    def _settle(self) -> bool:
        """Kill it if that is wanted, and look; False means that it is not over yet."""
        try:
            if self._kill_wanted:
                self._engine.kill(self._container)
            info = self._engine.inspect(self._container)
        except Exception:
            self._engine_was_lost = True
            raise
        if info is None:
            self._finish(End(vanished=True))
            return True
        state = info["State"]
        if state.get("Status") == "created":
            return self._settle_unstarted()
        if state.get("Running"):
            return False
        if self._flag_may_follow(state):
            return False
        # With the engine away as the stream ended, it was the engine that took it down.
        self._finish(end_of(state, vanished=self._engine_was_lost and self._ended_first))
        return True

    def _settle_unstarted(self) -> bool:
        # Its start failed, or may still be on its way: what is removed can never be started. Not by
        # force, so that one which started since the look stays, and is looked at again.
        if not self._kill_wanted or not self._engine.remove(self._container, force=False):
            return False
        self.never_started = True
        self._finish(End(vanished=True))
        return True

    def _flag_may_follow(self, state: dict[str, Any]) -> bool:
        if self._kill_wanted or state.get("OOMKilled") or state.get("ExitCode") != _KILLED:
            return False
        now = time.monotonic()
        if not self._flag_awaited_until:
            self._flag_awaited_until = now + _FLAG_LATE_S
        return now < self._flag_awaited_until

    def _finish(self, end: End) -> None:
        self.end = end
        self._over.set()
        self._on_end()
