"""The frames a sandbox and its host exchange, and how a byte stream is cut into them.

A frame is ``token(16) type(1) length(4, big endian) payload(length)``. The token is random for each
sandbox; user code does not get to see it, so bytes of its own on the channel are told from frames.
Payloads are JSON (UTF-8) unless said otherwise.

Starting: the sandbox's command is ``node -e LOADER IN OUT ERR`` (descriptor numbers, ``-`` for
none). The host first writes the *greeting*: ``token(16) length(4) bootstrap-source``. The loader
compiles and runs the bootstrap, which answers ``READY``.

Host to sandbox::

    LOAD  L  {"source", "file", "env", "timeout_ms"}             once; file is e.g. "greet.mjs"
    RUN   R  {"context": {"executionId", "runId", "functionName",
              "collectionPath", "version", "deadline", "traceparent"}, "input": {…}}
    CHECK C  {"source", "file"}                                  does Node accept this source?
    WARM  W  {}                     load a module of the bootstrap's own meanwhile; not answered

Sandbox to host::

    READY   r  {"node": "24.1.0", "pid": 7}
    LOADED  l  {"ok": true} | {"ok": false, "code", "message", "stack"}
               code: syntax_error · load_error · no_handler
    RESULT  d  the JSON text of what the handler returned
    RESULT_RETIRE  D  the same, from a sandbox whose state is unknown since: use it no more
    ERROR   e  {"code", "message", "stack", "retire"}
               code: handler_error · invalid_output · never_settled; retire: its state is unknown
    LOG     g  {"x": execution id or "", "t": "nanoseconds since the epoch", "l": level,
                "s": "stdout"|"stderr", "m": text}
    CHECKED c  {"ok": true} | {"ok": false, "code", "message", "line", "column"}

``deadline`` is in milliseconds since the epoch. The RESULT or ERROR frame comes after the last LOG
frame of the run. Between frames the sandbox blocks in a read: user code is frozen.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

__all__ = [
    "HEADER_BYTES",
    "TOKEN_BYTES",
    "Frame",
    "FrameDecoder",
    "FrameTooLarge",
    "Kind",
    "ProtocolError",
    "encode",
    "greeting",
]

TOKEN_BYTES: Final = 16
HEADER_BYTES: Final = TOKEN_BYTES + 5

_length = struct.Struct(">I")
_head = struct.Struct(">cI")


class Kind:
    """The one-byte frame types."""

    LOAD: Final = b"L"
    RUN: Final = b"R"
    CHECK: Final = b"C"
    WARM: Final = b"W"
    READY: Final = b"r"
    LOADED: Final = b"l"
    RESULT: Final = b"d"
    RESULT_RETIRE: Final = b"D"
    ERROR: Final = b"e"
    LOG: Final = b"g"
    CHECKED: Final = b"c"


#: What a host accepts from a sandbox.
_FROM_SANDBOX: Final = frozenset(
    (
        Kind.READY,
        Kind.LOADED,
        Kind.RESULT,
        Kind.RESULT_RETIRE,
        Kind.ERROR,
        Kind.LOG,
        Kind.CHECKED,
    )
)
_RESULTS: Final = frozenset((Kind.RESULT, Kind.RESULT_RETIRE))
#: Longest frame that is not a result, in bytes: the bootstrap cuts messages well below it.
OTHER_FRAME_BYTES: Final = 8 << 20


class ProtocolError(Exception):
    """Raised when the bytes on the channel are not the frames they should be."""


class FrameTooLarge(ProtocolError):
    """Raised for a result longer than the output may be, before its bytes are read."""


class Frame(NamedTuple):
    """One frame; ``kind`` is ``b""`` for raw output of user code on a mixed stream."""

    kind: bytes
    payload: bytes


def encode(token: bytes, kind: bytes, *payload: bytes) -> bytes:
    """Return one frame whose payload is the concatenation of ``payload``."""
    size = sum(map(len, payload))
    return b"".join((token, _head.pack(kind, size), *payload))


def greeting(token: bytes, bootstrap: bytes) -> bytes:
    """Return what the host writes first: token, length and source of the bootstrap."""
    return b"".join((token, _length.pack(len(bootstrap)), bootstrap))


class FrameDecoder:
    """Cuts the bytes of one sandbox into frames.

    With ``mixed`` (Docker: raw output shares the stream) bytes before a token are raw output and
    come back as frames of kind ``b""``; without it they are a :class:`ProtocolError`.
    """

    def __init__(self, token: bytes, result_limit: int, *, mixed: bool = False) -> None:
        self._token = token
        self._limit = result_limit
        self._mixed = mixed
        self._pending = bytearray()
        #: Bytes the next frame needs in all before another attempt to cut is worth it.
        self._needed = 0

    def pending(self) -> int:
        """Return how many bytes wait for the rest of their frame."""
        return len(self._pending)

    def feed(self, data: bytes) -> list[Frame]:
        """Take bytes as they came and return the frames they complete, in order.

        :raises ProtocolError: the stream is not what it should be; nothing after it can be trusted.
        """
        token = self._token
        if not self._pending and data.startswith(token) and len(data) >= HEADER_BYTES:
            # The usual case, one whole frame a read, costs no copy of the buffer.
            kind, size = _head.unpack_from(data, TOKEN_BYTES)
            if len(data) == HEADER_BYTES + size and kind in _RESULTS and size <= self._limit:
                return [Frame(kind, data[HEADER_BYTES:])]
        self._pending += data
        if len(self._pending) < self._needed:
            return []
        return self._cut()

    def _cut(self) -> list[Frame]:
        pending = self._pending
        frames: list[Frame] = []
        at = 0
        self._needed = 0
        while at < len(pending):
            if not pending.startswith(self._token, at):
                skipped = self._raw_length(at)
                if skipped:
                    frames.append(Frame(b"", bytes(pending[at : at + skipped])))
                    at += skipped
                    continue
                break
            if len(pending) - at < HEADER_BYTES:
                break
            kind, size = _head.unpack_from(pending, at + TOKEN_BYTES)
            if kind not in _FROM_SANDBOX:
                raise ProtocolError(f"a frame of unknown type {kind!r}")
            if kind in _RESULTS and size > self._limit:
                raise FrameTooLarge(f"a result of {size} bytes, above the limit of {self._limit}")
            if size > OTHER_FRAME_BYTES and kind not in _RESULTS:
                raise ProtocolError(f"a frame of {size} bytes")
            if len(pending) - at - HEADER_BYTES < size:
                self._needed = HEADER_BYTES + size
                break
            start = at + HEADER_BYTES
            frames.append(Frame(kind, bytes(pending[start : start + size])))
            at = start + size
        del pending[:at]
        return frames

    def _raw_length(self, at: int) -> int:
        """Return how many bytes from ``at`` are surely raw output: 0 where a token may begin."""
        pending, token = self._pending, self._token
        found = pending.find(token, at)
        if found < 0:
            # A token may be split across reads: keep the longest tail that could be its beginning.
            found = len(pending)
            for keep in range(min(TOKEN_BYTES - 1, len(pending) - at), 0, -1):
                if token.startswith(pending[len(pending) - keep :]):
                    found = len(pending) - keep
                    break
        if found > at and not self._mixed:
            raise ProtocolError("bytes on the channel that are not a frame")
        return found - at
