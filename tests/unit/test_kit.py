"""The test kit as those meet it who write plugins."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lowcode_faas_core.interfaces.authenticator import Authenticator
from lowcode_faas_core.interfaces.executions import ExecutionStore
from lowcode_faas_core.interfaces.launcher import Launcher, Sandbox
from lowcode_faas_core.interfaces.log_sink import LogSink
from lowcode_faas_core.interfaces.metrics import Metrics
from lowcode_faas_core.interfaces.runner import Runner
from lowcode_faas_core.interfaces.source import SourceFetcher
from lowcode_faas_core.interfaces.storage import Storage
from lowcode_faas_core.testing.authenticator_contract import AuthenticatorContract
from lowcode_faas_core.testing.executions_contract import ExecutionStoreContract
from lowcode_faas_core.testing.launcher_contract import LauncherContract
from lowcode_faas_core.testing.log_sink_contract import LogSinkContract
from lowcode_faas_core.testing.metrics_contract import MetricsContract
from lowcode_faas_core.testing.runner_contract import RunnerContract
from lowcode_faas_core.testing.source_fetcher_contract import SourceFetcherContract
from lowcode_faas_core.testing.storage_contract import StorageContract

PAGE = Path(__file__).parents[2] / "docs" / "testing-a-plugin.md"
ROLES = [
    (Storage, StorageContract),
    (ExecutionStore, ExecutionStoreContract),
    (Launcher, LauncherContract),
    (Sandbox, LauncherContract),
    (Runner, RunnerContract),
    (LogSink, LogSinkContract),
    (SourceFetcher, SourceFetcherContract),
    (Authenticator, AuthenticatorContract),
    (Metrics, MetricsContract),
]


def run_pytest(folder: Path) -> subprocess.CompletedProcess[str]:
    """Run pytest as in a checkout that is not ours: no configuration but strict marks."""
    (folder / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def checks(contract: type) -> Iterator[tuple[str, str]]:
    for name in dir(contract):
        if name.startswith("test_"):
            yield name, inspect.getdoc(getattr(contract, name)) or ""


@pytest.mark.parametrize(("role", "contract"), ROLES)
def test_an_interface_names_its_contract(role: type, contract: type) -> None:
    assert f"``{contract.__name__}``" in (role.__doc__ or "")
    assert f"`{contract.__name__}`" in PAGE.read_text()


@pytest.mark.parametrize("contract", dict.fromkeys(contract for _, contract in ROLES))
def test_each_check_states_its_promise(contract: type) -> None:
    found = dict(checks(contract))
    assert found
    assert [name for name, promise in found.items() if not promise.endswith(".")] == []


FORGETFUL = """
import pytest
from lowcode_faas_core.testing.launcher_contract import LauncherContract
from lowcode_faas_core.testing.memory_executions import MemoryExecutionStore
from lowcode_faas_core.testing.authenticator_contract import AuthenticatorContract
from lowcode_faas_core.testing.executions_contract import ExecutionStoreContract

class Forgetful(MemoryExecutionStore):
    def lines(self, execution_id, after_seq, limit):
        return super().lines(execution_id, after_seq, limit)[1:]

class TestForgetful(ExecutionStoreContract):
    @pytest.fixture
    def store(self):
        return Forgetful()

class Unused(LauncherContract):
    "Has checks with a mark of ours."
"""


def test_a_failed_check_explains_itself(tmp_path: Path) -> None:
    (tmp_path / "test_forgetful.py").write_text(FORGETFUL)
    done = run_pytest(tmp_path)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "assert [2, 3] == [1, 2, 3]" in done.stdout
    assert "FAILED test_forgetful.py::TestForgetful::test_lines_come_in_order" in done.stdout


def test_the_stubs_need_no_pytest() -> None:
    code = (
        "import sys; sys.modules['pytest'] = None\n"
        "from lowcode_faas_core.testing import memory_executions, memory_log_sink, memory_metrics\n"
        "from lowcode_faas_core.testing import memory_source, memory_storage, samples\n"
        "from lowcode_faas_core.testing import stub_invoker, stub_launcher\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
