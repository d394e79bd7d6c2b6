"""An invoker without Node: answers what a test scripted, and remembers what was asked.

It resolves functions and merges env like the real one, so that a test of what stands on an invoker
needs neither a sandbox nor a process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from lowcode_faas_core.configuration import LimitSettings
from lowcode_faas_core.errors import Draining, ExecutionIdTaken, FaasError
from lowcode_faas_core.ids import now
from lowcode_faas_core.interfaces.executions import ExecutionStore
from lowcode_faas_core.interfaces.storage import Storage
from lowcode_faas_core.invoker import Invoker, resolve
from lowcode_faas_core.limits import OperatorLimits
from lowcode_faas_core.model import (
    ErrorCode,
    ExecutionError,
    Invocation,
    InvokeRequest,
    Language,
    LogSummary,
    Outcome,
    Phase,
    RunResult,
    SourceCheck,
    StartKind,
    Status,
    Timings,
    Usage,
)
from lowcode_faas_core.records import record_of

__all__ = ["StubCall", "StubHandler", "StubInvoker"]


@dataclass(frozen=True)
class StubCall:
    """What a scripted handler is given: the parsed input, and the invocation with its merged env."""

    input: dict[str, Any]
    invocation: Invocation

    @property
    def env(self) -> dict[str, str]:
        """The merged env."""
        return self.invocation.env

    @property
    def timeout_ms(self) -> int:
        """The time the invocation was given when it was accepted."""
        return (self.invocation.deadline_ns - self.invocation.accepted_ns) // 1_000_000


#: Returns what the function returned; raises FaasError for a fault of the platform, anything else
#: for a handler that threw.
StubHandler = Callable[[StubCall], Any]


def _echo(call: StubCall) -> Any:
    return {"ok": True, "data": {"input": call.input, "env": call.env}}


class StubInvoker(Invoker):
    """Runs Python callables in place of user code; for many threads at once.

    A handler is found by the deployed source's text (:meth:`script`), else ``default`` answers:
    an echo of input and merged env. While ``fail_with`` is set, every invocation and
    :meth:`check` raise it. Execution ids chosen by callers are taken for good. Verdicts are recorded
    in ``executions`` at once, with input and output.
    """

    def __init__(
        self,
        storage: Storage,
        *,
        limits: OperatorLimits | None = None,
        default: StubHandler = _echo,
        executions: ExecutionStore | None = None,
    ) -> None:
        self.default = default
        self.fail_with: FaasError | None = None
        #: Every request that was made, in order of arrival.
        self.requests: list[InvokeRequest] = []
        #: Every call of a handler, in order of start.
        self.calls: list[StubCall] = []
        #: What :meth:`check_source` answers, by the source's text.
        self.checks: dict[str, SourceCheck] = {}
        self.closed = False
        self._executions = executions
        self._storage = storage
        self._limits = limits or OperatorLimits(LimitSettings())
        self._handlers: dict[bytes, StubHandler] = {}
        self._chosen: set[str] = set()
        self._lock = threading.Lock()

    def script(self, source: str, handler: StubHandler) -> None:
        """Let ``handler`` run wherever exactly this source is deployed."""
        self._handlers[source.encode()] = handler

    def invoke(self, request: InvokeRequest) -> RunResult:
        """Resolve, call the handler, and answer with the verdict."""
        with self._lock:
            self.requests.append(request)
        if self.closed:
            raise Draining("the invoker is closed")
        if self.fail_with is not None:
            raise self.fail_with
        invocation = resolve(self._storage, self._limits, request)
        handler = self._handlers.get(self._storage.source(invocation.deployment), self.default)
        call = StubCall(msgspec.json.decode(request.input), invocation)
        with self._lock:
            if request.execution_id in self._chosen:
                raise ExecutionIdTaken(f"there is an execution {request.execution_id}")
            if request.execution_id is not None:
                self._chosen.add(request.execution_id)
            self.calls.append(call)
        result = _run(handler, call)
        if self._executions is not None:
            output = None if result.output is None else bytes(result.output).decode()
            record = record_of(
                result,
                replay_of=invocation.replay_of,
                given=(bytes(invocation.input).decode(), False),
                answered=(output, False),
            )
            self._executions.record([record], [])
        return result

    def check_source(self, source: bytes, language: Language) -> SourceCheck:
        """Answer what :attr:`checks` has for this source, else that it was not checked."""
        return self.checks.get(source.decode(), SourceCheck(checked=False))

    def stats(self) -> Mapping[str, Any]:
        """Return how many handlers were called."""
        return {"calls": len(self.calls)}

    def check(self) -> None:
        """Return, unless told to fail."""
        if self.fail_with is not None:
            raise self.fail_with

    def drain(self) -> None:
        """Refuse what is new."""
        self.closed = True

    def close(self, *, drain_deadline_ns: int = 0) -> None:
        """Refuse what is new."""
        self.closed = True


def _run(handler: StubHandler, call: StubCall) -> RunResult:
    invocation, deployment = call.invocation, call.invocation.deployment
    started_at, begun_ns = now(), time.monotonic_ns()
    status, output, error = _verdict(handler, call)
    run_ms = (time.monotonic_ns() - begun_ns) / 1e6
    return RunResult(
        execution_id=invocation.execution_id,
        run_id=invocation.run_id,
        request_id=invocation.request_id,
        function_name=deployment.function_name,
        collection_path=deployment.collection_path,
        deployment_id=deployment.deployment_id,
        deployment_version=deployment.version,
        status=status,
        output=output,
        error=error,
        start=StartKind.COLD,
        outcome=Outcome.EXECUTED,
        started_at=started_at,
        finished_at=now(),
        timings_ms=Timings(queue=0.0, start=0.0, run=run_ms, total=run_ms),
        usage=Usage(cpu_ms=None, max_rss_bytes=None),
        logs=LogSummary(lines=0, truncated=False),
    )


def _verdict(
    handler: StubHandler, call: StubCall
) -> tuple[Status, msgspec.Raw | None, ExecutionError | None]:
    try:
        returned = handler(call)
    except FaasError:
        raise
    except Exception as error:
        return Status.HANDLER_ERROR, None, _error(ErrorCode.HANDLER_ERROR, str(error))
    if not isinstance(returned, dict) or not isinstance(returned.get("ok"), bool):
        shown = f"the handler returned {type(returned).__name__}"
        return Status.INVALID_OUTPUT, None, _error(ErrorCode.INVALID_OUTPUT, shown)
    status = Status.SUCCEEDED if returned["ok"] else Status.FAILED
    return status, msgspec.Raw(msgspec.json.encode(returned)), None


def _error(code: ErrorCode, message: str) -> ExecutionError:
    return ExecutionError(code=code, message=message, phase=Phase.RUN)
