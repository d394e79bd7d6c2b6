"""Executions of whole services: nothing lost that was answered, nothing running for ever, seen live."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any
from urllib.parse import quote

import pytest
import urllib3

from lowcode_faas_core.recording import FLUSH_S, LOOK_S

Serve = Callable[..., Any]
Poll = Callable[..., Any]

#: What a busy machine may add to the time between two batches, in seconds.
BUSY_S = 0.5
NAP = """
export const handler = async ({ ms = 0, lines = 0 }) => {
  for (let n = 0; n < lines; n += 1) {
    console.log(`line ${n}`);
    await new Promise((done) => setTimeout(done, ms / lines));
  }
  if (!lines) await new Promise((done) => setTimeout(done, ms));
  return { ok: true, data: null };
};
"""


def everything(service: Any, query: str = "") -> list[Any]:
    """Return all records, read page by page."""
    found: list[Any] = []
    cursor = ""
    while True:
        target = f"/executions?limit=500{query}{cursor and '&cursor=' + quote(cursor)}"
        status, page = service.call("GET", target)
        assert status == 200, page
        found += page["items"]
        cursor = page["next_cursor"]
        if cursor is None:
            return found


def services(serve: Serve, remote: bool, **variables: str) -> tuple[Any, Any]:
    """Start a service; return whom to ask and who runs the code."""
    variables = {"WORKERS": "2", "FUNCTION_LOGS_SINK": "none", **variables}
    if not remote:
        service = serve(**variables)
        return service, service
    worker = serve("worker", **variables)
    return serve(WORKERS="2", WORKER_URL=worker.url), worker


@pytest.mark.fault(100)
@pytest.mark.parametrize("remote", [False, True])
def test_kill_9_in_the_middle_of_a_thousand_runs(serve: Serve, poll: Poll, remote: bool) -> None:
    # Given a service in the middle of a thousand runs, some under ids that their callers chose, and
    # some that are looked at while they run
    service, runner = services(serve, remote)
    service.deploy("nap", NAP)
    answered: dict[str, float] = {}
    sent = iter(range(1000))
    enough = threading.Event()

    def call() -> None:
        for n in sent:
            chosen = {"execution_id": f"chosen-{n:05}"} if n % 10 == 0 else {}
            try:
                # Not too fast: most of what was answered must be old enough to be due at the kill.
                status, result = service.invoke(
                    "nap", {"ms": 5_000 if n % 50 == 3 else 60}, **chosen
                )
            except urllib3.exceptions.HTTPError:
                return
            if status == 200:
                answered[result["execution_id"]] = time.monotonic()
            if len(answered) > 600:
                enough.set()

    threads = [threading.Thread(target=call, daemon=True) for _ in range(16)]
    for thread in threads:
        thread.start()
    service.call("GET", "/executions?status=running")
    assert enough.wait(120), len(answered)
    seen_running = {each["execution_id"] for each in everything(service, "&status=running")}
    assert seen_running
    # When whoever runs them is killed, and started again
    killed = time.monotonic()
    before = {execution_id for execution_id, at in list(answered.items()) if at < killed}
    due = {key for key in before if answered[key] < killed - FLUSH_S - LOOK_S - BUSY_S}
    runner.process.send_signal(signal.SIGKILL)
    runner.process.wait(10)
    poll("all of it is gone", lambda: not any(seen.lives() for seen in runner.family()))
    for thread in threads:
        thread.join(30)
    port = runner.url.rpartition(":")[2]
    again = serve(
        "worker" if remote else "dispatcher",
        WORKERS="2",
        FUNCTION_LOGS_SINK="none",
        **{"WORKER_LISTEN" if remote else "LISTEN": f"127.0.0.1:{port}"},
    )
    shown = service if remote else again
    # Then nothing runs for ever, nothing is there twice, and what was answered is there
    poll("what was lost is closed", lambda: everything(shown, "&status=running") == [], 10)
    records = everything(shown)
    ids = [each["execution_id"] for each in records]
    statuses = Counter(each["status"] for each in records)
    print(
        f"answered {len(before)}, of them due {len(due)}, recorded {len(due & set(ids))}; "
        f"younger than that {len(before - due)}, recorded {len((before - due) & set(ids))}; {statuses}"
    )
    assert len(ids) == len(set(ids))
    assert len(due) > 300
    assert due <= set(ids)
    assert seen_running <= set(ids)
    assert set(statuses) == {"succeeded", "lost"}
    by_id = {each["execution_id"]: each for each in records}
    assert {by_id[key]["status"] for key in due} == {"succeeded"}
    # And an id that was begun is taken for good
    begun = next(key for key in ids if key.startswith("chosen-"))
    assert again.ready()
    assert shown.invoke("nap", execution_id=begun)[1]["code"] == "execution_id_taken"


def follow(service: Any, execution_id: str, after: int = 0) -> Iterator[tuple[float, str, Any]]:
    """Yield (when it came, kind, data) of a stream's events."""
    with urllib3.PoolManager(retries=False, timeout=30) as fresh:
        answer = fresh.request(
            "GET",
            f"{service.url}/executions/{execution_id}/logs?follow=1",
            headers={"Last-Event-ID": str(after)} if after else {},
            preload_content=False,
        )
        assert answer.status == 200, answer.read()
        kind, pending = "message", b""
        for chunk in answer.stream(amt=1 << 16):
            pending += chunk
            *lines, pending = pending.split(b"\n")
            for line in lines:
                name, _, value = line.decode().partition(": ")
                if name == "event":
                    kind = value
                elif name == "data":
                    yield time.time(), kind, json.loads(value)
        answer.release_conn()


