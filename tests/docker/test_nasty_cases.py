"""The table of hostile handlers on Docker, by every exchange: the verdicts of its rows hold here, too.

``direct`` is past the engine, ``attach`` by its stream. What differs is in ``nasty.toml``: a table
named like the way replaces keys of the row, ``docker.<case>`` those of all three.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

HERE = Path(__file__).parent
NASTY = HERE.parent / "nasty"
CASES = {path.stem: path for path in sorted((NASTY / "cases").glob("*.m[jt]s"))}
EXPECTED = tomllib.loads((NASTY / "expected.toml").read_text())
OURS = tomllib.loads((HERE / "nasty.toml").read_text())
TIMEOUT_MS = 20_000
#: Room for a cold start on a busy machine, which the deadline of every run has to cover.
COLD_MS = 4_000
GRACE_MS = 2_500
VERDICT = {"either", "code", "phase", "message", "output"}
#: Where the channel is: it is descriptor 3 in the cases, and in a container whichever was free.
CHANNEL = """
import { readdirSync as all, readlinkSync as target } from 'node:fs';
const isSocket = (fd) => { try { return target(`/proc/self/fd/${fd}`).startsWith('socket:'); } catch {} };
const CHANNEL = Number(all('/proc/self/fd').find(isSocket));
"""
WAYS = {
    "direct": {"DOCKER_EXCHANGE": "stream"},
    "attach": {"DOCKER_EXCHANGE": "stream", "DOCKER_DIRECT": "false"},
    "files": {"DOCKER_EXCHANGE": "files"},
}
HONEST = "export const handler = ({ n }) => ({ ok: true, data: { n, env: { ...process.env } } });"


@pytest.fixture(scope="module", params=list(WAYS))
def nasty_service(request, module_serve):
    service = module_serve(**WAYS[request.param], CANARY_OF_THE_SERVICE="canary")
    service.way = request.param
    service.deploy("honest", HONEST)
    return service


def source_of(case, way):
    source = CASES[case].read_text()
    if way != "direct":
        return source
    shown, count = re.subn(
        r"(\b(?:writeSync|readSync|read|closeSync)\(|fd: )3\b", r"\1CHANNEL", source
    )
    return CHANNEL + shown if count else source


def row_of(case, way):
    row = dict(EXPECTED[case])
    for table in ("docker", way):
        ours = OURS.get(table, {}).get(case, {})
        row.update(ours)
        for key in ours.get("unset", ()):
            row.pop(key, None)
    return row


def test_every_difference_is_of_a_case():
    assert set(OURS) <= {"docker", *WAYS}
    assert all(set(cases) <= set(EXPECTED) for cases in OURS.values())


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(name, marks=pytest.mark.fault(*row.get("faults", ())))
        for name, row in EXPECTED.items()
    ],
)
def test_case(case, nasty_service):
    service, row = nasty_service, row_of(case, nasty_service.way)
    path = CASES[case]
    deploy = {
        "name": case,
        "source_code": source_of(case, service.way),
        "language": "typescript" if path.suffix == ".mts" else "javascript",
        **{key: row[key] for key in ("limits", "reuse") if key in row},
    }
    status, answer = service.call("POST", "/functions", deploy)
    if "refused" in row:
        assert status == 422, answer
        assert answer["code"] == "source_invalid"
        assert re.search(row["refused"], answer["detail"]), answer
        return
    assert status in (200, 201), answer
    for run in row.get("runs", [{}]):
        kept = {k: v for k, v in row.items() if "status" not in run or k not in VERDICT}
        invoke(service, case, {**kept, **run})
    if service.way == "files" and not row.get("alongside"):
        return  # the next run shares nothing with this one, not even a pool
    status, answer = service.invoke("honest", {"n": 7})
    assert status == 200, answer
    assert answer["output"] == {"ok": True, "data": {"n": 7, "env": {}}}


def invoke(service, case, expected):
    timeout_ms = max(expected.get("timeout_ms", TIMEOUT_MS), COLD_MS)
    more = {"env": expected["env"]} if "env" in expected else {}
    status, result = service.invoke(case, expected.get("input"), timeout_ms, **more)
    shown = str(result)[:2000]
    other = expected.get("either", {})
    error_code = (result.get("error") or {}).get("code")
    if result.get("status") == other.get("status") and error_code == other.get("code", error_code):
        expected = {k: v for k, v in expected.items() if k not in VERDICT} | other
    assert status == expected.get("http", 200), shown
    assert result["status"] == expected["status"], shown
    error = result["error"] or {}
    assert error.get("code") == expected.get("code"), shown
    assert error.get("phase") == (expected.get("phase", "run") if error else None), shown
    if "message" in expected:
        assert re.search(expected["message"], error["message"]), shown
    if "output" in expected:
        assert result["output"] == with_null(expected["output"]), shown
    elif expected["status"] not in ("succeeded", "failed"):
        assert result["output"] is None
    assert (result["function_name"], result["outcome"]) == (case, "executed")
    assert result["timings_ms"]["total"] <= timeout_ms + GRACE_MS, shown
    assert "canary" not in str(result)


def with_null(value):
    if isinstance(value, dict):
        return {key: with_null(each) for key, each in value.items()}
    if isinstance(value, list):
        return [with_null(each) for each in value]
    return None if value == "null" else value
