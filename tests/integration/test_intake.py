"""Slow clients, bursts and odd requests against a real gunicorn: who gets a thread, and who waits."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import urllib3

from lowcode_faas_core.arrival import BoundedReader

HELLO = "export const handler = (input) => ({ ok: true, data: input });"
SLEEP = (
    "export const handler = async (input) => {"
    " await new Promise((done) => setTimeout(done, input.ms)); return { ok: true }; };"
)


@pytest.fixture
def served(serve):
    service = serve(WORKERS="1", THREADS="6")
    service.deploy("hello", HELLO)
    service.deploy("sleep", SLEEP)
    return service


class Trickle:
    """A client's socket on which a byte comes now and then."""

    def recv(self, _size):
        time.sleep(0.05)
        return b" "


def connect(service):
    host, port = service.url.removeprefix("http://").split(":")
    return socket.create_connection((host, int(port)), timeout=30)


def answer(stream) -> tuple[int, bytes]:
    """Read one answer with a Content-Length from a file made of a socket."""
    status = int(stream.readline().split()[1])
    length = 0
    while (line := stream.readline()) != b"\r\n":
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return status, stream.read(length)


def invoke_request(name: str, value: object, *, head: str = "") -> bytes:
    body = json.dumps({"input": value}).encode()
    return (
        f"POST /functions/{name}/invoke HTTP/1.1\r\nHost: localhost\r\n{head}"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    ).encode() + body


@pytest.mark.fault(21)
def test_two_hundred_slow_clients_cost_no_thread(served):
    beginnings = [
        b"",
        b"G",
        b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
        invoke_request("hello", {})[:-1],
    ]
    clients = [connect(served) for _ in range(200)]
    try:
        for number, client in enumerate(clients):
            client.sendall(beginnings[number % len(beginnings)])
        began = time.monotonic()
        assert served.call("GET", "/healthz")[0] == 200
        assert served.call("POST", "/functions/hello/invoke", {"input": {}})[0] == 200
        assert time.monotonic() - began < 1
    finally:
        for client in clients:
            client.close()


@pytest.mark.fault(21)
def test_slow_bodies_leave_threads_to_others(served):
    """Twelve clients whose body stops halfway, and six threads."""
    for path in ("/functions", "/functions/hello/invoke"):
        for head in (
            b"Transfer-Encoding: chunked\r\n\r\n10\r\n{",
            b"Content-Length: 1000000\r\n\r\n" + b" " * 100_000,
            b"Expect: 100-continue\r\nContent-Length: 100\r\n\r\n",
        ):
            begun = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            clients = [connect(served) for _ in range(12)]
            try:
                for client in clients:
                    client.sendall(begun.encode() + head)
                time.sleep(0.5)
                began = time.monotonic()
                assert served.call("GET", "/healthz")[0] == 200
                assert served.call("POST", "/functions/hello/invoke", {"input": {}})[0] == 200
                assert time.monotonic() - began < 1, (path, head[:30])
            finally:
                for client in clients:
                    client.close()


@pytest.mark.fault(21)
def test_large_bodies_in_time_are_read_however_many(served):
    """Twelve at once, each in pieces, at six threads: they wait for each other, none is lost."""
    for chunked in (False, True):
        upload_twelve(served, chunked)


def upload_twelve(served, chunked: bool) -> None:
    text = "x" * 300_000
    body = json.dumps({"input": {"text": text}}).encode()
    pieces = [body[at : at + 50_000] for at in range(0, len(body), 50_000)]
    head = b"POST /functions/hello/invoke HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    if chunked:
        head += b"Transfer-Encoding: chunked\r\n\r\n"
        pieces = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces] + [b"0\r\n\r\n"]
    else:
        head += b"Content-Length: %d\r\n\r\n" % len(body)

    def upload(_number: int) -> int:
        with connect(served) as client, client.makefile("rb") as stream:
            # Twice over one connection: the second is read like the first.
            for _ in range(2):
                client.sendall(head)
                for piece in pieces:
                    client.sendall(piece)
                    time.sleep(0.01)
                status, answered = answer(stream)
                if status == 200:
                    assert json.loads(answered)["output"]["data"] == {"text": text}
                elif status != 429:
                    return status
            return 200

    with ThreadPoolExecutor(12) as threads:
        assert set(threads.map(upload, range(12))) == {200}


