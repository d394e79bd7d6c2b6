"""What the checks of launchers talk to a sandbox with."""

from __future__ import annotations

import json
import time
from typing import Any

from lowcode_faas_core.interfaces.launcher import Sandbox, Stream
from lowcode_faas_core.sandbox.channel import Channel
from lowcode_faas_core.sandbox.protocol import Frame, Kind, encode

__all__ = ["PATIENCE_S", "Speaker", "deadline"]

#: Longest wait for what happens at once, on a machine that has other things to do.
PATIENCE_S = 20.0
_RESULT_BYTES = 1 << 20


class Speaker:
    """Loads and runs functions in one sandbox, and keeps what it printed past the bootstrap."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox = sandbox
        self.raw: dict[Stream, bytearray] = {stream: bytearray() for stream in Stream}
        self._channel = Channel(sandbox, _RESULT_BYTES, self._ignore, self._keep)

    def load(self, source: str, env: dict[str, str] | None = None) -> None:
        """Give the sandbox its code."""
        payload = {"source": source, "file": "f.mjs", "env": env or {}, "timeout_ms": 10_000}
        answer = self._exchange(Kind.LOAD, payload)
        assert answer.kind == Kind.LOADED
        assert json.loads(answer.payload) == {"ok": True}

    def send_run(self, value: object = None) -> None:
        """Ask for a run without waiting for its result."""
        request = encode(self.sandbox.token, Kind.RUN, _run_payload(value))
        self.sandbox.receive_timeout(PATIENCE_S)
        assert self.sandbox.write(request) == len(request)

    def run(self, value: object = None) -> Any:
        """Run the handler and return its ``data``."""
        answer = self._exchange_bytes(encode(self.sandbox.token, Kind.RUN, _run_payload(value)))
        assert answer.kind in (Kind.RESULT, Kind.RESULT_RETIRE), answer
        return json.loads(answer.payload).get("data")

    def drain(self) -> None:
        """Take the raw output that is there."""
        self._channel.drain()

    def _exchange(self, kind: bytes, payload: object) -> Frame:
        return self._exchange_bytes(encode(self.sandbox.token, kind, json.dumps(payload).encode()))

    def _exchange_bytes(self, request: bytes) -> Frame:
        return self._channel.exchange(request, deadline())

    def _ignore(self, frame: Frame) -> None:
        if not frame.kind:
            self.raw[Stream.CHANNEL] += frame.payload

    def _keep(self, stream: Stream, data: bytes) -> None:
        self.raw[stream] += data


def _run_payload(value: object) -> bytes:
    context = {
        "executionId": "e1",
        "runId": "r1",
        "functionName": "f",
        "collectionPath": "",
        "version": 1,
        "deadline": time.time() * 1000 + PATIENCE_S * 1000,
        "traceparent": None,
    }
    return json.dumps({"context": context, "input": {} if value is None else value}).encode()


def deadline(seconds: float = PATIENCE_S) -> int:
    """Return the moment that many seconds from now as launchers take it."""
    return time.monotonic_ns() + int(seconds * 1e9)
