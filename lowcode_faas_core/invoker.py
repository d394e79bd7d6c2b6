"""The one way in: an InvokeRequest becomes a RunResult, whoever called and wherever it runs."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import msgspec

from lowcode_faas_core.admission import SOURCES, Admission
from lowcode_faas_core.environment import merge
from lowcode_faas_core.errors import (
    CapacityError,
    Draining,
    ExecutionIdTaken,
    NotFound,
    SourceCorrupt,
    VersionNotKept,
)
from lowcode_faas_core.ids import moment, new_id
from lowcode_faas_core.interfaces.runner import LogCallback, Runner
from lowcode_faas_core.interfaces.storage import Storage
from lowcode_faas_core.lanes import elsewhere, lane
from lowcode_faas_core.limits import OperatorLimits
from lowcode_faas_core.logs import LogRouter, RunLog
from lowcode_faas_core.meter import Meter
from lowcode_faas_core.model import (
    Deployment,
    Execution,
    FunctionRef,
    Invocation,
    InvokeRequest,
    Language,
    LogLine,
    LogSummary,
    Outcome,
    Resolution,
    RunResult,
    SourceCheck,
    Status,
    Timings,
    Usage,
)
from lowcode_faas_core.recorded_run import Run
from lowcode_faas_core.recording import Recorder
from lowcode_faas_core.sources import DeploymentCache, SourceCache

__all__ = ["CHECK_NS", "Invoker", "LocalInvoker", "resolve", "run_what_is_kept"]


#: How long a source may take to be checked for syntax, in nanoseconds; who deploys it waits.
CHECK_NS: Final = 2_000_000_000


class Invoker(ABC):
    """Runs functions. Every trigger ends in :meth:`invoke`."""

    @abstractmethod
    def invoke(self, request: InvokeRequest) -> RunResult:
        """Resolve, merge env, run, and answer with the verdict.

        :raises NotFound: the function, version or collection does not exist.
        :raises InvalidValue: the timeout is above the maximum.
        :raises CapacityError: nothing could take it in time; not executed.
        :raises PlatformError: see its ``outcome`` for whether user code may have run.
        """

    @abstractmethod
    def check_source(self, source: bytes, language: Language) -> SourceCheck:
        """Have Node compile a source, if that can be had within 2 s. Never raises."""

    @abstractmethod
    def stats(self) -> Mapping[str, Any]:
        """Return counts for operators: the ``sandboxes`` block of ``/readyz``."""

    def waiting(self) -> int:
        """Return how many invocations wait for a sandbox in this process; never blocks."""
        return 0

    def degraded(self) -> list[str]:
        """Return what makes invocations slow and stops none; nothing where they run elsewhere."""
        return []

    @abstractmethod
    def check(self) -> None:
        """Return when invocations can be taken now, else raise what stops them."""

    def check_chain(self) -> None:  # noqa: B027  # nothing runs elsewhere, unless a subclass knows
        """Return when whoever runs invocations elsewhere grants the deadlines given here.

        :raises ConfigurationError: naming the variables; not when nobody answers there now.
        """

    @abstractmethod
    def drain(self) -> None:
        """Have new invocations raise ``Draining`` from now on; what was taken in goes on."""

    @abstractmethod
    def close(self, *, drain_deadline_ns: int = 0) -> None:
        """End what runs and release everything; may be called twice.

        New invocations raise ``Draining``; running ones may take until ``drain_deadline_ns``.
        """


def resolve(storage: Storage, limits: OperatorLimits, request: InvokeRequest) -> Invocation:
    """Return what a request means now: which deployment, which env, until when, under which ids."""
    accepted_ns = time.monotonic_ns()
    resolution = _resolution(storage, request.ref, request.version)
    deployment = resolution.deployment
    timeout_ms = limits.timeout_ms(request.timeout_ms, deployment.limits)
    execution_id = request.execution_id or new_id()
    return Invocation(
        execution_id=execution_id,
        run_id=request.run_id or execution_id,
        request_id=request.request_id,
        deployment=deployment,
        env=merge(resolution.levels, request.env),
        request_env=bool(request.env),
        input=request.input,
        accepted_ns=accepted_ns,
        deadline_ns=accepted_ns + timeout_ms * 1_000_000,
        traceparent=request.traceparent,
        chosen=request.execution_id is not None,
        replay_of=request.replay_of,
    )


def _resolution(storage: Storage, ref: FunctionRef, version: int | None) -> Resolution:
    if lane() is None:
        return storage.resolve(ref, version)
    known = storage.known(ref, version)
    if known is not None:
        return known
    if storage.on_lanes:
        return storage.resolve(ref, version)
    return elsewhere(lambda: storage.resolve(ref, version))


def run_what_is_kept(
    storage: Storage,
    limits: OperatorLimits,
    request: InvokeRequest,
    invocation: Invocation,
    run: Callable[[Invocation], RunResult],
) -> RunResult:
    """Run a resolved request; resolve it once more when its source was gone before it was read.

    A delete, or a deploy past what is kept, may fall between resolving and reading. No user code
    was started by then. Ids and deadline stay; a version that is still the one meant fails.
    """
    try:
        return run(invocation)
    except (NotFound, VersionNotKept, SourceCorrupt):
        again = resolve(storage, limits, request)
        if again.deployment.deployment_id == invocation.deployment.deployment_id:
            raise
        again = msgspec.structs.replace(
            again,
            execution_id=invocation.execution_id,
            run_id=invocation.run_id,
            accepted_ns=invocation.accepted_ns,
            deadline_ns=invocation.accepted_ns + again.deadline_ns - again.accepted_ns,
        )
    return run(again)


class LocalInvoker(Invoker):
    """Runs invocations with the runner of this process; used by dispatcher and worker alike."""

    def __init__(
        self,
        storage: Storage,
        runner: Runner,
        limits: OperatorLimits,
        admission: Admission,
        logs: LogRouter | None,
        meter: Meter | None = None,
        *,
        recorder: Recorder | None = None,
        cache_sources: bool = True,
    ) -> None:
        self._recorder = recorder
        self._storage = storage
        self._runner = runner
        self._limits = limits
        self._admission = admission
        self._logs = logs
        self._meter = meter or Meter()
        self._sources = SourceCache(storage, enabled=cache_sources)
        self._deployments = DeploymentCache(storage, enabled=cache_sources)
        #: Executions in flight under an id their caller chose.
        self._chosen: dict[str, object] = {}
        self._draining = False

    def invoke(self, request: InvokeRequest) -> RunResult:
        """Resolve and run."""
        if self._draining:
            raise Draining("the service is shutting down")
        invocation = resolve(self._storage, self._limits, request)
        run = partial(run_what_is_kept, self._storage, self._limits, request, invocation, self._run)
        if request.execution_id is None:
            return self._meter.invocation(request.ref, run)
        # setdefault is one atomic step: of two callers with the same id, one finds the other's mark.
        mark = object()
        if self._chosen.setdefault(invocation.execution_id, mark) is not mark:
            raise ExecutionIdTaken(f"execution {invocation.execution_id} is running")
        try:
            return self._meter.invocation(request.ref, run)
        finally:
            del self._chosen[invocation.execution_id]

    def known_deployment(self, deployment_id: str, ref: FunctionRef) -> Deployment | None:
        """Return what a dispatcher has resolved, where it was run here before."""
        return self._deployments.known(deployment_id, ref)

    def deployment(self, deployment_id: str, ref: FunctionRef) -> Deployment:
        """Return what a dispatcher has resolved; raises as ``Storage.deployment_by_id``."""
        return self._deployments.find(deployment_id, ref)

    def run(self, invocation: Invocation) -> RunResult:
        """Run a resolved invocation: what the worker is sent."""
        return self._meter.invocation(invocation.deployment.ref, partial(self._run, invocation))

    def _run(self, invocation: Invocation) -> RunResult:
        if self._draining:
            raise Draining("the service is shutting down")
        ref = invocation.deployment.ref
        seat = self._admission.enter(ref, lambda: self._displace(ref))
        try:
            if time.monotonic_ns() >= invocation.deadline_ns:
                raise CapacityError(
                    "the deadline passed before the invocation was taken in", phase="resolve"
                )
            started_ns = time.time_ns()
            begun_ns = time.monotonic_ns()
            run = self._open_run(invocation, started_ns)
            log = self._open_log(invocation, run)
            try:
                execution = self._execute(invocation, log or _discard)
            except BaseException as error:
                if log is not None:
                    log.finish()
                if run is not None:
                    run.fail(error)
                raise
            ended_ns = time.monotonic_ns()
            execution = _with_phases(execution, begun_ns - invocation.accepted_ns)
            summary = log.finish(execution.error) if log is not None else LogSummary(0, False)
        finally:
            self._admission.leave(seat)
        result = _result(invocation, execution, summary, started_ns, ended_ns - begun_ns)
        if run is not None:
            run.finish(result)
        return result

    def check_source(self, source: bytes, language: Language) -> SourceCheck:
        """Ask the runner. It takes the place of an invocation, so that threads stay free for others."""
        if self._draining:
            return SourceCheck(checked=False)
        try:
            seat = self._admission.enter(SOURCES, lambda: False)
        except CapacityError:
            return SourceCheck(checked=False)
        try:
            deadline_ns = time.monotonic_ns() + CHECK_NS
            return self._runner.check_source(source, language, deadline_ns)
        finally:
            self._admission.leave(seat)

    def stats(self) -> Mapping[str, Any]:
        """Return the runner's counts and how many invocations occupy this process."""
        return {
            **self._runner.stats(),
            "in_flight": self._admission.occupied,
            "in_flight_cap": self._admission.permits,
            "in_flight_of_service": self._admission.in_flight.total(exact=True),
        }

    def waiting(self) -> int:
        """Ask the runner."""
        return self._runner.waiting()

    def degraded(self) -> list[str]:
        """Ask the runner."""
        return self._runner.degraded()

    def check(self) -> None:
        """Ask the runner."""
        if self._draining:
            raise Draining("the service is shutting down")
        self._runner.check()

    def drain(self) -> None:
        """Refuse what is new."""
        self._draining = True

    def close(self, *, drain_deadline_ns: int = 0) -> None:
        """Refuse what is new, then close the runner."""
        self._draining = True
        self._runner.close(drain_deadline_ns=drain_deadline_ns)

    def _displace(self, ref: FunctionRef) -> bool:
        displace = partial(self._runner.displace, ref)
        return displace() if getattr(self._runner, "on_lanes", False) else elsewhere(displace)

    def _execute(self, invocation: Invocation, on_log: LogCallback) -> Execution:
        runner = self._runner
        source = partial(self._sources.read, invocation.deployment)
        if getattr(runner, "on_lanes", False):
            return runner.run(invocation, source, on_log)
        return elsewhere(lambda: runner.run(invocation, source, on_log))

    def _open_run(self, invocation: Invocation, started_ns: int) -> Run | None:
        if self._recorder is None:
            return None
        emit = None if self._logs is None else self._logs.emit
        return self._recorder.open(invocation, started_ns, emit)

    def _open_log(self, invocation: Invocation, run: Run | None) -> RunLog | None:
        if self._logs is None:
            return None
        settings = self._limits.settings
        return RunLog(
            run or self._logs, invocation, settings.log_line_bytes, settings.log_run_bytes
        )


