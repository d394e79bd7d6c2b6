"""The helper for tests of handlers judges and refuses as the service does."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from lowcode_faas_core.configuration import LimitSettings
from lowcode_faas_core.limits import OperatorLimits
from lowcode_faas_core.names import LOADER_VARIABLES, PLATFORM_PREFIX
from scripts.node_path import node_path
from tests.integration.test_verdicts import TABLE

HELPER = Path(__file__).resolve().parents[2] / "js" / "testing" / "invoke.mjs"
OPTIONS = HELPER.with_name("options.mjs")
#: What only the service bounds: memory beyond V8's heap.
ONLY_THERE = {"takes_memory"}
SCRIPT = f"""
import {{ readFileSync }} from 'node:fs';
import {{ invoke }} from {json.dumps(HELPER.as_uri())};

const results = {{}};
for (const [file, options] of JSON.parse(readFileSync(0, 'utf8'))) {{
  results[file] = await invoke(file, {{}}, options);
}}
console.log(JSON.stringify(results));
"""


def node(script, cwd, given=""):
    """Run a module, and return the JSON it prints."""
    done = subprocess.run(
        [str(node_path()), "--input-type=module", "-e", script],
        cwd=cwd,
        input=given,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_verdict_is_the_services(tmp_path):
    rows = {name: row for name, row in TABLE.items() if name not in ONLY_THERE}
    assert set(TABLE) - set(rows) == ONLY_THERE
    asked = []
    for name, row in rows.items():
        (tmp_path / f"{name}.mjs").write_text(row.source)
        options = {"timeoutMs": row.more.get("timeout_ms", 20_000)}
        if "memory_mb" in row.limits:
            options["memoryMb"] = row.limits["memory_mb"]
        asked.append([f"{name}.mjs", options])
    results = node(SCRIPT, tmp_path, json.dumps(asked))
    for name, row in rows.items():
        result = results[f"{name}.mjs"]
        error = result["error"] or {}
        got = (result["status"], error.get("code"), error.get("phase"), result["output"])
        assert got == (row.status, row.code, row.phase, row.output), (name, result)


def test_defaults_and_bounds_are_those_of_a_service_that_nobody_configured(tmp_path):
    script = (
        f"import * as all from {json.dumps(OPTIONS.as_uri())};"
        "console.log(JSON.stringify({...all, RESERVED: [...all.RESERVED]}));"
    )
    here, limits = node(script, tmp_path), LimitSettings()
    memory = OperatorLimits(limits).bounds["memory_mb"]
    assert here["DEFAULTS"]["timeoutMs"] == limits.default_timeout_ms
    assert here["DEFAULTS"]["memoryMb"] == limits.memory_mb
    assert here["DEFAULTS"]["outputBytes"] == limits.output_bytes
    assert here["MAX_TIMEOUT_MS"] == limits.max_timeout_ms
    assert here["MAX_INPUT_BYTES"] == limits.input_bytes
    assert here["MEMORY_MB"] == [memory.minimum, memory.maximum]
    assert set(here["RESERVED"]) == LOADER_VARIABLES
    assert here["PREFIX"] == PLATFORM_PREFIX
