"""What user code prints, cut into lines: log frames of the bootstrap and raw bytes past it."""

from __future__ import annotations

import codecs
import time
from collections import OrderedDict
from typing import Final

import msgspec

from lowcode_faas_core.interfaces.launcher import Stream
from lowcode_faas_core.interfaces.runner import LogCallback
from lowcode_faas_core.model import LogLine
from lowcode_faas_core.sandbox.protocol import Frame, ProtocolError

__all__ = ["Capture"]

#: Bytes of raw stderr kept for the verdict: V8 says there why it aborted.
STDERR_TAIL_BYTES: Final = 8 << 10
#: Executions of one instance whose late lines are still told apart.
REMEMBERED_EXECUTIONS: Final = 64

_LEVELS: Final = frozenset(("debug", "info", "warn", "error"))
_STREAMS: Final = {Stream.STDOUT: ("stdout", "info"), Stream.STDERR: ("stderr", "error")}


class _LogFrame(msgspec.Struct, gc=False):
    x: str = ""
    t: str = "0"
    l: str = "info"  # noqa: E741  # the wire's name: a byte a line
    s: str = "stdout"
    m: str = ""


_decode_log = msgspec.json.Decoder(_LogFrame).decode


class _RawLines:
    """Cuts one raw stream into lines; multi-byte characters may be split across chunks.

    A line is kept up to ``limit + 1`` characters, so that whoever cuts it sees that it was longer;
    a stream without a newline therefore costs no memory.
    """

    def __init__(self, limit: int) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._limit = limit
        self._half = ""

    def feed(self, data: bytes) -> list[str]:
        text = self._half + self._decoder.decode(data)
        *lines, half = text.split("\n")
        self._half = half[: self._limit + 1]
        return [line[: self._limit + 1].removesuffix("\r") for line in lines]

    def rest(self) -> list[str]:
        half, self._half = self._half + self._decoder.decode(b"", final=True), ""
        return [half] if half else []


class Capture:
    """Turns the output of one sandbox into :class:`LogLine`s of the execution that printed them."""

    def __init__(self, line_limit: int) -> None:
        self._raw = {stream: _RawLines(line_limit) for stream in (Stream.STDOUT, Stream.STDERR)}
        self._touched: set[Stream] = set()
        self._executions: OrderedDict[str, LogCallback] = OrderedDict()
        self._execution_id = ""
        self._said = False
        self.stderr_tail = b""

    def begin(self, execution_id: str, on_log: LogCallback) -> None:
        """Give what comes from now on to this execution; what its timers print later goes there."""
        self._execution_id = execution_id
        self._executions[execution_id] = on_log
        if len(self._executions) > REMEMBERED_EXECUTIONS:
            self._executions.popitem(last=False)

    def finish(self) -> None:
        """Give out half lines: the run that printed them is over."""
        for stream in self._touched:
            self._emit_raw(stream, self._raw[stream].rest())
        self._touched.clear()

    def frame(self, frame: Frame) -> None:
        """Take one log frame.

        :raises ProtocolError: when it is not what the bootstrap sends.
        """
        try:
            log = _decode_log(frame.payload)
            ts_ns = int(log.t)
        except (msgspec.DecodeError, ValueError, RecursionError) as error:
            raise ProtocolError("a log frame that cannot be read") from error
        # User code could only name executions it has seen in this instance, never another's.
        execution_id = log.x or self._execution_id
        if execution_id != self._execution_id:
            if execution_id not in self._executions:
                self._forgo()
                return
            self._executions.move_to_end(execution_id, last=True)
        level = log.l if log.l in _LEVELS else "info"
        stream = "stderr" if log.s == "stderr" else "stdout"
        self._emit(LogLine(execution_id, ts_ns, level, stream, log.m))

    def _forgo(self) -> None:
        """Drop a line of an execution that is long over, and say so once."""
        if not self._said:
            self._said = True
            message = f"lines of an execution that ended more than {REMEMBERED_EXECUTIONS} runs ago are dropped"
            self._emit(LogLine(self._execution_id, time.time_ns(), "warn", "platform", message))

    def raw(self, stream: Stream, data: bytes) -> None:
        """Take raw bytes of one of the output streams."""
        if stream is Stream.STDERR:
            self.stderr_tail = (self.stderr_tail + data)[-STDERR_TAIL_BYTES:]
        skip = getattr(self._executions.get(self._execution_id), "skip", None)
        if skip is not None and skip(data):
            # A gigabyte of line ends would otherwise be a thousand million lines to drop.
            return
        self._touched.add(stream)
        self._emit_raw(stream, self._raw[stream].feed(data))

    def _emit_raw(self, stream: Stream, lines: list[str]) -> None:
        name, level = _STREAMS[stream]
        now_ns = time.time_ns()
        for line in lines:
            self._emit(LogLine(self._execution_id, now_ns, level, name, line))

    def _emit(self, line: LogLine) -> None:
        on_log = self._executions.get(line.execution_id)
        if on_log is not None:
            on_log(line)
