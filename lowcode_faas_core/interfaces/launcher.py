"""What starts and kills sandboxes: the only thing a runner plugin for Node must bring."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

from lowcode_faas_core.interfaces.metrics import OperationReport
from lowcode_faas_core.interfaces.versioned import Versioned
from lowcode_faas_core.model import SandboxLimits

__all__ = ["End", "Isolation", "Launcher", "Sandbox", "Stream"]


class Stream(enum.IntEnum):
    """Where bytes from a sandbox came out; the numbers are Docker's."""

    CHANNEL = 0
    STDOUT = 1
    STDERR = 2


@dataclass(frozen=True)
class End:
    """How a sandbox ended, once that is confirmed; what is not known is ``None``."""

    exit_code: int | None = None
    signal: int | None = None
    out_of_memory: bool = False
    #: The sandbox was taken away from outside: removed, or its engine is gone.
    vanished: bool = False


@dataclass(frozen=True)
class Isolation:
    """What separates user code from the host here, for the start-up line and for ``doctor``."""

    summary: str
    #: Names of guarantees that hold, e.g. ``pid-namespace``, ``own-uid``, ``memory-cgroup``.
    features: frozenset[str] = field(default_factory=frozenset)
    #: Whether it is meant to hold against hostile code.
    boundary: bool = False


class Sandbox(ABC):
    """A started Node bootstrap and the byte stream to it. One thread at a time speaks to it.

    ``kill``, ``ended`` and ``gone`` may be called from any thread, also while another one reads.
    ``LauncherContract`` in ``lowcode_faas_core.testing`` checks it.
    """

    #: Secret of this sandbox that opens every frame, 16 bytes.
    token: bytes
    #: Names the sandbox in logs and errors.
    name: str
    #: True when raw output of user code arrives on the channel's own stream (Docker).
    mixed: bool = False
    #: So long after the end of its stream its own end may still be unconfirmed, in seconds; then it
    #: is taken for one that closed its stream and lives on, and killed.
    confirmed_within_s: float = 0.25
    #: Digest of the image it was made of, where there is one.
    image: str | None = None

    @abstractmethod
    def fileno(self) -> int:
        """**Required.** Return the descriptor to poll before :meth:`read` or :meth:`write`."""

    @abstractmethod
    def read(self, size: int) -> tuple[Stream, bytes]:
        """**Required.** Return bytes that are there, about ``size`` at most, and where they came out.

        With :meth:`receive_timeout` set, waits that long and then raises ``BlockingIOError``.
        ``b""`` means the end of the stream, also when it was reset.
        """

    @abstractmethod
    def write(self, data: bytes | memoryview) -> int:
        """**Required.** Write what fits now and return how many bytes that was.

        May wait as long as :meth:`receive_timeout` when nothing fits, then raises
        ``BlockingIOError``; raises ``ConnectionError`` when the other side is gone.
        """

    @abstractmethod
    def receive_timeout(self, seconds: float) -> None:
        """**Required.** Let :meth:`read` and :meth:`write` wait at most this long; 0 is not at all."""

    def outputs(self) -> Sequence[tuple[int, Stream]]:
        """**Optional (default: none).** Non-blocking descriptors of raw output outside the channel."""
        return ()

    @abstractmethod
    def shutdown(self) -> None:
        """**Required.** Close the stream, so that nothing undrained can hold up a kill."""

    @abstractmethod
    def kill(self) -> None:
        """**Required.** End everything in the sandbox at once; returns at once; may be repeated."""

    @abstractmethod
    def ended(self, timeout_s: float) -> End | None:
        """**Required.** Return how it ended once that is certain, ``None`` when it still may live.

        Certain means that no code of the sandbox runs any more. After the first non-None answer
        everything it held is released, and every later call answers the same.
        """

    def gone(self) -> bool:
        """**Optional (default: no).** Tell whether it surely ended already; called once a run.

        A request written to a sandbox that died while idle would count as started otherwise: the
        stream may take it for as long as anything around the sandbox still holds the other end.
        """
        return False

    def cpu_ns(self) -> int | None:
        """**Optional (default: unknown).** CPU time so far, in nanoseconds; called twice a run."""
        return None

    def peak_rss(self) -> int | None:
        """**Optional (default: unknown).** Peak memory so far, in bytes; called once a run."""
        return None

    def own_memory(self) -> int | None:
        """**Optional (default: the peak).** What of the peak its end would give back, in bytes.

        Without what it shares with other sandboxes, as the code of Node is; called about once a
        second where there is a memory budget.
        """
        return self.peak_rss()


class Launcher(Versioned, ABC):
    """Starts sandboxes. One object a process, built after the fork, used by many threads.

    ``LauncherContract`` in ``lowcode_faas_core.testing`` checks it, and ``RunnerContract`` the
    core's runner on top of it.
    """

    @abstractmethod
    def start(self, limits: SandboxLimits, deadline_ns: int) -> Sandbox:
        """**Required.** Return a sandbox whose bootstrap said ``ready``.

        Blocks the caller until then, at most to ``deadline_ns`` (``time.monotonic_ns``). Whatever
        was begun and cannot be finished is ended before this raises. A sandbox never outlives the
        serving process, also when that is killed with SIGKILL.

        :raises RunnerUnavailable: when it cannot be started, with what the operator can do.
        """

    def report_operations_to(self, report: OperationReport) -> None:
        """**Optional (default: nothing).** Learn whom to tell how long calls to an engine took.

        Called once, before anything else. ``report`` may be called from any thread.
        """
        del report

    def prepare(self, limits: SandboxLimits) -> None:
        """**Optional (default: nothing).** Do ahead what a start with these limits begins with.

        Called by one thread, about every second and a moment after each start, with the limits that
        most sandboxes have. What is kept is no sandbox: no Node, and next to no memory. :meth:`close`
        ends it.
        """
        del limits

    @abstractmethod
    def adopt_orphans(self) -> int:
        """**Required.** End what an earlier life of this service left behind; return how many."""

    @abstractmethod
    def isolation(self) -> Isolation:
        """**Required.** Say what separates user code from the host on this machine."""

    @abstractmethod
    def check(self) -> None:
        """**Required.** Return when sandboxes can start now, else raise ``RunnerUnavailable``."""

    @abstractmethod
    def close(self) -> None:
        """**Required.** Release its own things, after all sandboxes ended; may be called twice."""
