"""Nothing of what a page started outlives the tests, also those that are killed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.docs.pages import ROOT

SERVE = """
import sys, time
from pathlib import Path
from tests.docs.pages import Block
from tests.docs.reader import Reader
reader = Reader(Path(sys.argv[1]), {})
reader.serve(Block("page.md", 1, "sh run serve", "make run\\n"))
print("serving", flush=True)
time.sleep(600)
"""


@pytest.fixture
def reading(tmp_path: Path) -> subprocess.Popen[str]:
    """Return a process in which a page has started a service."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "serving\n"
    return process


def test_a_service_ends_with_the_tests_that_are_killed(
    reading: subprocess.Popen[str],
) -> None:
    everyone = psutil.Process(reading.pid).children(recursive=True)
    assert len(everyone) > 4, "shell, make, master, a worker and a sandbox are expected"
    reading.kill()
    reading.wait()
    _, alive = psutil.wait_procs(everyone, timeout=20)
    assert not alive
