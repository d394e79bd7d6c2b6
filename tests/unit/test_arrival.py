"""What the first bytes of a connection say about the rest."""

from __future__ import annotations

import time

import pytest

from lowcode_faas_core.arrival import PEEK_BYTES, Arrival, arrival

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
        (CHUNKED + b"2\r\n{}\r\n0\r\n\r\n", Arrival(0)),
        (CHUNKED + b"0\r\n\r\n", Arrival(0)),
        (CHUNKED + b"2\r\n{}\r\n000;a=b\r\nX: y\r\n\r\n", Arrival(0)),
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
