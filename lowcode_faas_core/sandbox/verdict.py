"""The verdict over one run, decided by the host from what the sandbox sent and how it ended."""

from __future__ import annotations

import enum
import signal
from typing import Any, Final, NamedTuple

import msgspec

from lowcode_faas_core.interfaces.launcher import End
from lowcode_faas_core.model import ErrorCode, ExecutionError, Phase, Status
from lowcode_faas_core.sandbox.protocol import Frame, Kind, ProtocolError

__all__ = [
    "Cause",
    "Verdict",
    "of_answer",
    "of_end",
    "of_protocol_error",
    "of_timeout",
    "of_too_large",
]

#: Characters kept of an error's message and of its stack.
MESSAGE_CHARS: Final = 8 << 10
STACK_CHARS: Final = 16 << 10

#: What V8 prints to stderr before it aborts for want of heap.
_HEAP_EXHAUSTED: Final = (b"JavaScript heap out of memory", b"Fatal process out of memory")


class Cause(enum.Enum):
    """Why the host ended a sandbox, or that it did not."""

    OWN = "own"
    DEADLINE = "deadline"
    CANCELLED = "cancelled"


class Verdict(NamedTuple):
    """How a run ended; ``reusable`` says whether the instance may run again."""

    status: Status
    output: msgspec.Raw | None
    error: ExecutionError | None
    reusable: bool


class _ErrorFrame(msgspec.Struct):
    code: str
    message: str = ""
    stack: str | None = None
    retire: bool = False


_decode_error = msgspec.json.Decoder(_ErrorFrame).decode
_decode_any = msgspec.json.Decoder().decode

_RUN_ERRORS: Final = {
    "handler_error": (Status.HANDLER_ERROR, ErrorCode.HANDLER_ERROR),
    "invalid_output": (Status.INVALID_OUTPUT, ErrorCode.INVALID_OUTPUT),
    "never_settled": (Status.CRASHED, ErrorCode.NEVER_SETTLED),
}
_LOAD_ERRORS: Final = {
    "syntax_error": (Status.INVALID_HANDLER, ErrorCode.SYNTAX_ERROR),
    "load_error": (Status.INVALID_HANDLER, ErrorCode.LOAD_ERROR),
    "no_handler": (Status.INVALID_HANDLER, ErrorCode.NO_HANDLER),
    "never_settled": (Status.CRASHED, ErrorCode.NEVER_SETTLED),
}


def _failure(
    status: Status,
    code: ErrorCode,
    message: str,
    phase: Phase,
    *,
    stack: str | None = None,
    reusable: bool = False,
) -> Verdict:
    error = ExecutionError(
        code=code,
        message=message[:MESSAGE_CHARS],
        phase=phase,
        stack=stack[:STACK_CHARS] if stack else None,
    )
    return Verdict(status, None, error, reusable)


def of_answer(frame: Frame, phase: Phase) -> Verdict:
    """Judge the frame that ended a run or a load.

    :raises ProtocolError: when it is no such frame.
    """
    if frame.kind == Kind.RESULT:
        return _of_result(frame.payload, reusable=True)
    if frame.kind == Kind.RESULT_RETIRE:
        return _of_result(frame.payload, reusable=False)
    if frame.kind == Kind.ERROR or (frame.kind == Kind.LOADED and phase is Phase.LOAD):
        return _of_error(frame.payload, phase)
    raise ProtocolError(f"a frame of type {frame.kind!r} where an answer was due")


def _of_result(payload: bytes, *, reusable: bool) -> Verdict:
    # Parsed in full: bytes of user code are never spliced into an answer unread.
    try:
        value: Any = _decode_any(payload)
    except RecursionError:
        return _invalid("the output is nested too deeply", reusable=reusable)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return _invalid(f"the output is not JSON: {error}", reusable=reusable)
    if not isinstance(value, dict):
        return _invalid(f"handler returned {_kind_of(value)}, not an object", reusable=reusable)
    ok = value.get("ok")
    if ok is True:
        return Verdict(Status.SUCCEEDED, msgspec.Raw(payload), None, reusable)
    if ok is False:
        for key in ("error", "code"):
            if key in value and not isinstance(value[key], str):
                message = f"`{key}` is {_kind_of(value[key])}, not a string"
                return _invalid(message, reusable=reusable)
        return Verdict(Status.FAILED, msgspec.Raw(payload), None, reusable)
    said = f"`ok` is {_kind_of(ok)}, not a boolean" if "ok" in value else "`ok` is missing"
    return _invalid(f"handler returned an object in which {said}", reusable=reusable)


