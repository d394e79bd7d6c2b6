"""The images of the Dockerfile: what is in them, as whom they run, and a function through both."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from urllib.parse import urlsplit

import pytest
import urllib3

GREET = "export const handler = (input) => ({ok: true, data: `hello ${input.name}`});"
TOKEN = "only-for-tests"
#: Seconds that running invocations get in these tests.
DRAIN_S = 5


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def said(engine, image, *command, **more):
    """Run a command in an image and return what it prints."""
    output = engine.containers.run(image, command[1:], entrypoint=command[0], remove=True, **more)
    return output.decode()


def until(what, condition, seconds=30.0):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.05)
    return value


@pytest.fixture
def run(engine, images, instance):
    """Run a role in the host's network, its root read-only; everything is removed afterwards."""
    volume = engine.volumes.create(f"{instance}-data")
    started = []

    def start(role, **more):
        variables = {
            "WORKERS": "1",
            "STOCK": "1",
            "DRAIN_NOTICE_S": "0.2",
            "DRAIN_TIMEOUT_S": str(DRAIN_S),
            "WORKER_TOKEN": TOKEN,
            **more.pop("variables", {}),
        }
        container = engine.containers.run(
            images[role],
            detach=True,
            read_only=True,
            network_mode="host",
            cap_drop=["ALL"],
            security_opt=["no-new-privileges"],
            environment={f"LOWCODE_FAAS_{k}": v for k, v in variables.items()},
            volumes={volume.name: {"bind": "/data"}, **more.pop("volumes", {})},
            **more,
        )
        started.append(container)
        return container

    yield start
    for container in started:
        container.remove(force=True, v=True)
    volume.remove(force=True)


@pytest.fixture
def socket_of_engine(engine):
    """Return the engine's socket and its group; what is elsewhere cannot be given to a container."""
    address = os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
    if not address.startswith("unix://"):
        pytest.skip("the engine is elsewhere")
    path = urlsplit(address).path
    return path, os.stat(path).st_gid


def test_neither_runs_as_root_and_each_has_what_its_role_needs(engine, images):
    packages = {}
    for role, image in images.items():
        assert engine.images.get(image).attrs["Config"]["User"] == "10001:10001"
        assert said(engine, image, "id").startswith("uid=10001 gid=10001")
        python = said(engine, image, "ls", "/opt/lowcode-faas/lib").strip()
        listed = said(engine, image, "ls", f"/opt/lowcode-faas/lib/{python}/site-packages").split()
        packages[role] = {each for each in listed if not each.endswith("-info")}
    everything = {"flask", "lowcode_faas_core", "lowcode_faas_files", "lowcode_faas_db_s3"}
    assert everything <= packages["dispatcher"]
    # No way to run code in the dispatcher's, and nothing that could speak to an engine.
    assert not packages["dispatcher"] & {"lowcode_faas_process_runner", "docker", "pip"}
    assert packages["worker"] - packages["dispatcher"] == {"lowcode_faas_docker_runner", "docker"}


def test_a_dispatcher_without_a_worker_says_what_is_missing(engine, images):
    container = engine.containers.run(images["dispatcher"], detach=True)
    try:
        assert container.wait(timeout=30)["StatusCode"] == 2
        logs = container.logs().decode()
    finally:
        container.remove(force=True, v=True)
    assert "lowcode-faas-docker-runner" in logs


def test_a_function_runs_through_both_and_sigterm_ends_them_in_time(
    run, image_of, instance, socket_of_engine
):
    path, group = socket_of_engine
    http = urllib3.PoolManager(retries=False, timeout=60)
    ports = {"dispatcher": free_port(), "worker": free_port()}

    def call(method, path, body=None, port=ports["dispatcher"]):
        headers = {"Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        answer = http.request(method, f"http://127.0.0.1:{port}{path}", body=data, headers=headers)
        return answer.status, json.loads(answer.data)

    def ready(container, port):
        container.reload()
        assert container.status == "running", container.logs().decode()
        with contextlib.suppress(urllib3.exceptions.HTTPError):
            return call("GET", "/readyz", port=port)[0] == 200

    # Given both, with a read-only root, no capability, and the engine's socket at the worker alone
    worker = run(
        "worker",
        variables={
            "WORKER_LISTEN": f"127.0.0.1:{ports['worker']}",
            "NODE_DOCKER_IMAGE": image_of(),
            "DOCKER_INSTANCE": instance,
            "DOCKER_NETWORK": "none",
        },
        volumes={path: {"bind": "/var/run/docker.sock"}},
        group_add=[str(group)],
    )
    until("the worker is ready", lambda: ready(worker, ports["worker"]))
    dispatcher = run(
        "dispatcher",
        variables={
            "LISTEN": f"127.0.0.1:{ports['dispatcher']}",
            "WORKER_URL": f"http://127.0.0.1:{ports['worker']}",
        },
    )
    until("the dispatcher is ready", lambda: ready(dispatcher, ports["dispatcher"]))

    # When a function is deployed and invoked
    assert call("POST", "/functions", {"name": "greet", "source_code": GREET})[0] == 201
    status, result = call("POST", "/functions/greet/invoke", {"input": {"name": "you"}})
    assert (status, result["output"]["data"]) == (200, "hello you"), result

    # Then doctor finds nothing that fails, neither here nor there
    for container, role in ((worker, "worker"), (dispatcher, "dispatcher")):
        code, output = container.exec_run(["lowcode-faas", "doctor", "--role", role])
        assert code == 0, output.decode()

    # And SIGTERM ends both within what they were given, leaving no sandbox
    for container in (dispatcher, worker):
        began = time.monotonic()
        container.kill(signal="SIGTERM")
        assert container.wait(timeout=DRAIN_S + 10)["StatusCode"] == 0
        assert time.monotonic() - began < DRAIN_S + 1
    label = {"label": f"io.lowcode-faas.instance={instance}"}
    assert not worker.client.containers.list(all=True, filters=label)
