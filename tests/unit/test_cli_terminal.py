"""What others wrote never reaches the terminal as anything but text."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from lowcode_faas_core.cli import cli
from lowcode_faas_core.cli.columns import json_text
from lowcode_faas_core.client.archive import Tree, write

ESCAPE = "\x1b[2J\x1b]52;c;Y3VybA==\x07\x9b2J"
Answer = tuple[int, dict[str, Any]]


class Server(ThreadingHTTPServer):
    """Answers as it is told, one answer a request; none closes the connection."""

    daemon_threads = True

    def __init__(self, answers: list[Answer | None]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers = answers
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        given = self.server.answers.pop(0)  # type: ignore[attr-defined]
        if given is None:
            self.close_connection = True
            return
        content = json.dumps(given[1]).encode()
        self.send_response(given[0])
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    for name in [name for name in os.environ if name.startswith("LOWCODE_FAAS_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    servers: list[Server] = []

    def type_in(arguments: list[str], *answers: Answer | None) -> Any:
        server = Server(list(answers))
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return CliRunner().invoke(cli, arguments, env={"LOWCODE_FAAS_URL": server.url})

    yield type_in
    for server in servers:
        server.shutdown()
        server.server_close()


def problem(status: int, detail: str) -> Answer:
    return status, {"status": status, "code": "source_invalid", "title": "no", "detail": detail}


def test_a_refusal_is_text_whatever_is_in_it(run: Callable[..., Any]) -> None:
    done = run(["pull", "f"], problem(422, f"it answered with image/{ESCAPE}\nand more"))
    assert done.exit_code == 1
    assert "image/\\x1b[2J" in done.stderr
    assert "\nand more" in done.stderr
    assert not set(done.output) & {"\x1b", "\x07", "\x9b"}


def test_values_of_an_env_are_text_on_a_terminal_and_exact_for_programs(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = 200, {"env": {"A": "1\nB=2\x07"}}
    assert run(["env", "get"], answer).stdout == "A=1\nB=2\x07\n"
    monkeypatch.setattr("lowcode_faas_core.cli.env.on_terminal", lambda: True)
    assert run(["env", "get"], answer).stdout.startswith("A=1\\nB=2\\x07")


def test_json_is_the_same_document_without_control_characters() -> None:
    document = {"a": ESCAPE, "b": "é\x7f\x85\u2028"}
    text = json_text(document)
    assert json.loads(text) == document
    assert not set(text) & {"\x1b", "\x07", "\x9b", "\x7f", "\x85"}
    assert "é" in text


def test_an_import_that_loses_its_service_says_how_far_it_came(
    run: Callable[..., Any], tmp_path: Path
) -> None:
    with (tmp_path / "whole.tar.gz").open("wb") as file:
        write(Tree("", False, {"": {}, "one": {}, "two": {}}), file)
    none: Answer = 200, {"items": [], "next_cursor": None}
    made: Answer = 201, {"path": "one", "created": True}
    done = run(["import", "whole.tar.gz", "--yes"], none, none, made, None, None, None)
    assert done.exit_code == 1, done.output
    assert "two: " in done.stderr
    assert "1 of 2 changes are written, and this one may be; import again to go on" in done.stderr
