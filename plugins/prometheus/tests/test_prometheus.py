"""What Prometheus reads: legal text, names as it advises, true sums, a bounded number of series."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import pytest
from lowcode_faas_prometheus import PrometheusMetrics, PrometheusSettings
from lowcode_faas_prometheus.families import RUN_BUCKETS
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from lowcode_faas_core.model import FunctionRef, StartKind
from lowcode_faas_core.shared_counts import Counts, SharedCounts

#: As the contract with whoever has dashboards names them.
NAMES = {
    "faas_invocations_total": ("collection", "function", "status"),
    "faas_invoke_duration_seconds": ("collection", "function"),
    "faas_starts_total": ("kind",),
    "faas_inflight_invocations": (),
    "faas_queued_invocations": (),
    "faas_queue_rejected_total": (),
    "faas_sandboxes": ("state",),
    "faas_runner_operation_seconds": ("op", "outcome"),
    "faas_log_events_total": ("sink",),
    "faas_log_events_dropped_total": ("reason", "sink"),
    "faas_orphans_reaped_total": (),
    "faas_deployments_total": ("outcome",),
    "faas_metrics_overflow_total": (),
    "faas_build_info": ("python", "version"),
}


def samples(metrics: PrometheusMetrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Return every sample of the text by name and labels."""
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(metrics.show("").body.decode())
        for sample in family.samples
    }


@pytest.fixture
def make() -> Callable[..., PrometheusMetrics]:
    def made(counts: Counts | None = None, **settings: Any) -> PrometheusMetrics:
        counts = counts or SharedCounts().enter()
        return PrometheusMetrics(counts, PrometheusSettings(**settings))

    return made


@pytest.fixture
def busy(make: Callable[..., PrometheusMetrics]) -> PrometheusMetrics:
    """Return one that was told something of each kind."""
    metrics = make()
    ref = FunctionRef("org/team", "greet")
    for start, status, took_ms in ((StartKind.COLD, "succeeded", 300), (None, "no_capacity", 0)):
        metrics.invocation_began()
        metrics.invocation_ended(ref, status, start, took_ms * 1_000_000)
    metrics.invocation_began()
    metrics.invocation_rejected()
    metrics.sandboxes({"leased": 1, "idle": 2}, 4)
    metrics.operation("create_container", "ok", 120_000_000)
    metrics.log_events("stdout", 5)
    metrics.log_events_dropped("stdout", "queue_full", 2)
    metrics.orphans_reaped(3)
    metrics.deployed("created")
    return metrics


def test_every_metric_is_there_with_its_labels_and_numbers(busy: PrometheusMetrics) -> None:
    found = samples(busy)
    labels: dict[str, set[tuple[str, ...]]] = {}
    for name, pairs in found:
        plain = re.sub("_(bucket|sum|count)$", "", name)
        names = tuple(label for label, _ in pairs if label != "le")
        labels.setdefault(plain, set()).add(names)
    assert labels == {name: {labels} for name, labels in NAMES.items()}
    greet = (("collection", "org/team"), ("function", "greet"))
    assert found["faas_invocations_total", (*greet, ("status", "succeeded"))] == 1
    assert found["faas_invocations_total", (*greet, ("status", "no_capacity"))] == 1
    assert found["faas_invoke_duration_seconds_count", greet] == 2
    assert found["faas_invoke_duration_seconds_sum", greet] == pytest.approx(0.3)
    assert found["faas_starts_total", (("kind", "cold"),)] == 1
    assert found["faas_starts_total", (("kind", "warm"),)] == 0
    assert found["faas_inflight_invocations", ()] == 1
    assert found["faas_queued_invocations", ()] == 4
    assert found["faas_queue_rejected_total", ()] == 1
    assert found["faas_sandboxes", (("state", "idle"),)] == 2
    operation = (("op", "create_container"), ("outcome", "ok"))
    assert found["faas_runner_operation_seconds_count", operation] == 1
    assert found["faas_log_events_total", (("sink", "stdout"),)] == 5
    dropped = (("reason", "queue_full"), ("sink", "stdout"))
    assert found["faas_log_events_dropped_total", dropped] == 2
    assert found["faas_orphans_reaped_total", ()] == 3
    assert found["faas_deployments_total", (("outcome", "created"),)] == 1
    assert found["faas_metrics_overflow_total", ()] == 0


