from __future__ import annotations

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from lowcode_faas_core.configuration import LimitSettings
from lowcode_faas_core.errors import CapacityError, Draining, RunnerUnavailable, UnconfirmedEnd
from lowcode_faas_core.interfaces.launcher import End
from lowcode_faas_core.limits import OperatorLimits
from lowcode_faas_core.model import ErrorCode, FunctionRef, Limits, Phase, Reuse, StartKind, Status
from lowcode_faas_core.sandbox.capture import REMEMBERED_EXECUTIONS
from lowcode_faas_core.sandbox.instance import Bounds
from lowcode_faas_core.sandbox.pool import Pool
from lowcode_faas_core.sandbox.protocol import HEADER_BYTES, Kind, encode
from lowcode_faas_core.sandbox.shelves import Want
from lowcode_faas_core.testing.stub_launcher import (
    Conversation,
    Gone,
    StubLauncher,
    StubSandbox,
)


def test_the_first_run_is_cold_the_second_warm(bench, deployment, invocation):
    b = bench()
    target = deployment()

    first = b.run(invocation(target, {"n": 1}))
    second = b.run(invocation(target, {"n": 2}))

    assert (first.start, second.start) == (StartKind.COLD, StartKind.WARM)
    assert first.status is Status.SUCCEEDED
    assert msgspec.json.decode(second.output) == {"ok": True, "data": {"n": 2}}
    assert len(b.launcher.started) == 1


def test_equal_deployments_with_different_env_share_nothing(bench, deployment, invocation):
    b = bench(lambda talk, _context, _value: {"ok": True, "data": talk.loaded["env"]})
    target = deployment()

    outputs = [b.run(invocation(target, env={"A": value})).output for value in "xyx"]

    assert [msgspec.json.decode(o)["data"] for o in outputs] == [{"A": "x"}, {"A": "y"}, {"A": "x"}]
    assert len(b.launcher.started) == 2


def test_different_limits_share_nothing(bench, deployment, invocation):
    b = bench()
    b.run(invocation(deployment(deployment_id="same-id-of-both")))
    b.run(invocation(deployment(deployment_id="same-id-of-both", limits=Limits(memory_mb=512))))
    assert len(b.launcher.started) == 2


def test_fresh_uses_a_sandbox_once(bench, deployment, invocation, until):
    b = bench(stock=1)
    target = deployment(reuse=Reuse.FRESH)
    until(lambda: b.runner.stats()["stock"] == 1)

    first = b.run(invocation(target))
    until(lambda: b.runner.stats()["stock"] == 1)
    second = b.run(invocation(target))

    assert (first.start, second.start) == (StartKind.PREWARMED, StartKind.PREWARMED)
    until(lambda: b.launcher.living() == 1)
    assert b.runner.stats()["idle"] == 0


def test_stock_takes_the_code_of_the_first_call(bench, deployment, invocation, until):
    b = bench(stock=2)
    until(lambda: b.runner.stats()["stock"] == 2)
    assert b.run(invocation(deployment())).start is StartKind.PREWARMED


@pytest.mark.fault(42)
def test_at_the_deadline_the_sandbox_is_dead_before_the_answer(bench, deployment, invocation):
    def forever(talk, _context, _value):
        talk.receive()

    b = bench(forever)
    began = time.monotonic()
    execution = b.run(invocation(timeout_ms=120))

    assert b.launcher.living() == 0
    assert execution.status is Status.TIMEOUT
    assert execution.error.code is ErrorCode.TIMEOUT
    assert execution.error.phase is Phase.RUN
    assert 0.12 <= time.monotonic() - began < 2.12


def test_an_end_that_cannot_be_confirmed_is_unknown_and_stays_counted(
    bench, deployment, invocation, until
):
    def forever(talk, _context, _value):
        talk.receive()

    b = bench(forever)
    b.launcher.end_delay_s = 3.0
    with pytest.raises(UnconfirmedEnd) as caught:
        b.run(invocation(timeout_ms=50))
    assert caught.value.outcome == "unknown"
    assert b.runner.stats()["ending"] == 1
    until(lambda: b.runner.stats()["ending"] == 0)


@pytest.mark.fault(42)
def test_who_closes_the_stream_and_goes_on_has_no_time_beyond_its_deadline(
    bench, deployment, invocation, monkeypatch
):
    """An engine tells of an end late, which would be waited for although nothing has ended."""
    over = threading.Event()

    def closes(talk, _context, _value):
        time.sleep(0.2)
        talk._end.shutdown(socket.SHUT_RDWR)
        over.wait(10)
        raise Gone

    def kill(sandbox):
        killed.append(time.monotonic())
        over.set()

    killed = []
    monkeypatch.setattr(StubSandbox, "confirmed_within_s", 2.0)
    monkeypatch.setattr(StubSandbox, "kill", kill)
    b = bench(closes)
    began = time.monotonic()
    execution = b.run(invocation(timeout_ms=300))
    assert (execution.status, execution.error.code) == (Status.TIMEOUT, ErrorCode.TIMEOUT)
    assert 0.3 <= killed[0] - began < 1


