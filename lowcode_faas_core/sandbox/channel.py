"""The conversation with one sandbox: one request frame out, one answering frame back.

A request that fits the socket buffer costs one blocking write and one blocking read with the
kernel's own timeout. When that read times out, and for larger requests from the start, the
exchange goes on in a ``poll`` loop over every descriptor: a sandbox that logs synchronously while
the host writes 5 MB, or that fills its stdout pipe, would otherwise block both sides for ever.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from typing import Final

from lowcode_faas_core.interfaces.launcher import Sandbox, Stream
from lowcode_faas_core.lanes import Lanes, Wait, elsewhere, lane
from lowcode_faas_core.sandbox.protocol import Frame, FrameDecoder, Kind, ProtocolError

__all__ = ["Channel", "ChannelClosed", "DeadlinePassed", "NothingDelivered", "NothingSent"]

#: How long the quick read waits before the exchange goes on in the poll loop, in seconds.
QUICK_READ_S: Final = 0.05
#: The same in nanoseconds, with room for the kernel's rounding.
QUICK_READ_NS: Final = 60_000_000
#: Requests up to this many bytes fit an empty socket buffer, so that writing them cannot block.
QUICK_WRITE_BYTES: Final = 64 << 10
#: Bytes of one read.
READ_BYTES: Final = 64 << 10
#: The same on a lane, where everybody waits until what came is dealt with.
LANE_READ_BYTES: Final = 16 << 10
#: Raw output taken from one descriptor after a result, in bytes: a background thread or a child
#: of user code that never stops printing must not keep the answer from going out.
DRAIN_BYTES: Final = 1 << 20

_READABLE = select.POLLIN | select.POLLHUP | select.POLLERR


class ChannelClosed(Exception):
    """Raised when the sandbox's side of the stream is gone."""


class NothingDelivered(ChannelClosed):
    """Raised when not one byte of the request reached the sandbox: it was gone before."""


class DeadlinePassed(Exception):
    """Raised when the deadline passed before the answer came."""


class NothingSent(DeadlinePassed):
    """Raised when it passed before one byte of the request was written."""


