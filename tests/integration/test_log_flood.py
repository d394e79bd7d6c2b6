"""A gigabyte of output, and the memory of everything that carries it."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

#: Two parts of a gigabyte: through console, and past the bootstrap as raw bytes without an end.
SOURCE = """
import fs from 'node:fs';
const line = 'x'.repeat(1 << 16);
const raw = Buffer.alloc(1 << 16, 'y');
export const handler = ({console: count, raw: chunks}) => {
  for (let n = 0; n < count; n++) console.log(line);
  for (let n = 0; n < chunks; n++) fs.writeSync(1, raw);
  return {ok: true, data: null};
};
"""
GROWTH_BYTES = 50 << 20


def peak(pid: int) -> int:
    """Return the most memory a process ever had resident, in bytes."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(found[1]) << 10 if found else 0


@pytest.mark.fault(63)
def test_a_gigabyte_of_output_moves_no_process_by_50_mb(serve: Callable[..., Any]) -> None:
    # Given a service that has run the function once
    service = serve(WORKERS="1", STOCK="0", FUNCTION_LOGS_SINK="stdout,docker_json")
    service.deploy("flood", SOURCE)
    service.invoke("flood", {"console": 20, "raw": 20})
    before = {seen: peak(seen.pid) for seen in service.family() if seen.lives()}
    # When it prints a gigabyte
    status, result = service.invoke("flood", {"console": 8192, "raw": 8192}, timeout_ms=100_000)
    # Then the run goes on to its end, and says what was left out
    assert (status, result["status"]) == (200, "succeeded"), result
    assert result["start"] == "warm"
    assert result["logs"]["truncated"] is True
    assert result["logs"]["lines"] == 8193
    # And no process of the service, Node's included, has grown by much
    growth = {seen: peak(seen.pid) - size for seen, size in before.items() if seen.lives()}
    assert len(growth) >= 3
    assert max(growth.values()) < GROWTH_BYTES, growth
