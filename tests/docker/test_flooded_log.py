"""Containers of the files exchange that print more than the engine keeps of a log."""

from __future__ import annotations

import json

import pytest

SOURCE = """
const line = 'x'.repeat(1 << 16);
export const handler = ({lines, then}) => {
  for (let n = 0; n < lines; n++) console.log(`${n} ${line}`);
  if (then === 'exhaust the heap') {
    const all = [];
    for (;;) all.push(new Array(1000).fill(Math.random()));
  }
  if (then === 'abort') process.abort();
  if (then === 'exit') process.exit(3);
  return {ok: true, data: null};
};
"""


@pytest.fixture
def service(serve):
    service = serve(DOCKER_EXCHANGE="files", STOCK="0", FUNCTION_LOGS_SINK="docker_json")
    service.deploy("flood", SOURCE)
    return service


@pytest.mark.parametrize(
    ("then", "status", "code"),
    [
        ("exhaust the heap", "out_of_memory", "out_of_memory"),
        ("abort", "crashed", "killed"),
    ],
)
def test_the_reason_of_an_abort_is_found_behind_a_flood(service, then, status, code):
    _, result = service.invoke("flood", {"lines": 3000, "then": then}, timeout_ms=60_000)
    assert (result["status"], result["error"]["code"]) == (status, code), result["error"]
    assert result["logs"]["truncated"] is True


@pytest.mark.parametrize("then", ["return", "exit", "abort"])
def test_what_a_run_may_log_is_there_whole_up_to_its_end(service, poll, then):
    # Ten lines of 64 KiB: more than a pipe holds, less than a run may log
    _, result = service.invoke("flood", {"lines": 10, "then": then}, timeout_ms=60_000)
    poll("all is printed", lambda: service.text().count('"seq":10,') == 1, 10)
    events = [json.loads(line) for line in service.text().splitlines() if line.startswith("{")]
    printed = [event for event in events if event["log_stream"] == "stdout"]
    assert [event["message"].partition(" ")[0] for event in printed] == [str(n) for n in range(10)]
    assert {len(event["message"]) for event in printed} == {1 << 16}
    assert result["logs"]["truncated"] is True  # each was cut by the two bytes of its number
