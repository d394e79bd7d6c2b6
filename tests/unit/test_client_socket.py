"""A client that takes its time holds up nobody on a lane, and a thread for a bounded time."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from lowcode_faas_core.client_socket import ClientSocket
from lowcode_faas_core.lanes import Lanes

LARGE = b"x" * (8 << 20)


@pytest.fixture
def pair() -> Iterator[tuple[ClientSocket, socket.socket]]:
    ours, theirs = socket.socketpair()
    wrapped = ClientSocket.of(ours, threading.Semaphore(1))
    wrapped.setblocking(True)
    yield wrapped, theirs
    wrapped.close()
    theirs.close()


def taken(theirs: socket.socket, size: int) -> int:
    count = 0
    while count < size and (data := theirs.recv(1 << 20)):
        count += len(data)
    return count


def test_what_a_slow_client_does_not_take_is_sent_as_it_does(
    pair: tuple[ClientSocket, socket.socket],
) -> None:
    ours, theirs = pair
    told: list[object] = []
    lanes = Lanes(no_thread)
    with contextlib.closing(lanes):

        def work() -> None:
            ours.sendall(LARGE)
            told.append("sent")

        lanes.start(work)
        # Others go on while nothing is read
        lanes.start(lambda: told.append("other"))
        assert told == ["other"]
        counts: list[int] = []
        reading = threading.Thread(target=lambda: counts.append(taken(theirs, len(LARGE))))
        reading.start()
        last = time.monotonic() + 10
        while len(told) < 2 and time.monotonic() < last:
            lanes.run(0.1)
        reading.join(10)
    assert (told, counts) == (["other", "sent"], [len(LARGE)])
    assert ours.gettimeout() is None
    assert lanes.untaken == 0


def no_thread(_work: object) -> Any:
    raise AssertionError("a thread is asked to wait for a slow client")


@pytest.mark.parametrize(("patience", "most"), [(0.2, 1 << 30), (60.0, 1 << 20)])
def test_what_is_never_taken_is_given_up(
    pair: tuple[ClientSocket, socket.socket],
    monkeypatch: pytest.MonkeyPatch,
    patience: float,
    most: int,
) -> None:
    """After a time, or at once where too much waits already; on a lane."""
    monkeypatch.setattr("lowcode_faas_core.client_socket.SLOW_S", patience)
    monkeypatch.setattr("lowcode_faas_core.client_socket.MOST_UNTAKEN", most)
    ours, _ = pair
    told: list[object] = []
    descriptors = len(os.listdir("/proc/self/fd"))
    lanes = Lanes(no_thread)
    with contextlib.closing(lanes):

        def work() -> None:
            try:
                ours.sendall(LARGE)
            except TimeoutError as error:
                told.append(error)

        lanes.start(work)
        last = time.monotonic() + 10
        while not told and time.monotonic() < last:
            lanes.run(0.1)
    assert len(told) == 1
    assert lanes.untaken == 0
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_a_thread_waits_a_bounded_time_and_less_where_many_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A client that takes a little now and then, so that no single wait is long."""
    monkeypatch.setattr("lowcode_faas_core.client_socket.SLOW_S", 1.0)
    monkeypatch.setattr("lowcode_faas_core.client_socket.CROWDED_S", 0.2)
    seats = threading.Semaphore(1)
    took: dict[int, float] = {}
    with contextlib.ExitStack() as stack:
        pairs = [socket.socketpair() for _ in range(2)]
        for pair in pairs:
            for each in pair:
                stack.enter_context(each)
        over = threading.Event()

        def sip() -> None:
            while not over.wait(0.02):
                for _, theirs in pairs:
                    theirs.recv(1000)

        def send(number: int) -> None:
            ours = stack.enter_context(ClientSocket.of(pairs[number][0], seats))
            ours.setblocking(True)
            began = time.monotonic()
            with pytest.raises(TimeoutError):
                ours.sendall(LARGE)
            took[number] = time.monotonic() - began

        sipping = threading.Thread(target=sip)
        sipping.start()
        first = threading.Thread(target=send, args=(0,))
        first.start()
        time.sleep(0.2)
        send(1)
        first.join()
        over.set()
        sipping.join()
    assert took[1] < took[0] < 5
    assert seats.acquire(blocking=False)


def test_a_read_on_a_lane_never_waits(pair: tuple[ClientSocket, socket.socket]) -> None:
    ours, theirs = pair
    told: list[object] = []
    with ThreadPoolExecutor(1) as pool:
        lanes = Lanes(pool.submit)

        def work() -> None:
            try:
                ours.recv(10)
            except BlockingIOError:
                told.append("nothing is there")

        lanes.start(work)
        theirs.sendall(b"1")
        lanes.start(lambda: told.append(ours.recv(10)))
        lanes.close()
    assert told == ["nothing is there", b"1"]


def test_in_a_thread_it_waits_as_any_other(pair: tuple[ClientSocket, socket.socket]) -> None:
    ours, theirs = pair
    threading.Timer(0.05, lambda: theirs.sendall(b"late")).start()
    assert ours.recv(10) == b"late"
    reading = threading.Thread(target=taken, args=(theirs, len(LARGE)))
    reading.start()
    ours.sendall(LARGE)
    reading.join(10)
    assert not reading.is_alive()
