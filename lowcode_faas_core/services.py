"""The composition root: builds everything one process needs from its environment, and closes it.

Called after the fork, so that no socket, thread or sandbox is shared between serving processes.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass

from lowcode_faas_core.admission import Admission
from lowcode_faas_core.authentication import Authentication, TokenAuthenticator
from lowcode_faas_core.configuration import PoolSettings
from lowcode_faas_core.errors import FaasError
from lowcode_faas_core.fetching import SourceFetching
from lowcode_faas_core.following import Following
from lowcode_faas_core.interfaces.executions import ExecutionStore
from lowcode_faas_core.interfaces.launcher import Launcher
from lowcode_faas_core.interfaces.log_sink import LogSink
from lowcode_faas_core.interfaces.runner import Runner
from lowcode_faas_core.interfaces.source import FetchLimits
from lowcode_faas_core.interfaces.storage import SourceChecker, Storage
from lowcode_faas_core.invoker import CHECK_NS, Invoker, LocalInvoker
from lowcode_faas_core.limits import OperatorLimits
from lowcode_faas_core.logquery.queries import LogQueries
from lowcode_faas_core.logs import LogRouter
from lowcode_faas_core.meter import Meter
from lowcode_faas_core.model import Reuse
from lowcode_faas_core.plugins import describe
from lowcode_faas_core.rates import Rates
from lowcode_faas_core.readiness import Readiness
from lowcode_faas_core.recording import Recorder
from lowcode_faas_core.remote import RemoteInvoker
from lowcode_faas_core.sandbox.runner import PooledRunner
from lowcode_faas_core.sandbox.shelves import PoolCaps
from lowcode_faas_core.setting_values import is_loopback
from lowcode_faas_core.shared_map import SharedRow
from lowcode_faas_core.startup import ProcessRole, Startup, address
from lowcode_faas_core.tokens import TokenFile

__all__ = ["SERVICES", "Services"]

#: Where ``create_app`` leaves the services in ``app.extensions``, for whoever must close them.
SERVICES = "lowcode_faas_services"


@dataclass
class Services:
    """The built objects of one process; all of them are used by many threads at once."""

    startup: Startup
    #: Who callers of the API are; nobody's at a worker, which has a secret of its own.
    authentication: Authentication
    storage: Storage
    #: Where it is kept what ran; none where nobody wants that.
    executions: ExecutionStore | None
    #: How it is looked at; none without it, and at a worker.
    following: Following | None
    #: What writes there; none where nothing runs.
    recorder: Recorder | None
    invoker: Invoker
    limits: OperatorLimits
    #: How sources are fetched that callers name by a URL.
    fetching: SourceFetching
    #: What takes invocations in.
    admission: Admission
    #: How often callers may call.
    rates: Rates
    default_reuse: Reuse
    #: How what was printed is found again.
    log_queries: LogQueries
    #: What counts all that happens.
    meter: Meter
    #: What carries what functions print; none where nothing runs, or is captured.
    logs: LogRouter | None
    #: What starts sandboxes here; none at a dispatcher with a worker, or with another runner.
    launcher: Launcher | None
    #: Closes everything, the newest first.
    opened: contextlib.ExitStack
    #: Set when the process was told to end: it is not ready, and still serves.
    draining: bool = False

    @classmethod
    def build(
        cls,
        environ: Mapping[str, str],
        role: ProcessRole,
        *,
        processes: int = 1,
        sinks: Mapping[str, LogSink] | None = None,
    ) -> Services:
        """Build what ``role`` needs; ``processes`` is how many share the service's caps.

        Nothing stays open when this raises.

        :param sinks: log sinks beside those of plugins, by name.

        :raises StartError: with everything that is wrong.
        """
        startup = Startup.read(environ, role)
        limits = OperatorLimits(startup.limits, startup.admission)
        admission = Admission(startup.server.threads, startup.admission)
        log_queries = LogQueries(
            dict(startup.log_query.loki_labels),
            startup.log_query.explore_template,
            startup.registry.log_dialects(environ),
        )
        with contextlib.ExitStack() as opened:
            meter = Meter(startup.registry.metrics(environ))
            opened.callback(meter.close)
            rates = Rates(startup.admission.rate_per_token)
            authentication = _authentication(startup, rates)
            opened.callback(authentication.close)
            storage = startup.registry.storage(environ)
            opened.callback(storage.close)
            executions = startup.registry.executions(environ)
            if executions is not None:
                opened.callback(executions.close)
            fetching = _fetching(startup, limits, admission, opened)
            following: Following | None = None
            if executions is not None and role is ProcessRole.DISPATCHER:
                following = Following(executions, admission)
            recorder: Recorder | None = None
            launcher: Launcher | None = None
            logs: LogRouter | None = None
            invoker: Invoker
            if role is ProcessRole.DISPATCHER and startup.server.worker_url:
                invoker = RemoteInvoker(
                    startup.server.worker_url,
                    startup.server.worker_token,
                    storage,
                    limits,
                    admission,
                    meter,
                )
                opened.callback(invoker.close)
                storage.check_sources_with(invoker.check_source)
            else:
                if executions is not None:
                    recorder = Recorder(executions, startup.executions)
                    opened.callback(recorder.close)
                logs = _logs(startup, opened, recorder, meter, sinks or {})
                found = startup.registry.runner(environ)
                opened.callback(found.close)
                found.report_operations_to(meter.operation)
                if isinstance(found, Launcher):
                    launcher = found
                    caps = _caps(startup.pool.share(processes))
                    runner: Runner = PooledRunner(launcher, caps, limits, meter)
                    opened.callback(runner.close)
                else:
                    runner = found
                storage.check_sources_with(_checker(runner))
                invoker = LocalInvoker(
                    storage,
                    runner,
                    limits,
                    admission,
                    logs,
                    meter,
                    recorder=recorder,
                    cache_sources=startup.backends.function_cache,
                )
                opened.callback(invoker.close)
            return cls(
                startup=startup,
                authentication=authentication,
                storage=storage,
                executions=executions,
                following=following,
                recorder=recorder,
                invoker=invoker,
                limits=limits,
                fetching=fetching,
                admission=admission,
                rates=rates,
                default_reuse=startup.pool.reuse,
                log_queries=log_queries,
                meter=meter,
                logs=logs,
                launcher=launcher,
                opened=opened.pop_all(),
            )

    def share(self, row: SharedRow) -> None:
        """Count what is in flight, and rates, with the other processes; before the first request.

        :raises ValueError: their rows are not laid out like ours.
        """
        seats = self.admission.in_flight.cells
        self.rates.share(row.part(seats, len(row.own)))
        self.admission.share(row.part(0, seats))

    def ready(self) -> Readiness:
        """Tell whether invocations can be taken now; never raises."""
        reasons = ["the service is shutting down"] if self.draining else []
        for check in (self.storage.check, self.invoker.check):
            try:
                check()
            except FaasError as error:
                if error.detail not in reasons:
                    reasons.append(error.detail)
            except Exception as error:  # a plugin's own bug must not take the probe down
                reasons.append(describe(error))
        try:
            sandboxes = self.invoker.stats()
        except Exception as error:  # as above
            return Readiness(ok=False, reasons=[*reasons, describe(error)])
        degraded = [] if self.logs is None else self.logs.degraded()
        degraded += [] if self.recorder is None else self.recorder.degraded()
        degraded += self.storage.degraded() + self.authentication.degraded()
        degraded += self.invoker.degraded()
        return Readiness(ok=not reasons, reasons=reasons, degraded=degraded, sandboxes=sandboxes)

    def notes(self) -> list[str]:
        """Return what an operator should know at start: the isolation here, and what is not ready."""
        notes = []
        if self.launcher is not None:
            isolation = self.launcher.isolation()
            notes.append(f"isolation of user code: {isolation.summary}")
            if not isolation.boundary:
                notes.append("deploy only code that you would run on this machine yourself")
        readiness = self.ready()
        notes.extend(f"not ready yet: {reason}" for reason in readiness.reasons)
        return notes

    def dismiss(self) -> None:
        """Send away who follows an execution: they come again, to a process that goes on."""
        if self.following is not None:
            self.following.end()

    def publish(self) -> None:
        """Show the other processes how many sandboxes there are here; called every second."""
        self.meter.pool(self.invoker.stats)

    def close(self) -> None:
        """End every run and sandbox, deliver the last log lines, release all; may be repeated."""
        self.dismiss()
        self.opened.close()


def _authentication(startup: Startup, rates: Rates) -> Authentication:
    if startup.role is ProcessRole.WORKER:
        return Authentication(None)
    host, _ = address(startup.server, startup.role)
    return Authentication(
        TokenAuthenticator(TokenFile(startup.access.tokens)),
        startup.registry.authenticators(startup.environ),
        anonymous=startup.server.allow_anonymous,
        loopback=is_loopback(host),
        rates=rates,
    )


def _fetching(
    startup: Startup, limits: OperatorLimits, admission: Admission, opened: contextlib.ExitStack
) -> SourceFetching:
    fetchers = startup.registry.fetchers(startup.environ)
    for each in fetchers:
        opened.callback(each.close)
    bounds = FetchLimits(limits.settings.source_bytes, startup.backends.source_timeout_s)
    return SourceFetching(fetchers, bounds, admission)


def _logs(
    startup: Startup,
    opened: contextlib.ExitStack,
    recorder: Recorder | None,
    meter: Meter,
    further: Mapping[str, LogSink],
) -> LogRouter | None:
    sinks = {**startup.registry.sinks(startup.environ), **further}
    if not sinks and (recorder is None or not startup.backends.function_logs):
        return None
    router = LogRouter(sinks, meter)
    opened.callback(router.close)
    return router


def _checker(runner: Runner) -> SourceChecker:
    """Return what checks edits past the API: by whoever asks for one, who has a thread already."""
    return lambda source, language: runner.check_source(
        source, language, time.monotonic_ns() + CHECK_NS
    )


def _caps(share: PoolSettings) -> PoolCaps:
    return PoolCaps(
        instances=share.max_instances,
        per_function=share.per_function,
        stock=share.stock,
        queue=share.queue,
        queue_timeout_ns=share.queue_timeout_ms * 1_000_000,
        idle_ttl_ns=int(share.idle_ttl_s * 1e9),
        memory_bytes=None if share.memory_budget_mb is None else share.memory_budget_mb << 20,
    )
