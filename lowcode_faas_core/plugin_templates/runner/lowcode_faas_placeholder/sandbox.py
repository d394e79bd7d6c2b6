"""A Node process with its folder, the socket to its bootstrap, the pipes of what it prints."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path

from lowcode_faas_core.interfaces.launcher import End, Sandbox, Stream

__all__ = ["NodeSandbox"]


class NodeSandbox(Sandbox):
    """Gives back what it holds once the end of the process is certain."""

    def __init__(
        self,
        name: str,
        token: bytes,
        process: subprocess.Popen[bytes],
        channel: socket.socket,
        folder: Path,
    ) -> None:
        assert process.stdout is not None
        assert process.stderr is not None
        self.name = name
        self.token = token
        self.pid = process.pid
        self._process = process
        self._channel = channel
        self._folder = folder
        self._pipes = (process.stdout, process.stderr)
        for pipe in self._pipes:
            os.set_blocking(pipe.fileno(), False)
        self._lock = threading.Lock()
        self._end: End | None = None

    def fileno(self) -> int:
        return self._channel.fileno()

    def read(self, size: int) -> tuple[Stream, bytes]:
        try:
            return Stream.CHANNEL, self._channel.recv(size)
        except ConnectionResetError:
            return Stream.CHANNEL, b""

    def write(self, data: bytes | memoryview) -> int:
        return self._channel.send(data)

    def receive_timeout(self, seconds: float) -> None:
        # The kernel's own timeouts, not Python's: those would poll before each call.
        self._channel.setblocking(seconds > 0)
        if seconds > 0:
            timeval = struct.pack("@ll", *divmod(max(1, int(seconds * 1e6)), 1_000_000))
            self._channel.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)
            self._channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)

    def outputs(self) -> Sequence[tuple[int, Stream]]:
        stdout, stderr = self._pipes
        return (stdout.fileno(), Stream.STDOUT), (stderr.fileno(), Stream.STDERR)

    def said(self) -> str:
        """Return what is there of stderr: why a start failed."""
        with contextlib.suppress(OSError):
            return os.read(self._pipes[1].fileno(), 4096).decode(errors="replace").strip()
        return ""

    def shutdown(self) -> None:
        with contextlib.suppress(OSError):
            self._channel.shutdown(socket.SHUT_RDWR)

    def kill(self) -> None:
        # A Popen knows whether it was waited for: it never signals another process of that number.
        self._process.send_signal(signal.SIGKILL)

    def ended(self, timeout_s: float) -> End | None:
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None
        with self._lock:
            if self._end is None:
                self._end = End(signal=-code) if code < 0 else End(exit_code=code)
                self._channel.close()
                for pipe in self._pipes:
                    pipe.close()
                shutil.rmtree(self._folder, ignore_errors=True)
            return self._end

    def gone(self) -> bool:
        return self._process.poll() is not None
