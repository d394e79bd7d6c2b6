"""Lines of functions on the service's own standard output, and a sink that fails in it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lowcode_faas_core import dispatcher
from lowcode_faas_core.delivery import LogRouter
from lowcode_faas_core.services import SERVICES
from lowcode_faas_core.testing.memory_log_sink import MemoryLogSink
from lowcode_faas_core.testing.samples import sample_event

SOURCE = """
export const handler = ({mark}) => {
  for (let n = 0; n < 5; n++) { console.log(mark.repeat(200000)); console.log(mark); }
  return {ok: true, data: null};
};
"""


def test_workers_print_whole_lines_that_name_their_run(
    serve: Callable[..., Any], poll: Callable[..., Any]
) -> None:
    # Given two gunicorn workers that share one standard output
    service = serve(
        WORKERS="2",
        FUNCTION_LOGS_SINK="promtail",
        LOG_MAX_LINE_BYTES=str(256 << 10),
        LOG_MAX_RUN_BYTES=str(2 << 20),
    )
    service.deploy("shout", SOURCE)
    # When they print long and short lines at the same time
    answers = [
        service.in_background("shout", {"mark": mark}, run_id=f"run-{mark}") for mark in "abcdefgh"
    ]
    poll("all have answered", lambda: all(answers), 30)
    poll("all is printed", lambda: service.text().count('"seq":10,') == 8, 10)
    # Then each line of theirs is one object that is whole
    events = [json.loads(line) for line in service.text().splitlines() if line.startswith("{")]
    assert len(events) == 80
    for (answer,), mark in zip(answers, "abcdefgh", strict=True):
        assert answer[0] == 200
        own = [event for event in events if event["run_id"] == f"run-{mark}"]
        assert [event["seq"] for event in own] == list(range(1, 11))
        assert [event["message"] for event in own] == [mark * 200000, mark] * 5
        assert {event["execution_id"] for event in own} == {answer[1]["execution_id"]}


def test_a_failing_sink_is_degraded_and_not_unready(tmp_path: Path) -> None:
    app = dispatcher.create_app(
        {
            "LOWCODE_FAAS_LISTEN": "127.0.0.1:0",
            "LOWCODE_FAAS_DATA_DIR": str(tmp_path),
            "LOWCODE_FAAS_RUNNER": "process",
            "LOWCODE_FAAS_STOCK": "0",
        }
    )
    services = app.extensions[SERVICES]
    try:
        sink = MemoryLogSink()
        sink.failure = RuntimeError("no room")
        services.logs = LogRouter({"loki": sink})
        services.logs.emit(sample_event())
        deadline = time.monotonic() + 5
        while services.logs.backlog() and time.monotonic() < deadline:
            time.sleep(0.005)
        answer = app.test_client().get("/readyz")
        assert answer.status_code == 200
        assert answer.json["degraded"] == ["log sink loki: RuntimeError: no room"]
        services.logs.close()
    finally:
        services.close()
