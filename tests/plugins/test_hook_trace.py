from __future__ import annotations

import re
from collections.abc import Callable

import pytest

from lowcode_faas_core.errors import PluginError
from lowcode_faas_core.plugins import STORAGE, PluginRegistry, Selection
from lowcode_faas_core.startup import ProcessRole, Startup

SOURCE = """
from dataclasses import dataclass
from lowcode_faas_core.hookspecs import hookimpl
from lowcode_faas_core.settings import setting, text
from lowcode_faas_core.testing.memory_storage import MemoryStorage

@dataclass(frozen=True)
class Third:
    password: str = setting("THIRD_PASSWORD", text, "", "Password.", secret=True)

@hookimpl
def lowcode_faas_settings():
    return [Third]

@hookimpl
def lowcode_faas_storage(environ):
    if "BROKEN" in environ:
        raise OSError(environ["LOWCODE_FAAS_THIRD_PASSWORD"])
    return MemoryStorage()

@hookimpl
def lowcode_faas_log_dialect(environ):
    return None
"""
ENVIRON = {
    "LOWCODE_FAAS_STORAGE": "third",
    "LOWCODE_FAAS_RUNNER": "process",
    "LOWCODE_FAAS_FUNCTION_LOGS": "false",
    "LOWCODE_FAAS_SOURCE_FETCHERS": "none",
    "LOWCODE_FAAS_THIRD_PASSWORD": "hunter2",
}


def start(**more: str) -> PluginRegistry:
    return Startup.read({**ENVIRON, **more}, ProcessRole.DISPATCHER).registry


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    said = capsys.readouterr().err
    assert "hunter2" not in said
    return [re.sub(r"\d+\.\d\d ms$", "N ms", line) for line in said.splitlines()]


def test_each_call_of_a_hook_is_a_line(
    install: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    install("third-storage", SOURCE, "third", version="2.5")
    found = start(LOWCODE_FAAS_TRACE_PLUGINS="1")
    found.storage(ENVIRON)
    found.log_dialects(ENVIRON)
    said = lines(capsys)
    third = "third (third-storage 2.5)"
    assert f"lowcode-faas: hook lowcode_faas_settings of {third}: list, N ms" in said
    assert said[-2:] == [
        f"lowcode-faas: hook lowcode_faas_storage of {third}: MemoryStorage, N ms",
        f"lowcode-faas: hook lowcode_faas_log_dialect of {third}: None, N ms",
    ]


def test_a_hook_that_fails_is_a_line_without_its_message(
    install: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    install("third-storage", SOURCE, "third")
    found = start(LOWCODE_FAAS_TRACE_PLUGINS="1")
    with pytest.raises(PluginError):
        found.storage({**ENVIRON, "BROKEN": "1"})
    assert lines(capsys)[-1].endswith("third (third-storage 1.0): raised OSError, N ms")


def test_nothing_is_said_unless_asked_for(
    install: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    install("third-storage", SOURCE, "third")
    start().storage(ENVIRON)
    PluginRegistry([Selection("LOWCODE_FAAS_STORAGE", STORAGE, ("third",))]).storage({})
    assert lines(capsys) == []
