"""The same invocations through a worker's HTTP: nothing that may have started is sent twice."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import msgspec

from lowcode_faas_core.admission import SOURCES, Admission
from lowcode_faas_core.errors import (
    CapacityError,
    ConfigurationError,
    Draining,
    ExecutionIdTaken,
    FaasError,
    ImageUnavailable,
    InvalidValue,
    NotFound,
    RunnerUnavailable,
    SourceCorrupt,
    StorageUnavailable,
    UnconfirmedEnd,
    VersionNotKept,
    WorkerLost,
    WorkerSkew,
    WorkerTimeout,
)
from lowcode_faas_core.interfaces.storage import Storage
from lowcode_faas_core.invoker import CHECK_NS, Invoker, resolve, run_what_is_kept
from lowcode_faas_core.lanes import pause
from lowcode_faas_core.limits import OperatorLimits
from lowcode_faas_core.meter import Meter
from lowcode_faas_core.model import Invocation, InvokeRequest, Language, RunResult, SourceCheck
from lowcode_faas_core.waits import CHECK_GRACE_S, CONNECT_S, GRACE_S, PAUSE_S, RETRIES
from lowcode_faas_core.wire import (
    API_VERSION,
    ATTEMPT_HEADER,
    DEPLOYMENT_HEADER,
    VERSION_HEADER,
    CheckRequest,
    RunRequest,
    decode_check,
    decode_info,
    decode_problem,
    decode_result,
)
from lowcode_faas_core.worker_connections import NotSent, WorkerConnections
from lowcode_faas_core.worker_link import Answer, Late, Lost

__all__ = ["RemoteInvoker"]

_log = logging.getLogger(__name__)

#: Heads of requests that are kept, about 300 bytes each.
MOST_HEADS: Final = 4096
_encode = msgspec.json.Encoder().encode

_NOT_EXECUTED: Final[dict[str, type[FaasError]]] = {
    cls.code: cls
    for cls in (
        Draining,
        ImageUnavailable,
        RunnerUnavailable,
        SourceCorrupt,
        StorageUnavailable,
        VersionNotKept,
    )
}


class RemoteInvoker(Invoker):
    """Resolves here, runs at the worker. Needs no runner plugin and no Docker."""

    def __init__(
        self,
        url: str,
        token: str,
        storage: Storage,
        limits: OperatorLimits,
        admission: Admission,
        meter: Meter | None = None,
    ) -> None:
        self._url = url
        self._storage = storage
        self._limits = limits
        self._admission = admission
        self._meter = meter or Meter()
        self._headers = {
            "Content-Type": "application/json",
            VERSION_HEADER: str(API_VERSION),
            **({"Authorization": f"Bearer {token}"} if token else {}),
        }
        self._worker = WorkerConnections(url, admission.permits + 2)
        #: Heads of requests by deployment.
        self._heads: dict[str, bytes] = {}
        #: Executions in flight under an id their caller chose.
        self._chosen: dict[str, object] = {}
        self._draining = False
        self._closed = False

    def invoke(self, request: InvokeRequest) -> RunResult:
        """Resolve, pin the version, and have the worker run it."""
        if self._draining:
            raise Draining("the service is shutting down")
        invocation = resolve(self._storage, self._limits, request)
        run = partial(run_what_is_kept, self._storage, self._limits, request, invocation, self._run)
        if request.execution_id is None:
            return self._meter.invocation(request.ref, run)
        mark = object()
        if self._chosen.setdefault(invocation.execution_id, mark) is not mark:
            raise ExecutionIdTaken(f"execution {invocation.execution_id} is running")
        try:
            return self._meter.invocation(request.ref, run)
        finally:
            del self._chosen[invocation.execution_id]

    def check_source(self, source: bytes, language: Language) -> SourceCheck:
        """Ask the worker. Whatever keeps it from answering: the source is not checked then."""
        unchecked = SourceCheck(checked=False)
        if self._draining:
            return unchecked
        try:
            body = msgspec.json.encode(CheckRequest(source=source.decode(), language=language))
            seat = self._admission.enter(SOURCES, lambda: False)
        except (UnicodeDecodeError, CapacityError):
            return unchecked
        try:
            deadline = time.monotonic() + CHECK_NS / 1e9 + CHECK_GRACE_S
            answer = self._worker.request("POST", "/v1/check", self._headers, body, deadline)
            return decode_check(answer.data) if answer.status == 200 else unchecked
        except (NotSent, Lost, Late, msgspec.DecodeError, UnicodeDecodeError):
            return unchecked
        finally:
            self._admission.leave(seat)

    def stats(self) -> Mapping[str, Any]:
        """Return how many invocations occupy this process; sandboxes are the worker's."""
        return {
            "worker_url": self._url,
            "in_flight": self._admission.occupied,
            "in_flight_cap": self._admission.permits,
            "in_flight_of_service": self._admission.in_flight.total(exact=True),
        }

    def check(self) -> None:
        """Ask the worker whether it is ready, and whether it speaks our version."""
        if self._draining:
            raise Draining("the service is shutting down")
        try:
            answer = self._worker.request(
                "GET", "/readyz", self._headers, b"", time.monotonic() + CONNECT_S
            )
        except (NotSent, Lost, Late) as error:
            raise RunnerUnavailable(f"the worker at {self._url} does not answer") from error
        if answer.status != 200:
            raise RunnerUnavailable(f"the worker at {self._url} is not ready ({answer.status})")
        self._check_version(answer.headers)

    def check_chain(self) -> None:
        """Compare the longest deadline here with the worker's."""
        try:
            answer = self._worker.request(
                "GET", "/v1/info", self._headers, b"", time.monotonic() + CONNECT_S
            )
            theirs = decode_info(answer.data).max_timeout_ms
        except (NotSent, Lost, Late, msgspec.DecodeError, UnicodeDecodeError):
            return  # what stops invocations is for ``check`` to say
        ours = self._limits.settings.max_timeout_ms
        if theirs is not None and theirs < ours:
            raise ConfigurationError(
                [
                    f"LOWCODE_FAAS_INVOKE_MAX_TIMEOUT_MS is {ours} here and {theirs} at the worker "
                    f"({self._url}), which refuses what is above: raise it there first"
                ]
            )

    def drain(self) -> None:
        """Refuse what is new."""
        self._draining = True

    def close(self, *, drain_deadline_ns: int = 0) -> None:
        """Refuse what is new, wait for what is out, then give it up: the worker may finish it."""
        self._draining = True
        while self._admission.occupied and time.monotonic_ns() < drain_deadline_ns:
            time.sleep(0.02)
        self._closed = True
        self._worker.close()

    def _run(self, invocation: Invocation) -> RunResult:
        seat = self._admission.enter(invocation.deployment.ref, lambda: False)
        try:
            for attempt in range(RETRIES + 1):
                try:
                    return self._send(invocation, attempt)
                except (RunnerUnavailable, StorageUnavailable, Draining):
                    if attempt == RETRIES or self._closed:
                        raise
                    pause_ns = int(PAUSE_S[attempt] * 1e9)
                    if time.monotonic_ns() + pause_ns >= invocation.deadline_ns:
                        raise
                    pause(PAUSE_S[attempt])
            raise AssertionError  # the last attempt returns or raises
        finally:
            self._admission.leave(seat)

    def _send(self, invocation: Invocation, attempt: int) -> RunResult:
        remaining_ns = invocation.deadline_ns - time.monotonic_ns()
        if remaining_ns <= 0:
            raise CapacityError(
                "the deadline passed before the invocation reached a worker",
                phase="worker" if attempt else "resolve",
            )
        deployment = invocation.deployment
        body = RunRequest(
            execution_id=invocation.execution_id,
            run_id=invocation.run_id,
            request_id=invocation.request_id,
            deployment_id=deployment.deployment_id,
            function_name=deployment.function_name,
            collection_path=deployment.collection_path,
            env=invocation.env,
            request_env=invocation.request_env,
            input=invocation.input,
            remaining_ms=remaining_ns / 1e6,
            timeout_ms=(invocation.deadline_ns - invocation.accepted_ns) // 1_000_000,
            traceparent=invocation.traceparent,
            chosen=invocation.chosen,
            replay_of=invocation.replay_of,
        )
        deadline = invocation.deadline_ns / 1e9 + GRACE_S
        head = None if attempt else self._heads.get(deployment.deployment_id)
        try:
            answer = self._worker.send(
                head or self._head(deployment.deployment_id, attempt), _encode(body), deadline
            )
        except NotSent as error:
            _log.warning("no connection to the worker at %s: %s", self._url, error)
            raise RunnerUnavailable("no worker can be reached") from error
        except Late as error:
            raise WorkerTimeout(
                f"the worker did not answer; {_may_have_run(invocation)}"
            ) from error
        except Lost as error:
            if self._closed:
                raise WorkerLost(
                    f"this dispatcher was shut down; {_may_have_run(invocation)}"
                ) from error
            raise WorkerLost(f"the worker was lost; {_may_have_run(invocation)}") from error
        return self._read(invocation, answer)

    def _head(self, deployment_id: str, attempt: int) -> bytes:
        headers = {**self._headers, DEPLOYMENT_HEADER: deployment_id}
        if attempt:
            headers[ATTEMPT_HEADER] = str(attempt + 1)
        head = self._worker.head("POST", "/v1/run", headers)
        if not attempt:
            if len(self._heads) >= MOST_HEADS:
                self._heads.clear()
            self._heads[deployment_id] = head
        return head

    def _read(self, invocation: Invocation, answer: Answer) -> RunResult:
        if answer.status == 200:
            try:
                result = decode_result(answer.data)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                # Whatever version it speaks: it said that the function ran.
                raise WorkerLost(
                    f"the worker's answer to execution {invocation.execution_id} cannot be read"
                    + self._skew(answer.headers)
                ) from error
            # The input is not ours to trust either: a mixed-up answer must not reach a caller.
            if result.execution_id != invocation.execution_id:
                raise WorkerLost("the worker answered for another execution")
            return result
        try:
            problem = decode_problem(answer.data)
        except (msgspec.DecodeError, UnicodeDecodeError):
            problem = None
        if problem is not None and problem.code == WorkerSkew.code:
            raise WorkerSkew(problem.detail + self._skew(answer.headers))
        if answer.status < 500:
            self._check_version(answer.headers)
        if problem is None or not problem.code:
            # A 503 like any other: some proxies give it, too, when they have lost a worker that ran
            # something. One that certainly sent nothing says so, as conf/haproxy does.
            if answer.status == 504:  # a balancer that has waited long enough
                raise WorkerTimeout(f"the worker did not answer; {_may_have_run(invocation)}")
            raise WorkerLost(
                f"the worker answered {answer.status} without saying why; "
                f"{_may_have_run(invocation)}{self._skew(answer.headers)}"
            )
        if problem.code == CapacityError.code:
            retry_after = answer.headers.get("retry-after", "1")
            raise CapacityError(
                problem.detail,
                retry_after_s=int(retry_after) if retry_after.isdigit() else 1,
                phase=problem.phase,
            )
        if problem.code in _NOT_EXECUTED:
            raise _NOT_EXECUTED[problem.code](problem.detail, phase=problem.phase)
        if problem.code == ExecutionIdTaken.code:
            raise ExecutionIdTaken(problem.detail)
        if problem.code == UnconfirmedEnd.code:
            raise UnconfirmedEnd(problem.detail, phase=problem.phase)
        if answer.status == 404:
            # The version was resolved a moment ago: it was deleted, or the storages differ.
            raise NotFound(problem.detail)
        if answer.status in (400, 422):
            raise InvalidValue(problem.detail)
        if answer.status in (401, 403):
            raise RunnerUnavailable("the worker refuses our LOWCODE_FAAS_WORKER_TOKEN")
        raise WorkerLost(f"the worker answered {answer.status} {problem.code}: {problem.detail}")

    def _check_version(self, headers: Mapping[str, str]) -> None:
        if skew := self._skew(headers):
            raise WorkerSkew(skew.removeprefix("; "))

    @staticmethod
    def _skew(headers: Mapping[str, str]) -> str:
        theirs = headers.get(VERSION_HEADER.lower())
        if theirs is None or theirs == str(API_VERSION):
            return ""
        return (
            f"; the worker speaks version {theirs} of the internal API, this dispatcher "
            f"{API_VERSION}; run the same release on both"
        )


def _may_have_run(invocation: Invocation) -> str:
    return f"execution {invocation.execution_id} may have run"