def _discard(_line: LogLine) -> None:
    """Take a line nobody wants: capture is off."""


def _with_phases(execution: Execution, before_ns: int) -> Execution:
    """Have a timeout say where the time went: user code may have had the least of it."""
    error = execution.error
    if execution.status is not Status.TIMEOUT or error is None:
        return execution
    message = (
        f"{error.message}: {before_ns // 1_000_000} ms until it was taken in, "
        f"{execution.queue_ns // 1_000_000} ms in the queue, "
        f"{execution.start_ns // 1_000_000} ms for an instance, "
        f"{execution.run_ns // 1_000_000} ms in the handler"
    )
    return msgspec.structs.replace(execution, error=msgspec.structs.replace(error, message=message))


def _result(
    invocation: Invocation,
    execution: Execution,
    logs: LogSummary,
    started_ns: int,
    took_ns: int,
) -> RunResult:
    deployment = invocation.deployment
    cpu_ns = execution.cpu_ns
    return RunResult(
        execution_id=invocation.execution_id,
        run_id=invocation.run_id,
        request_id=invocation.request_id,
        function_name=deployment.function_name,
        collection_path=deployment.collection_path,
        deployment_id=deployment.deployment_id,
        deployment_version=deployment.version,
        status=execution.status,
        output=execution.output,
        error=execution.error,
        start=execution.start,
        outcome=Outcome.EXECUTED,
        started_at=moment(started_ns),
        # Wall clock once, then the monotonic clock's distance: a clock set back cannot make a run
        # finish before it began.
        finished_at=moment(started_ns + took_ns),
        timings_ms=Timings(
            queue=_ms(execution.queue_ns),
            start=_ms(execution.start_ns),
            run=_ms(execution.run_ns),
            total=_ms(took_ns),
        ),
        usage=Usage(
            cpu_ms=None if cpu_ns is None else _ms(cpu_ns),
            max_rss_bytes=execution.max_rss_bytes,
        ),
        logs=logs,
    )


def _ms(nanoseconds: int) -> float:
    # Half the time of ``round``, five times an invocation.
    return (nanoseconds + 500) // 1000 / 1000
