"""A stranger's first minute: a clone, ``make run``, the printed lines, Ctrl-C."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_make_run_from_nothing(
    clone: Path,
    start: Callable[..., Any],
    free_port: Callable[[], int],
    poll: Callable[..., Any],
) -> None:
    # Given a clone without a virtual environment
    port = free_port()
    # When its owner types make run
    service = start(
        "make", "--no-print-directory", "run", cwd=clone, port=port, LISTEN=f"127.0.0.1:{port}"
    )
    poll("make run is done", lambda: "Ctrl-C ends" in service.text() or service.process.poll(), 240)
    printed = service.text()
    assert service.process.poll() is None, printed

    # Then it deployed the examples, invoked greet, and printed the whole answer
    assert "deployed 4 functions from examples/" in printed
    document = re.search(r"^greet answered:\n(\{.*?^\})", printed, re.DOTALL | re.MULTILINE)
    assert document, printed
    result = json.loads(document[1])
    assert result["status"] == "succeeded"
    assert result["output"] == {"ok": True, "data": {"message": "hello world"}}

    # And the printed lines work as they stand, in their order
    lines = [line for line in printed.splitlines() if line.startswith("curl ")]
    answers = [json.loads(subprocess.check_output(shlex.split(line), timeout=60)) for line in lines]
    assert answers[0]["output"]["data"] == {"message": "hello you"}
    assert (answers[1]["function_name"], answers[1]["version"]) == ("double", 1)
    assert answers[2]["output"] == {"ok": True, "data": 42}
    assert len(answers) == 3

    # And the examples are in the data folder of the clone, for people to see
    assert (clone / "data/collections/shop/eu/functions/price.mjs").exists()

    # When its owner presses Ctrl-C, then everything ends, sandboxes included
    everyone = service.family()
    assert len(everyone) > 4, "make, master, workers and sandboxes are expected"
    service.interrupt()
    service.process.wait(15)
    poll("all processes are gone", lambda: not [seen for seen in everyone if seen.lives()])
    assert "Traceback" not in service.text()

    # When it is started again, then nothing is installed and the store is as it was left
    again = start("make", "run", cwd=clone, port=port, LISTEN=f"127.0.0.1:{port}")
    poll("it runs again", lambda: "Ctrl-C ends" in again.text() or again.process.poll(), 30)
    assert "installing" not in again.text()
    assert "deployed" not in again.text()
    assert "hello world" in again.text()
    assert again.call("POST", "/functions/double/invoke", {"input": {"n": 4}})[1]["output"] == {
        "ok": True,
        "data": 8,
    }
    # And a third one on the same port says what is in the way
    third = start("make", "run", cwd=clone, port=port, LISTEN=f"127.0.0.1:{port}")
    assert third.process.wait(30) != 0
    assert f"LOWCODE_FAAS_LISTEN is 127.0.0.1:{port}, which cannot be listened on" in third.text()
    again.interrupt()
    again.process.wait(15)
