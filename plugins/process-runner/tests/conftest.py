"""Launchers of every kind this machine gives."""

from __future__ import annotations

import dataclasses
import os
import shutil
import tempfile
import time
from pathlib import Path

import pytest
from lowcode_faas_process_runner import ProcessLauncher, ProcessSettings
from lowcode_faas_process_runner.cgroups import Cgroups
from lowcode_faas_process_runner.layers import detect
from lowcode_faas_process_runner.leases import Leases

from lowcode_faas_core.model import SandboxLimits


@pytest.fixture
def limits():
    return SandboxLimits(memory_mb=256, cpus=1.0, pids=64, tmp_mb=16)


@pytest.fixture
def deadline():
    return lambda seconds=20.0: time.monotonic_ns() + int(seconds * 1e9)


@pytest.fixture
def leases_folder():
    """A folder sandboxes with a uid of their own can pass through, unlike pytest's own."""
    folder = Path(tempfile.mkdtemp(prefix="lowcode-faas-test-"))
    folder.chmod(0o711)
    yield folder / "leases"
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def launchers(leases_folder):
    """Build launchers: ``best``, ``no_tmp``, ``no_namespace``, each with or without cgroups."""
    built = []

    def build(kind="best", *, cgroups=True, environ=os.environ, settings=None, **more):
        settings = settings or ProcessSettings()
        layers = detect(settings.uid_base)
        if kind in ("no_tmp", "no_namespace"):
            layers = dataclasses.replace(layers, private_tmp=False)
        if kind == "no_namespace":
            layers = dataclasses.replace(layers, pid_namespace=False, user_namespace=False)
        launcher = ProcessLauncher(
            settings,
            environ,
            layers=layers,
            cgroups=None if cgroups else Cgroups({}, unified=False),
            leases=Leases(leases_folder),
            **more,
        )
        built.append(launcher)
        return launcher

    yield build
    for launcher in built:
        launcher.close()
