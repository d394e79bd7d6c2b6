"""A conversation with a sandbox on a lane: it is the same, and holds up nobody."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from lowcode_faas_core.interfaces.launcher import Stream
from lowcode_faas_core.lanes import Lanes
from lowcode_faas_core.sandbox.channel import Channel, ChannelClosed, DeadlinePassed
from lowcode_faas_core.sandbox.protocol import Frame, Kind, encode

TOKEN = bytes(range(16))
RESULT = encode(TOKEN, Kind.RESULT, b'{"ok":true}')
LINE = encode(TOKEN, Kind.LOG, b'{"message":"x"}')


class Peer:
    """A sandbox that a test plays: one end of a stream, and a pipe of raw output."""

    mixed = False
    token = TOKEN

    def __init__(self) -> None:
        self.ours, self.theirs = socket.socketpair()
        self.reader, self.writer = os.pipe()
        os.set_blocking(self.reader, False)
        os.set_blocking(self.writer, False)

    def fileno(self) -> int:
        return self.ours.fileno()

    def read(self, size: int) -> tuple[Stream, bytes]:
        return Stream.CHANNEL, self.ours.recv(size)

    def write(self, data: bytes | memoryview) -> int:
        return self.ours.send(data)

    def receive_timeout(self, seconds: float) -> None:
        self.ours.settimeout(seconds if seconds > 0 else 0.0)

    def outputs(self) -> tuple[tuple[int, Stream], ...]:
        return ((self.reader, Stream.STDOUT),)

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()
        os.close(self.reader)
        os.close(self.writer)


class Talk:
    """A channel to such a sandbox, and the lanes on which it is used."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.peer = Peer()
        self.lines: list[Frame] = []
        self.raw: list[bytes] = []
        self.channel = Channel(
            self.peer,  # type: ignore[arg-type]
            1 << 20,
            self.lines.append,
            lambda _stream, data: self.raw.append(data),
        )
        self.lanes = Lanes(pool.submit)
        self.told: list[Any] = []
        #: The longest that the main loop was away, in seconds.
        self.longest = 0.0

    def ask(self, seconds: float = 5.0) -> None:
        def work() -> None:
            deadline_ns = time.monotonic_ns() + int(seconds * 1e9)
            try:
                self.told.append(self.channel.exchange(b"request", deadline_ns).payload)
            except (ChannelClosed, DeadlinePassed) as error:
                self.told.append(type(error))

        self.lanes.start(work)

    def answer(self, count: int = 1) -> Any:
        last = time.monotonic() + 10
        while len(self.told) < count:
            assert time.monotonic() < last
            begun = time.monotonic()
            self.lanes.run(0.01)
            self.longest = max(self.longest, time.monotonic() - begun)
        return self.told[-1]


@pytest.fixture
def talk() -> Iterator[Talk]:
    with ThreadPoolExecutor(2) as pool:
        made = Talk(pool)
        yield made
        made.lanes.close()
        made.peer.close()


def test_an_answer_comes_with_what_was_printed_before_it(talk: Talk) -> None:
    for count in (1, 2, 3):
        talk.ask()
        os.write(talk.peer.writer, b"raw")
        talk.peer.theirs.sendall(LINE + RESULT)
        assert talk.answer(count) == b'{"ok":true}'
        assert (len(talk.lines), b"".join(talk.raw)) == (count, b"raw" * count)


def test_an_answer_in_pieces_is_waited_for(talk: Talk) -> None:
    talk.ask()
    for piece in (RESULT[:3], RESULT[3:20], RESULT[20:]):
        talk.peer.theirs.sendall(piece)
        talk.lanes.run(0.01)
    assert talk.answer() == b'{"ok":true}'


def test_one_that_takes_longer_goes_on_in_a_thread(talk: Talk) -> None:
    talk.ask()
    threading.Timer(0.3, lambda: talk.peer.theirs.sendall(RESULT)).start()
    assert talk.answer() == b'{"ok":true}'
    talk.ask()
    talk.peer.theirs.sendall(RESULT)
    assert talk.answer(2) == b'{"ok":true}'


@pytest.mark.parametrize("way", ["frames", "raw"])
def test_one_that_prints_all_the_time_does_not_keep_the_main_loop(talk: Talk, way: str) -> None:
    ended = threading.Event()

    def print_on() -> None:
        talk.peer.theirs.setblocking(False)
        while not ended.is_set():
            try:
                if way == "frames":
                    talk.peer.theirs.send(LINE * 100)
                else:
                    os.write(talk.peer.writer, b"x" * 4096)
            except BlockingIOError:
                time.sleep(0.0001)

    printing = threading.Thread(target=print_on)
    printing.start()
    try:
        talk.ask(1.5)
        assert talk.answer() is DeadlinePassed
    finally:
        ended.set()
        printing.join()
    # On the lane it has 50 ms in all; the bound leaves room for a machine that does much else.
    assert talk.longest < 0.7


def test_the_end_of_the_stream_is_told(talk: Talk) -> None:
    talk.ask()
    talk.peer.theirs.close()
    assert talk.answer() is ChannelClosed
