"""The images of the Dockerfile: what is in them, as whom they run, and the compose file's two roles."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import urllib3
import yaml

from lowcode_faas_core.configuration import ServerSettings
from lowcode_faas_core.drain import graceful_timeout_s
from lowcode_faas_core.settings import read

#: The first test builds both images.
pytestmark = pytest.mark.timeout(600)

COMPOSE = Path(__file__).resolve().parents[2] / "conf" / "docker-compose.dev.yml"
GREET = "export const handler = (input) => ({ok: true, data: `hello ${input.name}`});"
ENGINE_SOCKET = "/var/run/docker.sock"
#: Seconds that running invocations get in these tests.
DRAIN_S = 10


def said(engine, image, *command):
    """Run a command in an image and return what it prints."""
    output = engine.containers.run(image, command[1:], entrypoint=command[0], remove=True)
    return output.decode()


def until(what, condition, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        time.sleep(0.05)
    return value


@pytest.fixture
def services():
    """Return the compose file's services of ours."""
    found = yaml.safe_load(COMPOSE.read_text())["services"]
    return {role: found[role] for role in ("dispatcher", "worker")}


@pytest.fixture
def run(engine, images, instance, services):
    """Run a role as the compose file says; everything is removed afterwards."""
    with contextlib.ExitStack() as stack:
        network = engine.networks.create(f"{instance}-roles")
        stack.callback(network.remove)
        data = engine.volumes.create(f"{instance}-data")
        stack.callback(data.remove)

        def start(role, group="", **variables):
            service = services[role]
            places = dict(each.split(":")[:2] for each in service["volumes"])
            given = {
                **service["environment"],
                "LOWCODE_FAAS_WORKERS": "1",
                "LOWCODE_FAAS_DRAIN_NOTICE_S": "0.2",
                "LOWCODE_FAAS_DRAIN_TIMEOUT_S": str(DRAIN_S),
                **variables,
            }
            container = engine.api.create_container(
                images[role],
                environment=given,
                host_config=engine.api.create_host_config(
                    binds={
                        {"data": data.name, ENGINE_SOCKET: _socket()[0]}[source]: {"bind": target}
                        for source, target in places.items()
                    },
                    group_add=[group] if "group_add" in service else None,
                    read_only=service["read_only"],
                    cap_drop=service["cap_drop"],
                    security_opt=service["security_opt"],
                    network_mode=network.name,
                ),
                networking_config=engine.api.create_networking_config(
                    {network.name: engine.api.create_endpoint_config(aliases=[role])}
                ),
            )
            stack.callback(engine.api.remove_container, container["Id"], force=True, v=True)
            engine.api.start(container["Id"])
            return engine.containers.get(container["Id"])

        yield start


def _socket():
    """Return the engine's socket and its group; what is elsewhere cannot be given to a container."""
    address = os.environ.get("DOCKER_HOST") or f"unix://{ENGINE_SOCKET}"
    if not address.startswith("unix://"):
        pytest.skip("the engine is elsewhere")
    path = urlsplit(address).path
    return path, str(os.stat(path).st_gid)


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
        assert container.wait(timeout=60)["StatusCode"] == 2
        logs = container.logs().decode()
    finally:
        container.remove(force=True, v=True)
    assert "pip install 'lowcode-faas-core[docker]'" in logs


def test_the_compose_file_builds_both_and_gives_the_engine_to_the_worker_alone(services):
    for role, service in services.items():
        assert service["build"]["target"] == role
        assert service["read_only"] is True
        assert (ENGINE_SOCKET in json.dumps(service)) == (role == "worker")
        assert ("group_add" in service) == (role == "worker")
        grace = int(service["stop_grace_period"].removesuffix("s"))
        assert grace > graceful_timeout_s(read({}, ServerSettings))


def test_a_function_runs_through_both_and_sigterm_ends_them_in_time(
    engine, run, image_of, instance
):
    http = urllib3.PoolManager(retries=False, timeout=60)

    # Given both, as the compose file has them: a read-only root, no capability
    worker = run(
        "worker",
        group=_socket()[1],
        LOWCODE_FAAS_NODE_DOCKER_IMAGE=image_of(),
        LOWCODE_FAAS_DOCKER_INSTANCE=instance,
        LOWCODE_FAAS_DOCKER_NETWORK="none",
    )
    dispatcher = run("dispatcher")

    def address():
        dispatcher.reload()
        assert dispatcher.status == "running", dispatcher.logs().decode()
        ((_, network),) = dispatcher.attrs["NetworkSettings"]["Networks"].items()
        return f"http://{network['IPAddress']}:8080"

    def call(method, path, body=None):
        answer = http.request(method, address() + path, **({} if body is None else {"json": body}))
        return answer.status, json.loads(answer.data)

    def ready():
        with contextlib.suppress(urllib3.exceptions.HTTPError):
            return call("GET", "/readyz")[0] == 200

    until("both are ready", ready)

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
        assert container.wait(timeout=60)["StatusCode"] == 0
        assert time.monotonic() - began < DRAIN_S
    label = {"label": f"io.lowcode-faas.instance={instance}"}
    assert not engine.containers.list(all=True, filters=label)