def started(service: Any, execution_id: str) -> int:
    """Wait until a run is found; return the status."""
    end = time.monotonic() + 30
    while (status := service.call("GET", f"/executions/{execution_id}")[0]) == 404:
        assert time.monotonic() < end
    return int(status)


@pytest.mark.parametrize("remote", [False, True])
def test_a_follower_sees_a_line_within_a_fifth_of_a_second(serve: Serve, remote: bool) -> None:
    service, _ = services(serve, remote)
    service.deploy("nap", NAP)
    service.invoke("nap")
    delays: list[float] = []
    # Several, so that run and follower are on one gunicorn worker, and on different ones
    for n in range(4):
        name = f"followed-{n}"
        service.in_background("nap", {"ms": 2500, "lines": 25}, execution_id=name)
        assert started(service, name) == 200
        began = time.time()
        seen = list(follow(service, name))
        assert [data["message"] for _, kind, data in seen if kind == "message"] == [
            f"line {k}" for k in range(25)
        ]
        assert seen[-1][1:] == ("end", {"status": "succeeded"})
        for came, kind, data in seen:
            if kind == "message":
                printed = datetime.fromisoformat(data["ts"][:26] + "+00:00").timestamp()
                if printed > began + 0.2:
                    delays.append(came - printed)
    delays.sort()
    print(
        f"{len(delays)} lines: median {statistics.median(delays) * 1000:.0f} ms, "
        f"95 % {delays[int(len(delays) * 0.95)] * 1000:.0f} ms, longest {delays[-1] * 1000:.0f} ms"
    )
    assert len(delays) > 60
    # One line in ten may meet a machine that is busy with something else
    assert delays[int(len(delays) * 0.9)] < 0.2


@pytest.mark.parametrize("remote", [False, True])
def test_a_chosen_id_is_found_while_it_runs_and_is_taken(serve: Serve, remote: bool) -> None:
    service, _ = services(serve, remote)
    service.deploy("nap", NAP)
    answers = service.in_background("nap", {"ms": 2000}, execution_id="chosen-by-caller")
    assert started(service, "chosen-by-caller") == 200
    assert service.call("GET", "/executions/chosen-by-caller")[1]["status"] == "running"
    running = everything(service, "&status=running&function=nap")
    assert [each["execution_id"] for each in running] == ["chosen-by-caller"]

    def attempt(_: int) -> Any:
        return service.invoke("nap", execution_id="chosen-by-caller")

    with ThreadPoolExecutor(8) as pool:
        refused = list(pool.map(attempt, range(8)))
    assert {(status, answer["code"]) for status, answer in refused} == {(409, "execution_id_taken")}
    end = time.monotonic() + 30
    while not answers:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert answers[0][0] == 200
    assert attempt(0)[1]["code"] == "execution_id_taken"
    # Of many who choose the same at the same time, one runs
    with ThreadPoolExecutor(8) as pool:
        raced = list(pool.map(lambda _: service.invoke("nap", execution_id="raced-for"), range(8)))
    assert sorted(status for status, _ in raced) == [200, *[409] * 7]


def test_what_nobody_chose_is_found_while_it_runs(serve: Serve, poll: Poll) -> None:
    service, _ = services(serve, False)
    service.deploy("nap", NAP)
    answers = service.in_background("nap", {"ms": 1500, "lines": 15})
    [found] = poll("it is listed", lambda: everything(service, "&status=running"), 10)
    seen = list(follow(service, found["execution_id"]))
    assert [kind for _, kind, _ in seen] == [*["message"] * 15, "end"]
    poll("it is answered", lambda: answers, 10)
    assert answers[0][1]["execution_id"] == found["execution_id"]


def test_a_connection_that_was_cut_goes_on_where_it_was(serve: Serve) -> None:
    service, _ = services(serve, False)
    service.deploy("nap", NAP)
    service.in_background("nap", {"ms": 2000, "lines": 20}, execution_id="cut-in-the-middle")
    assert started(service, "cut-in-the-middle") == 200
    first = []
    with contextlib.closing(follow(service, "cut-in-the-middle")) as stream:
        for _, _, data in stream:
            first.append(data["seq"])
            if len(first) == 5:
                break
    rest = [
        data["seq"] for _, kind, data in follow(service, "cut-in-the-middle", 5) if kind != "end"
    ]
    assert first + rest == list(range(1, 21))


