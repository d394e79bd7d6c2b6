"""A real Docker Engine, images made without a registry, launchers, and whole services."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from pathlib import Path

import docker
import pytest
from lowcode_faas_docker_runner import DockerLauncher, DockerSettings

from lowcode_faas_core.model import SandboxLimits

HERE = Path(__file__).parent
INSTANCE = "io.lowcode-faas.instance"


@pytest.fixture(scope="session")
def engine():
    """The SDK's client of an engine that answers; without one: a skip here, a failure in CI."""
    try:
        client = docker.from_env(timeout=60)
        client.ping()
    except Exception as error:
        reason = f"no Docker Engine answers: {error}; try tests/docker/engine.py make test"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)
    yield client
    client.close()


@pytest.fixture(scope="session")
def image_of(engine):
    """Return the name of an image with Node of a major version."""
    made = {}

    def image(major=24):
        if major not in made:
            made[major] = subprocess.run(
                [sys.executable, str(HERE / "image.py"), str(major)],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            ).stdout.strip()
        return made[major]

    return image


@pytest.fixture
def instance(engine):
    """A name of a service at the engine; nothing that carries it is left after the test."""
    name = f"test-{secrets.token_hex(4)}"
    yield name
    label = {"label": f"{INSTANCE}={name}"}
    left = engine.containers.list(all=True, filters=label, ignore_removed=True)
    for container in left:
        container.remove(force=True, v=True)
    networks = engine.networks.list(filters=label)
    for network in networks:
        network.remove()


@pytest.fixture
def limits():
    return SandboxLimits(memory_mb=256, cpus=1.0, pids=64, tmp_mb=16)


@pytest.fixture
def deadline():
    return lambda seconds=30.0: time.monotonic_ns() + int(seconds * 1e9)


@pytest.fixture
def launchers(instance, image_of):
    """Build launchers; they are closed after the test."""
    built = []

    def build(*, environ=os.environ, source=None, **settings):
        given = {"image": image_of(), "instance": instance, "network": "none", **settings}
        launcher = DockerLauncher(DockerSettings(**given), environ, source=source)
        built.append(launcher)
        return launcher

    yield build
    for launcher in built:
        launcher.close()