class Channel:
    """Speaks frames with one sandbox; used by one thread at a time.

    ``on_frame`` takes every frame that is not the answer (log lines), ``on_raw`` the bytes user
    code wrote to its stdout or stderr past the bootstrap. Both run in the calling thread.
    """

    def __init__(
        self,
        sandbox: Sandbox,
        result_limit: int,
        on_frame: Callable[[Frame], None],
        on_raw: Callable[[Stream, bytes], None],
    ) -> None:
        self._sandbox = sandbox
        self._decoder = FrameDecoder(sandbox.token, result_limit, mixed=sandbox.mixed)
        self._on_frame = on_frame
        self._on_raw = on_raw
        self._outputs = dict(sandbox.outputs())
        self._unsent = memoryview(b"")
        self._drain_poll = select.poll()
        for descriptor in self._outputs:
            self._drain_poll.register(descriptor, select.POLLIN)
        #: How long reads wait now, in seconds, and what lanes wait by.
        self._patience = -1.0
        self._arrivals: Wait | None = None

    def exchange(self, request: bytes, deadline_ns: int) -> Frame:
        """Send a whole frame and return the answering one.

        :raises DeadlinePassed: at ``deadline_ns`` (``time.monotonic_ns``).
        :raises NothingSent: it had passed before anything could be written.
        :raises ChannelClosed: when the stream ended first.
        :raises NothingDelivered: when it had before anything could be written.
        :raises ProtocolError: when the bytes that came are not frames.
        """
        self._unsent = memoryview(request)
        if len(request) <= QUICK_WRITE_BYTES and time.monotonic_ns() + QUICK_READ_NS < deadline_ns:
            current = lane()
            if current is None:
                answer = self._exchange_quickly(deadline_ns)
            else:
                answer = self._exchange_on_lane(current.lanes)
            if answer is not None:
                return answer
        try:
            return elsewhere(lambda: self._exchange_polling(deadline_ns))
        except DeadlinePassed:
            if len(self._unsent) == len(request):
                raise NothingSent from None
            raise
        except ChannelClosed as error:
            if len(self._unsent) == len(request):
                raise NothingDelivered(str(error)) from error
            raise

    def drain(self) -> None:
        """Take the raw output that is there now, without waiting, up to a bound."""
        for descriptor, events in self._drain_poll.poll(0):
            taken = 0
            while taken < DRAIN_BYTES:
                try:
                    data = os.read(descriptor, READ_BYTES)
                except BlockingIOError:
                    break
                if not data:
                    self._forget(descriptor)
                    break
                taken += len(data)
                self._on_raw(self._outputs[descriptor], data)
            else:
                continue
            if events & select.POLLERR:
                self._forget(descriptor)
        if self._sandbox.mixed:
            self._drain_mixed()

    def salvage(self) -> None:
        """Take the lines that are there of a sandbox about to be killed, up to a bound."""
        self._wait_for(0)
        taken = 0
        try:
            while taken < DRAIN_BYTES:
                stream, data = self._sandbox.read(READ_BYTES)
                taken += len(data)
                self._take(stream, data)
        except (ProtocolError, ChannelClosed, OSError):
            pass
        if self._outputs:
            self.drain()

    def drain_to_end(self, deadline_ns: int) -> None:
        """Take what is left on the raw outputs once the stream has ended, within the time.

        Not after the end is confirmed: the descriptors are closed, or somebody else's, by then.
        """
        while self._outputs and time.monotonic_ns() < deadline_ns:
            before = len(self._outputs)
            if not self._drain_poll.poll(0):
                return
            self.drain()
            if len(self._outputs) == before and not self._drain_poll.poll(0):
                return

    def _drain_mixed(self) -> None:
        """Take raw output that an engine brought after the answer: its two streams may overtake."""
        poll = select.poll()
        poll.register(self._sandbox.fileno(), select.POLLIN)
        taken = 0
        try:
            while taken < DRAIN_BYTES and poll.poll(0):
                stream, data = self._sandbox.read(READ_BYTES)
                taken += len(data)
                if self._take(stream, data) is not None:
                    raise ProtocolError("a frame after the answer")
        except (BlockingIOError, ChannelClosed):
            return

    def _wait_for(self, seconds: float) -> None:
        """Let reads and writes wait so long."""
        if self._patience != seconds:
            self._patience = seconds
            self._sandbox.receive_timeout(seconds)

    def _exchange_on_lane(self, lanes: Lanes) -> Frame | None:
        """Do as :meth:`_exchange_quickly` does where others go on while this waits."""
        sandbox = self._sandbox
        self._wait_for(0)
        try:
            self._unsent = self._unsent[sandbox.write(self._unsent) :]
        except BlockingIOError:
            return None
        except OSError as error:
            raise NothingDelivered(str(error)) from error
        arrivals = self._arrivals
        if arrivals is None or arrivals.lanes is not lanes:
            arrivals = self._arrivals = lanes.arrivals(sandbox.fileno())
        # In all: who prints all the time would otherwise have the main loop for as long as it runs.
        until = time.monotonic() + QUICK_READ_S
        left = QUICK_READ_S
        try:
            while not self._unsent and left > 0 and lanes.wait(arrivals, left):
                try:
                    while time.monotonic() < until:
                        answer = self._take(*sandbox.read(LANE_READ_BYTES))
                        printed = sandbox.mixed or self._drain_poll.poll(0)
                        if answer is not None:
                            if printed:
                                elsewhere(self.drain)
                            return answer
                        if self._outputs and printed:
                            return None
                except BlockingIOError:
                    pass
                left = until - time.monotonic()
        except OSError as error:
            raise ChannelClosed(str(error)) from error
        return None

    def _exchange_quickly(self, deadline_ns: int) -> Frame | None:
        sandbox = self._sandbox
        self._wait_for(QUICK_READ_S)
        try:
            self._unsent = self._unsent[sandbox.write(self._unsent) :]
        except BlockingIOError:
            return None
        except OSError as error:
            raise NothingDelivered(str(error)) from error
        try:
            while not self._unsent:
                answer = self._take(*sandbox.read(READ_BYTES))
                if self._outputs or (answer is not None and sandbox.mixed):
                    self.drain()
                if answer is not None:
                    return answer
                if time.monotonic_ns() + QUICK_READ_NS >= deadline_ns:
                    break
        except BlockingIOError:
            pass
        except OSError as error:
            raise ChannelClosed(str(error)) from error
        return None

    def _exchange_polling(self, deadline_ns: int) -> Frame:
        sandbox = self._sandbox
        poll = select.poll()
        channel = sandbox.fileno()
        poll.register(channel, select.POLLIN | (select.POLLOUT if self._unsent else 0))
        for descriptor in self._outputs:
            poll.register(descriptor, select.POLLIN)
        self._wait_for(0)
        try:
            while True:
                remaining_ns = deadline_ns - time.monotonic_ns()
                if remaining_ns <= 0:
                    raise DeadlinePassed
                for descriptor, events in poll.poll(remaining_ns / 1e6 + 1):
                    if descriptor != channel:
                        if not self._read_output(descriptor):
                            poll.unregister(descriptor)
                        continue
                    if events & select.POLLOUT:
                        self._write_some()
                        if not self._unsent:
                            poll.modify(channel, select.POLLIN)
                    if events & _READABLE:
                        answer = self._read_some()
                        if answer is not None:
                            self.drain()
                            return answer
        except OSError as error:
            raise ChannelClosed(str(error)) from error

    def _write_some(self) -> None:
        try:
            self._unsent = self._unsent[self._sandbox.write(self._unsent) :]
        except BlockingIOError:
            return

    def _read_some(self) -> Frame | None:
        try:
            stream, data = self._sandbox.read(READ_BYTES)
        except BlockingIOError:
            return None
        return self._take(stream, data)

    def _read_output(self, descriptor: int) -> bool:
        try:
            data = os.read(descriptor, READ_BYTES)
        except BlockingIOError:
            return True
        if data:
            self._on_raw(self._outputs[descriptor], data)
            return True
        self._forget(descriptor)
        return False

    def _forget(self, descriptor: int) -> None:
        if self._outputs.pop(descriptor, None) is not None:
            self._drain_poll.unregister(descriptor)

    def _take(self, stream: Stream, data: bytes) -> Frame | None:
        if not data:
            raise ChannelClosed("the stream ended")
        if stream is not Stream.CHANNEL:
            self._on_raw(stream, data)
            return None
        answer: Frame | None = None
        for frame in self._decoder.feed(data):
            if answer is not None and frame.kind != b"":
                raise ProtocolError("a frame after the answer")
            if frame.kind == Kind.LOG:
                self._on_frame(frame)
            elif frame.kind == b"":
                self._on_raw(Stream.STDOUT, frame.payload)
            else:
                answer = frame
        if answer is not None and self._decoder.pending() and not self._sandbox.mixed:
            raise ProtocolError("bytes after the answer")
        return answer
