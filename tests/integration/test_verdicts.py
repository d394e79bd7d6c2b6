"""Every verdict a service with ``process`` can give, as a caller sees it over HTTP."""

from __future__ import annotations

import json
import re
import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

Serve = Callable[..., Any]
Poll = Callable[..., Any]

NAP = "export const handler = (i) => new Promise((r) => setTimeout(r, i.ms, { ok: true }));"


@dataclass(frozen=True)
class Row:
    """A source and the verdict it must get."""

    source: str
    status: str
    code: str | None = None
    phase: str | None = None
    output: Any = None
    more: dict[str, Any] = field(default_factory=dict)
    limits: dict[str, int] = field(default_factory=dict)


def _handler(body: str) -> str:
    return f"export async function handler(input) {{ {body} }}"


TABLE = {
    "ok": Row(
        _handler("return { ok: true, data: 1 };"), "succeeded", output={"ok": True, "data": 1}
    ),
    "not_ok": Row(
        _handler("return { ok: false, error: 'no', code: 'refused' };"),
        "failed",
        output={"ok": False, "error": "no", "code": "refused"},
    ),
    "throws": Row(_handler("throw new Error('thrown');"), "handler_error", "handler_error", "run"),
    "throws_late": Row(
        _handler(
            "setTimeout(() => { throw 1; }, 5); await new Promise((r) => setTimeout(r, 9e3));"
        ),
        "handler_error",
        "handler_error",
        "run",
    ),
    "rejects_unseen": Row(
        _handler("Promise.reject(new Error('unseen')); return { ok: true };"),
        "handler_error",
        "handler_error",
        "run",
    ),
    "returns_else": Row(_handler("return 5;"), "invalid_output", "invalid_output", "run"),
    "returns_bigint": Row(
        _handler("return { ok: true, data: 1n };"), "invalid_output", "invalid_output", "run"
    ),
    "returns_much": Row(
        _handler("return { ok: true, data: 'x'.repeat(7 << 20) };"),
        "output_too_large",
        "output_too_large",
        "run",
    ),
    # What is imported while it runs is nothing that the check of a deploy can see.
    "no_syntax": Row(
        "await import('data:text/javascript,const 5');", "invalid_handler", "syntax_error", "load"
    ),
    "throws_at_load": Row("throw new Error('no');", "invalid_handler", "load_error", "load"),
    "no_handler": Row("export const other = 1;", "invalid_handler", "no_handler", "load"),
    "spins": Row(_handler("for (;;);"), "timeout", "timeout", "run", more={"timeout_ms": 1500}),
    "spins_at_load": Row(
        "for (;;);\nexport const handler = () => {};",
        "timeout",
        "timeout",
        "load",
        more={"timeout_ms": 1500},
    ),
    "takes_memory": Row(
        _handler("const kept = []; for (;;) kept.push(Buffer.alloc(1 << 20, 1));"),
        "out_of_memory",
        "out_of_memory",
        "run",
        limits={"memory_mb": 96},
    ),
    "takes_heap": Row(
        _handler("const kept = []; for (;;) kept.push({ n: kept.length });"),
        "out_of_memory",
        "out_of_memory",
        "run",
        limits={"memory_mb": 96},
    ),
    "exits": Row(_handler("process.exit(3);"), "crashed", "exited", "run"),
    "exits_at_load": Row("process.exit(0);", "crashed", "exited", "load"),
    "kills_itself": Row(
        _handler("process.kill(process.pid, 'SIGKILL'); for (;;);"), "crashed", "killed", "run"
    ),
    "never_settles": Row(
        _handler("return new Promise(() => {});"), "crashed", "never_settled", "run"
    ),
    "never_loads": Row("await new Promise(() => {});", "crashed", "never_settled", "load"),
    "breaks_protocol": Row(
        "import { writeSync } from 'node:fs';\n"
        + _handler("writeSync(3, 'not a frame at all, and long'); for (;;);"),
        "crashed",
        "protocol_error",
        "run",
    ),
}


def deploy(service: Any, name: str, source: str, **more: Any) -> None:
    status, answer = service.call(
        "POST", "/functions", {"name": name, "source_code": source, **more}
    )
    assert status == 201, answer


