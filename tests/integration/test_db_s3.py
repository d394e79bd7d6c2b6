"""Two dispatchers over one database and bucket: one truth."""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import urllib3
from lowcode_faas_db_s3.executions.store import PostgresExecutions
from lowcode_faas_db_s3.settings import PostgresSettings

from lowcode_faas_core.recording import FLUSH_S, LOOK_S
from lowcode_faas_core.testing.samples import sample_record
from tests.integration.test_executions import BUSY_S, NAP, everything, follow, started
from tests.services.fixtures import db_s3_environ, postgres_of, s3_of
from tests.services.s3 import CACHE_S

__all__ = ["db_s3_environ", "postgres_of", "s3_of"]

SOURCE = "export const handler = () => ({{ok: true, data: {}}});\n"


@pytest.fixture
def dispatchers(serve: Callable[..., Any], db_s3_environ) -> list[Any]:
    given = {name.removeprefix("LOWCODE_FAAS_"): value for name, value in db_s3_environ.items()}
    return [serve(**given, WORKERS="2", STOCK="1", THREADS="32") for _ in range(2)]


@pytest.mark.fault(118)
def test_fifty_deploys_at_once_through_two_dispatchers(dispatchers):
    """Versions 1 to 50, no gap and no duplicate, each readable with its hash at either."""
    sources = [SOURCE.format(number) for number in range(50)]

    def deploy(number: int) -> Any:
        body = {"name": "greet", "source_code": sources[number]}
        status, row = dispatchers[number % 2].call("POST", "/functions", body)
        assert status == 201, row
        return row

    with ThreadPoolExecutor(50) as threads:
        rows = list(threads.map(deploy, range(50)))

    assert sorted(row["version"] for row in rows) == list(range(1, 51))
    for number, row in enumerate(rows):
        other = dispatchers[(number + 1) % 2]
        path = f"/functions/greet/source?version={row['version']}"
        content = other.http.request("GET", other.url + path).data
        assert content == sources[number].encode()
        assert hashlib.sha256(content).hexdigest() == row["sha256"]
    listed = dispatchers[0].call("GET", "/functions/greet/versions?limit=100")[1]["items"]
    assert [row["version"] for row in listed] == list(range(50, 0, -1))
    current = dispatchers[1].invoke("greet")[1]
    assert current["deployment_version"] == 50
    pinned = dispatchers[0].invoke("greet", version=7)[1]
    expected = next(n for n, row in enumerate(rows) if row["version"] == 7)
    assert pinned["output"]["data"] == expected


@pytest.mark.fault(122)
def test_a_deploy_is_seen_by_every_process_at_its_next_invocation(dispatchers):
    """Deployed at one dispatcher, invoked at the other, whichever of its processes answers."""
    first, second = dispatchers
    for number in range(40):
        body = {"name": "greet", "source_code": SOURCE.format(number)}
        assert first.call("POST", "/functions", body)[0] == 201
        for _ in range(3):
            result = second.invoke("greet")[1]
            assert (result["deployment_version"], result["output"]["data"]) == (number + 1, number)


@pytest.mark.fault(119)
def test_a_damaged_object_is_never_executed(dispatchers, db_s3_environ, s3_of):
    first, second = dispatchers
    first.deploy("greet", SOURCE.format(1))
    folder: Path = s3_of("rclone").buckets / db_s3_environ["LOWCODE_FAAS_S3_BUCKET"]
    [kept] = [path for path in folder.rglob("*") if path.is_file()]
    kept.write_text(SOURCE.format(2))
    time.sleep(4 * CACHE_S)

    status, problem = second.invoke("greet")
    assert (status, problem["code"], problem["outcome"]) == (500, "source_corrupt", "not_executed")
    assert second.call("GET", "/functions/greet/source")[0] == 500


