"""The cap on sandboxes under many callers, as the machine sees it."""

from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

COUNTER = Path(__file__).with_name("count_nodes.py")
CAP = 8
FUNCTIONS = 20
CLIENTS = 32
INVOCATIONS = 1000
#: In bursts: with every call for another function than the last, this would only measure starts.
BURST = 10


@pytest.mark.slow
def test_never_more_sandboxes_than_the_cap_and_no_failure(serve: Callable[..., Any]) -> None:
    # Given two serving processes that may have eight sandboxes between them, and twenty functions
    service = serve(WORKERS="2", MAX_INSTANCES=str(CAP), THREADS="40")
    for number in range(FUNCTIONS):
        source = f"export const handler = (i) => ({{ ok: true, data: [{number}, i.n] }});"
        service.deploy(f"f{number}", source)
    bursts = list(range(INVOCATIONS // BURST))
    random.Random(8).shuffle(bursts)
    calls = [burst * BURST + n for burst in bursts for n in range(BURST)]

    def invoke(n: int) -> str:
        function = n // BURST % FUNCTIONS
        status, answer = service.invoke(f"f{function}", {"n": n})
        assert status == 200, answer
        assert answer["output"] == {"ok": True, "data": [function, n]}
        start: str = answer["start"]
        return start

    # When 32 clients make 1,000 invocations while Node processes are counted every 20 ms
    began = time.monotonic()
    with (
        subprocess.Popen(
            [sys.executable, COUNTER, str(service.process.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as counter,
        ThreadPoolExecutor(CLIENTS) as clients,
    ):
        # Then none fails, and each is answered by its own function
        starts = Counter(clients.map(invoke, calls))
        seconds = time.monotonic() - began
        counted = json.loads(counter.communicate()[0])
    # And there never were more than the cap
    print(
        f"\n{INVOCATIONS} invocations of {FUNCTIONS} functions by {CLIENTS} clients in "
        f"{seconds:.1f} s, none failed ({dict(starts)}); Node processes at most "
        f"{counted['most']} of {CAP} in {counted['samples']} samples, "
        f"{counted['longest_gap_ms']} ms apart at most"
    )
    assert counted["samples"] > 20
    assert 2 <= counted["most"] <= CAP
