"""What ``make run`` deploys, and when: beside what a checkout gathers, and into what is left."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]

Guided = Callable[..., Any]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Return a copy of what the script reads."""
    for name in ("scripts", "examples"):
        shutil.copytree(
            ROOT / name, tmp_path / "copy" / name, ignore=shutil.ignore_patterns("__pycache__")
        )
    return tmp_path / "copy"


@pytest.fixture
def guided(
    copy: Path, start: Callable[..., Any], free_port: Callable[[], int], poll: Callable[..., Any]
) -> Guided:
    """Start the script and wait until it has said everything."""

    def run(**variables: str) -> Any:
        port = free_port()
        service = start(
            sys.executable,
            copy / "scripts" / "run_service.py",
            port=port,
            LISTEN=f"127.0.0.1:{port}",
            WORKERS="1",
            **variables,
        )
        poll("it guides", lambda: "Ctrl-C ends" in service.text() or service.process.poll(), 60)
        return service

    return run


def end(service: Any) -> None:
    service.process.terminate()
    service.process.wait(20)


def paths(service: Any) -> list[str]:
    return [each["path"] for each in service.call("GET", "/collections")[1]["items"]]


def answers(service: Any) -> list[Any]:
    """Type the printed lines, in their order."""
    lines = [line for line in service.text().splitlines() if line.startswith("curl ")]
    return [json.loads(subprocess.check_output(shlex.split(line), timeout=60)) for line in lines]


def test_only_what_holds_a_function_becomes_a_collection(guided: Guided, copy: Path) -> None:
    # Given what installing a plugin and running its tests leave among the examples
    examples = copy / "examples"
    for name in (
        "plugins/sqlite-storage/build/lib",
        "plugins/sqlite-storage/example.egg-info",
        "__pycache__",
        "shop/.pytest_cache/v",
        "notes",
    ):
        (examples / name).mkdir(parents=True)
    (examples / "plugins" / "sqlite-storage" / "build" / "page.mjs").write_text("export {};")
    (examples / "my dir").mkdir()
    shutil.copy(examples / "greet.mjs", examples / "my dir")
    # When somebody types make run, then the examples are there, and what is refused has its name
    service = guided()
    printed = service.text()
    assert "examples/my dir was left out: each segment of a collection path must match" in printed
    assert "deployed 4 functions from examples/" in printed
    assert paths(service) == ["shop", "shop/eu"]
    assert answers(service)[0]["output"]["data"] == {"message": "hello you"}
    end(service)


def test_collections_alone_are_an_empty_store(guided: Guided, copy: Path) -> None:
    # Given a store with collections and no function
    service = guided()
    for name in ("greet", "pause", "slugify"):
        assert service.call("DELETE", f"/functions/{name}")[0] == 204
    assert service.call("DELETE", "/collections/shop/eu/functions/price")[0] == 204
    assert service.call("PUT", "/collections/shop/env", {"env": {"MINE": "1"}})[0] == 200
    end(service)
    # When it starts again, then the examples are deployed, and env that is there is left
    service = guided()
    assert "deployed 4 functions from examples/" in service.text()
    assert service.call("GET", "/collections/shop/env")[1]["env"] == {"MINE": "1"}
    # And a function anywhere makes it a store of somebody's own
    for name in ("greet", "pause", "slugify"):
        assert service.call("DELETE", f"/functions/{name}")[0] == 204
    end(service)
    service = guided()
    assert "deployed" not in service.text()
    assert "greet is not in this store" in service.text()
    # Where every line printed still works
    assert [each.get("status", "deployed") for each in answers(service)] == [
        "deployed",
        "succeeded",
    ]
    end(service)