def test_a_frame_that_says_it_is_loaded_is_no_answer_to_a_run(bench, deployment, invocation):
    def forges(talk, _context, _value):
        talk.send(Kind.LOADED, {"ok": True})

    execution = bench(forges).run(invocation())
    assert execution.status is Status.CRASHED
    assert execution.error.code is ErrorCode.PROTOCOL_ERROR


def test_a_large_input_that_nobody_received_is_run_elsewhere(bench, deployment, invocation):
    """The instance died while nobody used it, and its launcher does not say so beforehand."""
    b = bench()
    target = deployment()
    b.run(invocation(target, 1))
    (first,) = b.launcher.started
    first.kill()
    assert first._over.wait(5)
    execution = b.run(invocation(target, "x" * 300_000))
    assert execution.status is Status.SUCCEEDED
    assert len(b.launcher.started) == 2


@pytest.mark.parametrize(
    ("end", "status", "code"),
    [
        (End(exit_code=0), Status.CRASHED, ErrorCode.EXITED),
        (End(signal=9), Status.CRASHED, ErrorCode.KILLED),
        (End(signal=9, out_of_memory=True), Status.OUT_OF_MEMORY, ErrorCode.OUT_OF_MEMORY),
        (End(exit_code=137), Status.CRASHED, ErrorCode.EXITED),
        (End(vanished=True), Status.CRASHED, ErrorCode.SANDBOX_LOST),
        (End(), Status.CRASHED, ErrorCode.SANDBOX_LOST),
    ],
)
def test_how_the_sandbox_ended_decides(bench, invocation, end, status, code):
    def crash(_talk, _context, _value):
        b.launcher.started[-1].crash(end)
        time.sleep(0.01)

    b = bench(crash)
    execution = b.run(invocation())
    assert (execution.status, execution.error.code) == (status, code)
    assert b.runner.stats()["idle"] == 0


@pytest.mark.parametrize(
    ("value", "status"),
    [
        ({"ok": True}, Status.SUCCEEDED),
        ({"ok": True, "data": None}, Status.SUCCEEDED),
        ({"ok": False, "error": "no"}, Status.FAILED),
        ({"ok": False, "error": "no", "code": "E1"}, Status.FAILED),
        ({"ok": False, "error": 5}, Status.INVALID_OUTPUT),
        ({"ok": "true"}, Status.INVALID_OUTPUT),
        ({"ok": 1}, Status.INVALID_OUTPUT),
        ({}, Status.INVALID_OUTPUT),
        ([], Status.INVALID_OUTPUT),
        (5, Status.INVALID_OUTPUT),
        ("x", Status.INVALID_OUTPUT),
    ],
)
@pytest.mark.fault(48)
def test_the_host_decides_what_a_result_is(bench, invocation, value, status):
    b = bench(lambda *_: value)
    execution = b.run(invocation())
    assert execution.status is status
    if status is Status.INVALID_OUTPUT:
        assert execution.output is None
        assert execution.error.code is ErrorCode.INVALID_OUTPUT


@pytest.mark.parametrize(
    "payload", [b"", b"{", b'{"ok":true}x', b'{"ok":NaN}', b'{"ok":true,"d":"\xff"}']
)
def test_a_result_that_is_not_json_is_never_passed_on(bench, invocation, payload):
    def answer(talk, _context, _value):
        talk.send(Kind.RESULT, payload)

    execution = bench(answer).run(invocation())
    assert execution.status is Status.INVALID_OUTPUT
    assert execution.output is None


@pytest.mark.fault(49)
def test_a_result_above_the_limit_ends_the_sandbox_before_its_bytes_are_read(bench, invocation):
    def huge(talk, _context, _value):
        talk.raw(encode(talk.token, Kind.RESULT)[: HEADER_BYTES - 4] + (1 << 31).to_bytes(4, "big"))
        talk.receive()

    b = bench(huge)
    execution = b.run(invocation())
    assert execution.status is Status.OUTPUT_TOO_LARGE
    assert b.launcher.living() == 0


@pytest.mark.parametrize(
    "junk",
    [b"x", b"\0" * 21, b'{"ok":true}', bytes(range(256)) * 300],
)
@pytest.mark.fault(54)
def test_bytes_without_the_token_are_a_protocol_error(bench, invocation, junk):
    def forge(talk, _context, _value):
        talk.raw(junk)
        return {"ok": True}

    b = bench(forge)
    execution = b.run(invocation())
    assert (execution.status, execution.error.code) == (Status.CRASHED, ErrorCode.PROTOCOL_ERROR)
    assert b.launcher.living() == 0


