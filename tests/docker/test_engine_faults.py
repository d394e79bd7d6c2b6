"""An engine that is down, hangs, forbids, restarts or lacks the image: said, and survived."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from lowcode_faas_docker_runner.advisories import known, numbers
from lowcode_faas_docker_runner.engine import Engine

from lowcode_faas_core.errors import ImageUnavailable, RunnerUnavailable

HERE = Path(__file__).parent
NAP = """
console.log('loaded');
export const handler = ({ ms = 0 }) => new Promise((r) => setTimeout(r, ms, { ok: true }));
"""


def _engine_script():
    spec = importlib.util.spec_from_file_location("docker_engine_script", HERE / "engine.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def private(engine):
    """An engine of the tests' own, to be stopped and started; with the image of Node 24."""
    if os.geteuid() != 0 or not shutil.which("dockerd"):
        reason = "an engine to be stopped needs root and dockerd"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    with _engine_script().private() as own:
        environ = {**os.environ, "DOCKER_HOST": own.address}
        subprocess.run([sys.executable, str(HERE / "image.py"), "24"], env=environ, check=True)
        yield own


@pytest.fixture
def service(private, serve, poll):
    service = serve(DOCKER_HOST=private.address, STOCK="0")
    service.deploy("nap", NAP)
    assert service.invoke("nap")[1]["status"] == "succeeded"
    return service


def refused(answer, words, code="runner_unavailable"):
    status, problem = answer
    assert (status, problem["code"], problem["outcome"]) == (503, code, "not_executed"), problem
    assert words in problem["detail"], problem


def nothing_leaked(service):
    sandboxes = service.call("GET", "/readyz")[1]["sandboxes"]
    return sandboxes["leased"] + sandboxes["starting"] + sandboxes["ending"] == 0


@pytest.mark.fault(90, 96)
def test_an_engine_that_goes_and_comes_back(private, service, poll):
    # Given a run when the engine is stopped in order, which ends its containers
    answers = []
    seen = service.text().count("loaded")
    thread = threading.Thread(
        target=lambda: answers.append(service.invoke("nap", {"ms": 60_000}, 25_000))
    )
    service.deploy("nap", NAP + "//")
    thread.start()
    poll("it runs", lambda: service.text().count("loaded") > seen)
    private.stop()
    # Then what cannot run says why, and readiness does
    service.deploy("other", NAP)
    refused(service.invoke("other", timeout_ms=5000), "no Docker Engine answers")
    status, readiness = service.call("GET", "/readyz")
    assert status == 503
    assert "no Docker Engine answers" in str(readiness)
    # And once it is back everything is, without a restart
    private.start()
    thread.join(60)
    ((status, result),) = answers
    assert status == 200, result
    assert result["status"] == "crashed", result
    assert result["error"]["code"] in ("sandbox_lost", "killed"), result
    poll("it is ready", service.ready)
    assert service.invoke("nap")[1]["status"] == "succeeded"
    poll("nothing has leaked", lambda: nothing_leaked(service))
    assert "Traceback" not in service.text()


@pytest.mark.fault(91)
def test_an_engine_that_hangs(private, service, poll):
    # Given an engine that takes connections and never answers
    os.kill(private.pid, signal.SIGSTOP)
    try:
        # Then a new function is refused at its deadline, and readiness says why
        service.deploy("other", NAP)
        began = time.monotonic()
        refused(service.invoke("other", timeout_ms=1500), "")
        assert time.monotonic() - began < 4
        status, readiness = service.call("GET", "/readyz")
        assert status == 503
        assert "did not answer within" in str(readiness)
        # And a warm one whose end cannot be confirmed is not called over
        status, problem = service.invoke("nap", {"ms": 60_000}, 1000)
        assert (status, problem["code"]) == (502, "unconfirmed_end"), problem
    finally:
        os.kill(private.pid, signal.SIGCONT)
    poll("it is ready", service.ready)
    assert service.invoke("other")[1]["status"] == "succeeded"
    poll("nothing has leaked", lambda: nothing_leaked(service))
    assert "Traceback" not in service.text()


@pytest.mark.fault(91)
def test_warm_calls_go_on_while_the_engine_hangs(private, service, poll):
    os.kill(private.pid, signal.SIGSTOP)
    try:
        for _ in range(20):
            assert service.invoke("nap", timeout_ms=3000)[1]["status"] == "succeeded"
    finally:
        os.kill(private.pid, signal.SIGCONT)
    poll("it is ready", service.ready)
    poll("nothing has leaked", lambda: nothing_leaked(service))


@pytest.mark.fault(92)
def test_an_image_that_is_absent_and_cannot_be_pulled(private, serve, poll):
    # Given an image that no registry within reach has
    name = "127.0.0.1:1/nobody/has:this"
    service = serve(wait=False, DOCKER_HOST=private.address, NODE_DOCKER_IMAGE=name)
    poll("it answers", lambda: answers(service))
    service.deploy("nap", NAP)
    # Then invocations are refused with what to do
    for _ in range(2):
        answer = service.invoke("nap", timeout_ms=20_000)
        refused(answer, "LOWCODE_FAAS_NODE_DOCKER_IMAGE", "image_unavailable")
        assert name in answer[1]["detail"]
    status, readiness = service.call("GET", "/readyz")
    assert status == 503
    assert name in str(readiness)
    # And once it is there, it is used
    own = private.client()
    own.api.tag("lowcode-faas-test:node24", "127.0.0.1:1/nobody/has", "this")
    poll("it is ready", service.ready)
    assert service.invoke("nap")[1]["status"] == "succeeded"
    own.images.remove(name)


