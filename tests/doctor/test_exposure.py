"""Who may call, and what two roles need of each other; a real worker answers."""

from __future__ import annotations

import contextlib
import socket
import tempfile
import threading
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from werkzeug.serving import make_server

from lowcode_faas_core import worker

SECRET = "only-for-tests"


@pytest.fixture
def worker_at(tmp_path):
    """Serve a worker with a secret in this process, at the host that Werkzeug is given."""
    return partial(serving, tmp_path)


@pytest.fixture
def worker_url(worker_at):
    with worker_at("127.0.0.1") as port:
        yield f"http://127.0.0.1:{port}"


@contextlib.contextmanager
def serving(tmp_path, host):
    environ = {
        "LOWCODE_FAAS_DATA_DIR": str(tmp_path / "data"),
        "LOWCODE_FAAS_RUNNER": "process",
        "LOWCODE_FAAS_WORKER_LISTEN": "127.0.0.1:1",
        "LOWCODE_FAAS_WORKER_TOKEN": SECRET,
        "LOWCODE_FAAS_STOCK": "0",
    }
    app = worker.create_app(environ)
    server = make_server(host, 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
        app.extensions["lowcode_faas_services"].close()


def test_an_open_door_is_a_warning(doctor):
    report = doctor(LISTEN=":8080", ALLOW_ANONYMOUS="true")
    assert "whoever connects runs code here" in report.texts("warning", "callers")
    assert "is asked for a token" in doctor(LISTEN=":8080").texts("ok", "callers")


def test_a_worker_that_would_not_start_is_a_failure(doctor):
    report = doctor("--role", "worker")
    assert report.code == 1
    assert "LOWCODE_FAAS_WORKER_TOKEN" in report.texts("failure", "callers")
    assert doctor("--role", "worker", WORKER_TOKEN=SECRET).code == 0


def test_a_worker_is_reached(doctor, worker_url):
    report = doctor(WORKER_URL=worker_url, WORKER_TOKEN=SECRET)
    assert report.code == 0, report
    assert "is ready" in report.texts("ok", "worker")
    assert "clock agrees" in report.texts("ok", "worker")
    # And no runner is looked at, nor imported.
    assert "runner" not in {each["subject"] for each in report.findings}


def test_a_worker_is_reached_over_a_unix_socket(doctor, worker_at, tmp_path_factory):
    path = tmp_path_factory.mktemp("s") / "w"
    with worker_at(f"unix://{path}"):
        report = doctor(WORKER_URL=f"unix:{path}", WORKER_TOKEN=SECRET)
    assert report.code == 0, report
    assert f"unix:{path} is ready" in report.texts("ok", "worker")
    # It is on this machine, and nothing travels in the clear.
    assert report.texts("warning", "worker") == ""
    report = doctor(WORKER_URL=f"unix:{path}", WORKER_TOKEN=SECRET)
    assert f"unix:{path} does not answer" in report.texts("failure", "worker")


def test_who_gets_at_a_unix_socket_is_told(doctor):
    # A test's own folder is closed to others whatever is in it.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "worker.sock")

        def report(**variables):
            given = {"WORKER_LISTEN": "127.0.0.1:1", "WORKER_SOCKET": str(path), **variables}
            return doctor("--role", "worker", **given)

        Path(folder).chmod(0o755)
        assert f"{path} is closed to other users" in report().texts("ok", "callers")
        # Given a socket that everybody may open, as systemd makes it unless it is told otherwise
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(path))
        path.chmod(0o666)
        assert f"may connect to {path}" in report().texts("warning", "callers")
        # And in a folder that is closed to them, nobody
        Path(folder).chmod(0o700)
        assert report().texts("warning", "callers") == ""
        # Given a folder in which anybody may come first, then both roles are told
        Path(folder).chmod(0o1777)
        for found in (report(), doctor(WORKER_URL=f"unix:{path}")):
            assert f"{folder} must not be writable for others" in found.texts("warning")
        Path(folder).chmod(0o700)
        assert "must not" not in doctor(WORKER_URL=f"unix:{path}").texts("warning")
        missing = report(WORKER_SOCKET="/no/such/folder/worker.sock")
        assert "needs its folder" in missing.texts("warning", "callers")


def test_another_secret_or_another_storage_is_a_failure(doctor, worker_url):
    assert "refuses our" in doctor(WORKER_URL=worker_url, WORKER_TOKEN="x").texts("failure")
    report = doctor(
        WORKER_URL=worker_url,
        WORKER_TOKEN=SECRET,
        STORAGE="db_s3",
        POSTGRES_DSN="host=127.0.0.1 port=1 dbname=x",
        S3_ENDPOINT="http://127.0.0.1:1",
        S3_BUCKET="x",
    )
    assert "both must have one" in report.texts("failure", "worker")
    assert "refused" in report.texts("failure", "PostgreSQL")
    assert "S3:" in report.texts("failure", "S3")


def test_a_worker_that_is_down_is_a_failure(doctor):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    report = doctor(WORKER_URL=f"http://127.0.0.1:{port}")
    assert report.code == 1
    assert "does not answer" in report.texts("failure", "worker")


def test_a_clock_that_is_off_is_told(doctor):
    class Late(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(503)
            self.end_headers()

        def date_time_string(self, timestamp=None):
            return "Thu, 01 Jan 2026 00:00:00 GMT"

        def log_message(self, *arguments):
            pass

    server = HTTPServer(("127.0.0.1", 0), Late)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    with contextlib.closing(server.socket):
        report = doctor(WORKER_URL=f"http://127.0.0.1:{server.server_port}")
        server.shutdown()
        thread.join()
    assert "from this machine's" in report.texts("failure", "worker")
    assert "is not ready: 503" in report.texts("failure", "worker")


def test_what_travels_in_the_clear_and_what_must_be_shared_are_warnings(doctor):
    # An address that is not by name this machine's own, and where nobody listens.
    report = doctor(WORKER_URL="http://0.0.0.0:1")
    warnings = report.texts("warning")
    assert "in the clear to 0.0.0.0" in warnings
    assert "LOWCODE_FAAS_WORKER_TOKEN is not set" in warnings
    assert "one local data folder" in warnings