@pytest.mark.fault(21)
def test_a_body_that_trickles_in_is_given_up():
    """A byte now and then keeps no thread for ever: the whole body has a time."""
    reader = BoundedReader(Trickle())
    reader.expect(1000, 0.3, lambda: None)
    assert [reader.recv(8192) for _ in range(4)] == [b" "] * 4
    time.sleep(0.2)
    with pytest.raises(TimeoutError):
        reader.recv(8192)


@pytest.mark.fault(102)
def test_with_every_place_taken_health_is_served_and_the_next_is_told_at_once(served):
    """Six threads, two of them not for invocations: the fifth sleeper is a 429, health answers."""
    with ThreadPoolExecutor(8) as threads:
        body = {"input": {"ms": 1500}}
        running = [
            threads.submit(served.call, "POST", "/functions/sleep/invoke", body) for _ in range(4)
        ]
        deadline = time.monotonic() + 10
        while served.call("GET", "/readyz")[1]["sandboxes"]["in_flight"] < 4:
            assert time.monotonic() < deadline
        began = time.monotonic()
        status, problem = served.call("POST", "/functions/sleep/invoke", body)
        refused_after = time.monotonic() - began
        assert served.call("GET", "/healthz")[0] == 200
        healthy_after = time.monotonic() - began - refused_after
        assert (status, problem["code"], problem["outcome"]) == (429, "no_capacity", "not_executed")
        assert refused_after < 1
        assert healthy_after < 1
        assert Counter(future.result()[0] for future in running) == {200: 4}


def test_a_burst_of_short_invocations_waits_for_a_thread_instead_of_failing(served):
    """Sixteen clients at four places: nobody is turned away, because nobody holds a place for long."""
    for _ in range(3):
        served.call("POST", "/functions/hello/invoke", {"input": {}})
    statuses: Counter[int] = Counter()
    lock = threading.Lock()

    def client() -> None:
        for _ in range(25):
            status, _body = served.call("POST", "/functions/hello/invoke", {"input": {"n": 1}})
            with lock:
                statuses[status] += 1

    clients = [threading.Thread(target=client) for _ in range(16)]
    for each in clients:
        each.start()
    for each in clients:
        each.join()
    print(f"burst of 16 clients at 4 places: {dict(statuses)}")
    # A stall of the machine may still turn somebody away; a burst as such may not.
    assert statuses[200] >= 360
    assert set(statuses) <= {200, 429}


def test_a_request_in_single_bytes_is_the_same_request(served):
    with connect(served) as client:
        for byte in invoke_request("hello", {"slow": True}):
            client.sendall(bytes([byte]))
        status, body = answer(client.makefile("rb"))
    assert (status, json.loads(body)["output"]["data"]) == (200, {"slow": True})


def test_requests_sent_at_once_are_answered_in_order(served):
    with connect(served) as client:
        client.sendall(b"".join(invoke_request("hello", {"n": n}) for n in range(5)))
        stream = client.makefile("rb")
        got = [json.loads(answer(stream)[1])["output"]["data"]["n"] for _ in range(5)]
    assert got == list(range(5))


