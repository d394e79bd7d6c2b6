"""Runs ``lowcode-faas doctor`` as an operator does, and reads what it prints."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

COMMAND = str(Path(sys.executable).with_name("lowcode-faas"))


@dataclass
class Report:
    code: int
    findings: list[dict[str, str]]
    errors: str

    def texts(self, level: str, subject: str = "") -> str:
        """Return the texts of a level, one a line, of one subject or of all."""
        return "\n".join(
            each["text"]
            for each in self.findings
            if each["level"] == level and subject in ("", each["subject"])
        )


@pytest.fixture
def doctor(tmp_path: Path) -> Callable[..., Report]:
    """Run it over a data folder of the test's own; variables are given without their prefix."""

    def run(*arguments: str, command: tuple[str, ...] = (), **variables: str) -> Report:
        given = {
            "DATA_DIR": str(tmp_path / "data"),
            "RUNNER": "process",
            "LISTEN": "127.0.0.1:8080",
            **variables,
        }
        environ = {k: v for k, v in os.environ.items() if not k.startswith("LOWCODE_FAAS_")}
        done = subprocess.run(
            [*command, COMMAND, "doctor", "--json", *arguments],
            env={
                **environ,
                **{k if k == "DOCKER_HOST" else f"LOWCODE_FAAS_{k}": v for k, v in given.items()},
            },
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        found = json.loads(done.stdout)["findings"] if done.stdout else []
        return Report(done.returncode, found, done.stderr)

    return run
