"""Counts what it is told in the cells of its process, and shows the sums of all processes."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from typing import Final

from prometheus_client.exposition import choose_encoder

from lowcode_faas_core.interfaces.metrics import Exposition, Metrics
from lowcode_faas_core.model import FunctionRef, StartKind
from lowcode_faas_core.shared_counts import Counts
from lowcode_faas_prometheus import families
from lowcode_faas_prometheus.families import Family, Page
from lowcode_faas_prometheus.settings import PrometheusSettings

__all__ = ["OTHER", "PrometheusMetrics"]

#: Stands for collection and function of those that have no numbers of their own. No name of a
#: function or collection begins like this.
OTHER: Final = "_other"
#: Label sets that other metrics may have; theirs come from plugins, which may have bugs.
MOST_OTHERS: Final = 500


class PrometheusMetrics(Metrics):
    """See :class:`Metrics`. Where a number stands is looked up once and kept."""

    def __init__(self, counts: Counts, settings: PrometheusSettings) -> None:
        self._counts = counts
        # One more: the first of them is for all others.
        self._at_most = settings.max_functions + 1
        self._overflow = self._first(families.OVERFLOW)
        self._in_flight = self._first(families.IN_FLIGHT)
        self._queued = self._first(families.QUEUED)
        self._rejected = self._first(families.REJECTED)
        self._orphans = self._first(families.ORPHANS)
        self._first(families.DURATION, OTHER, OTHER)
        self._starts = {kind: self._first(families.STARTS, kind.value) for kind in StartKind}
        #: Of each function: its histogram, and its counters by status.
        self._functions: dict[tuple[str, str], tuple[int, dict[str, int]]] = {}
        self._places: dict[tuple[str, tuple[str, ...]], int] = {}

    def invocation_began(self) -> None:
        """Count it as in flight."""
        self._counts.add(((self._in_flight, 1.0),))

    def invocation_ended(
        self, ref: FunctionRef, status: str, start: StartKind | None, took_ns: int
    ) -> None:
        """Count it as over, by what it came to."""
        seconds = took_ns / 1e9
        histogram, counter = self._of(ref.collection_path, ref.name, status)
        amounts = [
            (self._in_flight, -1.0),
            (counter, 1.0),
            (histogram + bisect_left(families.RUN_BUCKETS, seconds), 1.0),
            (histogram + len(families.RUN_BUCKETS) + 1, seconds),
        ]
        if start is not None:
            amounts.append((self._starts[start], 1.0))
        self._counts.add(amounts)

    def invocation_rejected(self) -> None:
        """Count it."""
        self._counts.add(((self._rejected, 1.0),))

    def sandboxes(self, states: Mapping[str, int], waiting: int) -> None:
        """Write this process's part of the gauges."""
        self._counts.set(self._queued, waiting)
        for state, count in states.items():
            self._counts.set(self._place(families.SANDBOXES, state), count)

    def operation(self, op: str, outcome: str, took_ns: int) -> None:
        """Count it with its time."""
        seconds = took_ns / 1e9
        cell = self._place(families.OPERATIONS, op, outcome)
        if cell == self._overflow:
            self._counts.add(((cell, 1.0),))
            return
        bucket = bisect_left(families.RUN_BUCKETS, seconds)
        self._counts.add(
            ((cell + bucket, 1.0), (cell + len(families.RUN_BUCKETS) + 1, seconds)),
        )

    def log_events(self, sink: str, count: int) -> None:
        """Count them."""
        self._add(families.LOG_EVENTS, count, sink)

    def log_events_dropped(self, sink: str, reason: str, count: int) -> None:
        """Count them."""
        self._add(families.LOG_DROPS, count, sink, reason)

    def orphans_reaped(self, count: int) -> None:
        """Count them."""
        self._counts.add(((self._orphans, count),))

    def deployed(self, outcome: str) -> None:
        """Count it."""
        self._add(families.DEPLOYMENTS, 1, outcome)

    def show(self, accept: str) -> Exposition:
        """Write Prometheus's text, or OpenMetrics where that is asked for."""
        encode, content_type = choose_encoder(accept)
        return Exposition(content_type, encode(Page(self._counts.read())))

    def close(self) -> None:
        """Do nothing: the memory goes with the process, its sums stay for the others."""

    def _of(self, collection: str, function: str, status: str) -> tuple[int, int]:
        """Return where the histogram and the counter of a function and status stand."""
        known = self._functions.get((collection, function))
        if known is None:
            histogram = self._counts.place(
                families.DURATION.name,
                (collection, function),
                families.DURATION.cells,
                at_most=self._at_most,
            )
            if histogram is None:
                self._counts.add(((self._overflow, 1.0),))
                return self._of(OTHER, OTHER, status)
            known = self._functions[collection, function] = (histogram, {})
        histogram, counters = known
        counter = counters.get(status)
        if counter is None:
            labels = (collection, function, status)
            found = self._counts.place(families.INVOCATIONS.name, labels)
            counter = counters[status] = self._overflow if found is None else found
        return histogram, counter

    def _add(self, family: Family, amount: float, *labels: str) -> None:
        self._counts.add(((self._place(family, *labels), amount),))

    def _place(self, family: Family, *labels: str) -> int:
        place = self._places.get((family.name, labels))
        if place is None:
            found = self._counts.place(
                family.name, labels, family.cells, gauge=family.gauge, at_most=MOST_OTHERS
            )
            if found is None:
                return self._overflow
            place = self._places[family.name, labels] = found
        return place

    def _first(self, family: Family, *labels: str) -> int:
        found = self._counts.place(family.name, labels, family.cells, gauge=family.gauge)
        assert found is not None  # noqa: S101  # the memory is new, or holds it already
        return found
