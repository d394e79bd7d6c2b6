"""Plugins that were written for the oldest supported interface, and are never edited, still work."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lowcode_faas_core.interface_versions import SUPPORTED
from lowcode_faas_core.interfaces.launcher import Launcher
from lowcode_faas_core.interfaces.log_sink import LogSink
from lowcode_faas_core.interfaces.source import SourceFetcher
from lowcode_faas_core.interfaces.storage import Storage
from lowcode_faas_core.model import Deployment
from lowcode_faas_core.testing.launcher_contract import LauncherContract
from lowcode_faas_core.testing.log_sink_contract import LogSinkContract
from lowcode_faas_core.testing.source_fetcher_contract import SourceFetcherContract
from lowcode_faas_core.testing.storage_contract import StorageContract
from scripts.node_path import node_path
from tests.plugins.frozen.launcher_1 import FrozenLauncher
from tests.plugins.frozen.log_sink_1 import FrozenSink
from tests.plugins.frozen.source_1 import FrozenFetcher
from tests.plugins.frozen.storage_1 import FrozenStorage

FROZEN = {
    Storage: FrozenStorage,
    LogSink: FrozenSink,
    SourceFetcher: FrozenFetcher,
    Launcher: FrozenLauncher,
}


@pytest.mark.parametrize("interface", FROZEN, ids=lambda each: each.__name__)
def test_they_were_written_for_the_oldest_supported_version(interface: type) -> None:
    # A failure here: the oldest version is gone; keep a plugin that was written for the next.
    assert vars(FROZEN[interface])["interface_version"] == SUPPORTED[interface].oldest


class TestStorage(StorageContract):
    @pytest.fixture
    def storage(self) -> FrozenStorage:
        return FrozenStorage()

    @pytest.fixture
    def keeps_two(self) -> FrozenStorage:
        return FrozenStorage(keep_versions=2)

    @pytest.fixture
    def damage(self, storage: FrozenStorage) -> Callable[[Deployment], None]:
        return lambda deployment: storage.sources.update({deployment.deployment_id: b"x"})


class TestLogSink(LogSinkContract):
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        (tmp_path / "events").touch()
        return tmp_path / "events"

    @pytest.fixture
    def sink(self, file: Path) -> FrozenSink:
        return FrozenSink(file)

    @pytest.fixture
    def read(self, file: Path) -> Callable[[], list[str]]:
        return lambda: [json.loads(line)["message"] for line in file.read_bytes().splitlines()]

    @pytest.fixture
    def broken(self, tmp_path: Path) -> FrozenSink:
        return FrozenSink(tmp_path / "no such folder" / "events")


class TestSourceFetcher(SourceFetcherContract):
    @pytest.fixture
    def fetcher(self, tmp_path: Path) -> FrozenFetcher:
        return FrozenFetcher(tmp_path)

    @pytest.fixture
    def publish(self, tmp_path: Path) -> Callable[[bytes], str]:
        def put(source: bytes) -> str:
            (tmp_path / "greet.mjs").write_bytes(source)
            return "frozen:greet.mjs"

        return put


class TestLauncher(LauncherContract):
    @pytest.fixture
    def launcher(self) -> Iterator[Launcher]:
        launcher = FrozenLauncher(str(node_path()))
        yield launcher
        launcher.close()
