from __future__ import annotations

import contextlib
import json
import time

from lowcode_faas_loki.sink import Patience

from lowcode_faas_core.delivery import QUEUE_EVENTS, LogRouter
from lowcode_faas_core.testing.samples import sample_event

LINES = 200_000
RUNS = 4


def test_a_loki_that_dies_and_comes_back(serve, new_checker, make_sink) -> None:
    # Given a Loki that is gone for the middle fifth of the lines
    checker = new_checker()
    running = contextlib.ExitStack()
    running.enter_context(serve(checker))
    port = int(checker.url.rpartition(":")[2])
    patience = Patience(attempts=2, first_s=0.01, most_s=0.02, connect_s=1.0, answer_s=5.0)
    router = LogRouter({"loki": make_sink(checker.url, patience=patience)})
    with running:
        for n in range(LINES):
            if n == LINES * 2 // 5:
                running.close()
            if n == LINES * 3 // 5:
                running.enter_context(serve(checker, port))
            router.emit(sample_event(n // RUNS + 1, f"line {n}", run_id=f"run-{n % RUNS}"))
            while n % 1000 == 0 and not router.degraded() and router.backlog() > QUEUE_EVENTS // 2:
                time.sleep(0.002)
        while router.backlog():
            time.sleep(0.005)
        router.close()
    # Then every line arrived or is counted, and those of each run are in order
    got = [int(json.loads(line)["message"].removeprefix("line ")) for line in checker.lines()]
    counts = router.counts()["loki"]
    assert counts["delivered"] + counts["dropped"] == LINES
    assert counts["dropped"] > 0
    # A push whose answer was cut off by the kill may have been taken and is counted as lost.
    assert 0 <= len(got) - counts["delivered"] <= 1000
    for run in range(RUNS):
        own = [number for number in got if number % RUNS == run]
        assert own == sorted(set(own))
    assert got[-1] == LINES - 1
