"""A service with two sinks: each gets every line, once and in order, whatever becomes of the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lowcode_faas_core import dispatcher
from lowcode_faas_core.services import SERVICES

SOURCE = """
export const handler = ({lines}) => {
  for (let n = 0; n < lines; n++) console.log(`line ${n}.`);
  return {ok: true, data: null};
};
"""


@pytest.mark.parametrize("loki", ["answers", "is not there"])
def test_each_gets_every_line(
    checker: Any, dead_url: str, tmp_path: Path, capfd: pytest.CaptureFixture[str], loki: str
) -> None:
    app = dispatcher.create_app(
        {
            "LOWCODE_FAAS_LISTEN": "127.0.0.1:8080",
            "LOWCODE_FAAS_DATA_DIR": str(tmp_path),
            "LOWCODE_FAAS_RUNNER": "process",
            "LOWCODE_FAAS_STOCK": "0",
            "LOWCODE_FAAS_FUNCTION_LOGS_SINK": "stdout,loki",
            "LOWCODE_FAAS_LOG_LOKI_URL": checker.url if loki == "answers" else dead_url,
        }
    )
    services = app.extensions[SERVICES]
    try:
        client = app.test_client()
        made = client.post("/functions", json={"name": "chatty", "source_code": SOURCE})
        assert made.status_code == 201
        result = client.post("/functions/chatty/invoke", json={"input": {"lines": 300}}).json
        assert result["logs"] == {"lines": 300, "truncated": False}
    finally:
        services.close()

    expected = [f"line {n}." for n in range(300)]
    printed = [
        line.rpartition(" line ")[2]
        for line in capfd.readouterr().out.splitlines()
        if " line " in line
    ]
    assert [f"line {each}" for each in printed] == expected
    assert checker.messages() == (expected if loki == "answers" else [])
    counts = services.logs.counts()["loki"]
    assert (counts["delivered"], counts["dropped"]) == ((300, 0) if loki == "answers" else (0, 300))
