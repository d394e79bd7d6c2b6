"""The kit and the crash checker catch every small mutation of our plugins and stubs."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(FOLDER / "run.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_list_fits_the_code() -> None:
    """Every text to change is there once: whoever changes the code changes the list along."""
    done = run("--check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_contract_and_plugin_is_in_the_list() -> None:
    found = tomllib.loads((FOLDER / "mutations.toml").read_text())
    mutations = found["mutation"]
    assert len(mutations) >= 30
    assert {one["suite"] for one in mutations} == set(found["suites"])
    plugins = {one["file"].split("/")[1] for one in mutations if one["file"].startswith("plugins/")}
    assert plugins >= {"files", "process-runner", "stdout"}


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_mutation_is_caught(score: list[str]) -> None:
    done = run()
    *_, last = done.stdout.splitlines() or [""]
    score.append(last)
    assert done.returncode == 0, done.stdout + done.stderr
    caught, total = (int(word) for word in last.split() if word.isdigit())
    assert caught == total >= 30


USELESS = """
[suites]
"memory sink" = "tests/unit/test_stubs.py::TestMemoryLogSink"

[[mutation]]
name = "one that breaks nothing"
suite = "memory sink"
file = "lowcode_faas_core/testing/memory_log_sink.py"
checks = ["test_a_loss_is_never_silent"]
old = '''raise self.failure'''
new = '''raise self.failure from None'''

[[mutation]]
name = "one that cannot be imported"
suite = "memory sink"
file = "lowcode_faas_core/testing/memory_log_sink.py"
checks = ["test_a_loss_is_never_silent"]
old = '''class MemoryLogSink(LogSink):'''
new = '''class MemorySink(LogSink):'''

[[mutation]]
name = "one whose text is gone"
suite = "memory sink"
file = "lowcode_faas_core/testing/memory_log_sink.py"
checks = ["test_a_loss_is_never_silent"]
old = '''there is no such line'''
new = ''''''
"""


def test_what_proves_nothing_does_not_count(tmp_path: Path) -> None:
    useless = tmp_path / "useless.toml"
    useless.write_text(USELESS)
    done = run("--list", str(useless))
    assert done.returncode == 1, done.stderr
    assert done.stdout.splitlines()[-1] == "mutations: 0 of 3 caught"
    assert "one that breaks nothing: it survived" in done.stdout
    assert "one that cannot be imported: pytest ended with" in done.stdout
    assert "one whose text is gone: old is in" in done.stdout
