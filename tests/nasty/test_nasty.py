"""Hostile handlers through the whole service: each gets the verdict of its row, and harms nobody.

``expected.toml`` has a table for each module in ``cases``. Its keys:

* ``status``, ``code``, ``phase``, ``message`` (a pattern), ``http``: the answer
* ``output``: exactly; TOML has no null, so the text ``null`` stands for it
* ``either``: another verdict that is as true, where the kernel decides which of two threads reads
* ``prints``: messages among the run's log lines, ``late`` those that must be marked late
* ``truncated``: that log lines were cut or dropped
* ``input``, ``env``, ``timeout_ms``: of the invocation; ``limits``, ``reuse``: of the deployment
* ``runs``: several invocations, one after the other, each with keys of its own over the case's;
  a ``status`` of its own leaves nothing of the case's verdict
* ``alongside``: an honest function runs meanwhile and must not notice
* ``process``, ``without.<feature>``: what is different with that runner, or where that feature of
  the launcher's isolation does not hold
* ``faults``: rows of the table of faults and threats
"""

from __future__ import annotations

import re
import secrets
import threading
import tomllib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
CASES = {path.stem: path for path in sorted((HERE / "cases").glob("*.m[jt]s"))}
EXPECTED: dict[str, dict[str, Any]] = tomllib.loads((HERE / "expected.toml").read_text())
RUNNER = "process"
#: Given to every run whose row names none, in milliseconds: nothing that ends by itself needs it.
TIMEOUT_MS = 10_000
#: How much later than its deadline an answer may come, in milliseconds.
GRACE_MS = 2_000
VERDICT = {"either", "code", "phase", "message", "output"}
KEYS = set(
    "status code phase message output http prints late truncated input env timeout_ms limits reuse "
    "runs either alongside process without faults refused".split()
)


def test_every_case_has_a_row_and_every_row_a_case() -> None:
    assert set(CASES) == set(EXPECTED)
    assert len(CASES) == len(list((HERE / "cases").iterdir()))


@pytest.mark.parametrize("case", EXPECTED)
def test_rows_say_what_they_mean(case: str) -> None:
    row = EXPECTED[case]
    runs = row.get("runs", [{}])
    for each in (row, *runs, row.get(RUNNER, {}), *row.get("without", {}).values()):
        assert set(each) <= KEYS
    assert all("status" in {**row, **run} for run in runs)


def _for_here(row: dict[str, Any], features: frozenset[str]) -> dict[str, Any]:
    """Return a row with what is different for this runner on this machine."""
    merged = {**row, **row.get(RUNNER, {})}
    for feature, different in row.get("without", {}).items():
        if feature not in features:
            merged.update(different)
    return merged


def _merged(row: dict[str, Any], run: dict[str, Any]) -> dict[str, Any]:
    if "status" in run:
        row = {key: value for key, value in row.items() if key not in VERDICT}
    return {**row, **run}


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(name, marks=pytest.mark.fault(*row.get("faults", ())))
        for name, row in EXPECTED.items()
    ],
)
def test_case(case: str, services: list[Any], canary: str, poll: Callable[..., Any]) -> None:
    def hold(service: Any) -> None:
        try:
            _hold(case, service, canary, poll)
        except BaseException as error:
            error.add_note(f"as {service.user}")
            raise

    # The services have nothing in common, and most cases only wait.
    with ThreadPoolExecutor(len(services)) as pool:
        held = [pool.submit(hold, service) for service in services]
    for future in held:
        future.result()


