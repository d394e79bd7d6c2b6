"""What a kill, a signal or a caller who leaves takes along, and what serves on."""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import urllib3

Serve = Callable[..., Any]
Poll = Callable[..., Any]

ROOT = Path(__file__).resolve().parents[2]
GUNICORN = Path(sys.executable).with_name("gunicorn")
ECHO = "export const handler = (input) => ({ ok: true, data: input });"
NAP = """export const handler = async ({ ms, name }) => {
  console.log(`${name} begins`);
  await new Promise((resolve) => setTimeout(resolve, ms));
  console.log(`${name} ends`);
  return { ok: true };
};"""


def living(everyone: set[Any]) -> list[Any]:
    return [seen for seen in everyone if seen.lives()]


@pytest.mark.fault(100)
def test_killing_the_master_ends_everything_in_two_seconds(serve: Serve, poll: Poll) -> None:
    # Given four handlers that spin in two serving processes
    service = serve(WORKERS="2")
    service.spin(4)
    everyone = service.family()
    names = service.owners()
    assert names
    # When the master is killed
    os.kill(service.process.pid, signal.SIGKILL)
    # Then nothing of the service lives two seconds later
    poll("all are gone", lambda: not living(everyone), 2.0)
    # And the next start removes what the dead could not
    again = serve(WORKERS="1")
    poll("nothing is left of them", lambda: not service.left_behind(names), 10)
    assert again.ready()


@pytest.mark.fault(98)
def test_killing_a_serving_process_takes_its_sandboxes_and_no_more(
    serve: Serve, poll: Poll, descendants: Callable[[int], set[Any]]
) -> None:
    # Given handlers that spin
    service = serve(WORKERS="2")
    service.deploy("echo", ECHO)
    answers = service.spin(4)
    victim = max(service.gunicorn_workers(), key=lambda seen: len(descendants(seen.pid)))
    its_own = descendants(victim.pid)
    spinning = service.busy()
    lost = len(spinning & its_own)
    assert lost >= 2
    # When the process that serves them is killed
    os.kill(victim.pid, signal.SIGKILL)
    # Then its sandboxes are gone, and its callers see the connection end
    poll("its sandboxes are gone", lambda: not living(its_own), 2.0)
    poll("its callers know", lambda: len(answers) == lost)
    assert all(isinstance(answer, urllib3.exceptions.HTTPError) for answer in answers), answers
    # And the other process's handlers spin on, a new process serves beside it
    assert len(living(spinning)) == 4 - lost
    poll("there are two again", lambda: len(service.gunicorn_workers()) == 2)
    poll("it is ready", service.ready)
    for n in range(6):
        status, answer = service.invoke("echo", {"n": n})
        assert (status, answer["output"]) == (200, {"ok": True, "data": {"n": n}})
    assert len(living(spinning)) == 4 - lost


@pytest.mark.fault(98)
def test_a_run_lost_with_its_serving_process_is_not_run_again(serve: Serve, poll: Poll) -> None:
    service = serve(WORKERS="1")
    service.deploy("nap", NAP)
    answers = service.in_background("nap", {"ms": 30_000, "name": "once"})
    poll("it runs", lambda: "once begins" in service.text())
    (victim,) = service.gunicorn_workers()
    os.kill(victim.pid, signal.SIGKILL)
    poll("its caller knows", lambda: answers)
    assert isinstance(answers[0], urllib3.exceptions.HTTPError), answers
    poll("another serves", service.ready)
    assert service.invoke("nap", {"ms": 1, "name": "twice"})[0] == 200
    poll("the next run is logged", lambda: "twice ends" in service.text())
    assert service.text().count("once begins") == 1
    assert "once ends" not in service.text()


def test_killing_a_sandbox_is_a_verdict_and_the_next_run_succeeds(serve: Serve, poll: Poll) -> None:
    service = serve(WORKERS="1")
    service.deploy("echo", ECHO)
    answers = service.spin(4)
    for node in service.busy():
        os.kill(node.pid, signal.SIGKILL)
    poll("all are answered", lambda: len(answers) == 4)
    for status, answer in answers:
        assert (status, answer["status"], answer["outcome"]) == (200, "crashed", "executed")
        assert answer["error"]["code"] == "killed"
    status, answer = service.invoke("echo")
    assert (status, answer["status"]) == (200, "succeeded")
    poll("their ends are confirmed", lambda: service.sandboxes()["ending"] == 0)


def test_a_sandbox_killed_while_idle_costs_nobody_anything(serve: Serve, poll: Poll) -> None:
    service = serve(WORKERS="1", STOCK="0")
    service.deploy("echo", ECHO)
    for n in range(5):
        status, answer = service.invoke("echo", {"n": n})
        assert status == 200, answer
        assert answer["output"] == {"ok": True, "data": {"n": n}}, answer
        for node in service.node_processes():
            descriptor = os.pidfd_open(node.pid)
            os.kill(node.pid, signal.SIGKILL)
            # The state letter turns to Z with its first thread; this tells of the last one.
            assert select.select([descriptor], [], [], 10)[0]
            os.close(descriptor)