@pytest.mark.fault(102)
def test_followers_leave_room_for_everything_else(serve: Serve, poll: Poll) -> None:
    # Given one gunicorn worker with ten places for invocations, and two of them for followers
    service = serve(WORKERS="1", THREADS="12", FUNCTION_LOGS_SINK="none", DRAIN_NOTICE_S="0")
    service.deploy("nap", NAP)
    service.in_background("nap", {"ms": 60_000}, execution_id="long-running")
    assert started(service, "long-running") == 200
    target = f"{service.url}/executions/long-running/logs?follow=1"
    begun: list[int] = []
    ended: list[float] = []

    def watch() -> None:
        with urllib3.PoolManager(retries=False, timeout=60) as own:
            answer = own.request("GET", target, preload_content=False)
            begun.append(answer.status)
            answer.read()
            ended.append(time.monotonic())

    watching = [threading.Thread(target=watch, daemon=True) for _ in range(2)]
    for thread in watching:
        thread.start()
    poll("both follow", lambda: len(begun) == 2, 20)
    assert begun == [200, 200]
    # When more want to follow
    with urllib3.PoolManager(retries=False, timeout=30) as http:
        assert http.request("GET", target).status == 429
        # Then they are refused, however they write it, and the service serves
        assert http.request("GET", target.replace("follow=1", "%66ollow=1")).status == 422
        for _ in range(10):
            asked = time.monotonic()
            assert service.call("GET", "/healthz")[0] == 200
            assert service.invoke("nap")[0] == 200
            assert time.monotonic() - asked < 5
    # And when it is told to end, no follower holds it up
    service.process.send_signal(signal.SIGTERM)
    told = time.monotonic()
    for thread in watching:
        thread.join(10)
    assert len(ended) == 2
    assert max(ended) - told < 8


def test_a_store_that_is_down_stops_no_invocation(serve: Serve, poll: Poll, tmp_path: Any) -> None:
    # Given a file where the store's folder should be
    data = tmp_path / "data"
    data.mkdir()
    (data / "executions").write_text("")
    service, _ = services(serve, False)
    service.deploy("nap", NAP)
    # Then everything runs, ids that were chosen too, and /readyz says what is wrong
    for n in range(20):
        chosen = {"execution_id": f"chosen-{n:05}"} if n % 2 else {}
        begun = time.monotonic()
        assert service.invoke("nap", **chosen)[0] == 200
        assert time.monotonic() - begun < 5
    assert service.call("GET", "/executions")[0] == 503
    poll("it says so", lambda: service.call("GET", "/readyz")[1]["degraded"], 10)
    # And once it works again, what ran meanwhile is recorded
    (data / "executions").unlink()
    poll("it is recorded", lambda: service.call("GET", "/executions")[0] == 200, 10)
    poll("all of it is", lambda: len(everything(service)) == 20, 10)


@pytest.mark.fault(98)
def test_what_a_killed_gunicorn_worker_ran_is_lost_and_the_service_goes_on(
    serve: Serve, poll: Poll
) -> None:
    service, _ = services(serve, False)
    service.deploy("nap", NAP)
    answers = service.in_background("nap", {"ms": 60_000}, execution_id="ran-when-killed")
    assert started(service, "ran-when-killed") == 200
    for seen in service.gunicorn_workers():
        os.kill(seen.pid, signal.SIGKILL)
    poll("the caller is told nothing more", lambda: answers, 10)
    assert isinstance(answers[0], urllib3.exceptions.HTTPError)
    poll("others serve", service.ready, 20)
    poll("it is closed", lambda: everything(service, "&status=lost"), 10)
    [lost] = everything(service)
    assert (lost["execution_id"], lost["status"]) == ("ran-when-killed", "lost")
    assert (lost["finished_at"], lost["outcome"]) == (None, "unknown")


@pytest.mark.fault(101)
def test_a_run_whose_caller_went_away_is_recorded(serve: Serve, poll: Poll) -> None:
    service, _ = services(serve, False)
    service.deploy("nap", NAP)
    body = {"input": {"ms": 1500}, "execution_id": "nobody-waits"}
    with (
        urllib3.PoolManager(retries=False) as impatient,
        pytest.raises(urllib3.exceptions.HTTPError),
    ):
        impatient.request("POST", f"{service.url}/functions/nap/invoke", json=body, timeout=0.5)
    poll("it ended", lambda: everything(service, "&status=succeeded"), 20)
    [found] = everything(service)
    assert found["execution_id"] == "nobody-waits"
    assert found["timings_ms"]["run"] >= 1500