def _hold(case: str, service: Any, canary: str, poll: Callable[..., Any]) -> None:
    row = _for_here(EXPECTED[case], service.features)
    path = CASES[case]
    # Given a hostile function
    deploy = {
        "name": case,
        "source_code": path.read_text(),
        "language": "typescript" if path.suffix == ".mts" else "javascript",
        **{key: row[key] for key in ("limits", "reuse") if key in row},
    }
    answer = service.call("POST", "/functions", deploy)
    if "refused" in row:
        assert answer.status == 422, answer
        assert answer.body["code"] == "source_invalid"
        assert re.search(row["refused"], answer.body["detail"]), answer
        return
    assert answer.status in (200, 201), answer
    meanwhile = _Meanwhile(service) if row.get("alongside") else None
    for run in row.get("runs", [{}]):
        # When it is invoked, its verdict is the one of its row
        _invoke(case, _merged(row, run), service, canary, poll)
    if meanwhile is not None:
        meanwhile.check()
    # Then the next function runs normally, and nothing of it is left
    service.honest()
    service.back_at_base()
    service.held.add(case)


def _invoke(
    case: str, expected: dict[str, Any], service: Any, canary: str, poll: Callable[..., Any]
) -> None:
    execution_id = secrets.token_hex(12)
    timeout_ms = expected.get("timeout_ms", TIMEOUT_MS)
    answer = service.invoke(
        case,
        input=expected.get("input", {}),
        env=expected.get("env", {}),
        timeout_ms=timeout_ms,
        execution_id=execution_id,
    )
    result = answer.body
    shown = str(result)[:2000]
    assert answer.status == expected.get("http", 200), shown
    if result["status"] == expected.get("either", {}).get("status"):
        expected = _merged(expected, expected["either"])
    assert result["status"] == expected["status"], shown
    assert answer.headers["X-Lowcode-Faas-Status"] == expected["status"]
    error = result["error"] or {}
    assert error.get("code") == expected.get("code"), shown
    assert error.get("phase") == (expected.get("phase", "run") if error else None), shown
    if "message" in expected:
        assert re.search(expected["message"], error["message"]), shown
    if "output" in expected:
        assert result["output"] == _with_null(expected["output"]), shown
    elif expected["status"] not in ("succeeded", "failed"):
        assert result["output"] is None
    # And everything else in the answer is the host's
    assert result["execution_id"] == result["run_id"] == execution_id
    assert (result["function_name"], result["collection_path"]) == (case, "")
    assert (result["deployment_version"], result["outcome"]) == (1, "executed")
    begun = datetime.fromisoformat(result["started_at"])
    assert begun <= datetime.fromisoformat(result["finished_at"])
    assert abs((datetime.now(UTC) - begun).total_seconds()) < 60
    assert 0 <= result["timings_ms"]["run"] <= result["timings_ms"]["total"]
    assert result["timings_ms"]["total"] <= timeout_ms + GRACE_MS
    assert result["logs"]["truncated"] is expected.get("truncated", False), shown
    assert canary not in str(result)
    own = execution_id[-12:]
    for message in expected.get("prints", ()):
        # The sink has a thread of its own: the line may come after the answer.
        poll(f"it prints {message!r}", partial(_printed, service, case, message, own))
    for message in expected.get("late", ()):
        lines = poll(f"it prints {message!r}", partial(_printed, service, case, message))
        assert all(line.late and line.execution != own for line in lines), lines


def _with_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_null(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_with_null(each) for each in value]
    return None if value == "null" else value


def _printed(service: Any, case: str, pattern: str, execution: str = "") -> list[Any]:
    """Return the lines that match; with ``execution`` those it printed before its end."""
    return [
        line
        for line in service.lines()
        if line.function == case
        and re.search(pattern, line.message)
        and (not execution or (line.execution == execution and not line.late))
    ]


class _Meanwhile:
    """An honest run that began before the hostile one and ends during it or after it."""

    def __init__(self, service: Any) -> None:
        self._answers: list[Any] = []
        self._thread = threading.Thread(
            target=lambda: self._answers.append(
                service.invoke("honest", input={"nonce": "meanwhile", "ms": 400}, timeout_ms=15_000)
            )
        )
        self._thread.start()

    def check(self) -> None:
        self._thread.join(20)
        assert [answer.body["status"] for answer in self._answers] == ["succeeded"]
