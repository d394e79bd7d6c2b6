"""A real Docker Engine, images made without a registry, launchers, and whole services."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import docker
import pytest
import urllib3
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
    _sweep(engine, name)


def _sweep(engine, name):
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
def launchers(instance, image_of, tmp_path):
    """Build launchers; they are closed after the test."""
    built = []

    def build(*, environ=os.environ, source=None, **settings):
        given = {"image": image_of(), "instance": instance, "network": "none", **settings}
        environ = {"LOWCODE_FAAS_DATA_DIR": str(tmp_path), **environ}
        launcher = DockerLauncher(DockerSettings(**given), environ, source=source)
        built.append(launcher)
        return launcher

    yield build
    for launcher in built:
        launcher.close()


COMMAND = Path(sys.executable).with_name("lowcode-faas")


def until(what, condition, seconds=30.0):
    """Poll until ``condition`` is true and return its value; fail naming ``what``."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.02)
    return value


class Service:
    """A whole service in front of an engine, spoken to by HTTP."""

    def __init__(self, folder, environ, role="dispatcher"):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.output = folder / f"output-{port}.txt"
        own = {
            "WORKER_LISTEN" if role == "worker" else "LISTEN": f"127.0.0.1:{port}",
            "DATA_DIR": str(folder / "data"),
            "RUNNER": "docker",
            "WORKERS": "1",
            **environ,
        }
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("LOWCODE_FAAS_")}
        with self.output.open("w") as file:
            self.process = subprocess.Popen(
                [str(COMMAND), role],
                cwd=folder,
                env={
                    **inherited,
                    **{k if k == "DOCKER_HOST" else f"LOWCODE_FAAS_{k}": v for k, v in own.items()},
                },
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.url = f"http://127.0.0.1:{port}"
        self.http = urllib3.PoolManager(retries=False, timeout=90, maxsize=32)

    def call(self, method, path, body=None):
        answer = self.http.request(
            method,
            self.url + path,
            body=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        assert answer.status != 500, (answer.data, self.text()[-3000:])
        return answer.status, json.loads(answer.data) if answer.data else None

    def deploy(self, name, source, **more):
        body = {"name": name, "source_code": source, **more}
        status, answer = self.call("POST", "/functions", body)
        assert status in (200, 201), answer

    def invoke(self, name, value=None, timeout_ms=30_000, **more):
        body = {"input": value or {}, "timeout_ms": timeout_ms, **more}
        return self.call("POST", f"/functions/{name}/invoke", body)

    def ready(self):
        assert self.process.poll() is None, self.text()
        try:
            return self.call("GET", "/readyz")[0] == 200
        except urllib3.exceptions.HTTPError:
            return False

    def text(self):
        return self.output.read_text()

    def stop(self, number=signal.SIGTERM):
        """End it, in order unless ``number`` says otherwise; what it started goes with it."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            self.process.wait(90)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)


def _serving(instance, image, folder):
    started = []

    def run(wait=True, role="dispatcher", **environ):
        given = {
            "NODE_DOCKER_IMAGE": image,
            "DOCKER_INSTANCE": instance,
            "DOCKER_NETWORK": "none",
            **environ,
        }
        service = Service(folder, given, role)
        started.append(service)
        if wait:
            until("the service is ready", service.ready, 90)
        return service

    yield run
    for service in started:
        service.stop()


@pytest.fixture
def serve(instance, image_of, tmp_path):
    """Start services in front of the engine; each has ended after the test."""
    yield from _serving(instance, image_of(), tmp_path)


@pytest.fixture(scope="module")
def module_serve(engine, image_of, tmp_path_factory):
    """Like ``serve``, for tests that share a service."""
    name = f"test-{secrets.token_hex(4)}"
    yield from _serving(name, image_of(), tmp_path_factory.mktemp("service"))
    _sweep(engine, name)


@pytest.fixture
def poll():
    return until
