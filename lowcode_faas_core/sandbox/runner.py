"""The runner for everything that can start a Node sandbox: leases, loads, runs, and judges."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, Final

from lowcode_faas_core.errors import FaasError, RunnerUnavailable
from lowcode_faas_core.interfaces.launcher import Launcher
from lowcode_faas_core.interfaces.runner import LogCallback, Runner, SourceReader
from lowcode_faas_core.lanes import elsewhere
from lowcode_faas_core.limits import OperatorLimits
from lowcode_faas_core.meter import Meter
from lowcode_faas_core.model import (
    Execution,
    FunctionRef,
    Invocation,
    Language,
    Limits,
    Reuse,
    SourceCheck,
    SourceFault,
    StartKind,
)
from lowcode_faas_core.sandbox.channel import ChannelClosed, DeadlinePassed, NothingDelivered
from lowcode_faas_core.sandbox.instance import Bounds, Instance
from lowcode_faas_core.sandbox.pool import Pool
from lowcode_faas_core.sandbox.protocol import ProtocolError
from lowcode_faas_core.sandbox.shelves import Lease, PoolCaps, Want
from lowcode_faas_core.sandbox.verdict import Verdict

__all__ = ["PooledRunner"]

#: Sandboxes found unfit before they were given anything, until the runner gives up.
ATTEMPTS: Final = 16
#: Whom a sandbox that checks a source is booked to; no function can be called that.
_CHECKS: Final = FunctionRef("", "(checks)")
_UNCHECKED: Final = SourceCheck(checked=False)


class PooledRunner(Runner):
    """Runs invocations in the sandboxes of one launcher."""

    on_lanes = True

    def __init__(
        self,
        launcher: Launcher,
        caps: PoolCaps,
        limits: OperatorLimits,
        meter: Meter | None = None,
    ) -> None:
        self._launcher = launcher
        self._limits = limits
        bounds = Bounds(limits.settings.output_bytes, limits.settings.log_line_bytes)
        self._pool = Pool(launcher, caps, limits.resolve(Limits()), bounds, meter=meter)
        self._pool.open()

    def run(self, invocation: Invocation, source: SourceReader, on_log: LogCallback) -> Execution:
        """Run it once; a sandbox that was found unfit before it was given anything does not count."""
        want = self._want(invocation)
        for _ in range(ATTEMPTS):
            lease = self._pool.lease(want, invocation.deadline_ns)
            instance = lease.instance
            assert instance is not None  # noqa: S101  # a finished lease has one
            try:
                return self._run_on(instance, lease, invocation, source, on_log)
            except NothingDelivered:
                self._pool.discard(instance)
            except BaseException:
                self._pool.discard(instance)
                raise
        raise RunnerUnavailable(f"{ATTEMPTS} sandboxes in a row could not be used")

    def check_source(self, source: bytes, language: Language, deadline_ns: int) -> SourceCheck:
        """Have a sandbox that nobody used compile it, and end that sandbox."""
        limits = self._limits.resolve(Limits())
        want = Want(_CHECKS, (_CHECKS,), limits, fresh=True, request_env=False)
        try:
            instance = self._pool.lease(want, deadline_ns).instance
        except FaasError:
            return _UNCHECKED
        assert instance is not None  # noqa: S101  # a finished lease has one
        try:
            return instance.check(source, language, deadline_ns)
        except (ChannelClosed, DeadlinePassed, ProtocolError):
            return _UNCHECKED
        except UnicodeDecodeError:
            return SourceCheck(checked=True, fault=SourceFault("it is not UTF-8"))
        finally:
            self._pool.discard(instance)

    def displace(self, ref: FunctionRef) -> bool:
        """Turn away a waiting invocation of the function that has most waiting."""
        return self._pool.displace(ref)

    def waiting(self) -> int:
        """Return how many wait for a sandbox."""
        return self._pool.waiting

    def stats(self) -> Mapping[str, Any]:
        """Return the pool's counts."""
        return self._pool.stats()

    def degraded(self) -> list[str]:
        """Ask the pool."""
        return self._pool.degraded()

    def check(self) -> None:
        """Ask the launcher."""
        self._launcher.check()

    def close(self, *, drain_deadline_ns: int = 0) -> None:
        """End every sandbox, then the launcher."""
        self._pool.close(drain_deadline_ns=drain_deadline_ns)
        self._launcher.close()

    def _want(self, invocation: Invocation) -> Want:
        deployment = invocation.deployment
        limits = self._limits.resolve(deployment.limits)
        # The env itself, not a hash of it: instances are shared only where it is equal.
        env = tuple(sorted(invocation.env.items())) if invocation.env else ()
        return Want(
            ref=deployment.ref,
            key=(deployment.deployment_id, env, limits),
            limits=limits,
            fresh=deployment.reuse is Reuse.FRESH,
            request_env=invocation.request_env,
        )

    def _run_on(
        self,
        instance: Instance,
        lease: Lease,
        invocation: Invocation,
        source: SourceReader,
        on_log: LogCallback,
    ) -> Execution:
        sandbox = instance.sandbox
        begun_ns = loaded_ns = time.monotonic_ns()
        cpu_before = sandbox.cpu_ns()
        if instance.worked_while_idle(cpu_before):
            raise NothingDelivered("it went on working after its last run")
        verdict: Verdict | None = None
        kind = lease.kind
        if not instance.loaded:
            if kind is StartKind.WARM:
                kind = StartKind.COLD  # started beside those who waited
            verdict = elsewhere(lambda: instance.load(invocation, source, on_log))
            loaded_ns = time.monotonic_ns()
        if verdict is None:
            verdict = instance.run(invocation, on_log)
        ended_ns = time.monotonic_ns()
        final_cpu, final_peak = instance.final_usage
        cpu_after = sandbox.cpu_ns() if final_cpu is None else final_cpu
        peak = sandbox.peak_rss() if final_peak is None else final_peak
        run_ns = ended_ns - loaded_ns
        instance.idle_cpu_ns = cpu_after
        self._pool.release(instance, reusable=verdict.reusable, run_ns=run_ns)
        return Execution(
            status=verdict.status,
            start=kind,
            output=verdict.output,
            error=verdict.error,
            queue_ns=lease.queue_ns,
            start_ns=lease.start_ns + loaded_ns - begun_ns,
            run_ns=run_ns,
            cpu_ns=None if cpu_before is None or cpu_after is None else cpu_after - cpu_before,
            max_rss_bytes=peak,
            image=sandbox.image,
        )
