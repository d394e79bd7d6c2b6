from __future__ import annotations

import pytest
from lowcode_faas_process_runner import lowcode_faas_launcher

from lowcode_faas_core.configuration import LimitSettings
from lowcode_faas_core.limits import OperatorLimits
from lowcode_faas_core.sandbox.runner import PooledRunner
from lowcode_faas_core.sandbox.shelves import PoolCaps
from lowcode_faas_core.testing.runner_contract import RunnerContract


class TestProcessRunner(RunnerContract):
    @pytest.fixture
    def runner(self):
        caps = PoolCaps(
            instances=8,
            per_function=8,
            stock=1,
            queue=64,
            queue_timeout_ns=20_000_000_000,
            idle_ttl_ns=600_000_000_000,
        )
        runner = PooledRunner(lowcode_faas_launcher({}), caps, OperatorLimits(LimitSettings()))
        yield runner
        runner.close()
