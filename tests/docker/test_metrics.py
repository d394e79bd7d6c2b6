"""What metrics say of a real engine: each kind of call, how it ended, and what was reaped."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import urllib3
from prometheus_client.parser import text_string_to_metric_families

ECHO = "export const handler = (input) => ({ ok: true, data: input });"


def scrape(service):
    with urllib3.PoolManager(retries=False, timeout=20) as http:
        text = http.request("GET", f"{service.url}/metrics").data.decode()
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]


def operations(service):
    """Return how many calls there were, by operation and outcome."""
    return {
        (sample.labels["op"], sample.labels["outcome"]): sample.value
        for sample in scrape(service)
        if sample.name == "faas_runner_operation_seconds_count"
    }


@pytest.mark.parametrize("exchange", ["stream", "files"])
def test_each_kind_of_call_to_the_engine_is_timed(serve, poll, exchange):
    service = serve(DOCKER_EXCHANGE=exchange, METRICS="prometheus", STOCK="0", WORKERS="1")
    service.deploy("echo", ECHO, reuse="fresh")
    for _ in range(2):
        assert service.invoke("echo", {})[0] == 200
    wanted = {"create_container": 2, "start_container": 2, "remove_container": 2}
    if exchange == "stream":
        wanted |= {"attach_to_container": 2, "start_sandbox": 2}
    else:
        wanted |= {"copy_files_into_container": 2, "copy_files_out_of_container": 2}
    poll(
        "all of them are counted",
        lambda: all(operations(service).get((op, "ok"), 0) >= n for op, n in wanted.items()),
    )
    total = sum(s.value for s in scrape(service) if s.name == "faas_runner_operation_seconds_sum")
    assert total > 0


@pytest.mark.fault(98, 105)
def test_orphans_of_a_killed_worker_are_counted(serve, poll):
    # Given a worker with two containers
    service = serve(METRICS="prometheus", STOCK="1", WORKERS="1")
    service.deploy("echo", ECHO)
    assert service.invoke("echo", {})[0] == 200
    worker = Path(f"/proc/{service.process.pid}/task/{service.process.pid}/children").read_text()
    # When it is killed
    os.kill(int(worker.split()[0]), signal.SIGKILL)

    # Then the one that takes its place counts what it removes
    def reaped():
        try:
            found = scrape(service)
        except urllib3.exceptions.HTTPError:  # nobody serves yet
            return 0
        return sum(s.value for s in found if s.name == "faas_orphans_reaped_total")

    poll("its containers were reaped and counted", lambda: reaped() >= 1, 60)
