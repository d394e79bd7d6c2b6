"""What the core tells of itself to the plugin that counts; without one it tells nobody."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from lowcode_faas_core.errors import CapacityError, FaasError
from lowcode_faas_core.interfaces.metrics import Exposition, Metrics
from lowcode_faas_core.model import FunctionRef, RunResult, StartKind

__all__ = ["Meter"]

D = TypeVar("D")

_log = logging.getLogger(__name__)

#: Shortest time between two warnings about a plugin that fails to count, in seconds.
WARN_EVERY_S: Final = 60.0
#: Counts of a pool by state, as ``Runner.stats`` names them.
STATES: Final = ("leased", "idle", "stock", "starting", "ending")
#: What ended an invocation that raised no error of ours.
UNFORESEEN: Final = "internal_error"


class Meter:
    """Tells the metrics plugin; one that raises harms nothing but its own numbers."""

    def __init__(self, metrics: Metrics | None = None) -> None:
        self._metrics = metrics
        self._warned_at = -WARN_EVERY_S

    def invocation(self, ref: FunctionRef, run: Callable[[], RunResult]) -> RunResult:
        """Run a resolved invocation, and count it whatever becomes of it."""
        metrics = self._metrics
        if metrics is None:
            return run()
        began_ns = time.monotonic_ns()
        self._tell(metrics.invocation_began)
        status = UNFORESEEN
        start: StartKind | None = None
        try:
            result = run()
        except FaasError as error:
            status = error.code
            if isinstance(error, CapacityError):
                self._tell(metrics.invocation_rejected)
            raise
        else:
            status, start = result.status.value, result.start
            return result
        finally:
            took_ns = time.monotonic_ns() - began_ns
            self._tell(metrics.invocation_ended, ref, status, start, took_ns)

    def deployment(self, deploy: Callable[[], D], outcome_of: Callable[[D], str]) -> D:
        """Deploy, and count it whatever becomes of it."""
        if self._metrics is None:
            return deploy()
        outcome = UNFORESEEN
        try:
            done = deploy()
        except FaasError as error:
            outcome = error.code
            raise
        else:
            outcome = outcome_of(done)
            return done
        finally:
            self._tell(self._metrics.deployed, outcome)

    def pool(self, stats: Callable[[], Mapping[str, Any]]) -> None:
        """Tell how many sandboxes there are, and how many wait for one."""
        if self._metrics is not None:
            self._tell(self._publish, self._metrics, stats)

    def operation(self, op: str, outcome: str, took_ns: int) -> None:
        """Tell how long the runner took for something."""
        if self._metrics is not None:
            self._tell(self._metrics.operation, op, outcome, took_ns)

    def log_events(self, sink: str, count: int) -> None:
        """Tell how many events a sink was done with."""
        if self._metrics is not None:
            self._tell(self._metrics.log_events, sink, count)

    def log_events_dropped(self, sink: str, reason: str, count: int) -> None:
        """Tell how many of them were lost."""
        if self._metrics is not None:
            self._tell(self._metrics.log_events_dropped, sink, reason, count)

    def orphans_reaped(self, count: int) -> None:
        """Tell of what killed processes had left behind."""
        if self._metrics is not None and count:
            self._tell(self._metrics.orphans_reaped, count)

    def show(self, accept: str) -> Exposition | None:
        """Return all numbers of the service; ``None`` where nobody counts."""
        return None if self._metrics is None else self._metrics.show(accept)

    def close(self) -> None:
        """Release the plugin; may be called twice."""
        if self._metrics is not None:
            self._tell(self._metrics.close)

    @staticmethod
    def _publish(metrics: Metrics, stats: Callable[[], Mapping[str, Any]]) -> None:
        found = stats()
        if "waiting" in found:  # not at a dispatcher, whose worker has the sandboxes
            metrics.sandboxes({state: found[state] for state in STATES}, found["waiting"])

    def _tell(self, event: Callable[..., None], *values: object) -> None:
        try:
            event(*values)
        except Exception as error:  # whatever is counted must not depend on the counting
            now = time.monotonic()
            if now - self._warned_at >= WARN_EVERY_S:
                self._warned_at = now
                _log.warning("the metrics plugin failed at %s: %r", event.__name__, error)