def test_bodies_beyond_the_look_and_in_chunks_arrive_whole(served):
    text = "x" * 1_000_000
    with connect(served) as client:
        client.sendall(invoke_request("hello", {"text": text}))
        status, body = answer(client.makefile("rb"))
    assert (status, json.loads(body)["output"]["data"]["text"]) == (200, text)

    body = json.dumps({"input": {"text": "chunked"}}).encode()
    with connect(served) as client:
        client.sendall(
            b"POST /functions/hello/invoke HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for at in range(0, len(body), 7):
            piece = body[at : at + 7]
            client.sendall(b"%x\r\n%s\r\n" % (len(piece), piece))
        client.sendall(b"0\r\n\r\n")
        status, got = answer(client.makefile("rb"))
    assert (status, json.loads(got)["output"]["data"]["text"]) == (200, "chunked")


def test_chunks_that_are_none_are_the_callers_fault(served):
    head = (
        b"POST /functions/hello/invoke HTTP/1.1\r\nHost: localhost\r\n"
        b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    for chunks in (b"xyz\r\n{}\r\n0\r\n\r\n", b"2\r\n{}JUNK\r\n", b'9\r\n{"inp', b"2\r\n{}\r\n"):
        with connect(served) as client:
            client.sendall(head + chunks)
            client.shutdown(socket.SHUT_WR)
            stream = client.makefile("rb")
            status, body = answer(stream)
            problem = json.loads(body)
            assert (status, problem["code"]) == (400, "malformed_request"), (chunks, problem)
            assert problem["outcome"] == "not_executed"
            with contextlib.suppress(ConnectionResetError):
                assert stream.read() == b"", "one answer, and the connection is closed"
    assert "Traceback" not in served.text()


def test_a_client_that_waits_for_100_continue_gets_it(served):
    request = invoke_request("hello", {"n": 7}, head="Expect: 100-continue\r\n")
    head, _, body = request.partition(b"\r\n\r\n")
    with connect(served) as client:
        client.sendall(head + b"\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 100")
        client.sendall(body)
        status, got = answer(client.makefile("rb"))
    assert (status, json.loads(got)["output"]["data"]) == (200, {"n": 7})


#: Requests of which two readers could see two different ones.
AMBIGUOUS = {
    "two hosts": b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "length and chunked": (
        b"POST /limits HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    ),
    "two lengths": b"POST /functions HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
    "a list of lengths": b"POST /functions HTTP/1.1\r\nContent-Length: 2, 2\r\n\r\n{}",
    "a signed length": b"POST /functions HTTP/1.1\r\nContent-Length: +2\r\n\r\n{}",
    "a negative length": b"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    "a space before the colon": b"GET /healthz HTTP/1.1\r\nHost: a\r\nX : y\r\n\r\n",
    "an unknown coding": b"POST /functions HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked twice": b"POST /functions HTTP/1.1\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "chunked in 1.0": b"POST /functions HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a folded line": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: a\r\n b\r\n\r\n",
    "a NUL": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: a\0b\r\n\r\n",
    "line feeds only": b"GET /healthz HTTP/1.1\nHost: localhost\n\n",
    "a line feed that ends the head": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\n",
    "a line feed after the request line": b"GET /healthz HTTP/1.1\nHost: localhost\r\n\r\n",
    "a line feed within a header": b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nA: b\nX: c\r\n\r\n",
    "a length behind a line feed": (
        b"POST /functions HTTP/1.1\r\nHost: localhost\nContent-Length: 43\r\n\r\n"
    ),
    "line feeds in chunks": (
        b"POST /functions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n2\n{}\n0\n\n"
    ),
    "a line feed after a chunk's size": (
        b"POST /functions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n2\n{}\r\n0\r\n\r\n"
    ),
    "a carriage return alone": b"GET /healthz HTTP/1.1\rHost: localhost\r\n\r\n",
    "no request": b"nonsense\r\n\r\n",
}


@pytest.mark.fault(23)
def test_ambiguous_requests_are_refused_and_what_hides_behind_them_is_not_read(served):
    hidden = b"GET /limits HTTP/1.1\r\nHost: localhost\r\n\r\n"
    for name, request in AMBIGUOUS.items():
        for sent in (request, request + hidden):
            with connect(served) as client:
                began = time.monotonic()
                client.sendall(sent)
                data = b""
                # Closed with the hidden one unread, the kernel may say so by a reset.
                with contextlib.suppress(ConnectionResetError):
                    while chunk := client.recv(65536):
                        data += chunk
            assert time.monotonic() - began < 5, name
            head, _, body = data.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 400"), (name, data[:200])
            assert b"Content-Type: application/problem+json" in head
            assert json.loads(body)["code"] == "malformed_request", name


def test_a_client_that_hangs_up_halfway_leaves_nothing(served):
    for beginning in (b"", b"POST /functions/hello/inv", invoke_request("hello", {})[:-1]):
        with connect(served) as client:
            client.sendall(beginning)
            client.shutdown(socket.SHUT_WR)
            client.settimeout(5)
            # Closed with bytes unread, the kernel says so by a reset.
            with contextlib.suppress(ConnectionResetError):
                assert client.recv(1000) == b""
    assert served.call("GET", "/healthz")[0] == 200


@pytest.mark.fault(21)
@pytest.mark.parametrize(
    ("head", "then"),
    [
        (b"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\nX: 0\r\n\r\n", b"FFFF\r\n"),
        (b"Transfer-Encoding: chunked\r\n\r\nFFFF\r\n\r\n0\r\n\r\n", b""),
        (b"Content-Length: 0000001000000\r\n\r\n", b""),
    ],
)
def test_no_disguise_of_a_slow_body_gets_it_more_threads(served, head, then):
    """Bytes that look like the end, or a length written oddly, at twice as many clients as threads."""
    clients = [connect(served) for _ in range(12)]
    try:
        for client in clients:
            client.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n" + head)
        time.sleep(0.2)
        for client in clients:
            client.sendall(then)
        last = time.monotonic() + 1.5
        while time.monotonic() < last:
            for client in clients:
                with contextlib.suppress(OSError):  # who is answered may be gone
                    client.sendall(b"x")
            time.sleep(0.1)
        began = time.monotonic()
        assert served.call("GET", "/healthz")[0] == 200
        assert served.call("GET", "/functions")[0] == 200
        assert time.monotonic() - began < 1
    finally:
        for client in clients:
            client.close()


def stingy(service) -> socket.socket:
    """Return a connection whose client takes next to nothing."""
    host, port = service.url.removeprefix("http://").split(":")
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(30)
    client.connect((host, int(port)))
    return client


@pytest.mark.fault(21)
def test_clients_that_take_no_answers_leave_threads_to_others(served):
    """Twelve that ask for the largest page again and again and read nothing, at six threads."""
    request = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
    clients = [stingy(served) for _ in range(12)]
    try:
        for client in clients:
            client.sendall(request * 50)
        # As many as may wait long do by then, and the others were given up.
        time.sleep(6)
        began = time.monotonic()
        assert served.call("GET", "/healthz")[0] == 200
        assert time.monotonic() - began < 1
    finally:
        for client in clients:
            client.close()


@pytest.mark.fault(21)
def test_results_that_nobody_takes_do_not_stop_the_clock_of_others(served):
    """More of them than there are threads; then a run has to be ended at its deadline."""
    served.deploy("large", "export const handler = () => ({ ok: true, data: 'x'.repeat(5e6) });")
    served.deploy("spin", "export const handler = () => { for (;;); };")
    clients = [stingy(served) for _ in range(12)]
    try:
        for client in clients:
            client.sendall(invoke_request("large", {}))
            time.sleep(0.3)
        began = time.monotonic()
        status, told = served.call(
            "POST", "/functions/spin/invoke", {"input": {}, "timeout_ms": 500}
        )
        took = time.monotonic() - began
        assert (status, told["status"]) == (200, "timeout")
        assert took < 4
    finally:
        for client in clients:
            client.close()


def test_a_process_without_descriptors_goes_on_with_what_it_has(serve, poll):
    """Connections beyond them wait, and are served when others end; nothing that runs is lost."""
    service = serve(WORKERS="1", THREADS="6")
    service.deploy("sleep", SLEEP)
    (serving,) = (each.pid for each in service.gunicorn_workers())
    running = service.in_background("sleep", {"ms": 3000})
    time.sleep(0.5)
    limit = len(os.listdir(f"/proc/{serving}/fd")) + 40
    resource.prlimit(serving, resource.RLIMIT_NOFILE, (limit, limit))
    clients = [connect(service) for _ in range(80)]
    try:
        time.sleep(1)
        before = cpu_s(serving)
        time.sleep(1)
        assert cpu_s(serving) - before < 0.5
        assert "no connection can be accepted" in service.text()
        poll("the run is answered", lambda: running, 10)
        assert running[0][0] == 200
    finally:
        for client in clients:
            client.close()
    poll("others are served", lambda: served_now(service), 10)
    assert [each.pid for each in service.gunicorn_workers()] == [serving]


def cpu_s(pid: int) -> float:
    """Return the CPU time of a process in seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def served_now(service) -> bool:
    try:
        return service.call("GET", "/healthz")[0] == 200
    except urllib3.exceptions.HTTPError:
        return False