def answers(service):
    with contextlib.suppress(Exception):
        return service.call("GET", "/healthz")[0] == 200


@pytest.mark.fault(92)
def test_one_pull_serves_all_who_wait(private, launchers, deadline, limits):
    launcher = launchers(
        environ={"DOCKER_HOST": private.address}, image="127.0.0.1:1/no:such", prewarm_image=False
    )
    images = launcher.host.images
    pulls = []
    gate = threading.Event()

    def pull():
        pulls.append(1)
        gate.wait(20)
        return "refused"

    images._do_pull = pull
    failures = []

    def start():
        try:
            launcher.start(limits, deadline())
        except ImageUnavailable as error:
            failures.append(error.detail)

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    while not pulls:
        time.sleep(0.01)
    with pytest.raises(ImageUnavailable, match="is being pulled"):
        launcher.start(limits, deadline(0.5))
    gate.set()
    for thread in threads:
        thread.join(20)
    assert len(failures) == 4
    assert len(pulls) == 1


@pytest.mark.fault(95)
def test_a_full_disk_is_said_and_survived(engine, serve, poll):
    if os.geteuid() != 0 or not shutil.which("dockerd"):
        reason = "an engine on a small disk needs root and dockerd"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    with _engine_script().private(disk="420m") as own:
        environ = {**os.environ, "DOCKER_HOST": own.address}
        subprocess.run([sys.executable, str(HERE / "image.py"), "24"], env=environ, check=True)
        service = serve(DOCKER_HOST=own.address, STOCK="0")
        service.deploy("nap", NAP)
        assert service.invoke("nap")[1]["status"] == "succeeded"
        # Given a disk on which nothing fits any more
        ballast = own.folder / "data" / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb") as file:
            while True:
                file.write(b"x" * 65536)
        # Then what needs a container says so, what has one goes on
        service.deploy("other", NAP)
        refused(service.invoke("other"), "no space left")
        assert service.call("GET", "/readyz")[0] == 503
        assert service.invoke("nap")[1]["status"] == "succeeded"
        # And with space it works again
        ballast.unlink()
        assert service.invoke("other")[1]["status"] == "succeeded"
        poll("it is ready", service.ready)
        poll("nothing has leaked", lambda: nothing_leaked(service))
        # A create that failed for want of space left nothing that counts.
        service.stop()
        assert own.client().containers.list(all=True) == []


@pytest.mark.fault(93)
def test_the_digest_of_what_ran_is_known(private, launchers, deadline, limits):
    own = private.client()
    own.api.tag("lowcode-faas-test:node24", "retagged", "now")
    launcher = launchers(environ={"DOCKER_HOST": private.address}, image="retagged:now")
    one = launcher.start(limits, deadline())
    # The tag is moved to other bytes.
    changed = own.containers.create("lowcode-faas-test:node24", ["node"])
    changed.commit("retagged", "now", message="other")
    two = launcher.start(limits, deadline())
    assert one.image.startswith("sha256:")
    assert two.image.startswith("sha256:")
    assert one.image != two.image
    for sandbox in (one, two):
        sandbox.kill()
        assert sandbox.ended(20)
    changed.remove()


@pytest.mark.fault(90)
@pytest.mark.parametrize(
    ("address", "words"),
    [("unix:///nowhere/docker.sock", "no such socket"), ("tcp://127.0.0.1:1", "refused")],
)
def test_no_engine_is_a_sentence(address, words):
    with pytest.raises(RunnerUnavailable, match=words) as caught:
        Engine({"DOCKER_HOST": address}).ping()
    assert address in caught.value.detail


@pytest.mark.fault(90)
def test_a_forbidden_socket_is_a_sentence(tmp_path):
    if os.geteuid() != 0:
        path = tmp_path / "docker.sock"
        import socket

        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()
            path.chmod(0)
            with pytest.raises(RunnerUnavailable, match="permission denied"):
                Engine({"DOCKER_HOST": f"unix://{path}"}).ping()
        return
    # Root may open every socket: another user tries.
    script = (
        "import os, socket, sys; from lowcode_faas_docker_runner.engine import Engine;"
        "path = sys.argv[1]; listener = socket.socket(socket.AF_UNIX); listener.bind(path);"
        "listener.listen(); os.chmod(path, 0); os.setgid(65534); os.setuid(65534)\n"
        "try: Engine({'DOCKER_HOST': f'unix://{path}', 'HOME': '/'}).ping()\n"
        "except Exception as error: print(type(error).__name__, error.detail)"
    )
    folder = Path(subprocess.check_output(["mktemp", "-d"], text=True).strip())
    folder.chmod(0o755)
    said = subprocess.run(
        [sys.executable, "-c", script, str(folder / "s")], capture_output=True, text=True
    )
    shutil.rmtree(folder)
    assert "permission denied" in said.stdout, said


@pytest.mark.fault(97)
def test_an_old_runc_is_warned_about():
    def warnings(version):
        engine = {"Components": [{"Name": "runc", "Version": version}]}
        return " ".join(
            name for _, each in known(engine, by_copying=False) for name in each.identities
        )

    assert "CVE-2024-21626" in warnings("1.1.5+ds1")
    assert "CVE-2024-21626" not in warnings("1.2.7")
    assert "CVE-2025-31133" in warnings("1.3.2")
    assert warnings("1.2.8") == warnings("1.3.3") == warnings("1.4.0") == warnings("") == ""
    assert numbers("1.1.5+ds1-1") == (1, 1, 5)
