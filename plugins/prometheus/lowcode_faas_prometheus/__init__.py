"""Shows what the service does as metrics for Prometheus, the same at each of its processes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lowcode_faas_core.hookspecs import hookimpl
from lowcode_faas_core.interfaces.metrics import Metrics
from lowcode_faas_core.settings import read
from lowcode_faas_core.shared_counts import Counts
from lowcode_faas_prometheus.counting import PrometheusMetrics
from lowcode_faas_prometheus.settings import PrometheusSettings

__all__ = ["PrometheusMetrics", "PrometheusSettings"]


@hookimpl
def lowcode_faas_settings() -> Sequence[type[Any]]:
    """Return the one class of settings."""
    return (PrometheusSettings,)


@hookimpl
def lowcode_faas_metrics(environ: Mapping[str, str]) -> Metrics:
    """Build it."""
    return PrometheusMetrics(Counts.of_service(), read(environ, PrometheusSettings))