def invoke(service: Any, name: str, **body: Any) -> tuple[int, Any, Any]:
    """Return status, headers and body of one invocation."""
    answer = service.http.request(
        "POST",
        f"{service.url}/functions/{name}/invoke",
        body=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    return answer.status, answer.headers, json.loads(answer.data)


def refused(answer: tuple[int, Any, Any], status: int, code: str) -> Any:
    """Assert that user code was not started, and for which reason."""
    got, headers, problem = answer
    assert (got, problem["code"], problem["outcome"]) == (status, code, "not_executed"), problem
    assert headers["Content-Type"] == "application/problem+json"
    assert "X-Lowcode-Faas-Status" not in headers
    return headers


def wrong(service: Any, name: str, row: Row) -> str:
    """Return what is not as the row says, or nothing."""
    execution_id = secrets.token_hex(8)
    body = {"execution_id": execution_id, "run_id": "r:1", "timeout_ms": 20_000, **row.more}
    status, headers, result = invoke(service, name, **body)
    error = result.get("error") or {}
    expected = (200, row.status, row.status, row.code, row.phase, row.output, "executed")
    got = (
        status,
        headers.get("X-Lowcode-Faas-Status"),
        result.get("status"),
        error.get("code"),
        error.get("phase"),
        result.get("output"),
        result.get("outcome"),
    )
    ids = (result.get("execution_id"), result.get("run_id"), result.get("request_id"))
    if got == expected and ids == (execution_id, "r:1", headers["X-Request-Id"]):
        return ""
    return f"{name}: {str(result)[:500]}"


@pytest.mark.fault(40, 41, 42, 45, 47, 48, 49, 57)
def test_every_verdict_has_its_status_code_phase_and_header(serve: Serve) -> None:
    service = serve(WORKERS="1")
    for name, row in TABLE.items():
        deploy(service, name, row.source, limits=row.limits)
    # Twice: what is warm by then gets the same verdict as what was not.
    found = [wrong(service, name, row) for _ in range(2) for name, row in TABLE.items()]
    assert not [each for each in found if each]


def test_starts_are_prewarmed_then_warm(serve: Serve, poll: Poll) -> None:
    service = serve(WORKERS="1", STOCK="1")
    deploy(service, "nap", NAP)
    # The one that checked the source is gone; another takes its place.
    poll("one is ready", lambda: service.call("GET", "/readyz")[1]["sandboxes"]["stock"])
    starts = [invoke(service, "nap", input={"ms": 1})[2]["start"] for _ in range(2)]
    assert starts == ["prewarmed", "warm"]


class TestOneSandbox:
    """A service in which whoever comes second has to wait."""

    @pytest.fixture
    def service(self, serve: Serve) -> Any:
        service = serve(WORKERS="1", STOCK="0", MAX_INSTANCES="1", QUEUE="1")
        deploy(service, "nap", NAP)
        return service

    @pytest.fixture
    def busy(self, service: Any, poll: Poll) -> Any:
        """The sandbox is taken for as long as the test needs."""
        assert invoke(service, "nap", input={"ms": 1})[2]["start"] == "cold"
        caller = threading.Thread(
            target=invoke, args=(service, "nap"), kwargs={"input": {"ms": 2500}}
        )
        caller.start()
        poll("it runs", lambda: service.call("GET", "/readyz")[1]["sandboxes"]["leased"] == 1)
        yield service
        caller.join(20)
        assert invoke(service, "nap", input={"ms": 1})[2]["status"] == "succeeded"

    def test_a_deadline_that_passes_in_the_queue_is_no_capacity(self, busy: Any) -> None:
        answer = invoke(busy, "nap", input={"ms": 1}, timeout_ms=100)
        assert int(refused(answer, 429, "no_capacity")["Retry-After"]) >= 1

    def test_a_full_queue_turns_the_next_away(self, busy: Any, poll: Poll) -> None:
        # Given as many waiting as may
        answers: list[Any] = []
        waiting = threading.Thread(
            target=lambda: answers.append(invoke(busy, "nap", input={"ms": 1}, timeout_ms=20_000))
        )
        waiting.start()
        poll("it waits", lambda: busy.call("GET", "/readyz")[1]["sandboxes"]["waiting"] == 1)
        # When another one comes, it is turned away, and the first gets its turn
        answer = invoke(busy, "nap", input={"ms": 1}, timeout_ms=20_000)
        assert int(refused(answer, 429, "no_capacity")["Retry-After"]) >= 1
        waiting.join(20)
        assert [(status, body["status"]) for status, _, body in answers] == [(200, "succeeded")]
        assert answers[0][2]["timings_ms"]["queue"] > 0

    def test_a_deadline_that_passes_while_a_sandbox_starts_is_503(
        self, service: Any, poll: Poll
    ) -> None:
        def starting() -> bool:
            # Node needs more than 10 ms to start; what came late to the queue is a 429.
            answer = invoke(service, "nap", input={"ms": 1}, timeout_ms=10)
            if answer[0] == 429:
                return False
            refused(answer, 503, "runner_unavailable")
            return True

        poll("a start is too slow", starting)
        assert invoke(service, "nap", input={"ms": 1})[2]["status"] == "succeeded"


def test_usage_and_times_are_the_hosts(serve: Serve) -> None:
    service = serve(WORKERS="1")
    spin = "const end = Date.now() + 100; while (Date.now() < end); return { ok: true };"
    deploy(service, "spin", _handler(spin))
    _, _, result = invoke(service, "spin")
    usage, timings = result["usage"], result["timings_ms"]
    assert 10 < usage["cpu_ms"] < 5000
    assert 20 << 20 < usage["max_rss_bytes"] < 256 << 20
    # A run that was killed has used something, too
    service.deploy("spin", "export const handler = () => { for (;;); };")
    killed = service.invoke("spin", timeout_ms=600)[1]
    assert killed["status"] == "timeout"
    assert 50 < killed["usage"]["cpu_ms"] < 5000
    assert 20 << 20 < killed["usage"]["max_rss_bytes"] < 256 << 20
    assert timings["run"] >= 99
    assert timings["total"] >= timings["run"]


LINE = re.compile(r"\S+ (?P<level>[A-Z]+) +\S+ v1 (?P<id>\S+)(?P<marks>[ a-z]*) \| (?P<message>.*)")


def test_what_is_printed_is_counted_cut_and_carries_its_creators_id(
    serve: Serve, poll: Poll
) -> None:
    service = serve(WORKERS="1", LOG_MAX_LINE_BYTES="256", LOG_MAX_RUN_BYTES="1024")
    deploy(
        service,
        "prints",
        """export async function handler({ lines = 0, long = 0, late, wait = 0 }) {
  for (let n = 0; n < lines; n++) console.log('y'.repeat(100));
  if (long) console.warn('x'.repeat(long));
  if (late) setTimeout(() => console.log(late), 20);
  await new Promise((resolve) => setTimeout(resolve, wait));
  return { ok: true };
}""",
    )

    def logs(**given: Any) -> tuple[str, Any]:
        _, _, result = invoke(service, "prints", input=given)
        assert result["status"] == "succeeded", result
        return result["execution_id"], result["logs"]

    assert logs()[1] == {"lines": 0, "truncated": False}
    assert logs(lines=3)[1] == {"lines": 3, "truncated": False}
    assert logs(long=300)[1] == {"lines": 1, "truncated": True}
    assert logs(lines=30)[1] == {"lines": 30, "truncated": True}
    # Given a run that leaves a timer behind
    creator, counted = logs(late="a late word")
    assert counted == {"lines": 0, "truncated": False}
    # When the instance runs again, and the timer with it
    logs(wait=200)

    # Then what it prints is the first run's, late
    def late() -> list[re.Match[str]]:
        found = filter(None, map(LINE.fullmatch, service.text().splitlines()))
        return [line for line in found if line["message"] == "a late word"]

    (line,) = poll("it is printed", late)
    assert (line["id"], line["marks"]) == (creator[-12:], " late")


@pytest.mark.parametrize(
    ("language", "source", "place"),
    [
        (
            "javascript",
            "function inner() {\n  // deep\n  throw new Error('here');\n}\n"
            "export const handler = () => inner();",
            "greet.mjs:3:9",
        ),
        (
            "typescript",
            "interface Given {\n  n: number;\n}\nexport function handler(given: Given): never {\n"
            "  throw new TypeError(`${given.n}` as string);\n}",
            "greet.mts:5:9",
        ),
    ],
)
def test_stacks_point_at_the_users_own_lines(
    serve: Serve, language: str, source: str, place: str
) -> None:
    service = serve(WORKERS="1")
    deploy(service, "greet", source, language=language)
    stack = invoke(service, "greet")[2]["error"]["stack"]
    assert place in stack.splitlines()[1]
    assert "/tmp" not in stack
    assert "node:" not in stack
