"""The helper for tests of handlers says of each source what the service's own table of verdicts says."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from scripts.node_path import node_path
from tests.integration.test_verdicts import TABLE

HELPER = Path(__file__).resolve().parents[2] / "js" / "testing" / "invoke.mjs"
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
    done = subprocess.run(
        [str(node_path()), "--input-type=module", "-e", SCRIPT],
        cwd=tmp_path,
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    for name, row in rows.items():
        result = results[f"{name}.mjs"]
        error = result["error"] or {}
        got = (result["status"], error.get("code"), error.get("phase"), result["output"])
        assert got == (row.status, row.code, row.phase, row.output), (name, result)
