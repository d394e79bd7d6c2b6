"""One container and the stream to it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Final

from lowcode_faas_core.interfaces.launcher import End, Sandbox, Stream
from lowcode_faas_docker_runner.ends import Ends
from lowcode_faas_docker_runner.engine import Engine
from lowcode_faas_docker_runner.stream import AttachStream
from lowcode_faas_docker_runner.usage import Usage

__all__ = ["DockerSandbox", "end_of"]

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


class DockerSandbox(Sandbox):
    """A started container. Its end is found out by the threads of ``ends``, never by a request's.

    ``on_end`` is called once, when the end is confirmed, from one of those threads.
    """

    mixed = True

    def __init__(
        self,
        engine: Engine,
        ends: Ends,
        container: str,
        name: str,
        token: bytes,
        stream: AttachStream,
        on_end: Callable[[], None],
    ) -> None:
        self.name = name
        self.token = token
        self.container = container
        self.usage = Usage()
        self._engine = engine
        self._ends = ends
        self._stream = stream
        self._on_end = on_end
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._end: End | None = None
        self._kill_wanted = False
        self._asked = False
        #: The stream ended before anybody here wanted the end.
        self._ended_first = False
        self._engine_was_lost = False
        self._flag_awaited_until = 0.0
        # Bound once: both are called for every request.
        self.read = stream.read  # type: ignore[method-assign]
        self.write = stream.write  # type: ignore[method-assign]
        self.cpu_ns = self.usage.cpu_ns  # type: ignore[method-assign]
        self.peak_rss = self.usage.peak  # type: ignore[method-assign]

    def fileno(self) -> int:
        """Return the descriptor of the attach connection."""
        return self._stream.descriptor

    def read(self, size: int) -> tuple[Stream, bytes]:
        """Return bytes of one stream; every instance replaces this by its stream's own method."""
        raise NotImplementedError

    def write(self, data: bytes | memoryview) -> int:
        """Write what fits; replaced like :meth:`read`."""
        raise NotImplementedError

    def receive_timeout(self, seconds: float) -> None:
        """Set the stream's timeouts."""
        self._stream.timeout(seconds)

    def shutdown(self) -> None:
        """Shut the attach stream. Nobody can speak to the container any more, so it is killed."""
        self.kill()

    def kill(self) -> None:
        """Have the container killed by a thread of its own; the stream is shut before."""
        with self._lock:
            if self._kill_wanted or self._end is not None:
                return
            self._kill_wanted = True
            first, self._asked = not self._asked, True
        # An undrained stream was seen to hold up the kill for 25 s.
        self._stream.shutdown()
        if first:
            self._ends.settle(self.settle)
        else:
            self._ends.hurry()

    def ended(self, timeout_s: float) -> End | None:
        """Return how it ended, once the engine has said that it did."""
        deadline = time.monotonic() + timeout_s
        if not self._over.is_set():
            if not self._asked:
                if not self._stream.over(timeout_s):
                    return None
                self._ask()
            if not self._over.wait(max(0.0, deadline - time.monotonic())):
                return None
        with self._lock:
            # Here and not where the end is found: only whoever asks knows that nobody reads.
            self._stream.close()
            self.usage.close()
        return self._end

    def settle(self) -> bool:
        """Kill it if that is wanted, and find out whether it is over; for the threads of ``ends``.

        False means: not over yet, try again.
        """
        try:
            if self._kill_wanted:
                self._engine.kill(self.container)
            info = self._engine.inspect(self.container)
        except Exception:
            self._engine_was_lost = True
            raise
        if info is None:
            self._finish(End(vanished=True))
            return True
        state = info["State"]
        if state.get("Running") or state.get("Status") == "created":
            return False
        if self._flag_may_follow(state):
            return False
        # With the engine away as the stream ended, it was the engine that took it down.
        self._finish(end_of(state, vanished=self._engine_was_lost and self._ended_first))
        return True

    def _flag_may_follow(self, state: dict[str, Any]) -> bool:
        if self._kill_wanted or state.get("OOMKilled") or state.get("ExitCode") != _KILLED:
            return False
        now = time.monotonic()
        if not self._flag_awaited_until:
            self._flag_awaited_until = now + _FLAG_LATE_S
        return now < self._flag_awaited_until

    def _ask(self) -> None:
        with self._lock:
            first, self._asked = not self._asked, True
            if not self._kill_wanted:
                self._ended_first = True
        if first:
            self._ends.settle(self.settle)

    def _finish(self, end: End) -> None:
        self._end = end
        self._stream.shutdown()
        self._over.set()
        self._on_end()
