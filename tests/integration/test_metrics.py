"""Metrics of whole services: gunicorn with several workers, some of them killed, both roles."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest
import urllib3
from prometheus_client.parser import text_string_to_metric_families

Serve = Callable[..., Any]
Poll = Callable[..., Any]
Numbers = dict[str, float]

ECHO = "export const handler = (input) => ({ ok: true, data: input });"
FAIL = "export const handler = () => ({ ok: false, error: 'no' });"
WAIT = (
    "export const handler = ({ ms }) => new Promise((r) => setTimeout(() => r({ ok: true }), ms));"
)


def scrape(service: Any, headers: dict[str, str] | None = None) -> Numbers:
    """Return every sample of one answer; a connection of its own, so that any worker may give it."""
    with urllib3.PoolManager(retries=False, timeout=20) as http:
        answer = http.request("GET", f"{service.url}/metrics", headers=headers)
    assert answer.status == 200, answer.data
    return {
        sample.name + json.dumps(sample.labels, sort_keys=True): sample.value
        for family in text_string_to_metric_families(answer.data.decode())
        for sample in family.samples
    }


def number(found: Numbers, name: str, **labels: str) -> float:
    return found[name + json.dumps(labels, sort_keys=True)]


def total(found: Numbers, name: str) -> float:
    return sum(value for key, value in found.items() if key.split("{")[0] == name)


def invoke_fresh(service: Any, name: str, count: int, data: object = None) -> list[Any]:
    """Invoke over connections of their own: all workers get some."""
    answers = []
    for _ in range(count):
        service.http.clear()
        answers.append(service.invoke(name, data))
    return answers


def by_worker(service: Any, poll: Poll) -> None:
    """Wait until both workers have sandboxes of their own: each was given invocations."""

    def both() -> bool:
        invoke_fresh(service, "echo", 4)
        found = scrape(service)
        return (
            number(found, "faas_starts_total", kind="prewarmed")
            + number(found, "faas_starts_total", kind="cold")
            >= 2
        )

    poll("both workers ran something", both, 30)


def test_totals_are_those_of_all_workers_whichever_answers(serve: Serve, poll: Poll) -> None:
    service = serve(WORKERS="2", METRICS="prometheus", FUNCTION_LOGS_SINK="promtail")
    service.deploy("echo", ECHO)
    service.deploy("echo2", FAIL)
    by_worker(service, poll)
    before = total(scrape(service), "faas_invocations_total")
    threads = [
        threading.Thread(target=invoke_fresh, args=(service, name, 25))
        for name in ("echo", "echo2") * 2
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):  # while it counts, it can be read
        scrape(service)
    for thread in threads:
        thread.join()
    scrapes = [scrape(service) for _ in range(30)]
    assert {total(each, "faas_invocations_total") for each in scrapes} == {before + 100}
    last = scrapes[-1]
    labels = {"collection": "", "function": "echo2"}
    assert number(last, "faas_invocations_total", **labels, status="failed") == 50
    assert number(last, "faas_invoke_duration_seconds_count", **labels) == 50
    starts = total(last, "faas_starts_total")
    assert starts == total(last, "faas_invocations_total")
    assert {number(each, "faas_inflight_invocations") for each in scrapes} == {0}
    assert number(last, "faas_deployments_total", outcome="created") == 2

    def settled() -> bool:
        states = {f"{number(scrape(service), 'faas_sandboxes', state='stock')}" for _ in range(10)}
        return states == {"2.0"}

    # Each worker sees what the other published, at most a second ago.
    poll("both say how many sandboxes the service keeps ready", settled, 20)


@pytest.mark.fault(98)
def test_a_killed_worker_loses_no_count_and_leaves_no_gauge(serve: Serve, poll: Poll) -> None:
    service = serve(WORKERS="2", METRICS="prometheus", STOCK="2")
    service.deploy("echo", ECHO)
    service.deploy("wait", WAIT)
    by_worker(service, poll)
    invoke_fresh(service, "echo", 20)
    before = scrape(service)
    service.in_background("wait", {"ms": 60_000}, count=6)
    poll("six are in flight", lambda: number(scrape(service), "faas_inflight_invocations") == 6)
    # When both workers are killed, one after the other
    for victim in service.gunicorn_workers():
        os.kill(victim.pid, signal.SIGKILL)
        poll("it is gone and replaced", lambda v=victim: not v.lives() and service.ready())
        poll("two serve", lambda: len(service.gunicorn_workers()) == 2)
    # Then no finished invocation is lost, and what was in flight is in flight no more
    poll("nothing is in flight", lambda: number(scrape(service), "faas_inflight_invocations") == 0)
    after = [scrape(service) for _ in range(10)]
    name = "faas_invocations_total"
    assert {total(each, name) for each in after} == {total(before, name)}
    assert {number(each, "faas_sandboxes", state="leased") for each in after} == {0}
    invoke_fresh(service, "echo", 10)
    assert total(scrape(service), name) == total(before, name) + 10


def test_a_reload_goes_on_counting(serve: Serve, poll: Poll) -> None:
    service = serve(WORKERS="2", METRICS="prometheus")
    service.deploy("echo", ECHO)
    for round_ in range(1, 4):
        invoke_fresh(service, "echo", 5)
        old = set(service.gunicorn_workers())
        os.kill(service.process.pid, signal.SIGHUP)
        poll(
            "others serve",
            lambda old=old: (
                len(service.gunicorn_workers()) == 2 and not old & set(service.gunicorn_workers())
            ),
            30,
        )
        found = {total(scrape(service), "faas_invocations_total") for _ in range(6)}
        assert found == {5 * round_}


def test_nothing_of_it_is_on_disk_or_left_behind(serve: Serve, poll: Poll) -> None:
    # Given a service whose master was killed: nothing could tidy up
    service = serve(WORKERS="2", METRICS="prometheus")
    service.deploy("echo", ECHO)
    invoke_fresh(service, "echo", 5)
    workers = service.gunicorn_workers()
    os.kill(service.process.pid, signal.SIGKILL)
    service.process.wait(10)
    poll("its workers are gone", lambda: not any(worker.lives() for worker in workers))
    names = [
        path.name for path in service.scratch.rglob("*") if "lowcode-faas-process" not in str(path)
    ]
    assert names == []
    # Then the next one begins at zero
    again = serve(WORKERS="2", METRICS="prometheus")
    assert total(scrape(again), "faas_invocations_total") == 0


def test_both_roles_count_what_passes_through_them(serve: Serve, poll: Poll) -> None:
    secret = {"WORKER_TOKEN": "s3cret"}
    worker = serve(
        "worker", WORKERS="2", METRICS="prometheus", FUNCTION_LOGS_SINK="promtail", **secret
    )
    service = serve(WORKERS="2", METRICS="prometheus", WORKER_URL=worker.url, **secret)
    service.deploy("echo", "console.log('loaded');" + ECHO)
    assert [status for status, _ in invoke_fresh(service, "echo", 12)] == [200] * 12
    at_worker = scrape(worker, {"Authorization": "Bearer s3cret"})
    for found in (scrape(service), at_worker):
        labels = {"collection": "", "function": "echo", "status": "succeeded"}
        assert number(found, "faas_invocations_total", **labels) == 12
        assert total(found, "faas_starts_total") == 12
    assert total(at_worker, "faas_sandboxes") > 0
    assert total(scrape(service), "faas_sandboxes") == 0
    assert (
        number(at_worker, "faas_runner_operation_seconds_count", op="start_sandbox", outcome="ok")
        >= 1
    )

    def delivered() -> bool:
        found = scrape(worker, {"Authorization": "Bearer s3cret"})
        printed = worker.text().count('"message":"loaded"')
        return total(found, "faas_log_events_total") == printed > 0

    poll("log events are counted as they are printed", delivered)
    status, problem = worker.call("GET", "/metrics")
    assert (status, problem["code"]) == (401, "unauthenticated")


def test_rejected_invocations_are_counted(serve: Serve, poll: Poll) -> None:
    service = serve(WORKERS="1", THREADS="4", METRICS="prometheus")
    service.deploy("wait", WAIT)
    answers = service.in_background("wait", {"ms": 1500}, count=6)
    poll("all are answered", lambda: len(answers) == 6, 30)
    refused = sum(status == 429 for status, _ in answers)
    assert refused >= 1
    found = scrape(service)
    assert number(found, "faas_queue_rejected_total") == refused
    labels = {"collection": "", "function": "wait"}
    assert number(found, "faas_invocations_total", **labels, status="no_capacity") == refused
    assert number(found, "faas_invocations_total", **labels, status="succeeded") == 6 - refused