@pytest.mark.parametrize("way", [signal.SIGINT, signal.SIGQUIT])
def test_an_end_at_once_leaves_nothing(serve: Serve, poll: Poll, way: signal.Signals) -> None:
    # Given handlers that would run for a minute
    service = serve(WORKERS="2")
    answers = service.spin(3)
    everyone = service.family()
    names = service.owners()
    assert service.left_behind(names)
    # When Ctrl-C is pressed, or the master is told to quit
    if way == signal.SIGINT:
        service.interrupt()
    else:
        os.kill(service.process.pid, way)
    # Then all ends at once, with exit code 0; the callers are told, or see the connection close
    assert service.process.wait(10) == 0
    poll("all are gone", lambda: not living(everyone), 5)
    poll("every caller knows", lambda: len(answers) == 3)
    for answer in answers:
        if not isinstance(answer, urllib3.exceptions.HTTPError):
            assert answer[0] == 200, answer
            assert answer[1]["status"] == "cancelled", answer
    assert service.left_behind(names) == []
    assert "Traceback" not in service.text(), service.text()


@pytest.mark.fault(99)
def test_term_lets_a_run_finish_that_is_short_enough(serve: Serve, poll: Poll) -> None:
    service = serve(WORKERS="1")
    service.deploy("nap", NAP)
    answers = service.in_background("nap", {"ms": 1500, "name": "short"})
    poll("it runs", lambda: "short begins" in service.text())
    names, everyone = service.owners(), service.family()
    service.process.terminate()
    status, answer = poll("it is answered", lambda: answers)[0]
    assert (status, answer["status"]) == (200, "succeeded")
    assert service.process.wait(15) == 0
    poll("all are gone", lambda: not living(everyone), 5)
    assert service.left_behind(names) == []


@pytest.mark.fault(99)
def test_term_ends_a_run_that_is_too_long(
    start: Callable[..., Any], free_port: Callable[[], int], poll: Poll, tmp_path: Path
) -> None:
    # Given a service that waits two seconds for its runs, and one of a minute
    port = free_port()
    service = start(
        *(GUNICORN, "-c", ROOT / "conf" / "gunicorn.conf.py"),
        port=port,
        DRAIN_NOTICE_S="0",
        DRAIN_TIMEOUT_S="2",
        LISTEN=f"127.0.0.1:{port}",
        RUNNER="process",
        DATA_DIR=str(tmp_path / "data"),
        WORKERS="2",
    )
    poll("it is ready", service.ready, 30)
    answers = service.spin(2)
    names, everyone = service.owners(), service.family()
    # When it is told to end
    service.process.terminate()
    # Then the run is ended rather than orphaned, and its caller is told
    assert service.process.wait(15) == 0
    poll("all are gone", lambda: not living(everyone), 2)
    poll("every caller knows", lambda: len(answers) == 2)
    for answer in answers:
        if not isinstance(answer, urllib3.exceptions.HTTPError):
            assert answer[1]["status"] == "cancelled", answer
    assert service.left_behind(names) == []


@pytest.mark.fault(101)
def test_a_caller_who_leaves_changes_nothing_for_the_run(serve: Serve, poll: Poll) -> None:
    service = serve(WORKERS="1", THREADS="3")
    service.deploy("nap", NAP)
    # Given more callers than may be served at once, each gone while its handler runs
    for n in range(3):
        body = b'{"input": {"ms": 700, "name": "left-%d"}}' % n
        with socket.create_connection(("127.0.0.1", int(service.url.rpartition(":")[2]))) as peer:
            peer.sendall(
                b"POST /functions/nap/invoke HTTP/1.1\r\nHost: localhost\r\n"
                b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
                % (len(body), body)
            )
            poll("it runs", lambda n=n: f"left-{n} begins" in service.text())
        # Then the run goes on to its end and is logged
        poll("it ends", lambda n=n: f"left-{n} ends" in service.text())
        # And its place and its sandbox are free again
        poll("its place is free", lambda: service.sandboxes()["in_flight"] == 0)
        assert service.sandboxes()["leased"] == 0
    assert service.nodes() <= 3
    assert service.invoke("nap", {"ms": 1, "name": "after"})[0] == 200


@pytest.mark.fault(106)
def test_nothing_is_shared_between_the_serving_processes(
    start: Callable[..., Any],
    free_port: Callable[[], int],
    poll: Poll,
    tmp_path: Path,
) -> None:
    # Given four serving processes whose application gunicorn is told to build before it forks
    port = free_port()
    service = start(
        *(GUNICORN, "-c", ROOT / "conf" / "gunicorn.conf.py", "--preload"),
        port=port,
        LISTEN=f"127.0.0.1:{port}",
        RUNNER="process",
        DATA_DIR=str(tmp_path / "data"),
        WORKERS="4",
    )
    poll("it is ready", service.ready, 30)
    service.deploy("echo", ECHO)
    # When each has its stock, and all are asked, over connections of their own
    poll("each has a launcher", lambda: len(service.owners()) == 4)
    for n in range(100):
        status, answer = service.call(
            "POST", "/functions/echo/invoke", {"input": {"n": n}}, {"Connection": "close"}
        )
        assert (status, answer["output"]) == (200, {"ok": True, "data": {"n": n}})
    # Then the master has no sandbox: its children are the serving processes
    assert len(service.gunicorn_workers()) == 4
    assert "preload_app is ignored" in service.text()
    # And they end like any others
    everyone = service.family()
    service.interrupt()
    assert service.process.wait(10) == 0
    poll("all are gone", lambda: not living(everyone), 5)
