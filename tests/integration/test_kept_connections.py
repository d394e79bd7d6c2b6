"""Invocations one after the other over connections that are kept, and what they leave to others."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.integration.test_intake import HELLO, answer, connect, invoke_request

#: What differs between two answers to the same request.
VARYING = re.compile(
    rb'Date: [^\r]*|X-Request-Id: [^\r]*|"(?:execution|run|request)_id":"[^"]*"|'
    rb'"(?:started|finished)_at":"[^"]*"|"start":"[^"]*"|"timings_ms":\{[^}]*\}|'
    rb'"usage":\{[^}]*\}|Content-Length: [0-9]+'
)


@pytest.fixture
def kept(serve: Callable[..., Any]) -> Any:
    service = serve(WORKERS="1", THREADS="6")
    service.deploy("hello", HELLO)
    return service


def whole_answer(client: socket.socket) -> bytes:
    """Read one answer with its head as it came."""
    data = b""
    while (end := data.find(b"\r\n\r\n")) < 0:
        data += client.recv(65536)
    found = re.search(rb"Content-Length: ([0-9]+)", data)
    assert found
    while len(data) < end + 4 + int(found[1]):
        data += client.recv(65536)
    return data


def test_the_tenth_answer_is_made_as_the_first(kept: Any) -> None:
    with connect(kept) as client:
        answers = []
        for _ in range(10):
            client.sendall(invoke_request("hello", {"n": 1}))
            answers.append(whole_answer(client))
    names = [re.findall(rb"\r\n([A-Za-z-]+):", each.split(b"\r\n\r\n")[0]) for each in answers]
    assert all(sorted(found) == sorted(names[0]) for found in names)
    bodies = {VARYING.sub(b"", each.split(b"\r\n\r\n", 1)[1]) for each in answers}
    assert len(bodies) == 1
    ids = {json.loads(each.split(b"\r\n\r\n", 1)[1])["request_id"] for each in answers}
    assert len(ids) == 10


def test_equal_heads_with_other_bodies_get_their_own_answers(kept: Any) -> None:
    with connect(kept) as client:
        stream = client.makefile("rb")
        for number in range(10, 60):
            client.sendall(invoke_request("hello", {"n": number}))
            status, body = answer(stream)
            assert (status, json.loads(body)["output"]["data"]["n"]) == (200, number)


def test_head_and_body_sent_one_by_one_are_one_request(kept: Any) -> None:
    with connect(kept) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = client.makefile("rb")
        for number in range(1, 40):
            head, _, body = invoke_request("hello", {"n": 10 ** (number % 15)}).partition(
                b"\r\n\r\n"
            )
            client.sendall(head + b"\r\n\r\n")
            if number % 3 == 0:
                time.sleep(0.06)
            client.sendall(body)
            status, told = answer(stream)
            assert (status, json.loads(told)["output"]["data"]["n"]) == (200, 10 ** (number % 15))


def test_heads_that_change_take_turns(kept: Any) -> None:
    heads = ["", "X-Request-Id: chosen-by-me\r\n", "Accept: */*\r\n"]
    with connect(kept) as client:
        stream = client.makefile("rb")
        for number in range(30):
            client.sendall(invoke_request("hello", {"n": 1}, head=heads[number // 2 % 3]))
            status, body = answer(stream)
            assert status == 200
            chosen = json.loads(body)["request_id"] == "chosen-by-me"
            assert chosen is (number // 2 % 3 == 1)


def test_what_is_refused_is_refused_after_what_was_not(kept: Any) -> None:
    good = invoke_request("hello", {"n": 1})
    head, body = good.split(b"\r\n\r\n")
    with connect(kept) as client:
        stream = client.makefile("rb")
        for _ in range(3):
            client.sendall(good)
            assert answer(stream)[0] == 200
        # The same head, and no JSON; then everything goes on.
        client.sendall(head + b"\r\n\r\n" + b"x" * len(body))
        status, told = answer(stream)
        assert (status, json.loads(told)["code"]) == (400, "malformed_request")
        client.sendall(good)
        assert answer(stream)[0] == 200


def test_requests_at_once_are_answered_in_order(kept: Any) -> None:
    with connect(kept) as client:
        stream = client.makefile("rb")
        for _ in range(3):
            client.sendall(invoke_request("hello", {"n": 10}))
            assert answer(stream)[0] == 200
        client.sendall(b"".join(invoke_request("hello", {"n": n}) for n in range(10, 15)))
        told = [json.loads(answer(stream)[1])["output"]["data"]["n"] for _ in range(5)]
    assert told == list(range(10, 15))


@pytest.mark.fault(21)
def test_clients_that_stop_halfway_after_invocations_hold_no_thread(kept: Any) -> None:
    clients = [connect(kept) for _ in range(20)]
    try:
        for client in clients:
            stream = client.makefile("rb")
            for _ in range(3):
                client.sendall(invoke_request("hello", {"n": 1}))
                assert answer(stream)[0] == 200
            client.sendall(invoke_request("hello", {"n": 1})[:-5])
        began = time.monotonic()
        assert kept.call("GET", "/healthz")[0] == 200
        assert kept.call("POST", "/functions/hello/invoke", {"input": {}})[0] == 200
        assert time.monotonic() - began < 2
        # What was begun is finished as if nothing had been.
        for client in clients:
            client.sendall(invoke_request("hello", {"n": 1})[-5:])
            assert answer(client.makefile("rb"))[0] == 200
    finally:
        for client in clients:
            client.close()


def test_busy_connections_take_turns_with_those_that_find_no_thread(
    serve: Callable[..., Any],
) -> None:
    # Given four threads for invocations, one warm instance, and twelve connections that never pause
    service = serve(WORKERS="1", THREADS="6", MAX_INSTANCES_PER_FUNCTION="1")
    service.deploy("hello", HELLO)
    assert service.invoke("hello", {})[0] == 200
    clients = [connect(service) for _ in range(12)]
    try:
        request = invoke_request("hello", {"n": 1})
        streams = [client.makefile("rb") for client in clients]
        for client in clients:
            client.sendall(request)
        done = [0] * len(clients)
        end = time.monotonic() + 3
        while time.monotonic() < end:
            for number, (client, stream) in enumerate(zip(clients, streams, strict=True)):
                status, _ = answer(stream)
                assert status == 200
                done[number] += 1
                client.sendall(request)
        # Then each is served again and again
        assert min(done) >= 3, done
    finally:
        for client in clients:
            client.close()


def test_a_request_that_arrives_while_the_one_before_is_taken_in_is_answered_once(
    kept: Any,
) -> None:
    # Whatever falls between the look at a request and its reading is read with it.
    for round_ in range(150):
        with connect(kept) as client:
            stream = client.makefile("rb")
            client.sendall(invoke_request("hello", {"n": 100}))
            assert answer(stream)[0] == 200
            client.sendall(invoke_request("hello", {"n": 101}))
            end = time.perf_counter() + round_ * 2e-5
            while time.perf_counter() < end:
                pass
            client.sendall(invoke_request("hello", {"n": 102}))
            told = [json.loads(answer(stream)[1])["output"]["data"]["n"] for _ in range(2)]
            client.sendall(invoke_request("hello", {"n": 103}))
            told.append(json.loads(answer(stream)[1])["output"]["data"]["n"])
            assert told == [101, 102, 103], round_