@pytest.mark.parametrize("reads_first", [0, 1 << 20])
def test_a_large_input_passes_a_sandbox_that_prints_all_the_while(bench, invocation, reads_first):
    """5 MB in while the sandbox writes 60 KB at a time: writing first and reading later deadlocks."""

    class Chatty(Conversation):
        def _exactly(self, size):
            got = bytearray()
            while len(got) < size:
                got += super()._exactly(min(size - len(got), 60_000))
                if len(got) > reads_first and self.loaded:
                    self.log("x" * 60_000)
            return bytes(got)

    b = bench(lambda _talk, _context, value: {"ok": True, "data": len(value["text"])})
    b.launcher.conversation = Chatty
    execution = b.run(invocation(None, {"text": "x" * (5 << 20)}, timeout_ms=20_000))
    assert msgspec.json.decode(execution.output)["data"] == 5 << 20
    assert len(b.lines) > 50


def test_a_sandbox_found_dead_is_replaced_before_anything_ran(bench, deployment, invocation):
    ran = []

    def note(_talk, context, _value):
        ran.append(context["executionId"])
        return {"ok": True}

    b = bench(note)
    target = deployment()
    b.run(invocation(target))
    b.launcher.started[0].kill()
    b.launcher.started[0]._thread.join()

    execution = b.run(invocation(target))

    assert execution.status is Status.SUCCEEDED
    assert len(ran) == 2
    assert len(b.launcher.started) == 2


def test_a_launcher_that_fails_is_runner_unavailable_and_leaks_no_place(bench, invocation):
    b = bench(instances=1)
    b.launcher.failure = OSError("no such engine")
    for _ in range(3):
        with pytest.raises(RunnerUnavailable, match="no such engine"):
            b.run(invocation())
    b.launcher.failure = None
    assert b.run(invocation()).status is Status.SUCCEEDED


def test_the_queue_is_bounded_and_waiting_ends_at_the_deadline(
    bench, deployment, invocation, until
):
    gate = threading.Event()

    def wait(_talk, _context, _value):
        gate.wait(5)
        return {"ok": True}

    b = bench(wait, instances=1, queue=1)
    target = deployment()
    with ThreadPoolExecutor(4) as threads:
        running = threads.submit(b.run, invocation(target))
        until(lambda: b.runner.stats()["leased"] == 1)
        queued = threads.submit(b.run, invocation(target, timeout_ms=150))
        until(lambda: b.runner.stats()["waiting"] == 1)
        with pytest.raises(CapacityError, match="waiting already"):
            b.run(invocation(target))
        with pytest.raises(CapacityError, match="deadline passed after"):
            queued.result()
        gate.set()
        assert running.result().status is Status.SUCCEEDED
    assert b.runner.stats()["waiting"] == 0


@pytest.mark.fault(102)
def test_a_full_queue_yields_to_a_function_that_has_nothing_in_it(
    bench, deployment, invocation, until
):
    # Given one place, and a queue that one function has filled
    gate = threading.Event()

    def wait(_talk, _context, _value):
        gate.wait(5)
        return {"ok": True}

    b = bench(wait, instances=1, queue=2)
    hog = deployment()
    with ThreadPoolExecutor(4) as threads:
        running = threads.submit(b.run, invocation(hog))
        until(lambda: b.runner.stats()["leased"] == 1)
        queued = []
        for waiting in (1, 2):
            queued.append(threads.submit(b.run, invocation(hog)))
            until(lambda waiting=waiting: b.runner.stats()["waiting"] == waiting)
        # When another one comes
        other = threads.submit(b.run, invocation(deployment(function_name="other")))
        # Then the newest of the first is turned away for it, and only one of them
        with pytest.raises(CapacityError, match="others with less waiting"):
            queued[1].result(5)
        assert b.runner.stats()["waiting"] == 2
        with pytest.raises(CapacityError, match="waiting already"):
            b.run(invocation(deployment(function_name="third")))
        gate.set()
        for future in (running, queued[0], other):
            assert future.result(10).status is Status.SUCCEEDED
    assert b.runner.stats()["waiting"] == 0


def test_closing_cancels_what_runs_and_refuses_what_comes(bench, invocation, until):
    begun = threading.Event()

    def forever(talk, _context, _value):
        begun.set()
        talk.receive()

    b = bench(forever)
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(b.run, invocation(timeout_ms=60_000))
        until(begun.is_set)
        b.runner.close()
        assert running.result().status is Status.CANCELLED
    with pytest.raises(Draining):
        b.run(invocation())
    b.runner.close()


