"""The host's side of the frames against a peer that tears, stalls, forges and dies anywhere."""

from __future__ import annotations

import itertools
import time

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lowcode_faas_core.interfaces.launcher import End
from lowcode_faas_core.model import ErrorCode, Status
from lowcode_faas_core.sandbox.protocol import (
    OTHER_FRAME_BYTES,
    Frame,
    FrameDecoder,
    FrameTooLarge,
    Kind,
    ProtocolError,
    encode,
)

TOKEN = bytes(range(100, 116))
LIMIT = 1000

kinds = st.sampled_from([Kind.READY, Kind.RESULT, Kind.ERROR, Kind.LOG])
frames = st.lists(st.tuples(kinds, st.binary(max_size=60)), min_size=1, max_size=6)


def chunks(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@given(frames, st.lists(st.integers(0, 10_000), max_size=12))
def test_frames_survive_any_cut(sent, cuts):
    data = b"".join(encode(TOKEN, kind, payload) for kind, payload in sent)
    decoder = FrameDecoder(TOKEN, LIMIT)
    got = [frame for chunk in chunks(data, cuts) for frame in decoder.feed(chunk)]
    assert got == [Frame(*frame) for frame in sent]
    assert decoder.pending() == 0


@given(
    frames,
    st.lists(st.binary(max_size=40), min_size=6, max_size=6),
    st.lists(st.integers(0, 9999), max_size=12),
)
def test_on_a_mixed_stream_raw_output_and_frames_are_told_apart(sent, raws, cuts):
    raws = [raw.replace(TOKEN[:1], b"") for raw in raws]
    data = b"".join(
        raw + encode(TOKEN, kind, payload) for (kind, payload), raw in zip(sent, raws, strict=False)
    )
    decoder = FrameDecoder(TOKEN, LIMIT, mixed=True)
    got = [frame for chunk in chunks(data, cuts) for frame in decoder.feed(chunk)]
    assert [frame for frame in got if frame.kind] == [Frame(*frame) for frame in sent]
    assert b"".join(f.payload for f in got if not f.kind) == b"".join(raws[: len(sent)])


@given(st.binary(min_size=1, max_size=80))
def test_bytes_that_are_no_frame_are_refused_or_waited_for(junk):
    decoder = FrameDecoder(TOKEN, LIMIT)
    if TOKEN.startswith(junk[: len(TOKEN)]):
        assert decoder.feed(junk) == []
    else:
        with pytest.raises(ProtocolError):
            decoder.feed(junk)


@pytest.mark.fault(49)
@pytest.mark.parametrize(
    ("kind", "size", "error"),
    [
        (Kind.RESULT, LIMIT + 1, FrameTooLarge),
        (Kind.RESULT, 0xFFFFFFFF, FrameTooLarge),
        (Kind.RESULT_RETIRE, LIMIT + 1, FrameTooLarge),
        (Kind.LOG, OTHER_FRAME_BYTES + 1, ProtocolError),
        (b"?", 0, ProtocolError),
        (Kind.RUN, 0, ProtocolError),
    ],
)
def test_the_head_alone_is_enough_to_refuse(kind, size, error):
    head = TOKEN + kind + size.to_bytes(4, "big")
    with pytest.raises(error):
        FrameDecoder(TOKEN, LIMIT).feed(head)


GOOD = msgspec.json.encode({"ok": True, "data": "exact"})


def answer_bytes(token: bytes) -> bytes:
    line = msgspec.json.encode({"x": "", "t": "1", "l": "info", "s": "stdout", "m": "line"})
    return encode(token, Kind.LOG, line) + encode(token, Kind.RESULT, GOOD)


def test_dying_at_every_byte_of_the_answer_is_a_crash(bench, deployment, invocation):
    """Only the last byte makes it a result; before it, no output is ever made up."""
    length = len(answer_bytes(b"t" * 16))
    for cut in range(length + 1):

        def die(talk, _context, _value, cut=cut):
            talk.raw(answer_bytes(talk.token)[:cut])
            talk.crash(End(exit_code=7))

        execution = bench(die).run(invocation())
        if cut == length:
            assert (execution.status, bytes(execution.output)) == (Status.SUCCEEDED, GOOD)
        else:
            assert (execution.status, execution.error.code) == (Status.CRASHED, ErrorCode.EXITED)
            assert execution.output is None


def test_stalling_at_any_byte_is_a_timeout(bench, invocation):
    length = len(answer_bytes(b"t" * 16))
    for cut in range(0, length, 13):

        def stall(talk, _context, _value, cut=cut):
            talk.raw(answer_bytes(talk.token)[:cut])
            talk.receive()

        b = bench(stall)
        began = time.monotonic()
        execution = b.run(invocation(timeout_ms=40))
        assert execution.status is Status.TIMEOUT
        assert time.monotonic() - began < 2.04
        assert b.launcher.living() == 0


def test_a_trickled_answer_is_the_same_answer(bench, invocation):
    def trickle(talk, _context, _value):
        for byte in answer_bytes(talk.token):
            talk.raw(bytes([byte]))

    b = bench(trickle)
    execution = b.run(invocation())
    assert (execution.status, bytes(execution.output)) == (Status.SUCCEEDED, GOOD)
    assert [line.message for line in b.lines] == ["line"]


def test_bytes_after_the_answer_end_the_sandbox(bench, invocation):
    def more(talk, _context, _value):
        talk.raw(answer_bytes(talk.token) + b"more")

    execution = bench(more).run(invocation())
    assert (execution.status, execution.error.code) == (Status.CRASHED, ErrorCode.PROTOCOL_ERROR)


@settings(
    max_examples=150,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(at=st.integers(0, 500), junk=st.binary(max_size=30), drop=st.integers(0, 30))
def test_whatever_is_done_to_the_bytes_no_other_output_comes_out(bench, invocation, at, junk, drop):
    """Overwriting, inserting and dropping: the exact output, or no output and the truth about it."""

    def tamper(talk, _context, _value):
        good = answer_bytes(talk.token)
        cut = at % len(good)
        talk.raw(good[:cut] + junk + good[cut + drop :])
        talk.crash(End(signal=9))

    b = bench(tamper)
    execution = b.run(invocation())
    if execution.status is Status.SUCCEEDED:
        # Bytes inside the payload may be anything, the length says how many: user code's own.
        assert msgspec.json.decode(execution.output)["ok"] is True
    else:
        assert execution.output is None or execution.status is Status.FAILED
        assert execution.status in {Status.CRASHED, Status.INVALID_OUTPUT, Status.OUTPUT_TOO_LARGE}
    b.runner.close()


def test_a_log_frame_that_cannot_be_read_is_a_protocol_error(bench, invocation):
    for payload in (b"", b"{", b"[]", b'{"t":"x"}', b'{"m":5}', b'{"m":"\xff"}'):

        def garble(talk, _context, _value, payload=payload):
            talk.send(Kind.LOG, payload)
            return {"ok": True}

        execution = bench(garble).run(invocation())
        assert (execution.status, execution.error.code) == (
            Status.CRASHED,
            ErrorCode.PROTOCOL_ERROR,
        ), payload


def test_an_error_frame_that_cannot_be_read_is_a_protocol_error(bench, invocation):
    for payload in (
        b"",
        b"{",
        b"[]",
        b'{"code":"nobody knows"}',
        b'{"code":5}',
        b'{"code":"\xff"}',
    ):

        def garble(talk, _context, _value, payload=payload):
            talk.send(Kind.ERROR, payload)

        execution = bench(garble).run(invocation())
        assert (execution.status, execution.error.code) == (
            Status.CRASHED,
            ErrorCode.PROTOCOL_ERROR,
        ), payload
