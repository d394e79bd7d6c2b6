"""The roles with a TCP proxy between that hurts, real signals, and callers who leave."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.services.proxy import Proxy

Serve = Callable[..., Any]
Poll = Callable[..., Any]

NOTE = (
    "export const handler = async ({ ms = 0, large = 0 }, { executionId }) => {"
    " console.log(`ran ${executionId}.`); await new Promise((done) => setTimeout(done, ms));"
    " console.log(`ended ${executionId}.`);"
    " return { ok: true, data: 'x'.repeat(large) }; };"
)
SPIN = "export const handler = () => { console.log('spins'); for (;;); };"


class Roles:
    """A dispatcher, a worker, and what hurts between them."""

    def __init__(self, serve: Serve) -> None:
        self.worker = serve("worker", WORKERS="2")
        self.proxy = Proxy(("127.0.0.1", urlsplit(self.worker.url).port or 0))
        url = f"http://127.0.0.1:{self.proxy.port}"
        self.dispatcher = serve(WORKERS="2", RUNNER="not-installed", WORKER_URL=url)
        self.dispatcher.deploy("note", NOTE)
        self.count = 0

    def run(self, data: object = None, **members: object) -> tuple[int, Any, str]:
        """Return status, answer and execution id of a run."""
        self.count += 1
        execution_id = f"execution-{self.count}"
        status, answer = self.dispatcher.invoke("note", data, execution_id=execution_id, **members)
        return status, answer, execution_id

    def begun(self, execution_id: str) -> int:
        return int(self.worker.text().count(f"ran {execution_id}."))

    def ended(self, execution_id: str) -> int:
        return int(self.worker.text().count(f"ended {execution_id}."))


@pytest.fixture
def roles(serve: Serve) -> Iterator[Roles]:
    both = Roles(serve)
    yield both
    both.proxy.close()


class WatchForRuns:
    """Has each run that comes by meet its fate, and counts them."""

    def __init__(self, fate: str) -> None:
        self.fate = fate
        self.seen = 0

    def __call__(self, data: bytes) -> str | None:
        if b"POST /v1/run" not in data:
            return None
        self.seen += 1
        return self.fate


@pytest.mark.fault(103)
@pytest.mark.parametrize(("fate", "runs"), [("before", 0), ("after", 1)])
def test_a_link_that_is_cut_at_a_run_is_unknown_and_it_is_sent_once(
    roles: Roles, poll: Poll, fate: str, runs: int
) -> None:
    assert roles.run()[0] == 200
    roles.proxy.watch = watch = WatchForRuns(fate)
    status, answer, execution_id = roles.run()
    assert (status, answer["code"], answer["outcome"]) == (502, "worker_lost", "unknown")
    assert execution_id in answer["detail"]
    assert watch.seen == 1
    roles.proxy.watch = lambda _data: None
    # And the next one is served, and what may have run has not been run again
    status, _, other = roles.run()
    assert status == 200
    poll("the next one is logged", lambda: roles.ended(other))
    assert roles.begun(execution_id) == runs


@pytest.mark.fault(103)
def test_a_link_that_is_cut_while_it_runs_is_unknown_at_once_and_the_run_ends(
    roles: Roles, poll: Poll
) -> None:
    answers = roles.dispatcher.in_background("note", {"ms": 3000}, execution_id="execution-cut")
    poll("it runs", lambda: roles.begun("execution-cut"))
    roles.proxy.cut_all()
    status, answer = poll("its caller is told", lambda: answers, 2)[0]
    assert (status, answer["code"], answer["outcome"]) == (502, "worker_lost", "unknown")
    assert "execution-cut" in answer["detail"]
    poll("the run ends", lambda: roles.ended("execution-cut"))
    assert roles.begun("execution-cut") == 1
    poll("its place is free", lambda: roles.worker.sandboxes()["in_flight"] == 0)


@pytest.mark.fault(103)
def test_a_slow_link_costs_the_invocation_its_own_time(roles: Roles) -> None:
    assert roles.run()[0] == 200
    roles.proxy.delay_s = 0.4
    # Connections and answers that are slow are served
    status, answer, _ = roles.run({}, timeout_ms=5000)
    assert (status, answer["status"]) == (200, "succeeded")
    # And what is slower than the deadline is told as what it is: the function was cut short
    began = time.monotonic()
    status, answer, _ = roles.run({"ms": 60_000}, timeout_ms=1500)
    assert (status, answer["status"]) == (200, "timeout")
    assert 1.4 < time.monotonic() - began < 4


@pytest.mark.fault(103)
def test_silence_and_trickling_end_at_the_deadline_and_its_grace(roles: Roles) -> None:
    assert roles.run()[0] == 200
    told: list[tuple[int, Any, float]] = []

    def run(large: int) -> None:
        began = time.monotonic()
        status, answer, _ = roles.run({"large": large}, timeout_ms=1000)
        told.append((status, answer, time.monotonic() - began))

    # Given an answer that would take an hour to trickle in, and one that never comes
    roles.proxy.trickle_s = 0.05
    threads = [threading.Thread(target=run, args=(60_000,))]
    threads[0].start()
    time.sleep(0.5)
    roles.proxy.watch = WatchForRuns("silent")
    threads.append(threading.Thread(target=run, args=(0,)))
    threads[1].start()
    for thread in threads:
        thread.join(30)
    # Then both end when the worker should have answered
    assert len(told) == 2
    for status, answer, took in told:
        assert (status, answer["code"], answer["outcome"]) == (504, "worker_timeout", "unknown")
        assert answer["phase"] == "worker"
        assert 10 < took < 14


@pytest.mark.fault(103)
def test_a_worker_that_is_gone_has_run_nothing(roles: Roles, poll: Poll) -> None:
    # Given a worker that was killed, behind a proxy that still takes connections
    assert roles.run()[0] == 200
    roles.worker.process.send_signal(signal.SIGKILL)
    roles.worker.process.wait(10)
    poll("it is gone", lambda: not [seen for seen in roles.worker.family() if seen.lives()])
    # When something is invoked
    status, answer, execution_id = roles.run()
    # Then nobody knows what became of it once it was sent, and nothing ran
    assert (status, answer["outcome"]) == (502, "unknown")
    assert roles.begun(execution_id) == 0
    assert not roles.dispatcher.ready()
    # And where not even a connection can be made, it is known that it did not run
    roles.proxy.close()
    status, answer, _ = roles.run()
    assert (status, answer["code"], answer["outcome"]) == (
        503,
        "runner_unavailable",
        "not_executed",
    )


@pytest.mark.fault(100)
def test_both_roles_killed_as_groups_leave_nothing_and_start_again(
    roles: Roles, serve: Serve, poll: Poll
) -> None:
    # Given spinning handlers and a function that was acknowledged
    roles.dispatcher.deploy("spin", SPIN)
    roles.dispatcher.in_background("spin", count=3, timeout_ms=60_000)
    poll("they spin", lambda: len(roles.worker.busy()) >= 3, 30)
    everyone = roles.worker.family() | roles.dispatcher.family()
    names = roles.worker.owners()
    # When the host takes both groups away at once
    for service in (roles.worker, roles.dispatcher):
        os.killpg(service.process.pid, signal.SIGKILL)
    # Then no process of theirs lives, and the next start finds the functions and tidies up
    poll("all are gone", lambda: not [seen for seen in everyone if seen.lives()], 3)
    worker = serve("worker", WORKERS="1")
    dispatcher = serve(WORKERS="1", WORKER_URL=worker.url)
    assert dispatcher.invoke("note", {})[0] == 200
    poll("nothing is left of them", lambda: not worker.left_behind(names))


@pytest.mark.fault(101)
def test_a_caller_of_the_dispatcher_who_leaves_changes_nothing_for_the_run(
    roles: Roles, poll: Poll
) -> None:
    body = b'{"input": {"ms": 1500}, "execution_id": "execution-left"}'
    port = urlsplit(roles.dispatcher.url).port
    with socket.create_connection(("127.0.0.1", port)) as peer:
        peer.sendall(
            b"POST /functions/note/invoke HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
        )
        poll("it runs", lambda: roles.begun("execution-left"))
    poll("it ends", lambda: roles.ended("execution-left"))
    for service in (roles.worker, roles.dispatcher):
        poll("its place is free", lambda s=service: s.sandboxes()["in_flight"] == 0)
    assert roles.begun("execution-left") == 1


@pytest.mark.fault(98)
def test_a_dispatcher_killed_while_a_worker_runs_loses_no_place_there(
    roles: Roles, poll: Poll
) -> None:
    answers = roles.dispatcher.in_background("note", {"ms": 1500}, execution_id="execution-k")
    poll("it runs", lambda: roles.begun("execution-k"))
    for seen in roles.dispatcher.gunicorn_workers():
        os.kill(seen.pid, signal.SIGKILL)
    poll("its caller sees the end", lambda: answers)
    assert not isinstance(answers[0], tuple), answers
    poll("the run ends", lambda: roles.ended("execution-k"))
    poll("its place is free", lambda: roles.worker.sandboxes()["in_flight"] == 0)
    poll("others serve", roles.dispatcher.ready)
    assert roles.run()[0] == 200
    assert roles.begun("execution-k") == 1


@pytest.mark.fault(105)
def test_two_services_side_by_side_leave_each_others_sandboxes_alone(
    serve: Serve, poll: Poll
) -> None:
    first = serve(WORKERS="1")
    first.deploy("note", NOTE)
    answers = first.in_background("note", {"ms": 3000}, execution_id="execution-1")
    poll("it runs", lambda: "ran execution-1." in first.text())
    before, names = first.node_processes(), first.owners()
    # When another one starts over the same folders, and is killed and started again
    second = serve(WORKERS="1")
    os.killpg(second.process.pid, signal.SIGKILL)
    second.process.wait(10)
    serve(WORKERS="1")
    # Then what the first one runs goes on, with all it has on disk
    assert all(seen.lives() for seen in before)
    assert first.left_behind(names)
    assert poll("it is answered", lambda: answers)[0][1]["status"] == "succeeded"
