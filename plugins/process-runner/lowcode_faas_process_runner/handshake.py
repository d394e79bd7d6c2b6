"""Sends a new sandbox its greeting and waits until its bootstrap is ready."""

from __future__ import annotations

import select
import socket
import struct
import time
from typing import Final

from lowcode_faas_core.errors import RunnerUnavailable
from lowcode_faas_core.sandbox.protocol import FrameDecoder, Kind, ProtocolError

__all__ = ["NotReady", "await_ready"]

_CREDENTIALS: Final = struct.Struct("@iii")
_READY_BYTES: Final = 4096


class NotReady(Exception):
    """Raised with the reason when a sandbox ended or spoke nonsense instead of getting ready."""


def await_ready(channel: socket.socket, token: bytes, hello: bytes, deadline_ns: int) -> int:
    """Return the pid of whoever said ``ready``, as this process sees it.

    The kernel vouches for the pid (``SO_PASSCRED``): inside its namespace Node has another one.

    :raises NotReady: when it never will.
    :raises RunnerUnavailable: when the deadline passed.
    """
    decoder = FrameDecoder(token, _READY_BYTES)
    unsent = memoryview(hello)
    channel.setblocking(False)
    channel.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    poll = select.poll()
    while True:
        poll.register(channel, select.POLLIN | (select.POLLOUT if unsent else 0))
        left_ms = (deadline_ns - time.monotonic_ns()) / 1e6
        if left_ms <= 0:
            raise RunnerUnavailable("the deadline passed while a sandbox was starting")
        try:
            events = poll.poll(left_ms)
            if unsent and any(happened & select.POLLOUT for _, happened in events):
                unsent = unsent[channel.send(unsent) :]
            if not any(happened & ~select.POLLOUT for _, happened in events):
                continue
            data, ancillary, _, _ = channel.recvmsg(
                _READY_BYTES, socket.CMSG_SPACE(_CREDENTIALS.size)
            )
            frames = decoder.feed(data)
        except (OSError, ProtocolError) as error:
            raise NotReady(str(error)) from error
        if not data:
            raise NotReady("it ended")
        if frames:
            break
    channel.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 0)
    if len(frames) != 1 or frames[0].kind != Kind.READY:
        raise NotReady("its first frame is not ready")
    for level, kind, value in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
            return int(_CREDENTIALS.unpack(value)[0])
    raise NotReady("the kernel did not name the sender")
