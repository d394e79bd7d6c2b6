"""The variables of this plugin."""

from __future__ import annotations

from dataclasses import dataclass

from lowcode_faas_core.settings import integer, setting

__all__ = ["PrometheusSettings"]


@dataclass(frozen=True)
class PrometheusSettings:
    """How many time series there may be."""

    max_functions: int = setting(
        "METRICS_MAX_FUNCTIONS",
        integer(1, 2000),
        "200",
        "Functions with numbers of their own, from start to end of the service; later ones are "
        "counted together as _other.",
    )
