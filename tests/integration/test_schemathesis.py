"""Schemathesis against a live service: every operation, every check, with authentication.

``FUZZING_SEED`` repeats a run, ``FUZZING_SECONDS`` makes one that long; a failure prints the seed and
the requests that show it.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.api.sources import Sources

FOLDER = Path(__file__).with_name("fuzzing")
SECONDS = os.environ.get("FUZZING_SECONDS", "")
#: Without a length, so many cases an operation: on a busy machine, time ends before the last phase.
LENGTH = ("--max-time", SECONDS) if SECONDS else ("--max-examples", "5")
CONFIG = FOLDER / "schemathesis.toml"
COMMAND = Path(sys.executable).with_name("schemathesis")
TOKENS = Path(sys.executable).with_name("lowcode-faas")


def test_nothing_is_excluded_or_suppressed() -> None:
    assert set(tomllib.loads(CONFIG.read_text())) == {"hooks", "auth"}


@pytest.mark.slow
@pytest.mark.timeout(float(SECONDS or 360) + 240)
def test_schemathesis_finds_nothing(
    serve: Callable[..., Any], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    # Given a service as make run hosts it, and an administrator's token
    data = tmp_path / "data"
    token = subprocess.run(
        [TOKENS, "token", "create", "fuzzing", "--verbs", "admin"],
        env={**os.environ, "LOWCODE_FAAS_DATA_DIR": str(data)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    sources = Sources()
    request.addfinalizer(sources.close)
    url = sources.publish("export const handler = (input) => ({ ok: true, data: input });")
    service = serve(
        WORKERS="1",
        SOURCE_ALLOW_HTTP="true",
        SOURCE_ALLOW_HOSTS=sources.base.removeprefix("http://"),
        FILES_KEEP_VERSIONS="20",
        FUNCTION_LOGS_SINK="none",
        METRICS="prometheus",
        INVOKE_DEFAULT_TIMEOUT_MS="30000",
    )
    # And its description as a file: read from its address, that address would be left out
    described = tmp_path / "openapi.json"
    document = service.call("GET", "/openapi.json")[1]
    described.write_text(json.dumps(document))
    count = sum(len(item) - ("parameters" in item) for item in document["paths"].values())
    # When Schemathesis has had its time
    seed = os.environ.get("FUZZING_SEED", "")
    done = subprocess.run(
        [
            *(COMMAND, "--config-file", CONFIG, "run", described, "--url", service.url),
            *("--checks", "all", "--continue-on-failure", "--no-color"),
            *(*LENGTH, *(("--seed", seed) if seed else ())),
        ],
        cwd=tmp_path,
        env={
            **os.environ,
            "FUZZING_TOKEN": token,
            "FUZZING_RULES": str(FOLDER / "rules.py"),
            "FUZZING_SOURCE_URL": url,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    # Then it found nothing, and has looked everywhere
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout
    assert f"Selected: {count}/{count}" in said
    assert f"Tested: {count}" in said
    for phase in ("Examples", "Coverage", "Fuzzing", "Stateful"):
        assert re.search(rf"✅ +{phase}", said), said
    # And the service has nothing to say of it: no error of ours, no token
    assert "unforeseen" not in service.text()
    assert "Traceback" not in service.text()
    assert token.rpartition("_")[2] not in service.text()
    assert service.ready()
