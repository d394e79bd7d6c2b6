"""Tokens and whole services: the first one, what revoking does, and where a secret never is."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.typing_commands import typed

ROOT = Path(__file__).resolve().parents[2]
COMMAND = Path(sys.executable).with_name("lowcode-faas")
TOKEN = re.compile(r"\blcf_[A-Za-z0-9]{10}_[A-Za-z0-9]{43}\b")
ECHO = "export const handler = (input) => ({ ok: true, data: input });"
EXPOSED = "0.0.0.0:{}"


def show(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
def exposed(serve: Callable[..., Any], free_port: Callable[[], int]) -> Callable[..., Any]:
    """Start a dispatcher on an address others can reach."""
    port = free_port()
    return lambda **variables: serve(
        **{"LISTEN": EXPOSED.format(port), "WORKERS": "2", "STOCK": "0", **variables}
    )


def test_who_shows_no_token_is_told_where_one_is_named(exposed: Any, tmp_path: Path) -> None:
    run = typed(tmp_path, exposed().url)
    code, out, talk = run("list")
    assert (code, out) == (1, "")
    assert "this needs a token" in talk
    assert "LOWCODE_FAAS_TOKEN or by --token" in talk
    assert "--token" not in run("list", LOWCODE_FAAS_TOKEN="lcf_a_b")[2]


def command(*arguments: str, data: Path) -> str:
    done = subprocess.run(
        [COMMAND, "token", *arguments],
        env={**os.environ, "LOWCODE_FAAS_DATA_DIR": str(data)},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def stop(service: Any) -> None:
    """End it at once; a worker that still boots would be waited for."""
    service.process.kill()
    service.process.wait(15)


@pytest.mark.fault(24)
def test_an_exposed_service_makes_its_first_token_once(exposed: Any, tmp_path: Path) -> None:
    # When a service that others can reach starts for the first time, with two gunicorn workers
    service = exposed()
    # Then it printed one token, keeps its hash only, and serves nobody without it
    [token] = TOKEN.findall(service.text())
    kept = tmp_path / "data" / "tokens.json"
    assert token.rpartition("_")[2] not in kept.read_text()
    assert kept.stat().st_mode & 0o777 == 0o600
    assert service.call("GET", "/functions")[0] == 401
    assert service.call("POST", "/functions/x/invoke", {})[0] == 401
    for _ in range(8):  # whichever worker answers
        assert service.call("GET", "/functions", headers=show(token))[0] == 200
    # And a Host of another name is nobody's business
    headers = {**show(token), "Host": "faas.example"}
    assert service.call("GET", "/functions", headers=headers)[0] == 200
    stop(service)
    # When it starts again, then it prints none, and the first one counts
    again = exposed()
    assert TOKEN.findall(again.text()) == []
    assert again.call("GET", "/functions", headers=show(token))[0] == 200
    stop(again)


def test_a_revoked_token_is_refused_within_five_seconds(
    exposed: Any, poll: Callable[..., Any], tmp_path: Path
) -> None:
    service = exposed()
    token = command("create", "ci", "--verbs", "read", data=tmp_path / "data")
    poll(
        "both workers know it",
        lambda: (
            {service.call("GET", "/functions", headers=show(token))[0] for _ in range(8)} == {200}
        ),
        5,
    )
    command("revoke", token, data=tmp_path / "data")
    time.sleep(5)
    statuses = {service.call("GET", "/functions", headers=show(token))[0] for _ in range(16)}
    assert statuses == {401}


def test_the_first_token_of_a_service_on_loopback_closes_it(
    serve: Callable[..., Any], poll: Callable[..., Any], tmp_path: Path
) -> None:
    service = serve(WORKERS="1", STOCK="0")
    assert service.call("GET", "/functions")[0] == 200
    token = command("create", "ci", "--verbs", "read", data=tmp_path / "data")
    poll("it asks", lambda: service.call("GET", "/functions")[0] == 401, 5)
    assert service.call("GET", "/functions", headers=show(token))[0] == 200


@pytest.mark.fault(24)
def test_that_it_is_open_may_be_meant(exposed: Any, tmp_path: Path) -> None:
    service = exposed(ALLOW_ANONYMOUS="true")
    assert service.call("GET", "/functions")[0] == 200
    assert TOKEN.findall(service.text()) == []
    assert not (tmp_path / "data" / "tokens.json").exists()


@pytest.mark.fault(26, 76, 77)
def test_no_secret_is_in_logs_errors_lists_or_sandboxes(exposed: Any, tmp_path: Path) -> None:
    # Given a service behind tokens, and a worker's secret in its environment
    service = exposed(WORKER_TOKEN="s3cret-of-the-worker", FUNCTION_LOGS_SINK="stdout")
    [first] = TOKEN.findall(service.text())
    admin = show(command("create", "ops", "--verbs", "admin", data=tmp_path / "data"))
    time.sleep(2.5)
    printed = len(service.text())
    secrets = [first.rpartition("_")[2], admin["Authorization"].rpartition("_")[2]]
    secrets.append("s3cret-of-the-worker")
    said: list[Any] = []

    def call(method: str, path: str, body: Any, headers: dict[str, str]) -> Any:
        status, answer = service.call(method, path, body, headers)
        said.append(answer)
        return status

    # When tokens are shown that are wrong by a little, and requests fail in many ways
    for shown in (first[:-1], first + "x", first.replace("lcf_", "lcf_x"), first.upper()):
        assert call("GET", "/functions", None, show(shown)) == 401
    assert call("GET", "/functions", None, {"Authorization": f"Basic {first}"}) == 401
    assert call("GET", f"/functions/{first}", None, {"Authorization": first}) == 401
    assert call("POST", "/functions", {"name": "../x"}, admin) == 422
    assert call("GET", "/nowhere", None, admin) == 404
    # And functions look for secrets, and crash
    source = (
        "import { readFileSync } from 'node:fs';\n"
        "export const handler = ({how}, context) => {\n"
        "  console.log(JSON.stringify({...process.env}), JSON.stringify(context));\n"
        "  if (how === 'crash') process.abort();\n"
        "  if (how === 'throw') throw new Error(JSON.stringify(process.env));\n"
        "  return { ok: true, data: { env: {...process.env}, argv: process.argv, context } };\n"
        "};\n"
    )
    assert call("POST", "/functions", {"name": "look", "source_code": source}, admin) == 201
    for how in ("return", "throw", "crash"):
        assert call("POST", "/functions/look/invoke", {"input": {"how": how}}, admin) == 200
    for path in ("/functions", "/functions/look", "/functions/look/versions", "/readyz", "/limits"):
        assert call("GET", path, None, admin) == 200
    # Then no secret is anywhere: answers, both logs, the store, the sandboxes' environments
    stop(service)
    for secret in secrets:
        assert secret not in json.dumps(said)
        assert secret not in service.text()[printed:]
        for path in (tmp_path / "data").rglob("*"):
            assert not path.is_file() or secret.encode() not in path.read_bytes(), path


@pytest.mark.fault(24)
def test_gunicorn_itself_makes_the_first_token(
    start: Callable[..., Any],
    free_port: Callable[[], int],
    poll: Callable[..., Any],
    tmp_path: Path,
) -> None:
    port = free_port()
    service = start(
        COMMAND.with_name("gunicorn"),
        "-c",
        ROOT / "conf" / "gunicorn.conf.py",
        port=port,
        LISTEN=EXPOSED.format(port),
        RUNNER="process",
        DATA_DIR=str(tmp_path / "data"),
        WORKERS="2",
        STOCK="0",
    )
    poll("it is ready", service.ready, 30)
    [token] = TOKEN.findall(service.text())
    assert service.call("GET", "/functions")[0] == 401
    assert service.call("GET", "/functions", headers=show(token))[0] == 200
    stop(service)


@pytest.mark.fault(24)
def test_make_run_on_an_exposed_address_uses_and_prints_the_first_token(
    start: Callable[..., Any],
    free_port: Callable[[], int],
    poll: Callable[..., Any],
    tmp_path: Path,
) -> None:
    # Given the script of make run in a copy of the tree's scripts and examples
    copy = tmp_path / "copy"
    for name in ("scripts", "examples"):
        shutil.copytree(ROOT / name, copy / name)
    port = free_port()

    def run(**variables: str) -> Any:
        return start(
            sys.executable,
            copy / "scripts" / "run_service.py",
            port=port,
            LISTEN=EXPOSED.format(port),
            WORKERS="1",
            **variables,
        )

    # When it starts, then the token it printed is the one it used, and the one to try next with
    service = run()
    poll("it guides", lambda: "Ctrl-C ends" in service.text() or service.process.poll(), 60)
    printed = service.text()
    assert "deployed 4 functions from examples/" in printed
    assert len(set(TOKEN.findall(printed))) == 1
    token = TOKEN.findall(printed)[0]
    assert (
        printed.count(
            f"curl -s -H 'Content-Type: application/json' -H 'Authorization: Bearer {token}'"
        )
        == 3
    )
    assert service.call("GET", "/functions")[0] == 401
    stop(service)
    # When it starts again, then it says what it needs, and takes it
    service = run()
    poll("it guides", lambda: "Ctrl-C ends" in service.text() or service.process.poll(), 30)
    assert "Name one of its tokens in LOWCODE_FAAS_TOKEN" in service.text()
    stop(service)
    service = run(TOKEN=token)
    poll("it guides", lambda: "Ctrl-C ends" in service.text() or service.process.poll(), 30)
    assert "greet answered" in service.text()
    stop(service)
