"""An engine elsewhere, reached over TLS as the ``docker`` command would."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lowcode_faas_core.interfaces.launcher import End
from lowcode_faas_core.testing.launcher_contract import Speaker

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def remote(engine, tmp_path_factory):
    """Run an engine behind TLS on loopback; yield the variables that lead to it."""
    if os.geteuid() != 0 or not shutil.which("dockerd") or not shutil.which("openssl"):
        reason = "an engine behind TLS needs root, dockerd and openssl"
        pytest.fail(reason) if os.environ.get("CI") else pytest.skip(reason)
    folder = tmp_path_factory.mktemp("tls")

    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)

    new = ("req", "-newkey", "rsa:2048", "-nodes", "-days", "2")
    openssl(*new, "-x509", "-keyout", "ca-key.pem", "-out", "ca.pem", "-subj", "/CN=test ca")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1\n")
    for name in ("server", "client"):
        prefix = "" if name == "client" else "server-"
        openssl(*new[:4], "-keyout", f"{prefix}key.pem", "-out", "request", "-subj", f"/CN={name}")
        sign = ("x509", "-req", "-in", "request", "-CA", "ca.pem", "-CAkey", "ca-key.pem")
        out = ("-CAcreateserial", "-out", f"{prefix}cert.pem", "-days", "2", "-extfile", "names")
        openssl(*sign, *out)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    spec = importlib.util.spec_from_file_location("docker_engine_script", HERE / "engine.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    tls = ["--tlsverify", "--tlscacert", "ca.pem", "--tlscert", "server-cert.pem"]
    paths = [str(folder / each) if each.endswith(".pem") else each for each in tls]
    paths += ["--tlskey", str(folder / "server-key.pem"), "--host", f"tcp://127.0.0.1:{port}"]
    with script.private(*paths) as own:
        environ = {**os.environ, "DOCKER_HOST": own.address}
        subprocess.run([sys.executable, str(HERE / "image.py"), "24"], env=environ, check=True)
        yield {
            "OWN": own,
            "DOCKER_HOST": f"tcp://127.0.0.1:{port}",
            "DOCKER_TLS_VERIFY": "1",
            "DOCKER_CERT_PATH": str(folder),
        }


@pytest.fixture
def engine_of(remote):
    client = remote["OWN"].client()
    yield client
    client.close()


ECHO = "export const handler = (input) => ({ ok: true, data: input });"
EXIT = "export const handler = ({ code }) => process.exit(code);"


@pytest.fixture
def speak(remote, launchers, limits, deadline):
    """Start sandboxes at the engine behind TLS and speak to them."""
    launcher = launchers(environ={k: v for k, v in remote.items() if k != "OWN"})
    launcher.check()
    return lambda: Speaker(launcher.start(limits, deadline()))


def test_frames_go_both_ways_of_any_size(speak):
    speaker = speak()
    speaker.load(ECHO)
    for value in ({"n": 1}, {"text": "x" * 900_000}, {"n": 2}):
        assert speaker.run(value) == value
    speaker.sandbox.kill()
    assert speaker.sandbox.ended(20).signal == signal.SIGKILL


def test_reads_wait_as_long_as_they_were_told(speak):
    sandbox = speak().sandbox
    for seconds in (0.05, 0):
        sandbox.receive_timeout(seconds)
        with pytest.raises(BlockingIOError):
            sandbox.read(1000)
    sandbox.shutdown()
    assert sandbox.ended(20)


def test_an_exit_code_is_told(speak):
    speaker = speak()
    speaker.load(EXIT)
    speaker.send_run({"code": 7})
    assert speaker.sandbox.ended(20) == End(exit_code=7)


def test_a_full_stream_does_not_hold_up_the_kill(speak):
    speaker = speak()
    speaker.load("export function handler() { for (;;) console.log('x'); }")
    speaker.send_run()
    assert speaker.sandbox.ended(0.3) is None
    speaker.sandbox.kill()
    assert speaker.sandbox.ended(5)


def test_what_is_written_to_a_container_that_has_ended_is_refused(speak, engine_of):
    speaker = speak()
    speaker.load(ECHO)
    engine_of.containers.get(speaker.sandbox.container).kill()
    deadline = time.monotonic() + 20
    with pytest.raises(ConnectionError):  # noqa: PT012  # the engine says farewell a moment later
        while time.monotonic() < deadline:
            speaker.send_run()
            time.sleep(0.05)
    assert speaker.sandbox.ended(20)