@pytest.mark.fault(100)
@pytest.mark.slow
def test_what_a_killed_host_ran_is_lost_and_the_rest_is_there(dispatchers, poll):
    """Of two dispatchers one is killed in the middle of runs: the other tells what became of them."""
    doomed, other = dispatchers
    doomed.deploy("nap", NAP)
    answered: dict[str, float] = {}
    sent = iter(range(2000))
    enough = threading.Event()

    def call(service: Any) -> None:
        for n in sent:
            chosen = {"execution_id": f"chosen-{n:05}"} if n % 10 == 0 else {}
            try:
                # Not too fast: most of what was answered must be old enough to be due at the kill.
                status, result = service.invoke(
                    "nap", {"ms": 5000 if n % 50 == 3 else 60}, **chosen
                )
            except urllib3.exceptions.HTTPError:
                return
            if status == 200:
                answered[result["execution_id"]] = time.monotonic()
            if len(answered) > 300:
                enough.set()
            if enough.is_set() and service is other:
                return

    threads = [
        threading.Thread(target=call, args=(each,), daemon=True) for each in [doomed, other] * 6
    ]
    for thread in threads:
        thread.start()
    other.call("GET", "/executions?status=running")
    assert enough.wait(120), len(answered)
    seen_running = {each["execution_id"] for each in everything(other, "&status=running")}
    killed = time.monotonic()
    due = {key for key, at in list(answered.items()) if at < killed - FLUSH_S - LOOK_S - BUSY_S}
    doomed.process.send_signal(signal.SIGKILL)
    doomed.process.wait(10)
    for thread in threads:
        thread.join(60)
    poll("what was lost is closed", lambda: everything(other, "&status=running") == [], 60)
    took = time.monotonic() - killed
    records = everything(other)
    by_id = {each["execution_id"]: each["status"] for each in records}
    statuses = Counter(by_id.values())
    print(
        f"closed after {took:.1f} s; due {len(due)}, recorded {len(due & set(by_id))}; {statuses}"
    )
    assert len(by_id) == len(records)
    assert len(due) > 50
    assert due <= set(by_id)
    assert seen_running
    assert seen_running <= set(by_id)
    assert set(statuses) == {"succeeded", "lost"}
    assert all(by_id[key] == "succeeded" for key in due)
    begun = next(key for key, status in by_id.items() if key.startswith("chosen-"))
    assert other.invoke("nap", execution_id=begun)[1]["code"] == "execution_id_taken"


def test_a_run_is_followed_at_another_host(dispatchers):
    """The host that runs it is told by the database that somebody looks, and writes as it prints."""
    first, second = dispatchers
    first.deploy("nap", NAP)
    first.invoke("nap")
    first.in_background("nap", {"ms": 2500, "lines": 25}, execution_id="followed")
    assert started(second, "followed") == 200
    began = time.time()
    seen = list(follow(second, "followed"))
    assert [data["message"] for _, kind, data in seen if kind == "message"] == [
        f"line {k}" for k in range(25)
    ]
    assert seen[-1][1:] == ("end", {"status": "succeeded"})
    delays = sorted(
        came - datetime.fromisoformat(data["ts"][:26] + "+00:00").timestamp()
        for came, kind, data in seen
        if kind == "message"
    )
    live = [data for came, kind, data in seen if kind == "message" and came < began + 2]
    print(
        f"{len(live)} of 25 lines seen live; delays: median {delays[12] * 1000:.0f} ms, "
        f"90 % {delays[22] * 1000:.0f} ms, longest {delays[-1] * 1000:.0f} ms"
    )
    assert len(live) > 10
    assert delays[12] < 0.5


@pytest.mark.fault(116)
def test_the_schema_of_executions_comes_with_migrate(db_s3_environ):
    """``migrate`` makes their tables; ``gc`` leaves what they hold alone."""
    command = Path(sys.executable).with_name("lowcode-faas")
    environ = {**os.environ, **db_s3_environ}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [command, *arguments], env=environ, capture_output=True, text=True, check=True
        )
        return done.stdout

    assert "0002_executions.sql" in run("migrate")
    assert run("migrate") == ""
    store = PostgresExecutions(PostgresSettings(dsn=db_s3_environ["LOWCODE_FAAS_POSTGRES_DSN"]))
    record = sample_record()
    store.record([record], [])
    run("gc", "--delete")
    assert store.execution(record.execution_id) == record
    store.close()
