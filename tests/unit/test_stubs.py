"""The stubs that plugin authors test with hold the contracts of their roles."""

from __future__ import annotations

import pytest

from lowcode_faas_core.testing.executions_contract import ExecutionStoreContract
from lowcode_faas_core.testing.log_sink_contract import LogSinkContract
from lowcode_faas_core.testing.memory_executions import MemoryExecutionStore
from lowcode_faas_core.testing.memory_log_sink import MemoryLogSink
from lowcode_faas_core.testing.memory_metrics import MemoryMetrics
from lowcode_faas_core.testing.memory_source import MemorySourceFetcher
from lowcode_faas_core.testing.metrics_contract import MetricsContract
from lowcode_faas_core.testing.source_fetcher_contract import SourceFetcherContract


class TestMemoryLogSink(LogSinkContract):
    @pytest.fixture
    def sink(self):
        return MemoryLogSink()

    @pytest.fixture
    def read(self, sink):
        return lambda: [event.message for event in sink.events]

    @pytest.fixture
    def broken(self):
        sink = MemoryLogSink()
        sink.failure = OSError("the other side is gone")
        return sink


class TestMemoryExecutionStore(ExecutionStoreContract):
    @pytest.fixture
    def store(self):
        return MemoryExecutionStore()

    @pytest.fixture
    def reopen(self, store):
        return lambda: MemoryExecutionStore(store)


class TestMemoryMetrics(MetricsContract):
    @pytest.fixture
    def metrics(self):
        return MemoryMetrics()


class TestMemorySourceFetcher(SourceFetcherContract):
    @pytest.fixture
    def fetcher(self):
        return MemorySourceFetcher()

    @pytest.fixture
    def publish(self, fetcher):
        def put(source):
            url = f"memory:{len(fetcher.sources)}"
            fetcher.sources[url] = source
            return url

        return put
