"""A client that takes its time holds up a thread at most."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from lowcode_faas_core.client_socket import ClientSocket
from lowcode_faas_core.lanes import Lanes

LARGE = b"x" * (8 << 20)


@pytest.fixture
def pair() -> Iterator[tuple[ClientSocket, socket.socket]]:
    ours, theirs = socket.socketpair()
    wrapped = ClientSocket.of(ours)
    wrapped.setblocking(True)
    yield wrapped, theirs
    wrapped.close()
    theirs.close()


def taken(theirs: socket.socket, size: int) -> int:
    count = 0
    while count < size and (data := theirs.recv(1 << 20)):
        count += len(data)
    return count


def test_what_a_slow_client_does_not_take_is_sent_by_a_thread(
    pair: tuple[ClientSocket, socket.socket],
) -> None:
    ours, theirs = pair
    told: list[object] = []
    with ThreadPoolExecutor(1) as pool:
        lanes = Lanes(pool.submit)

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
        lanes.close()
    assert (told, counts) == (["other", "sent"], [len(LARGE)])
    assert ours.gettimeout() is None


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