def _invalid(message: str, *, reusable: bool) -> Verdict:
    return _failure(
        Status.INVALID_OUTPUT, ErrorCode.INVALID_OUTPUT, message, Phase.RUN, reusable=reusable
    )


def _kind_of(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "a boolean", str: "a string", list: "an array", dict: "an object"}
    return names.get(type(value), "a number")


def _of_error(payload: bytes, phase: Phase) -> Verdict:
    known = _LOAD_ERRORS if phase is Phase.LOAD else _RUN_ERRORS
    try:
        frame = _decode_error(payload)
        status, code = known.get(frame.code) or _RUN_ERRORS[frame.code]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, KeyError) as error:
        raise ProtocolError("an error frame that cannot be read") from error
    reusable = phase is Phase.RUN and not frame.retire and code is not ErrorCode.NEVER_SETTLED
    return _failure(status, code, frame.message, phase, stack=frame.stack, reusable=reusable)


def of_too_large(limit: int) -> Verdict:
    """Judge a run whose result is longer than allowed."""
    message = f"the output is larger than the limit of {limit} bytes"
    return _failure(
        Status.OUTPUT_TOO_LARGE, ErrorCode.OUTPUT_TOO_LARGE, message, Phase.RUN, reusable=False
    )


def of_protocol_error(error: ProtocolError, phase: Phase) -> Verdict:
    """Judge a sandbox that sent something that is not the protocol."""
    return _failure(Status.CRASHED, ErrorCode.PROTOCOL_ERROR, f"the sandbox sent {error}", phase)


def of_timeout(timeout_ms: int, phase: Phase) -> Verdict:
    """Judge a run that was killed at its deadline; ``timeout_ms`` is what it was given in all."""
    while_ = "while the module was being loaded" if phase is Phase.LOAD else "and was killed"
    message = f"the invocation ran into its timeout of {timeout_ms} ms {while_}"
    return _failure(Status.TIMEOUT, ErrorCode.TIMEOUT, message, phase)


def of_end(end: End, cause: Cause, phase: Phase, stderr_tail: bytes) -> Verdict:
    """Judge a run whose sandbox ended before it answered."""
    if cause is Cause.CANCELLED:
        message = "the service was shutting down and ended the run"
        return _failure(Status.CANCELLED, ErrorCode.CANCELLED, message, phase)
    if end.out_of_memory or _heap_exhausted(end, stderr_tail):
        message = "the sandbox ran out of memory; limits.memory_mb of a deployment gives it more"
        return _failure(Status.OUT_OF_MEMORY, ErrorCode.OUT_OF_MEMORY, message, phase)
    if end.vanished:
        message = "the sandbox was taken away while it ran"
        return _failure(Status.CRASHED, ErrorCode.SANDBOX_LOST, message, phase)
    if end.signal is not None:
        message = f"the sandbox was killed by {_signal_name(end.signal)}"
        return _failure(Status.CRASHED, ErrorCode.KILLED, message, phase)
    if end.exit_code is not None:
        message = f"the process exited with code {end.exit_code} before the handler was done"
        return _failure(Status.CRASHED, ErrorCode.EXITED, message, phase)
    message = "the sandbox is gone, and nobody knows how"
    return _failure(Status.CRASHED, ErrorCode.SANDBOX_LOST, message, phase)


def _heap_exhausted(end: End, stderr_tail: bytes) -> bool:
    # The message alone proves nothing, user code can print it; with V8's way to die it does. An
    # exit code that looks like a signal does not: process.exit takes any.
    aborted = end.signal in (signal.SIGABRT, signal.SIGTRAP, signal.SIGILL)
    return aborted and any(said in stderr_tail for said in _HEAP_EXHAUSTED)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
