"""A gigabyte of output from a container, and the memory of everything of ours that carries it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.services.processes import children

SOURCE = """
import fs from 'node:fs';
const line = 'x'.repeat(1 << 16);
const raw = Buffer.alloc(1 << 16, 'y');
function write(rest) {
  while (rest.length > 0) {
    try {
      rest = rest.subarray(fs.writeSync(1, rest));
    } catch (error) {
      if (error.code !== 'EAGAIN') throw error;
    }
  }
}
export const handler = ({console: count, raw: chunks}) => {
  for (let n = 0; n < count; n++) console.log(line);
  for (let n = 0; n < chunks; n++) write(raw);
  return {ok: true, data: null};
};
"""
GROWTH_BYTES = 50 << 20


def _peak(pid: int) -> int:
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) << 10 if found else 0


def _family(pid: int) -> list[int]:
    return [pid, *(below for child in children(pid) for below in _family(child))]


@pytest.mark.slow
@pytest.mark.fault(63)
@pytest.mark.parametrize("exchange", ["stream", "files"])
def test_a_gigabyte_of_output_moves_no_process_by_50_mb(serve, engine, instance, exchange):
    # Given a service that has run the function once
    service = serve(DOCKER_EXCHANGE=exchange, STOCK="0", FUNCTION_LOGS_SINK="stdout,docker_json")
    service.deploy("flood", SOURCE)
    service.invoke("flood", {"console": 20, "raw": 20})
    watched = _family(service.process.pid)
    if exchange == "stream":  # by files the container of the flood is another one
        label = {"label": f"io.lowcode-faas.instance={instance}"}
        [container] = engine.containers.list(filters=label)
        watched += _family(container.attrs["State"]["Pid"])
    before = {pid: _peak(pid) for pid in watched}
    # When it prints a gigabyte
    amount = {"console": 8192, "raw": 8192}
    status, result = service.invoke("flood", amount, timeout_ms=100_000)
    # Then the run goes on to its end, and says what was left out
    assert (status, result["status"]) == (200, "succeeded"), result["error"]
    assert result["logs"]["truncated"] is True
    # And no process of the service, nor Node where it is the same, has grown by much
    growth = {pid: _peak(pid) - size for pid, size in before.items()}
    print(f"{exchange}: {result['timings_ms']['run']:.0f} ms, grown by {growth}")
    assert len(growth) >= (4 if exchange == "stream" else 2)
    assert max(growth.values()) < GROWTH_BYTES, growth