def test_lines_come_with_their_execution_also_when_late(bench, deployment, invocation):
    earlier = []

    def speak(talk, context, _value):
        talk.log("now", context["executionId"])
        if earlier:
            talk.log("late", earlier[0])
        earlier.append(context["executionId"])
        talk.log("nobody's")
        return {"ok": True}

    b = bench(speak)
    target = deployment()
    first, second = invocation(target), invocation(target)
    b.run(first)
    b.run(second)
    assert [(line.message, line.execution_id) for line in b.lines] == [
        ("now", first.execution_id),
        ("nobody's", first.execution_id),
        ("now", second.execution_id),
        ("late", first.execution_id),
        ("nobody's", second.execution_id),
    ]


def test_a_line_of_an_execution_long_over_is_nobody_elses(bench, deployment, invocation):
    """One that prints now and then stays known; of one that was forgotten the line is not lost unsaid."""
    seen = []

    def speak(talk, context, _value):
        seen.append(context["executionId"])
        talk.log("often", seen[0])
        if len(seen) == REMEMBERED_EXECUTIONS + 3:
            talk.log("at last", seen[1])
            talk.log("at last", seen[1])
        return {"ok": True}

    b = bench(speak)
    target = deployment()
    for _ in range(REMEMBERED_EXECUTIONS + 3):
        b.run(invocation(target))
    *often, said = b.lines
    assert {(line.message, line.execution_id) for line in often} == {("often", seen[0])}
    assert (said.stream, said.execution_id) == ("platform", seen[-1])
    assert "are dropped" in said.message


def test_only_the_stock_warms_up_before_it_has_code(bench, deployment, invocation, until):
    """Who waits for a cold start would wait for that as well."""
    received: dict[bytes, list[bytes]] = {}

    class Noting(Conversation):
        def receive(self) -> tuple[bytes, bytes]:
            kind, payload = super().receive()
            received.setdefault(self.token, []).append(kind)
            return kind, payload

    assert bench(conversation=Noting, stock=0).run(invocation(deployment())).start == "cold"
    assert list(received.values()) == [[Kind.LOAD, Kind.RUN]]
    received.clear()

    stocked = bench(conversation=Noting, stock=1)
    until(lambda: stocked.runner.stats()["stock"] == 1)
    assert stocked.run(invocation(deployment())).start == "prewarmed"
    assert [Kind.WARM, Kind.LOAD, Kind.RUN] in received.values()


def test_stock_follows_demand_up_and_down(deployment, invocation, caps):
    """Cold starts and takes from stock raise it to four times the configured size, then it sinks."""
    now = [time.monotonic_ns()]
    launcher = StubLauncher()
    limits = OperatorLimits(LimitSettings()).resolve(Limits())
    pool = Pool(launcher, caps(instances=32, stock=2), limits, Bounds(1000, 1000), lambda: now[0])

    def tend() -> int:
        now[0] += 1_000_000_001
        pool.tend()
        return pool.stats()["stock"]

    assert tend() == 2
    leases = []
    for name in "abcdefghij":
        want = Want(FunctionRef("", name), (name,), limits, fresh=False, request_env=False)
        leases.append(pool.lease(want, now[0] + 10**12))
    assert [lease.kind for lease in leases][:3] == [StartKind.PREWARMED] * 2 + [StartKind.COLD]
    assert tend() == 8
    sinking = [tend() for _ in range(8)]
    assert sinking == sorted(sinking, reverse=True)
    assert pool.stats()["stock"] == 2
    for lease in leases:
        pool.discard(lease.instance)
    pool.close()
    assert launcher.living() == 0


def test_closing_leaves_a_leased_fresh_instance_to_its_thread(bench, deployment, invocation, until):
    """Its descriptors belong to the thread that reads them until that has seen the end."""

    def forever(talk, _context, _value):
        talk.receive()

    b = bench(forever)
    target = deployment(reuse=Reuse.FRESH)
    with ThreadPoolExecutor(4) as threads:
        running = [threads.submit(b.run, invocation(target, timeout_ms=60_000)) for _ in range(4)]
        until(lambda: b.runner.stats()["leased"] == 4)
        b.runner.close()
        assert [future.result().status for future in running] == [Status.CANCELLED] * 4


def test_operators_see_what_exists_for_a_function_and_why_it_started_cold(
    bench, deployment, invocation
):
    b = bench()
    b.run(invocation(deployment(function_name="plain")))
    b.run(invocation(deployment(function_name="large", limits=Limits(memory_mb=512))))

    functions = b.runner.stats()["functions"]

    assert functions["plain"]["last_cold_start"]["reason"] == "no stock"
    assert functions["large"]["last_cold_start"]["reason"] == "limits of its own"
    for seen in functions.values():
        counts = (seen["warm"], seen["leased"], seen["starting"], seen["cold_starts"])
        assert counts == (1, 0, 0, 1)
