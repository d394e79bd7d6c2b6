"""One running sandbox: a Node process behind a chain of commands, and the stream to it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from lowcode_faas_core.interfaces.launcher import End, Sandbox, Stream
from lowcode_faas_process_runner import procfs

__all__ = ["ProcessSandbox", "decode_exit"]

_CHANNEL: Final = Stream.CHANNEL
_TIMEVAL: Final = struct.Struct("@ll")
#: A shell reports a child killed by signal n as exit code 128 + n.
_SHELL_SIGNAL_BASE: Final = 128
_LAST_SIGNAL: Final = 64
#: Between two looks at processes that are over but not reaped, in milliseconds.
_LAST_STEPS_MS: Final = 1.0


def decode_exit(
    *, outer: int | None, exact: int | None, behind_shell: bool
) -> tuple[int | None, int | None]:
    """Return exit code and signal, of which one is ``None``.

    ``outer`` is the wait status of the process we started, ``exact`` that of Node itself where the
    kernel gives it. Without it, and behind the namespace's init, an exit code of 129 to 192 is
    taken for the signal a shell reports that way. Neither is known when someone else, who waits for
    every child of the service, took the status away.
    """
    if exact is not None:
        outer = exact
    if outer is None:
        return None, None
    if os.WIFSIGNALED(outer):
        return None, os.WTERMSIG(outer)
    code = os.WEXITSTATUS(outer)
    if (
        exact is None
        and behind_shell
        and _SHELL_SIGNAL_BASE < code <= _SHELL_SIGNAL_BASE + _LAST_SIGNAL
    ):
        return None, code - _SHELL_SIGNAL_BASE
    return code, None


class ProcessSandbox(Sandbox):
    """A process we started (``pid``, the chain's outermost), Node somewhere below it, and pipes.

    ``release`` is called once, when the end is confirmed, from the thread that confirmed it; it
    answers whether the memory limit ended the sandbox.
    """

    mixed = False

    def __init__(
        self,
        *,
        name: str,
        token: bytes,
        pid: int,
        channel: socket.socket,
        stdout: int,
        stderr: int,
        release: Callable[[], bool],
    ) -> None:
        self.name = name
        self.token = token
        self.pid = pid
        #: Node's pid as this host counts, once it has spoken.
        self.node_pid: int | None = None
        self._over_memory = False
        self._channel = channel
        self._outputs = ((stdout, Stream.STDOUT), (stderr, Stream.STDERR))
        self._release = release
        # Descriptors of processes, the outermost first. They name a process even when its pid is
        # used again, and are readable once it has ended.
        self._processes = [os.pidfd_open(pid)]
        self._node_fd: int | None = None
        self._init_fd: int | None = None
        self._status_fd: int | None = None
        self._clock: int | None = None
        self._outer_status: int | None = None
        self._lock = threading.Lock()
        self._end: End | None = None
        self._watch(self._processes[0])
        self._descriptor = channel.fileno()
        # Bound once: both are called for every request.
        self._receive = channel.recv
        self.write = channel.send  # type: ignore[method-assign, assignment]

    def identify(self, node_pid: int, *, behind_init: bool) -> None:
        """Take Node's pid, learned from its first message, while it surely lives.

        :raises OSError: when it has ended meanwhile.
        """
        init_pid = procfs.parent(node_pid) if behind_init else None
        with self._lock:
            if node_pid != self.pid:
                self._node_fd = os.pidfd_open(node_pid)
                self._processes.append(self._node_fd)
                self._watch(self._node_fd)
            if init_pid is not None and init_pid != self.pid:
                self._init_fd = os.pidfd_open(init_pid)
                self._processes.append(self._init_fd)
            # Kept open: it goes on naming this very process, and saves an open for each run.
            self._status_fd = os.open(f"/proc/{node_pid}/status", os.O_RDONLY | os.O_CLOEXEC)
            self.node_pid = node_pid
            self._clock = procfs.cpu_clock(node_pid)

    def fileno(self) -> int:
        """Return the channel's descriptor."""
        return self._descriptor

    def read(self, size: int) -> tuple[Stream, bytes]:
        """Return bytes of the channel; raw output has pipes of its own."""
        try:
            return _CHANNEL, self._receive(size)
        except ConnectionResetError:
            return _CHANNEL, b""

    def write(self, data: bytes | memoryview) -> int:
        """Write what fits; every instance replaces this by its socket's own method."""
        raise NotImplementedError

    def receive_timeout(self, seconds: float) -> None:
        """Set the kernel's own timeouts, so that a quick answer needs no poll before the read."""
        if seconds <= 0:
            self._channel.setblocking(False)
            return
        # All zeros would mean for ever.
        micros = max(1, int(seconds * 1_000_000))
        value = _TIMEVAL.pack(*divmod(micros, 1_000_000))
        self._channel.setblocking(True)
        self._channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
        self._channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)

    def outputs(self) -> Sequence[tuple[int, Stream]]:
        """Return the pipes of stdout and stderr."""
        return self._outputs

    def shutdown(self) -> None:
        """Close the conversation; the descriptors stay until the end is confirmed."""
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)

    def kill(self) -> None:
        """Kill the namespace's init, and with it everything inside, and the whole session."""
        with self._lock:
            if self._end is not None:
                return
            if self._outer_status is None:
                # Not reaped yet, so the number still means this process group. Before the init:
                # unshare would complain on the function's stderr about the signal that ended it.
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._processes[0], signal.SIGKILL)
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(self.pid, signal.SIGKILL)
            if self._init_fd is not None:
                with contextlib.suppress(ProcessLookupError):
                    signal.pidfd_send_signal(self._init_fd, signal.SIGKILL)

    def kill_for_memory(self) -> None:
        """Kill it and have its end say why."""
        self._over_memory = True
        self.kill()

    def said(self) -> str:
        """Return what is there of stderr, at most 4 KB: for a sandbox nobody else reads yet."""
        try:
            data = os.read(self._outputs[1][0], 4096)
        except OSError:
            return ""
        return data.decode("utf-8", "replace").strip()

    def ended(self, timeout_s: float) -> End | None:
        """Return how it ended, once every process of the chain has; reaps the outermost."""
        deadline = time.monotonic() + timeout_s
        while True:
            with self._lock:
                if self._end is not None:
                    return self._end
                waiting = self._still_running()
                if waiting is None and self._reap():
                    self._end = self._finish()
                    return self._end
                # What is not reaped by now is so within the microseconds of its last steps.
                descriptor, event = waiting or (self._processes[0], 0)
                # A duplicate, so that a thread that confirms the end first cannot close it away.
                try:
                    watched = os.dup(descriptor)
                except OSError:
                    watched = -1
            left = deadline - time.monotonic()
            if watched < 0:
                # No descriptor is left, which must not be the reason that nothing ends any more.
                if left <= 0:
                    return None
                time.sleep(min(left, _LAST_STEPS_MS / 1000))
                continue
            try:
                if left <= 0:
                    return None
                poll = select.poll()
                poll.register(watched, event)
                poll.poll(min(left * 1000, _LAST_STEPS_MS) if waiting is None else left * 1000)
            finally:
                os.close(watched)

    def gone(self) -> bool:
        """Tell whether Node ended; about 1 µs. The chain around it holds the channel a little on."""
        if self._end is not None:
            return True
        try:
            return bool(self._gone.poll(0))
        except RuntimeError:  # the pool looks at the same moment: one poll object, one thread
            poll = select.poll()
            poll.register(self._watched, select.POLLIN)
            return bool(poll.poll(0))

    def cpu_ns(self) -> int | None:
        """Return the CPU time of Node's threads; a child of user code is not counted."""
        if self._clock is None or self._end is not None:
            return None
        try:
            return time.clock_gettime_ns(self._clock)
        except OSError:
            return None

    def peak_rss(self) -> int | None:
        """Return the peak of Node's resident memory; about 3 µs."""
        return _kib(self._status(), b"VmHWM:")

    def own_memory(self) -> int | None:
        """Return that peak without what is mapped from files: every Node has the same."""
        status = self._status()
        peak = _kib(status, b"VmHWM:")
        return None if peak is None else max(0, peak - (_kib(status, b"RssFile:") or 0))

    def _status(self) -> bytes:
        if self._status_fd is None:
            return b""
        try:
            return os.pread(self._status_fd, 4096, 0)
        except OSError:
            return b""

    def _watch(self, process: int) -> None:
        """Have :meth:`gone` look at this descriptor of a process."""
        self._watched = process
        self._gone = select.poll()
        self._gone.register(process, select.POLLIN)

    def _still_running(self) -> tuple[int, int] | None:
        """Return a descriptor and the event on it that must come before all is over."""
        poll = select.poll()
        for descriptor in self._processes:
            poll.register(descriptor, select.POLLIN)
        over = {descriptor for descriptor, _ in poll.poll(0)}
        for descriptor in self._processes:
            if descriptor not in over:
                return descriptor, select.POLLIN
        if self._init_fd is None and self._holders_left():
            # Killed before Node had spoken: nobody told the init's pid. Its end shows in the pipe.
            return self._outputs[0][0], 0
        return None

    def _reap(self) -> bool:
        """Take the outermost process off the table; False while one of its group still dies.

        Where this process is the init of a container, or a subreaper, the members of the group the
        outermost left behind are handed to it as well. Other children of the service are in other
        groups: they are never touched.
        """
        while True:
            try:
                pid, status = os.waitpid(-self.pid, os.WNOHANG)
            except ChildProcessError:
                return True
            if pid == 0:
                return False
            if pid == self.pid:
                self._outer_status = status

    def _holders_left(self) -> bool:
        """Tell whether a process of the chain still holds the writing end of stdout."""
        if self.node_pid is not None:
            return False
        poll = select.poll()
        poll.register(self._outputs[0][0], 0)
        return not any(events & select.POLLHUP for _, events in poll.poll(0))

    def _finish(self) -> End:
        exact = procfs.exit_status(self._node_fd) if self._node_fd is not None else None
        code, number = decode_exit(
            outer=self._outer_status, exact=exact, behind_shell=self._init_fd is not None
        )
        out_of_memory = self._release()
        self._channel.close()
        for descriptor, _ in self._outputs:
            os.close(descriptor)
        for descriptor in self._processes:
            os.close(descriptor)
        status_fd, self._status_fd = self._status_fd, None
        if status_fd is not None:
            os.close(status_fd)
        return End(exit_code=code, signal=number, out_of_memory=out_of_memory or self._over_memory)


def _kib(status: bytes, name: bytes) -> int | None:
    """Return in bytes what a line of ``/proc/…/status`` has in KiB."""
    at = status.find(name)
    return None if at < 0 else int(status[at + len(name) : status.index(b"kB", at)]) * 1024
