"""``make dev-services`` and ``make run`` beside it, as a developer uses them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def test_the_printed_variables_are_all_that_is_needed(
    start: Callable[..., Any],
    free_port: Callable[[], int],
    poll: Callable[..., Any],
    descendants: Callable[[int], set[Any]],
    tmp_path: Path,
):
    """The service runs on what it prints; both servers end with it, also when it is killed."""
    services = subprocess.Popen(
        [sys.executable, "-m", "tests.services.dev"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert services.stdout is not None
    given = {}
    for _ in range(6):
        name, _, value = services.stdout.readline().strip().removeprefix("export ").partition("=")
        given[name.removeprefix("LOWCODE_FAAS_")] = value
    family = descendants(services.pid)
    assert len(family) >= 3
    try:
        port = free_port()
        command = Path(sys.executable).with_name("lowcode-faas")
        service = start(
            command,
            "dispatcher",
            port=port,
            LISTEN=f"127.0.0.1:{port}",
            RUNNER="process",
            **given,
        )
        poll("the service is ready", service.ready, 30)
        service.deploy("greet", "export const handler = () => ({ok: true});")
        assert service.invoke("greet")[1]["status"] == "succeeded"
        assert not (tmp_path / "data").exists()
    finally:
        os.kill(services.pid, signal.SIGKILL)
        services.wait()
    poll("both servers end", lambda: not any(each.lives() for each in family), 10)
