"""What the first bytes of a connection say about the rest."""

from __future__ import annotations

import contextlib
import io
import time

import pytest

from lowcode_faas_core.arrival import PEEK_BYTES, Arrival, BoundedReader, Chunks, arrival

HEAD = b"POST /x HTTP/1.1\r\nHost: a\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def declared(length: int) -> bytes:
    return HEAD + b"Content-Length: %d\r\n\r\n" % length


@pytest.mark.parametrize(
    ("seen", "found"),
    [
        (b"", Arrival(1)),
        (HEAD, Arrival(1)),
        (HEAD + b"\r\n", Arrival(0)),
        (declared(2), Arrival(2, length=len(declared(2)) + 2)),
        (declared(2) + b"{", Arrival(1, length=len(declared(2)) + 2)),
        (declared(2) + b"{}", Arrival(0)),
        (declared(2) + b"{}GET", Arrival(0)),
        (CHUNKED, Arrival(1, chunked=True)),
        (CHUNKED + b"2\r\n{}\r\n", Arrival(1, chunked=True)),
        (CHUNKED + b"2\r\n{}\r\n0\r\n", Arrival(1, chunked=True)),
        # What looks like the last chunk may be data of another.
        (CHUNKED + b"2\r\n{}\r\n0\r\n\r\n", Arrival(0, whole=False)),
        (CHUNKED + b"0\r\n\r\n", Arrival(0, whole=False)),
        (CHUNKED + b"2\r\n{}\r\n000;a=b\r\nX: y\r\n\r\n", Arrival(0, whole=False)),
        (CHUNKED + b"FFFF\r\n\r\n0\r\n\r\n", Arrival(0, whole=False)),
        # A body that only gunicorn understands, or refuses.
        (HEAD + b"Content-Length: 0000001000000\r\n\r\n", Arrival(0, whole=False)),
        (HEAD + b"transfer-encoding : gzip\r\n\r\n", Arrival(0, whole=False)),
        (b"GET / HTTP/1.1\nHost: a\n\n", Arrival(1, malformed=True)),
        (CHUNKED + b"2\n{}\n0\n\n", Arrival(0, malformed=True)),
    ],
)
def test_what_is_missing_is_known(seen: bytes, found: Arrival) -> None:
    assert arrival(seen) == found


def test_more_than_is_looked_at_is_read_by_a_thread() -> None:
    head = declared(1 << 20)
    assert arrival(head) == Arrival(PEEK_BYTES - len(head), length=len(head) + (1 << 20))
    full = head.ljust(PEEK_BYTES)
    assert arrival(full) == Arrival(0, whole=False, length=len(head) + (1 << 20))
    assert arrival(CHUNKED.ljust(PEEK_BYTES, b"x")) == Arrival(0, whole=False)
    # gunicorn's own limits on a head are below it: let it say what is wrong.
    assert arrival(HEAD.ljust(PEEK_BYTES, b"x")) == Arrival(0)


@pytest.mark.parametrize("head", [declared(2), CHUNKED])
def test_who_waits_for_our_word_is_read_by_a_thread(head: bytes) -> None:
    expecting = head.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")
    found = arrival(expecting)
    assert (found.missing, found.whole) == (0, False)


@pytest.mark.fault(71)
@pytest.mark.parametrize(
    "piece",
    [b"\r\n0\r\n", b"0", b"\r\n0", b"\r\n0;", b"\r\n0\r\na\r\n", b"\n", b"\r\n", b"\r\nA: b"],
)
def test_hostile_bytes_are_judged_quickly(piece: bytes) -> None:
    for head in (CHUNKED, declared(1 << 20), HEAD):
        seen = (head + piece * PEEK_BYTES)[:PEEK_BYTES]
        began = time.process_time()
        arrival(seen)
        assert time.process_time() - began < 0.05


class Pieces:
    """A client's socket that has these pieces, and then one byte after the other."""

    def __init__(self, *pieces: bytes) -> None:
        self.pieces = list(pieces)

    def recv(self, _size: int) -> bytes:
        if self.pieces:
            return self.pieces.pop(0)
        time.sleep(0.01)
        return b"x"


def read_until_late(reader: BoundedReader) -> float:
    """Return how long it goes on reading, in seconds."""
    began = time.monotonic()
    with contextlib.suppress(TimeoutError):
        while time.monotonic() - began < 5:
            reader.recv(1024)
    return time.monotonic() - began


@pytest.mark.fault(21)
def test_no_bytes_make_a_reader_forget_its_time() -> None:
    told: list[str] = []
    reader = BoundedReader(Pieces(b"X: 0\r\n\r\n", b"0\r\n\r\n"))  # type: ignore[arg-type]
    reader.expect(None, 0.1, lambda: told.append("arrived"))
    assert read_until_late(reader) < 1
    assert told == []


@pytest.mark.fault(21)
def test_what_has_arrived_is_read_in_a_bounded_time_as_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lowcode_faas_core.arrival.READ_S", 0.1)
    reader = BoundedReader(Pieces())  # type: ignore[arg-type]
    reader.expect_nothing()
    # It begins with the first read: the request may have waited for a thread.
    time.sleep(0.2)
    assert read_until_late(reader) < 1
    # And anew with the next request.
    reader.expect_nothing()
    assert reader.recv(10) == b"x"


def test_gunicorn_may_bound_it_further() -> None:
    reader = BoundedReader(Pieces())  # type: ignore[arg-type]
    reader.expect(1 << 20, 60, lambda: None)
    reader.recv(10)
    reader.settimeout(0.1)
    assert read_until_late(reader) < 1
    reader.settimeout(reader.gettimeout())


def test_a_length_tells_when_all_has_arrived() -> None:
    told: list[str] = []
    reader = BoundedReader(Pieces(b"abc", b"de"))  # type: ignore[arg-type]
    reader.expect(5, 60, lambda: told.append("arrived"))
    reader.recv(10)
    assert told == []
    reader.recv(10)
    reader.is_read()
    assert told == ["arrived"]


def test_who_reads_chunks_tells_when_they_are_over() -> None:
    told: list[str] = []
    chunks = Chunks(io.BytesIO(b"0\r\n\r\n and more"), lambda: told.append("over"))
    assert chunks.read(5) == b"0\r\n\r\n"
    assert told == []
    assert chunks.read(100) == b" and more"
    assert told == ["over"]
