"""How often a token may call a service of several gunicorn workers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import urllib3

COMMAND = Path(sys.executable).with_name("lowcode-faas")
ECHO = "export const handler = (input) => ({ ok: true, data: input });"
RATE = 20


def token(name: str, data: Path) -> dict[str, str]:
    done = subprocess.run(
        [COMMAND, "token", "create", name, "--verbs", "admin"],
        env={**os.environ, "LOWCODE_FAAS_DATA_DIR": str(data)},
        capture_output=True,
        text=True,
        check=True,
    )
    return {"Authorization": f"Bearer {done.stdout.strip()}"}


def test_a_tokens_rate_is_the_whole_services(serve: Callable[..., Any], tmp_path: Path) -> None:
    # Given three gunicorn workers, and two tokens with 20 requests a second each
    busy, calm = (token(name, tmp_path / "data") for name in ("busy", "calm"))
    service = serve(WORKERS="3", RATE_PER_TOKEN=str(RATE))
    body = {"name": "echo", "source_code": ECHO}
    assert service.call("POST", "/functions", body, headers=calm)[0] == 201
    # When one calls as fast as it can for three seconds, over a new connection each time
    statuses: Counter[tuple[int, int]] = Counter()
    with urllib3.PoolManager(retries=False, timeout=30) as http:
        closing = {**busy, "Connection": "close"}
        url = f"{service.url}/functions/echo/invoke"
        end = time.monotonic() + 3
        while time.monotonic() < end:
            answer = http.request("POST", url, json={"input": {}}, headers=closing)
            # The clock of the rates is the machine's, and so is ours.
            statuses[int(time.monotonic()), answer.status] += 1
            if answer.status == 429:
                assert answer.headers["Retry-After"] == "1"
                problem = answer.json()
                assert (problem["code"], problem["outcome"]) == ("rate_limited", "not_executed")
    # Then each second had no more than its rate, whoever answered
    print(f"\nanswers by second and status: {sorted(statuses.items())}")
    accepted = sum(count for (_, status), count in statuses.items() if status == 200)
    assert {status for _, status in statuses} == {200, 429}
    # One request may be counted in the second before the one its answer came in.
    assert max(count for (_, status), count in statuses.items() if status == 200) <= RATE + 1
    assert accepted >= RATE
    # And the other one calls as if nothing had been
    assert service.call("GET", "/functions", headers=calm)[0] == 200
    # And what answers everybody does so, however often
    assert {service.call("GET", "/healthz", headers=busy)[0] for _ in range(2 * RATE)} == {200}
