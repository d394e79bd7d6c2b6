from __future__ import annotations

import os

import pytest
from lowcode_faas_stdout.sink import StdoutSink, escaped

from lowcode_faas_core.testing.log_sink_contract import LogSinkContract


class TestStdout(LogSinkContract):
    @pytest.fixture
    def written(self, tmp_path):
        return tmp_path / "lines"

    @pytest.fixture
    def sink(self, written):
        descriptor = os.open(written, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        yield StdoutSink(descriptor)
        os.close(descriptor)

    @pytest.fixture
    def read(self, written):
        return lambda: written.read_text().split("\n")[:-1]

    @pytest.fixture
    def broken(self):
        reader, writer = os.pipe()
        os.close(reader)
        yield StdoutSink(writer)
        os.close(writer)


def test_what_the_contract_looks_for_is_not_changed_by_escaping():
    assert escaped("first-001") == "first-001"
