"""Sandboxes made of threads: the whole pool and protocol, without Node and without a process."""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

import msgspec

from lowcode_faas_core.errors import RunnerUnavailable
from lowcode_faas_core.interfaces.launcher import End, Isolation, Launcher, Sandbox, Stream
from lowcode_faas_core.model import SandboxLimits
from lowcode_faas_core.sandbox.protocol import HEADER_BYTES, TOKEN_BYTES, Kind, encode

__all__ = ["Behaviour", "Conversation", "Gone", "StubLauncher", "StubSandbox"]


class Gone(Exception):
    """Raised inside a behaviour when its sandbox was killed."""


class Conversation:
    """The sandbox's side of the channel, for a :data:`Behaviour` to speak with."""

    def __init__(self, sandbox: StubSandbox, end: socket.socket) -> None:
        self._sandbox = sandbox
        self._end = end
        self.token = sandbox.token
        #: The env and source it was loaded with.
        self.loaded: dict[str, Any] = {}

    def receive(self) -> tuple[bytes, bytes]:
        """Return the type and payload of the next frame."""
        header = self._exactly(HEADER_BYTES)
        size = struct.unpack(">I", header[TOKEN_BYTES + 1 :])[0]
        return header[TOKEN_BYTES : TOKEN_BYTES + 1], self._exactly(size)

    def send(self, kind: bytes, payload: Any) -> None:
        """Send one frame; anything but bytes is encoded as JSON."""
        body = payload if isinstance(payload, bytes) else msgspec.json.encode(payload)
        self.raw(encode(self.token, kind, body))

    def log(self, text: str, execution_id: str = "", level: str = "info") -> None:
        """Send one log line."""
        line = {"x": execution_id, "t": str(time.time_ns()), "l": level, "s": "stdout", "m": text}
        self.send(Kind.LOG, line)

    def raw(self, data: bytes) -> None:
        """Send bytes as they are."""
        try:
            self._end.sendall(data)
        except OSError as error:
            raise Gone from error

    def crash(self, end: End) -> None:
        """End the sandbox as a process would end by itself."""
        self._sandbox.crash(end)

    def _exactly(self, size: int) -> bytes:
        data = bytearray()
        while len(data) < size:
            try:
                chunk = self._end.recv(size - len(data))
            except OSError as error:
                raise Gone from error
            if not chunk:
                raise Gone
            data += chunk
        return bytes(data)


#: Answers one RUN frame: gets the conversation, the context and the input. What it returns is sent
#: as the result; ``None`` means that it has answered by itself. It may raise :class:`Gone`.
Behaviour = Callable[[Conversation, dict[str, Any], Any], Any]


def echo(_conversation: Conversation, _context: dict[str, Any], value: Any) -> Any:
    """Return the input as data."""
    return {"ok": True, "data": value}


class StubSandbox(Sandbox):
    """A sandbox whose bootstrap is a thread of this process."""

    def __init__(
        self,
        name: str,
        behaviour: Behaviour,
        end_delay_s: float = 0.0,
        conversation: type[Conversation] = Conversation,
    ) -> None:
        self.name = name
        self._conversation = conversation
        self.token = os.urandom(TOKEN_BYTES)
        self.end = End(signal=9)
        self._behaviour = behaviour
        self._end_delay_s = end_delay_s
        self._host, self._guest = socket.socketpair()
        self._wait_s: float | None = None
        self._over = threading.Event()
        self._confirmed = False
        self._thread = threading.Thread(target=self._live, name=name, daemon=True)
        self._thread.start()

    def fileno(self) -> int:
        """Return the host's end."""
        return self._host.fileno()

    def read(self, size: int) -> tuple[Stream, bytes]:
        """Read from the channel; it is the only stream."""
        flags = socket.MSG_DONTWAIT if self._wait_s == 0 else 0
        return Stream.CHANNEL, self._host.recv(size, flags)

    def write(self, data: bytes | memoryview) -> int:
        """Write to the channel."""
        flags = socket.MSG_DONTWAIT if self._wait_s == 0 else 0
        return self._host.send(data, flags)

    def receive_timeout(self, seconds: float) -> None:
        """Set the kernel's timeouts."""
        self._wait_s = seconds
        if seconds:
            whole, part = divmod(seconds, 1)
            timeval = struct.pack("ll", int(whole), int(part * 1e6))
            self._host.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval)
            self._host.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)

    def shutdown(self) -> None:
        """Close the stream."""
        self._close(self._host)

    def kill(self) -> None:
        """End the thread at its next word."""
        self._close(self._guest)

    def crash(self, end: End) -> None:
        """End it by itself, as a process would."""
        self.end = end
        self.kill()

    def ended(self, timeout_s: float) -> End | None:
        """Return the end once the thread is over."""
        if not self._over.wait(timeout_s):
            return None
        if not self._confirmed:
            self._confirmed = True
            self._host.close()
            self._guest.close()
        return self.end

    @staticmethod
    def _close(end: socket.socket) -> None:
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            return

    def _live(self) -> None:
        conversation = self._conversation(self, self._guest)
        try:
            while True:
                kind, payload = conversation.receive()
                if kind == Kind.LOAD:
                    conversation.loaded = msgspec.json.decode(payload)
                    conversation.send(Kind.LOADED, {"ok": True})
                elif kind == Kind.RUN:
                    run = msgspec.json.decode(payload)
                    answer = self._behaviour(conversation, run["context"], run["input"])
                    if answer is not None:
                        conversation.send(Kind.RESULT, answer)
        except Gone:
            pass
        finally:
            self._close(self._guest)
            time.sleep(self._end_delay_s)
            self._over.set()


class StubLauncher(Launcher):
    """Starts :class:`StubSandbox`es; counts them, and fails or dawdles on demand."""

    def __init__(self, behaviour: Behaviour = echo) -> None:
        self.behaviour = behaviour
        #: How the next sandboxes read and write.
        self.conversation = Conversation
        self.started: list[StubSandbox] = []
        #: Seconds a start and an end take.
        self.start_delay_s = 0.0
        self.end_delay_s = 0.0
        #: Raised by the next starts while set.
        self.failure: Exception | None = None
        self.closed = False
        self._lock = threading.Lock()
        self.peak = 0

    def start(self, limits: SandboxLimits, deadline_ns: int) -> StubSandbox:
        """Start one."""
        delay_ns = int(self.start_delay_s * 1e9)
        if time.monotonic_ns() + delay_ns >= deadline_ns:
            raise RunnerUnavailable("the deadline passed while a sandbox was starting")
        time.sleep(self.start_delay_s)
        if self.failure is not None:
            raise self.failure
        with self._lock:
            name = f"stub-{len(self.started)}"
            sandbox = StubSandbox(name, self._behave, self.end_delay_s, self.conversation)
            self.started.append(sandbox)
        self.peak = max(self.peak, self.living())
        return sandbox

    def living(self) -> int:
        """Return how many have not ended."""
        return sum(sandbox.ended(0) is None for sandbox in list(self.started))

    def adopt_orphans(self) -> int:
        """There is nothing that could outlive this process."""
        return 0

    def isolation(self) -> Isolation:
        """Say that there is none."""
        return Isolation("none: the code is a thread of this process")

    def check(self) -> None:
        """Raise what starts would raise."""
        if self.failure is not None:
            raise RunnerUnavailable(str(self.failure))

    def close(self) -> None:
        """Note that it was closed."""
        self.closed = True

    def _behave(self, conversation: Conversation, context: dict[str, Any], value: Any) -> Any:
        return self.behaviour(conversation, context, value)
