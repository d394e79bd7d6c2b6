from __future__ import annotations

import pytest
from lowcode_faas_prometheus import lowcode_faas_metrics

from lowcode_faas_core.testing.metrics_contract import MetricsContract


class TestPrometheus(MetricsContract):
    @pytest.fixture
    def metrics(self):
        metrics = lowcode_faas_metrics({})
        yield metrics
        metrics.close()
