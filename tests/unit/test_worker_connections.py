"""Whether a request was sent is never guessed, and no peer holds a caller beyond its deadline."""

from __future__ import annotations

import contextlib
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from lowcode_faas_core import worker_connections
from lowcode_faas_core.lanes import Lanes
from lowcode_faas_core.worker_connections import NotSent, WorkerConnections
from lowcode_faas_core.worker_link import Late, Lost

Serve = Callable[[Callable[[socket.socket], None]], str]


def ask(http: WorkerConnections, seconds: float = 5.0) -> int:
    headers = {"X-Id": "1"}
    return http.request("POST", "/v1/run", headers, b"{}", time.monotonic() + seconds).status


@pytest.fixture
def server() -> Iterator[tuple[str, list[int]]]:
    """Return the address of a server, and the client's port of each request it got."""
    ports: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            ports.append(self.client_address[1])
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    found = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.daemon_threads = True
    thread = threading.Thread(target=found.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{found.server_port}", ports
    found.shutdown()
    found.server_close()
    thread.join()


@pytest.fixture
def peer() -> Iterator[Serve]:
    """Serve each connection with a function, and return the address."""
    listeners: list[socket.socket] = []

    def serve(each: Callable[[socket.socket], None]) -> str:
        listener = socket.create_server(("127.0.0.1", 0))
        listeners.append(listener)

        def accept() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client:
                    each(client)

        threading.Thread(target=accept, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield serve
    for listener in listeners:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()


@pytest.mark.parametrize(("idle_s", "connected"), [(30.0, 1), (0.0, 3)])
def test_an_idle_connection_is_used_until_its_time(
    server: tuple[str, list[int]], monkeypatch: pytest.MonkeyPatch, idle_s: float, connected: int
) -> None:
    url, ports = server
    monkeypatch.setattr(worker_connections, "IDLE_S", idle_s)
    http = WorkerConnections(url, 4)
    for _ in range(3):
        assert ask(http) == 204
    assert len(set(ports)) == connected
    http.close()
    with pytest.raises(NotSent):
        ask(http)


@pytest.mark.parametrize("said", [b"", b"Connection: close\r\n"])
def test_a_connection_the_other_side_ended_carries_no_request(peer: Serve, said: bytes) -> None:
    seen: list[bytes] = []

    def answer_and_close(client: socket.socket) -> None:
        seen.append(client.recv(65536))
        client.sendall(b"HTTP/1.1 204 No Content\r\n" + said + b"\r\n")

    http = WorkerConnections(peer(answer_and_close), 4)
    for _ in range(3):
        assert ask(http) == 204
        if not said:
            time.sleep(0.05)  # its end arrives
    assert len(seen) == 3


@pytest.fixture
def path() -> Iterator[Path]:
    """Return where a Unix socket may be; a test's own folder may be deeper than those can."""
    with tempfile.TemporaryDirectory(prefix="lcf") as folder:
        yield Path(folder, "worker.sock")


def test_what_no_unix_socket_takes_was_not_sent(path: Path) -> None:
    http = WorkerConnections(f"unix:{path}", 1)
    with pytest.raises(NotSent, match="No such file"):
        ask(http)
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(str(path))
        with pytest.raises(NotSent, match="refused"):
            ask(http)
        # One may wait to be accepted, and does: the line is full.
        listener.listen(0)
        first.connect(str(path))
        begun = time.monotonic()
        with pytest.raises(NotSent, match="unavailable"):
            ask(http)
        assert time.monotonic() - begun < 2


def test_a_refused_connection_is_not_sent() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(NotSent):
        ask(WorkerConnections(f"http://127.0.0.1:{port}", 4))


def test_addresses_that_do_not_answer_share_the_time(
    server: tuple[str, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    port = int(server[0].rpartition(":")[2])
    with contextlib.ExitStack() as full:
        # A listener whose queue is full takes no connection, and refuses none
        listener = full.enter_context(socket.socket())
        listener.bind(("127.0.0.2", 0))
        listener.listen(0)
        silent = listener.getsockname()
        for _ in range(2):
            waiting = full.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(silent)
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", silent)] * 3
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: list(found))
        http = WorkerConnections("http://workers.example", 4)
        began = time.monotonic()
        with pytest.raises(NotSent):
            ask(http, 0.6)
        assert time.monotonic() - began < 1.5
        # And the last one has its part
        found[2] = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))
        assert ask(http, 3.0) == 204
        http.close()


def test_a_resolver_that_does_not_answer_holds_nobody_and_is_asked_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, answers = [], threading.Event()

    def look(*_: object, flags: int = 0, **__: object) -> list[object]:
        if flags:
            raise socket.gaierror(socket.EAI_NONAME, "no number")
        asked.append(1)
        assert answers.wait(20)
        raise socket.gaierror(socket.EAI_AGAIN, "later")

    monkeypatch.setattr(socket, "getaddrinfo", look)
    http = WorkerConnections("http://workers.example", 4)
    began = time.monotonic()
    with ThreadPoolExecutor(3) as threads:
        for each in [threads.submit(ask, http, 0.3) for _ in range(3)]:
            with pytest.raises(NotSent, match="in time"):
                each.result()
    assert time.monotonic() - began < 2
    assert len(asked) == 1
    answers.set()
    http.close()


def test_a_handshake_that_trickles_in_has_no_more_time(peer: Serve) -> None:
    def drip(client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            for byte in b"\x16\x03\x03\x40\x00" + b"x" * 100:
                client.sendall(bytes([byte]))
                time.sleep(0.1)

    http = WorkerConnections(peer(drip).replace("http:", "https:"), 4)
    began = time.monotonic()
    with pytest.raises(NotSent, match="TLS"):
        ask(http, 0.5)
    assert time.monotonic() - began < 1.5
    http.close()


def test_a_name_nobody_knows_is_not_sent() -> None:
    with pytest.raises(NotSent):
        ask(WorkerConnections("http://nobody.invalid", 4))


@pytest.mark.fault(103)
def test_a_failed_handshake_is_not_sent(peer: Serve) -> None:
    heard: list[bytes] = []

    def no_tls(client: socket.socket) -> None:
        heard.append(client.recv(65536))
        client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    url = peer(no_tls).replace("http://", "https://")
    with pytest.raises(NotSent, match="TLS"):
        ask(WorkerConnections(url, 4))
    assert b"/v1/run" not in heard[0]


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, ssl.SSLContext]:
    """Return a certificate for localhost that signs itself, and the context of who serves with it."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = "openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=localhost -days 1".split()
    names = ["-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(
        [*make, *names, "-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return certificate, context


@pytest.mark.fault(103)
def test_a_certificate_nobody_vouches_for_is_not_sent(
    certificate: tuple[Path, ssl.SSLContext], peer: Serve
) -> None:
    heard: list[bytes] = []

    def tls(client: socket.socket) -> None:
        wrap = certificate[1].wrap_socket
        with contextlib.suppress(OSError), wrap(client, server_side=True) as secure:
            heard.append(secure.recv(65536))

    url = peer(tls).replace("http://127.0.0.1", "https://localhost")
    with pytest.raises(NotSent, match="certificate verify failed"):
        ask(WorkerConnections(url, 4))
    assert heard in ([], [b""])


def test_tls_is_spoken_over_connections_that_are_kept(
    certificate: tuple[Path, ssl.SSLContext], peer: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    requests: list[list[bytes]] = []

    def tls(client: socket.socket) -> None:
        with certificate[1].wrap_socket(client, server_side=True) as secure:
            mine: list[bytes] = []
            requests.append(mine)
            while heard := secure.recv(65536):
                mine.append(heard)
                secure.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")

    http = WorkerConnections(peer(tls).replace("http://127.0.0.1", "https://localhost"), 4)
    for _ in range(3):
        assert ask(http) == 200
    http.close()
    assert [len(mine) for mine in requests] == [3]


@pytest.mark.fault(103)
@pytest.mark.parametrize(
    "drip", [b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n"]
)
def test_bytes_that_trickle_in_do_not_move_the_deadline(peer: Serve, drip: bytes) -> None:
    def trickle(client: socket.socket) -> None:
        client.recv(65536)
        with contextlib.suppress(OSError):
            client.sendall(drip)
            for _ in range(100):
                client.sendall(b"x")
                time.sleep(0.1)

    began = time.monotonic()
    with pytest.raises(Late):
        ask(WorkerConnections(peer(trickle), 4), 0.5)
    assert 0.4 < time.monotonic() - began < 2


@pytest.mark.parametrize(
    "answer", [b"", b"\x16\x03\x01\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"]
)
def test_an_answer_that_breaks_off_is_lost(peer: Serve, answer: bytes) -> None:
    def part(client: socket.socket) -> None:
        client.recv(65536)
        client.sendall(answer)

    with pytest.raises(Lost):
        ask(WorkerConnections(peer(part), 4))


def test_closing_ends_who_waits(peer: Serve) -> None:
    arrived = threading.Event()

    def silent(client: socket.socket) -> None:
        client.recv(65536)
        arrived.set()
        client.recv(65536)

    http = WorkerConnections(peer(silent), 4)
    told: list[object] = []

    def wait() -> None:
        try:
            told.append(ask(http, 30))
        except Lost as error:
            told.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    assert arrived.wait(5)
    http.close()
    thread.join(5)
    assert isinstance(told[0], Lost)


def test_a_header_cannot_bring_another_one(server: tuple[str, list[int]]) -> None:
    url, ports = server
    headers = {"X-Id": "1\r\nX-Other: 2"}
    with pytest.raises(NotSent):
        WorkerConnections(url, 4).request("POST", "/", headers, b"", time.monotonic() + 1)
    assert ports == []


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\nContent-Len", b"garbage\r\n\r\n", b""])
def test_a_lane_learns_of_an_end_that_came_with_the_last_bytes(peer: Serve, answer: bytes) -> None:
    def cut(client: socket.socket) -> None:
        client.recv(65536)
        client.sendall(answer)

    told: list[object] = []

    def work() -> None:
        try:
            ask(WorkerConnections(peer(cut), 1))
        except Lost as error:
            told.append(error)

    with ThreadPoolExecutor(1) as pool:
        lanes = Lanes(pool.submit)
        lanes.start(work)
        last = time.monotonic() + 10
        while not told and time.monotonic() < last:
            time.sleep(0.05)  # so that all of it is there when the lane goes on
            lanes.run(0.1)
        lanes.close()
    assert len(told) == 1


def test_an_answer_while_a_long_request_is_sent_is_found(peer: Serve) -> None:
    """Sent by a thread, it is answered before the lane waits for news of that."""
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"

    def slowly(client: socket.socket) -> None:
        for pause in (0.0, 0.3):
            time.sleep(0.1)  # so that it does not go out at once
            got = b""
            while not got.endswith(b"end"):
                got = got[-2:] + client.recv(1 << 20)
            client.sendall(answer[:20])
            time.sleep(pause)
            client.sendall(answer[20:])

    http = WorkerConnections(peer(slowly), 1)
    told: list[object] = []

    def work() -> None:
        for _ in range(2):
            deadline = time.monotonic() + 5
            body = b"x" * (8 << 20) + b"end"
            try:
                told.append(http.request("POST", "/v1/run", {}, body, deadline).data)
            except (Late, Lost) as error:
                told.append(type(error))

    longest = 0.0
    with ThreadPoolExecutor(1) as pool:
        lanes = Lanes(pool.submit)
        lanes.start(work)
        last = time.monotonic() + 15
        while len(told) < 2 and time.monotonic() < last:
            begun = time.monotonic()
            lanes.run(0.01)
            longest = max(longest, time.monotonic() - begun)
        lanes.close()
    assert told == [b"{}", b"{}"]
    # The second answer stops for 0.3 s halfway, which nobody else waits for
    assert longest < 0.25
