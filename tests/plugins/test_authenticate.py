"""Plugins that say who callers are, through the whole dispatcher."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lowcode_faas_core.dispatcher import create_app
from lowcode_faas_core.errors import PluginError
from lowcode_faas_core.plugins import FURTHER, PluginRegistry, Selection
from lowcode_faas_core.services import SERVICES
from lowcode_faas_core.startup import ProcessRole, Startup, first_token

SOURCE = """
from lowcode_faas_core.callers import Caller, Verb
from lowcode_faas_core.errors import PlatformError
from lowcode_faas_core.hookspecs import hookimpl
from lowcode_faas_core.testing.memory_authenticator import MemoryAuthenticator

READER = Caller("reader", "reader", frozenset((Verb.READ,)), "org")

def away():
    found = MemoryAuthenticator()
    found.failure = PlatformError("the directory cannot be reached")
    return found

@hookimpl
def lowcode_faas_authenticate(environ):
    return RESULT
"""
KNOWN = 'MemoryAuthenticator({"badge": READER})'


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {
        "LOWCODE_FAAS_LISTEN": "127.0.0.1:0",
        "LOWCODE_FAAS_DATA_DIR": str(tmp_path / "data"),
        "LOWCODE_FAAS_RUNNER": "process",
        "LOWCODE_FAAS_STOCK": "0",
        "LOWCODE_FAAS_PLUGINS": "badges",
    }


@pytest.fixture
def serve(install: Callable[..., str], environ: dict[str, str]) -> Iterator[Callable[..., Any]]:
    apps: list[Any] = []

    def built(result: str, **more: str) -> Any:
        install("badges", SOURCE.replace("RESULT", result), "badges")
        apps.append(create_app({**environ, **more}))
        return apps[-1].test_client()

    yield built
    for app in apps:
        app.extensions[SERVICES].close()


def test_a_plugins_caller_is_held_to_its_scope(serve: Callable[..., Any]) -> None:
    client = serve(KNOWN)
    shown = {"Authorization": "Memory badge"}
    assert client.get("/collections").status_code == 401
    assert client.get("/collections", headers={"Authorization": "Memory x"}).status_code == 401
    assert client.get("/collections", headers=shown).status_code == 200
    assert client.get("/functions", headers=shown).status_code == 403
    answer = client.post("/collections", json={"path": "org/x"}, headers=shown)
    assert answer.status_code == 403


def test_what_is_no_authenticator_is_named(install: Callable[..., str]) -> None:
    install("badges", SOURCE.replace("RESULT", "'x'"), "badges")
    registry = PluginRegistry([Selection("LOWCODE_FAAS_PLUGINS", FURTHER, ("badges",))])
    with pytest.raises(PluginError, match=r'"badges".*returned a str, not a .*Authenticator'):
        registry.authenticators({})


def test_a_plugin_may_decide_to_have_none(serve: Callable[..., Any]) -> None:
    assert serve("None").get("/collections").status_code == 200


def test_one_whose_other_side_is_away_is_a_503(serve: Callable[..., Any]) -> None:
    client = serve("away()")
    answer = client.get("/functions", headers={"Authorization": "Memory badge"})
    assert (answer.status_code, answer.json["code"]) == (503, "unavailable")


@pytest.mark.fault(24)
@pytest.mark.parametrize(
    ("result", "variables", "made"),
    [
        ("None", {}, True),
        (KNOWN, {}, False),
        ("None", {"LOWCODE_FAAS_LISTEN": "127.0.0.1:1"}, False),
        ("None", {"LOWCODE_FAAS_ALLOW_ANONYMOUS": "true"}, False),
    ],
)
def test_the_first_token_is_made_only_where_nobody_could_call(
    install: Callable[..., str],
    environ: dict[str, str],
    result: str,
    variables: dict[str, str],
    made: bool,
) -> None:
    install("badges", SOURCE.replace("RESULT", result), "badges")
    startup = Startup.read(
        {**environ, "LOWCODE_FAAS_LISTEN": ":8080", **variables}, ProcessRole.DISPATCHER
    )
    assert (first_token(startup) is not None) is made
    assert first_token(startup) is None
    assert startup.access.tokens.exists() is made
