"""The metrics there are: names, meanings, labels; and how sums become text for Prometheus."""

from __future__ import annotations

import platform
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Final, NamedTuple

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from lowcode_faas_core import __version__
from lowcode_faas_core.shared_counts import Reading

__all__ = ["FAMILIES", "RUN_BUCKETS", "Family", "Page"]

#: Upper bounds in seconds: from a warm run, half a millisecond, to the default deadline and beyond.
RUN_BUCKETS: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0),
)


class Family(NamedTuple):
    """One metric. With ``buckets`` it is a histogram: a cell for each, for what is above, the sum."""

    name: str
    text: str
    labels: tuple[str, ...] = ()
    gauge: bool = False
    buckets: tuple[float, ...] = ()

    @property
    def cells(self) -> int:
        """How many numbers one label set has."""
        return len(self.buckets) + 2 if self.buckets else 1


INVOCATIONS: Final = Family(
    "faas_invocations_total",
    "Invocations of functions that exist, by status of the result or code of the problem.",
    ("collection", "function", "status"),
)
DURATION: Final = Family(
    "faas_invoke_duration_seconds",
    "Time of an invocation in this process: queue, start, run and, with a worker, the way there.",
    ("collection", "function"),
    buckets=RUN_BUCKETS,
)
STARTS: Final = Family(
    "faas_starts_total", "Invocations that came to an instance, by how.", ("kind",)
)
IN_FLIGHT: Final = Family(
    "faas_inflight_invocations", "Invocations running or waiting now.", gauge=True
)
QUEUED: Final = Family("faas_queued_invocations", "Invocations waiting for a sandbox.", gauge=True)
REJECTED: Final = Family(
    "faas_queue_rejected_total", "Invocations that found no capacity: nothing was executed."
)
SANDBOXES: Final = Family(
    "faas_sandboxes", "Sandboxes that exist, at most a second ago.", ("state",), gauge=True
)
OPERATIONS: Final = Family(
    "faas_runner_operation_seconds",
    "Time of what the runner does: starts of sandboxes, and each kind of call to an engine.",
    ("op", "outcome"),
    buckets=RUN_BUCKETS,
)
LOG_EVENTS: Final = Family(
    "faas_log_events_total", "Log events a sink is done with, dropped ones among them.", ("sink",)
)
LOG_DROPS: Final = Family(
    "faas_log_events_dropped_total",
    "Log events that a sink lost.",
    ("sink", "reason"),
)
ORPHANS: Final = Family(
    "faas_orphans_reaped_total", "Sandboxes of killed processes whose leftovers were removed."
)
DEPLOYMENTS: Final = Family(
    "faas_deployments_total",
    "Deployments: created, unchanged, or the code of the problem.",
    ("outcome",),
)
OVERFLOW: Final = Family(
    "faas_metrics_overflow_total",
    "Numbers without a time series of their own: there were too many.",
)
FAMILIES: Final = (
    INVOCATIONS,
    DURATION,
    STARTS,
    IN_FLIGHT,
    QUEUED,
    REJECTED,
    SANDBOXES,
    OPERATIONS,
    LOG_EVENTS,
    LOG_DROPS,
    ORPHANS,
    DEPLOYMENTS,
    OVERFLOW,
)


class Page(Collector):
    """What one scrape is answered, in a fixed order."""

    def __init__(self, readings: Iterable[Reading]) -> None:
        self._readings: dict[str, list[Reading]] = {}
        for reading in readings:
            self._readings.setdefault(reading.name, []).append(reading)

    def collect(self) -> Iterator[Metric]:
        """Yield every metric with its numbers, also those that have none yet."""
        for family in FAMILIES:
            found = self._readings.get(family.name, [])
            found.sort(key=lambda reading: reading.labels)
            yield _histogram(family, found) if family.buckets else _plain(family, found)
        build = {"version": __version__, "python": platform.python_version()}
        yield InfoMetricFamily("faas_build", "What serves here.", value=build)


def _plain(family: Family, readings: list[Reading]) -> Metric:
    kind = GaugeMetricFamily if family.gauge else CounterMetricFamily
    metric = kind(family.name, family.text, labels=family.labels)
    for reading in readings:
        metric.add_metric(reading.labels, reading.values[0])
    return metric


def _histogram(family: Family, readings: list[Reading]) -> Metric:
    metric = HistogramMetricFamily(family.name, family.text, labels=family.labels)
    bounds = [*map(floatToGoString, family.buckets), "+Inf"]
    for reading in readings:
        *counts, total = reading.values
        below = list(zip(bounds, accumulate(counts), strict=True))
        metric.add_metric(reading.labels, below, total)
    return metric
