"""One container and the streams to it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from lowcode_faas_core.interfaces.launcher import End, Sandbox, Stream
from lowcode_faas_docker_runner.ending import Ending
from lowcode_faas_docker_runner.ends import Ends
from lowcode_faas_docker_runner.engine import Engine
from lowcode_faas_docker_runner.line import Line
from lowcode_faas_docker_runner.stream import AttachStream
from lowcode_faas_docker_runner.usage import Usage

__all__ = ["DockerSandbox"]


class DockerSandbox(Sandbox):
    """A started container. ``on_end`` is called once, when the end is confirmed.

    With a ``line`` the conversation goes by that, and the attach stream only tells the end.
    """

    # An engine tells of an end later than a kernel does.
    confirmed_within_s = 2.0

    def __init__(
        self,
        engine: Engine,
        ends: Ends,
        container: str,
        name: str,
        token: bytes,
        stream: AttachStream,
        line: Line | None,
        usage: Usage,
        on_end: Callable[[], None],
    ) -> None:
        self.name = name
        self.token = token
        self.container = container
        self.usage = usage
        self.mixed = line is None
        self._stream = stream
        self._line = line
        self._spoken: AttachStream | Line = line or stream
        self._ending = Ending(engine, ends, container, self._hang_up, on_end)
        # Bound once: they are called for every request.
        self.read = self._spoken.read  # type: ignore[method-assign]
        self.write = self._spoken.write  # type: ignore[method-assign, assignment]
        self.cpu_ns = self.usage.cpu_ns  # type: ignore[method-assign]
        self.peak_rss = self.usage.peak  # type: ignore[method-assign]

    def fileno(self) -> int:
        """Return the descriptor that the conversation goes by."""
        return self._spoken.descriptor

    def outputs(self) -> Sequence[tuple[int, Stream]]:
        """Return the pipes of raw output; none when it comes by the attach stream."""
        return self._line.outputs if self._line is not None else ()

    def read(self, size: int) -> tuple[Stream, bytes]:
        """Return bytes of one stream; every instance replaces this by its stream's own method."""
        raise NotImplementedError

    def write(self, data: bytes | memoryview) -> int:
        """Write what fits; replaced like :meth:`read`."""
        raise NotImplementedError

    def receive_timeout(self, seconds: float) -> None:
        """Set the stream's timeouts."""
        self._spoken.timeout(seconds)

    def shutdown(self) -> None:
        """Shut the streams. Nobody can speak to the container any more, so it is killed."""
        self._ending.kill()

    def kill(self) -> None:
        """Have the container killed by a thread of its own."""
        self._ending.kill()

    def ended(self, timeout_s: float) -> End | None:
        """Return how it ended, once the engine has said that it did."""
        deadline = time.monotonic() + timeout_s
        ending = self._ending
        if not self._stream.tells_its_end:
            ending.ask(it_ended=False)
        elif not ending.asked:
            if not self._stream.over(timeout_s):
                return None
            ending.ask(it_ended=True)
        end = ending.wait(deadline - time.monotonic())
        if end is not None:
            # Here and not where the end is found: only whoever asks knows that nobody reads.
            self._stream.close()
            if self._line is not None:
                self._line.close()
            self.usage.close()
        return end

    def _hang_up(self) -> None:
        # An undrained attach stream was seen to hold up the kill for 25 s.
        self._stream.shutdown()
        if self._line is not None:
            self._line.shutdown()
