from __future__ import annotations

import json

import pytest
from lowcode_faas_core.testing.log_sink_contract import LogSinkContract

from lowcode_faas_placeholder import lowcode_faas_log_sink


class TestFileSink(LogSinkContract):
    @pytest.fixture
    def file(self, tmp_path):
        file = tmp_path / "events"
        file.touch()
        return file

    @pytest.fixture
    def sink(self, file):
        environ = {"LOWCODE_FAAS_PLACEHOLDER_FILE": str(file)}
        return lowcode_faas_log_sink(environ)

    @pytest.fixture
    def read(self, file):
        return lambda: [json.loads(line)["message"] for line in file.read_bytes().splitlines()]

    @pytest.fixture
    def broken(self, tmp_path):
        nowhere = tmp_path / "no such folder" / "events"
        environ = {"LOWCODE_FAAS_PLACEHOLDER_FILE": str(nowhere)}
        return lowcode_faas_log_sink(environ)
