"""What ran, over every set-up: listed, found, its lines read and followed, run again, added up."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import pytest

from lowcode_faas_core.errors import StorageUnavailable
from lowcode_faas_core.ids import new_id
from lowcode_faas_core.records import RecordStatus
from lowcode_faas_core.testing.samples import sample_line, sample_record, sample_running
from tests.api.conftest import REFUSE, Api

#: Longest wait for a batch, on a machine that has other things to do, in seconds.
PATIENCE_S = 20.0
PRINTS = """
export const handler = (input) => {
  for (let n = 1; n <= input.lines; n += 1) console.log(`line ${n}`);
  return { ok: true };
};
"""


def until(get: Callable[[], Any], holds: Callable[[Any], Any]) -> Any:
    end = time.monotonic() + PATIENCE_S
    while not holds(found := get()):
        assert time.monotonic() < end, found
        time.sleep(0.02)
    return found


def listed(api: Api, count: int, query: str = "") -> list[Any]:
    """Return a list once so many are recorded."""
    found: Any = until(
        lambda: api.get(f"/executions{query}").json["items"], lambda items: len(items) >= count
    )
    assert len(found) == count
    return list(found)


def test_what_ran_is_found(api: Api) -> None:
    api.collection("org")
    api.deploy(collection_path="org")
    body = {"input": {"a": 1}, "run_id": "order-4711"}
    result = api.post("/collections/org/functions/greet/invoke", body).json
    found = api.get(f"/executions/{result['execution_id']}").json
    for name in ("input_cut", "output_cut"):
        assert found.pop(name) is False
    assert found.pop("replay_of") is None
    assert found.pop("input") == {"a": 1}
    assert found == result
    [row] = listed(api, 1)
    assert (row.pop("input"), row.pop("output")) == (None, None)
    assert {**row, "output": result["output"]}.items() >= result.items()


def test_an_unknown_one_is_a_404(api: Api) -> None:
    begun = time.monotonic()
    api.get(f"/executions/{new_id()}").refused(404, "not_found")
    assert time.monotonic() - begun < 5
    api.get(f"/executions/{new_id()}/logs").refused(404, "not_found")
    api.get(f"/executions/{new_id()}/logs?follow=1").refused(404, "not_found")
    api.post(f"/executions/{new_id()}/replay").refused(404, "not_found")


@pytest.mark.parametrize("execution_id", ["short", "x" * 65, "not.legal", "a%20b%20c%20d"])
def test_an_illegal_id_is_refused(stub_api: Api, execution_id: str) -> None:
    answer = stub_api.get(f"/executions/{execution_id}")
    assert answer.refused(422, "invalid_value", "/execution_id")["where"] == "path"


def test_lists_are_filtered_and_paged(api: Api) -> None:
    api.collection("org/team")
    api.collection("org/teamX")
    deployed = {}
    for path in ("", "org/team", "org/teamX"):
        deployed[path] = api.deploy(collection_path=path)["deployment_id"]
    api.deploy("refuse", REFUSE, collection_path="org/team")
    runs = []
    for path in ("", "org/team", "org/team", "org/teamX"):
        nested = f"/collections/{path}" if path else ""
        answer = api.post(f"{nested}/functions/greet/invoke", {"run_id": f"run-{len(runs) // 2}"})
        runs.append(answer.json)
    refused = api.post("/collections/org/team/functions/refuse/invoke", {}).json
    ids = [each["execution_id"] for each in [*runs, refused]][::-1]
    listed(api, 5)

    def found(query: str) -> list[str]:
        items = api.get(f"/executions?{query}").json["items"]
        return [each["execution_id"] for each in items]

    assert found("") == ids
    assert found("collection_path=org%2Fteam") == [ids[0], ids[2], ids[3]]
    assert found("collection_path=org") == ids[:4]
    assert found("function=refuse") == found("status=failed") == [ids[0]]
    assert found("status=succeeded&collection_path=org%2FteamX") == [ids[1]]
    assert found(f"deployment_id={deployed['']}") == [ids[4]]
    assert found("run_id=run-0") == [ids[3], ids[4]]
    assert found("status=lost") == []
    assert found("start=cold") + found("start=warm") + found("start=prewarmed")
    middle = runs[2]["started_at"]
    assert found(f"since={middle}") == ids[:3]
    assert found(f"until={middle}") == ids[3:]
    cursor, pages = "", []
    while cursor is not None:
        page = api.get(f"/executions?limit=2{cursor and '&cursor=' + quote(cursor)}").json
        pages.append([each["execution_id"] for each in page["items"]])
        cursor = page["next_cursor"]
    assert pages == [ids[:2], ids[2:4], ids[4:]]


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("status=done", "/status"),
        ("start=hot", "/start"),
        ("function=a.b", "/function"),
        ("collection_path=a%2F..%2Fb", "/collection_path"),
        ("run_id=", "/run_id"),
        ("since=yesterday", "/since"),
        ("since=2026-01-02T00:00:00Z&until=2026-01-01T00:00:00Z", "/since"),
        ("limit=0", "/limit"),
        ("cursor=nonsense!", "/cursor"),
        ("offset=3", "/offset"),
    ],
)
@pytest.mark.fault(17)
def test_a_filter_that_makes_no_sense_is_refused(stub_api: Api, query: str, pointer: str) -> None:
    stub_api.get(f"/executions?{query}").refused(422, "invalid_value", pointer)


def test_lines_come_page_by_page(api: Api, request: pytest.FixtureRequest) -> None:
    if api.services is not None:
        pytest.skip("the stubs print nothing")
    api.deploy("prints", PRINTS)
    result = api.invoke("prints", input={"lines": 5})
    target = f"/executions/{result['execution_id']}/logs"
    first = api.get(f"{target}?limit=2").json
    second = api.get(f"{target}?limit=3&cursor={quote(first['next_cursor'])}").json
    lines = [*first["items"], *second["items"]]
    assert [line["message"] for line in lines] == [f"line {n}" for n in range(1, 6)]
    assert [line["seq"] for line in lines] == [1, 2, 3, 4, 5]
    assert second["next_cursor"] is None
    api.get(f"{target}?cursor=bm9uZQ").refused(422, "invalid_value", "/cursor")
    api.get(f"{target}?follow=2").refused(422, "invalid_value", "/follow")


def events(body: bytes) -> list[tuple[str | None, str, Any]]:
    """Return (id, event, data) of a stream of events."""
    found: list[tuple[str | None, str, Any]] = []
    for block in body.decode().split("\n\n"):
        fields = dict(
            line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":")
        )
        if "data" in fields:
            data = json.loads(fields["data"])
            found.append((fields.get("id"), fields.get("event", "message"), data))
    return found


def test_following_what_is_over_ends_at_once(api: Api) -> None:
    if api.services is not None:
        pytest.skip("the stubs print nothing")
    api.deploy("prints", PRINTS)
    target = f"/executions/{api.invoke('prints', input={'lines': 3})['execution_id']}/logs?follow=1"
    answer = api.get(target)
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    *lines, end = events(answer.body)
    assert [(each[0], each[2]["message"]) for each in lines] == [
        ("1", "line 1"),
        ("2", "line 2"),
        ("3", "line 3"),
    ]
    assert end == (None, "end", {"status": "succeeded"})
    # After a break it goes on where it was
    *lines, end = events(api.get(target, headers={"Last-Event-ID": "2"}).body)
    assert [each[0] for each in lines] == ["3"]
    assert len(events(api.get(target, headers={"Last-Event-ID": "x"}).body)) == 4
    # And a HEAD takes nobody's place
    for _ in range(5):
        assert api.request("HEAD", target).status == 200
    assert api.get(target).status == 200


def test_followers_are_capped(stub_api: Api) -> None:
    running = sample_running(collection_path="")
    stub_api.services.executions.record([running], [sample_line(running.execution_id)])
    leave = [stub_api.services.following.enter() for _ in range(14 // 4)]
    target = f"/executions/{running.execution_id}/logs?follow=1"
    answer = stub_api.get(target)
    answer.refused(429, "no_capacity")
    assert answer.headers["Retry-After"]
    for each in leave:
        each()
    done = sample_record(execution_id=running.execution_id, collection_path="")
    stub_api.services.executions.record([done], [])
    assert events(stub_api.get(target).body)[-1][2] == {"status": "succeeded"}


def test_a_stream_ends_with_the_process(stub_api: Api) -> None:
    running = sample_running(collection_path="")
    stub_api.services.executions.record([running], [sample_line(running.execution_id)])
    stub_api.services.following.end()
    found = events(stub_api.get(f"/executions/{running.execution_id}/logs?follow=1").body)
    assert [each[1] for each in found] == ["message"]


def test_a_replay_runs_the_same_input_on_the_same_version(
    api: Api, modules: dict[str, str]
) -> None:
    api.deploy("greet", modules["echo"])
    original = api.invoke("greet", input={"a": 1}, run_id="order-4711")
    api.deploy("greet", modules["refuse"])
    target = f"/executions/{original['execution_id']}/replay"
    answer = api.post(target)
    assert answer.headers["X-Lowcode-Faas-Status"] == "succeeded"
    found = answer.json
    assert found["original"]["output"] == original["output"] == found["replay"]["output"]
    assert found["replay"]["execution_id"] != original["execution_id"]
    assert (found["replay"]["run_id"], found["replay"]["deployment_version"]) == ("order-4711", 1)
    again = api.get(f"/executions/{found['replay']['execution_id']}").json
    assert (again["replay_of"], again["input"]) == (original["execution_id"], {"a": 1})
    other = api.post(f"{target}?version=2").json
    assert (other["original"]["status"], other["replay"]["status"]) == ("succeeded", "failed")
    assert api.post(f"{target}?version=9").status == 404
    # Of another function under the same name nothing is run
    api.delete("/functions/greet")
    api.deploy("greet", modules["refuse"])
    refused = api.post(target).refused(409, "version_not_kept")
    assert refused["outcome"] == "not_executed"


@pytest.mark.parametrize(
    ("fields", "said"), [({}, "not kept"), ({"input": '{"a":', "input_cut": True}, "cut")]
)
def test_what_was_not_kept_is_not_run_again(
    stub_api: Api, fields: dict[str, Any], said: str
) -> None:
    record = sample_record(collection_path="", **fields)
    stub_api.services.executions.record([record], [])
    stub_api.deploy()
    answer = stub_api.post(f"/executions/{record.execution_id}/replay")
    problem = answer.refused(409, "input_not_kept")
    assert problem["outcome"] == "not_executed"
    assert said in problem["detail"]
    assert stub_api.invoker.calls == []


def test_a_cut_input_is_shown_as_text(stub_api: Api) -> None:
    record = sample_record(collection_path="", input='{"a":', input_cut=True, output='{"ok":true}')
    stub_api.services.executions.record([record], [])
    found = stub_api.get(f"/executions/{record.execution_id}").json
    assert (found["input"], found["input_cut"]) == ('{"a":', True)
    assert (found["output"], found["output_cut"]) == ({"ok": True}, False)


def test_statistics_of_a_function(api: Api, modules: dict[str, str]) -> None:
    api.collection("org")
    for path in ("", "org"):
        api.deploy("greet", modules["echo"], collection_path=path)
    api.get("/functions/unknown/stats").refused(404, "function_not_found")
    assert api.get("/functions/greet/stats").json["by_status"] == {}
    for _ in range(3):
        api.invoke("greet")
    api.deploy("greet", modules["throw"])
    thrown = api.invoke("greet")
    listed(api, 4)
    found = api.get("/functions/greet/stats?window=15m").json
    assert found["by_status"] == {"succeeded": 3, "handler_error": 1}
    assert found["last_error_id"] == thrown["execution_id"]
    assert found["last_error"] == thrown["error"]
    assert found["total_ms"]["p50"] <= found["total_ms"]["p99"]
    nested = api.get("/collections/org/functions/greet/stats").json
    assert (nested["collection_path"], nested["by_status"]) == ("org", {})


@pytest.mark.parametrize("window", ["", "1", "h", "0h", "-1h", "1w", "99999s", "1.5h", "１h"])
def test_a_window_that_is_none_is_refused(stub_api: Api, window: str) -> None:
    answer = stub_api.get(f"/functions/greet/stats?window={quote(window)}")
    answer.refused(422, "invalid_value", "/window")


def test_without_a_store_nothing_is_kept(stub_api: Api) -> None:
    stub_api.services.following = None
    stub_api.deploy()
    unknown = f"/executions/{new_id()}"
    for target in ("/executions", unknown, f"{unknown}/logs", "/functions/greet/stats"):
        stub_api.get(target).refused(404, "executions_not_kept")


def test_a_store_that_is_down_is_a_503_and_stops_no_invocation(stub_api: Api) -> None:
    stub_api.services.executions.fail_with = StorageUnavailable("the disk is gone")
    for target in ("/executions", f"/executions/{new_id()}"):
        stub_api.get(target).refused(503, "storage_unavailable")


def test_what_runs_is_listed(stub_api: Api) -> None:
    running = sample_running(collection_path="")
    stub_api.services.executions.record([running, sample_record()], [])
    [found] = stub_api.get("/executions?status=running").json["items"]
    assert (found["execution_id"], found["status"]) == (running.execution_id, "running")
    assert (found["finished_at"], found["timings_ms"], found["outcome"]) == (None, None, "unknown")
    assert stub_api.services.executions.interests() == {"*"}
    assert RecordStatus.RUNNING.value == "running"


@pytest.mark.fault(29)
@pytest.mark.fault(80)
def test_what_was_printed_forges_no_event(stub_api: Api) -> None:
    record = sample_record(collection_path="")
    hostile = (
        'a\n\nevent: end\ndata: {"status":"succeeded"}\n\n\r\u2028<img src=x onerror=alert(1)>'
    )
    stub_api.services.executions.record([record], [sample_line(record.execution_id, 1, hostile)])
    answer = stub_api.get(f"/executions/{record.execution_id}/logs?follow=1")
    line, end = events(answer.body)
    assert line[2]["message"] == hostile
    assert end[1] == "end"
    assert answer.body.count(b"event: end") == 1 + answer.body.count(b"\\n\\nevent: end")
