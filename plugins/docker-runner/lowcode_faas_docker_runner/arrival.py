"""From a container's start until it is ready: which way it takes, and what it says when it fails."""

from __future__ import annotations

import contextlib
import select
import time
from collections.abc import Iterator
from typing import Final

import msgspec

from lowcode_faas_core.errors import RunnerUnavailable
from lowcode_faas_core.interfaces.launcher import Sandbox, Stream
from lowcode_faas_core.sandbox.channel import Channel, ChannelClosed, DeadlinePassed
from lowcode_faas_core.sandbox.protocol import Frame, Kind, ProtocolError, greeting
from lowcode_faas_docker_runner.host import left
from lowcode_faas_docker_runner.line import Line
from lowcode_faas_docker_runner.meeting import STAYED_AWAY, Meeting
from lowcode_faas_docker_runner.stream import AttachStream

__all__ = ["OLDEST_NODE", "Arrival"]

#: The oldest Node whose ``require`` takes ES modules and whose types are stripped by default.
OLDEST_NODE: Final = (22, 18)
_READY_BYTES: Final = 4096
_SAID_BYTES: Final = 2000
#: So long what a failed start has said is taken in, in nanoseconds.
_LAST_WORDS_NS: Final = 100_000_000


class _Ready(msgspec.Struct):
    node: str


class Arrival:
    """Waits for one container made of ``image``, until ``deadline_ns``."""

    def __init__(self, image: str, deadline_ns: int) -> None:
        self._image = image
        self._deadline_ns = deadline_ns
        self._said = bytearray()

    def line(self, meeting: Meeting, stream: AttachStream) -> Line | None:
        """Wait for its first words; ``None`` when they come by the attach stream.

        :raises RunnerUnavailable: it ended, or has said nothing by the deadline.
        """
        with self._told():
            poll = select.poll()
            here = meeting.fileno()
            poll.register(here, select.POLLIN)
            poll.register(stream.descriptor, select.POLLIN)
            stream.timeout(0)
            while (left_ns := self._deadline_ns - time.monotonic_ns()) > 0:
                ready = [descriptor for descriptor, _ in poll.poll(left_ns / 1e6 + 1)]
                if here in ready:
                    line = meeting.receive(left_ns / 1e9)
                    if line is not None:
                        return line
                    poll.unregister(here)
                if stream.descriptor in ready and self._turned_back(stream):
                    return None
            raise DeadlinePassed

    def ready(self, sandbox: Sandbox, source: bytes) -> None:
        """Give it the bootstrap and wait until that is ready.

        :raises RunnerUnavailable: it is not, with what it said; or its Node is too old.
        """
        channel = Channel(sandbox, _READY_BYTES, lambda _frame: None, self._keep)
        with self._told():
            try:
                frame = channel.exchange(greeting(sandbox.token, source), self._deadline_ns)
            except ChannelClosed:
                channel.drain_to_end(time.monotonic_ns() + _LAST_WORDS_NS)
                raise
            version = _version(frame)
        if tuple(map(int, version.split(".")[:2])) < OLDEST_NODE:
            raise RunnerUnavailable(
                f"the image {self._image} has Node {version}, which is too old; "
                f"name one with at least {'.'.join(map(str, OLDEST_NODE))} in "
                "LOWCODE_FAAS_NODE_DOCKER_IMAGE"
            )

    def _turned_back(self, stream: AttachStream) -> bool:
        try:
            kind, data = stream.read(_SAID_BYTES)
        except BlockingIOError:
            return False
        if data == STAYED_AWAY:
            return True
        if not data:
            raise ChannelClosed("the stream ended")
        self._keep(kind, data)
        return False

    def _keep(self, _stream: Stream, data: bytes) -> None:
        self._said.extend(data[: _SAID_BYTES - len(self._said)])

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except DeadlinePassed:
            left(self._deadline_ns)
            raise RunnerUnavailable("the deadline passed while a sandbox was starting") from None
        except (ChannelClosed, ProtocolError, msgspec.DecodeError, OSError) as error:
            words = self._said.decode("utf-8", "replace").strip()
            raise RunnerUnavailable(
                f"a sandbox did not get ready: {words or error}; the image is {self._image}"
            ) from error


def _version(frame: Frame) -> str:
    if frame.kind != Kind.READY:
        raise ProtocolError("its first frame is not ready")
    return msgspec.json.decode(frame.payload, type=_Ready).node