def test_names_follow_the_conventions(busy: PrometheusMetrics) -> None:
    families = list(text_string_to_metric_families(busy.show("").body.decode()))
    for family in families:
        name = family.name
        assert re.fullmatch("faas(_[a-z]+)+", name), name
        assert family.documentation.endswith("."), name
        assert not re.search("milli|_ms$|minutes|gauge|counter|histogram|_count$|_sum$", name)
        if family.type == "counter":
            assert {sample.name for sample in family.samples} <= {f"{name}_total"}, name
        else:
            assert not name.endswith("_total"), name
        if family.type == "histogram":
            assert name.endswith("_seconds"), name
        for sample in family.samples:
            assert all(re.fullmatch("[a-z]+", label) for label in sample.labels), name
    assert len({family.name for family in families}) == len(families)


def test_openmetrics_is_written_where_it_is_asked_for(busy: PrometheusMetrics) -> None:
    exposition = busy.show("application/openmetrics-text;version=1.0.0,text/plain;q=0.5")
    assert exposition.content_type.startswith("application/openmetrics-text")
    names = {family.name for family in read_openmetrics(exposition.body.decode())}
    assert "faas_invocations" in names
    assert busy.show("*/*").content_type.startswith("text/plain; version=")


@pytest.mark.parametrize("milliseconds", [0, 0.4, 1, 1.1, 250, 299_999, 300_000, 300_001, 1e9])
def test_a_duration_is_in_every_bucket_that_holds_it(
    make: Callable[..., PrometheusMetrics], milliseconds: float
) -> None:
    metrics = make()
    metrics.invocation_began()
    metrics.invocation_ended(FunctionRef("", "f"), "timeout", None, int(milliseconds * 1e6))
    for (name, pairs), value in samples(metrics).items():
        labels = dict(pairs)
        if name == "faas_invoke_duration_seconds_bucket" and labels["function"] == "f":
            assert value == (milliseconds / 1000 <= float(labels["le"])), labels
    assert RUN_BUCKETS[-1] < math.inf


@pytest.mark.fault(80)
@pytest.mark.parametrize(
    "text", ['a"b', "a\\b", "a\nb", 'x"} 1\nfaas_evil_total{y="z', "\\n", "é€😀"]
)
def test_a_label_holds_any_text_and_forges_no_line(
    make: Callable[..., PrometheusMetrics], text: str
) -> None:
    metrics = make()
    metrics.log_events_dropped(text, text, 7)
    metrics.invocation_began()
    metrics.invocation_ended(FunctionRef(text, text), text, None, 1)
    found = samples(metrics)
    assert found["faas_log_events_dropped_total", (("reason", text), ("sink", text))] == 7
    labels = (("collection", text), ("function", text), ("status", text))
    assert found["faas_invocations_total", labels] == 1
    assert not any("evil" in name for name, _ in found)


class TestCap:
    @pytest.mark.fault(87)
    def test_functions_beyond_it_are_counted_together(
        self, make: Callable[..., PrometheusMetrics]
    ) -> None:
        metrics = make(max_functions=3)
        for number in range(10):
            for _ in range(number + 1):
                metrics.invocation_began()
                metrics.invocation_ended(FunctionRef("", f"f{number}"), "succeeded", None, 1)
        found = samples(metrics)
        counts = {
            dict(labels)["function"]: value
            for (name, labels), value in found.items()
            if name == "faas_invocations_total"
        }
        assert counts == {"f0": 1, "f1": 2, "f2": 3, "_other": sum(range(4, 11))}
        assert found["faas_metrics_overflow_total", ()] == sum(range(4, 11))
        other = (("collection", "_other"), ("function", "_other"))
        assert found["faas_invoke_duration_seconds_count", other] == sum(range(4, 11))

    def test_it_is_one_cap_for_all_processes(self, make: Callable[..., PrometheusMetrics]) -> None:
        shared = SharedCounts(2)
        first = make(shared.enter(), max_functions=2)
        # A row of one process may be entered once; this stands in for another one.
        second = make(Counts(shared, row=1), max_functions=2)
        for metrics, name in (
            (first, "a"),
            (second, "b"),
            (first, "c"),
            (second, "c"),
            (first, "b"),
        ):
            metrics.invocation_began()
            metrics.invocation_ended(FunctionRef("", name), "succeeded", None, 1)
        for metrics in (first, second):
            counts = {
                dict(labels)["function"]: value
                for (name, labels), value in samples(metrics).items()
                if name == "faas_invocations_total"
            }
            assert counts == {"a": 1, "b": 2, "_other": 2}

    def test_a_function_called_other_is_not_the_rest(
        self, make: Callable[..., PrometheusMetrics]
    ) -> None:
        metrics = make(max_functions=1)
        for name in ("other", "more"):
            metrics.invocation_began()
            metrics.invocation_ended(FunctionRef("", name), "succeeded", None, 1)
        own = (("collection", ""), ("function", "other"), ("status", "succeeded"))
        assert samples(metrics)["faas_invocations_total", own] == 1
