"""What `make dist` leaves, built once in a run, and environments that are made of nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

__all__ = ["Environment", "installation", "new_environment", "wheelhouse", "without_network"]

ROOT = Path(__file__).resolve().parents[2]
#: Seconds for one command; building is most of a minute on a busy machine.
PATIENCE_S = 300
#: What would have a tool look elsewhere than it is told to.
LEADING = ("LOWCODE_FAAS_", "MAKE", "MFLAGS", "PIP_", "PYTHON", "VIRTUAL_ENV")


def clean_environ() -> dict[str, str]:
    """Return this process's environment without what leads a tool elsewhere."""
    return {key: value for key, value in os.environ.items() if not key.startswith(LEADING)}


def without_network(*command: str | Path) -> list[str]:
    """Return a command that finds no network, where this user may make one of its own."""
    # A namespace of its own has a loopback that is down: not even a proxy on it answers.
    apart = ["unshare", "--net"] if os.geteuid() == 0 and shutil.which("unshare") else []
    return [*apart, *map(str, command)]


class Environment:
    """A virtual environment without pip, in which only a folder of wheels is ever installed."""

    def __init__(self, folder: Path, wheels: Path) -> None:
        self.folder = folder
        self.wheels = wheels
        venv.create(folder, symlinks=True)

    @property
    def bin(self) -> Path:
        """Where its commands are."""
        return self.folder / "bin"

    def pip(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Run pip for it without a network and without any configuration of this machine."""
        pip = (sys.executable, "-m", "pip", "--isolated", "--disable-pip-version-check", "--quiet")
        return subprocess.run(
            without_network(*pip, "--python", self.bin / "python", *arguments),
            env={**clean_environ(), "PIP_CONFIG_FILE": os.devnull},
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )

    def install(self, *what: str | Path) -> None:
        """Install from the wheels (names), or the folders and wheels that are named by paths."""
        # What is run compiles itself; compiling everything takes longer than the rest.
        options = ("--no-compile", "--no-index", "--find-links", self.wheels)
        done = self.pip("install", *options, *what)
        assert done.returncode == 0, done.stdout + done.stderr

    def environ(self, variables: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return an environment whose PATH begins here and which names nothing of the checkout."""
        path = f"{self.bin}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return {**clean_environ(), "PATH": path, **(variables or {})}


@pytest.fixture(scope="session")
def wheelhouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return the folder that `make dist` fills: wheels of ours, and of all that they need."""
    folder = tmp_path_factory.mktemp("wheelhouse") / "dist"
    done = subprocess.run(
        ["make", "--no-print-directory", "dist", f"DIST={folder}"],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))},
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def new_environment(
    wheelhouse: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Environment]]:
    """Return a function that makes an environment and installs what it is given into it."""
    made: list[Environment] = []

    def make(*what: str | Path) -> Environment:
        environment = Environment(tmp_path_factory.mktemp("environment"), wheelhouse)
        made.append(environment)
        if what:
            environment.install(*what)
        return environment

    yield make
    for environment in made:
        shutil.rmtree(environment.folder)


@pytest.fixture(scope="session")
def installation(new_environment: Callable[..., Environment]) -> Environment:
    """Return the environment with everything there is, for tests that install nothing into it."""
    return new_environment("lowcode-faas-core[all]")
