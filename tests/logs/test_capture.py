from __future__ import annotations

import itertools
import json
import logging
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lowcode_faas_core import dispatcher
from lowcode_faas_core.services import SERVICES

OK = "return {ok: true, data: null};"


def messages(events: list[Any]) -> list[str]:
    return [event.message for event in events]


def test_console_has_its_levels_and_every_event_says_whose_it_is(functions: Any) -> None:
    result = functions.run(
        f"for (const m of ['debug', 'log', 'info', 'warn', 'error']) console[m](m); {OK}",
        run_id="my-run",
    )
    events = functions.events(result)
    assert [(e.level, e.log_stream, e.message) for e in events] == [
        ("debug", "stdout", "debug"),
        ("info", "stdout", "log"),
        ("info", "stdout", "info"),
        ("warn", "stderr", "warn"),
        ("error", "stderr", "error"),
    ]
    assert [event.seq for event in events] == [1, 2, 3, 4, 5]
    assert [event.ts for event in events] == sorted(event.ts for event in events)
    assert {
        (e.run_id, e.deployment_id, e.deployment_version, e.function_name, e.collection_path)
        for e in events
    } == {("my-run", result.deployment_id, 1, "greet", "")}
    assert result.logs.lines == 5
    assert not result.logs.truncated


def test_events_carry_the_trace_of_their_own_run(functions: Any) -> None:
    traces = [f"00-{digit * 32}-{digit * 16}-01" for digit in "ab"]
    late = f"setTimeout(() => console.log('late'), 1); console.log('in time'); {OK}"
    ref = functions.deploy(late)
    results = [functions.again(ref, traceparent=trace) for trace in (*traces, None)]
    seen = [{event.traceparent for event in functions.events(result)} for result in results]
    assert seen == [{traces[0]}, {traces[1]}, {None}]


@pytest.mark.fault(80, 82)
def test_odd_text_is_one_well_formed_event_each(functions: Any) -> None:
    odd = ["a\rb", "nul \0", "\x1b[2J", "\u2028\u2029", "two\nlines", "\x85", "", "\ufeff"]
    result = functions.run(
        f"for (const t of {json.dumps(odd)}) console.log(t); console.log('\\ud800|'); {OK}"
    )
    assert messages(functions.events(result)) == [*odd, "\ufffd|"]


@pytest.mark.fault(82)
def test_half_lines_and_split_characters_are_put_together(functions: Any) -> None:
    # Given bytes that go past the bootstrap, and text through process.stdout, cut anywhere
    result = functions.run(
        "const emoji = Buffer.from('a\U0001f600b\\nhalf');"
        "for (const byte of emoji) { fs.writeSync(1, Buffer.of(byte)); fs.writeSync(2, 'e'); "
        "await new Promise((done) => setTimeout(done, 2)); }"
        "for (const byte of Buffer.from('c\U0001f680\\r\\n')) process.stdout.write(Buffer.of(byte));"
        f"{OK}"
    )
    events = functions.events(result)
    # Then each stream has its lines whole
    assert [e.message for e in events if e.log_stream == "stderr"] == ["e" * 11]
    out = [event.message for event in events if event.log_stream == "stdout"]
    assert sorted(out) == ["a\U0001f600b", "c\U0001f680", "half"]


@pytest.mark.fault(81)
def test_what_looks_like_an_event_is_only_a_message(functions: Any) -> None:
    forged = '{"run_id":"victim","function_name":"other","level":"error","seq":99}'
    result = functions.run(f"console.log({json.dumps(forged)}); fs.writeSync(1, 'x\\n'); {OK}")
    first = functions.events(result)[0]
    assert first.message == forged
    assert (first.run_id, first.function_name, first.level, first.seq) == (
        result.run_id,
        "greet",
        "info",
        1,
    )


@pytest.mark.parametrize(
    ("end", "code"),
    [
        ("for (;;);", "timeout"),
        ("process.exit(3);", "exited"),
        ("process.kill(process.pid, 'SIGKILL'); for (;;);", "killed"),
        ("throw new Error('thrown');", "handler_error"),
        ("return 5;", "invalid_output"),
    ],
)
def test_what_was_printed_before_the_end_is_delivered_with_why(
    functions: Any, end: str, code: str
) -> None:
    result = functions.run(
        f"console.log('frame'); fs.writeSync(1, 'raw\\nhalf'); {end}", timeout_ms=1500
    )
    events = functions.events(result)
    assert result.error.code == code
    assert sorted(messages(events[:-1])) == ["frame", "half", "raw"]
    assert (events[-1].level, events[-1].log_stream) == ("error", "platform")
    assert events[-1].message.startswith(f"{code}: ")
    assert result.logs.lines == 3


def test_an_uncaught_error_has_its_stack(functions: Any) -> None:
    result = functions.run("throw new TypeError('not this');")
    assert (
        "handler_error: TypeError: not this\n    at handler (greet.mjs:2:"
        in messages(functions.events(result))[-1]
    )


def test_a_timer_of_an_earlier_run_is_late(functions: Any) -> None:
    ref = functions.deploy(
        "const id = globalThis.n = (globalThis.n ?? 0) + 1; console.log('run', id);"
        "if (id === 1) setTimeout(() => console.log('late'), 20);"
        f"else await new Promise((done) => setTimeout(done, 200)); {OK}"
    )
    first, second = functions.again(ref), functions.again(ref)
    assert messages(functions.events(second)) == ["run 2"]
    early, late = functions.events(first)
    assert (early.message, early.late, late.message, late.late) == ("run 1", False, "late", True)
    assert late.seq == 2


@pytest.mark.fault(64)
def test_a_drip_has_the_time_of_each_line_and_its_rest_at_exit(functions: Any) -> None:
    result = functions.run(
        "for (let n = 0; n < 5; n++) { console.log('drip', n); "
        "await new Promise((done) => setTimeout(done, 40)); }"
        "process.stdout.write('no newline'); process.exit(0);"
    )
    events = functions.events(result)
    assert messages(events)[:6] == [*(f"drip {n}" for n in range(5)), "no newline"]
    times = [int(event.ts[20:29]) + 10**9 * int(event.ts[17:19]) for event in events[:5]]
    gaps = [(b - a) % (60 * 10**9) for a, b in itertools.pairwise(times)]
    assert min(gaps) >= 35_000_000


@pytest.mark.fault(63)
def test_a_long_line_is_cut_with_a_mark_and_the_run_goes_on(bench: Callable[..., Any]) -> None:
    functions = bench(log_line_bytes=1000)
    result = functions.run(
        "console.log('x'.repeat(3e6)); console.log('é'.repeat(600)); console.log('after');"
        f"fs.writeSync(1, 'r'.repeat(200_000)); fs.writeSync(1, '\\nlast\\n'); {OK}"
    )
    events = functions.events(result)
    # Frames and raw output come on two streams: each is in order.
    frames = [e for e in events if e.message[0] in "xéa"]
    raw = [e for e in events if e.message[0] in "rl"]
    assert [(len(e.message.encode()), e.truncated) for e in frames] == [
        (1000, True),
        (1000, True),
        (5, False),
    ]
    assert [(len(e.message), e.truncated) for e in raw] == [(1000, True), (4, False)]
    assert result.status == "succeeded"
    assert result.logs.truncated


@pytest.mark.fault(63)
@pytest.mark.parametrize(
    "print_one",
    ["console.log('n', n)", "console.log('')", "fs.writeSync(1, '\\n')", "fs.writeSync(2, 'n\\n')"],
)
def test_a_flood_ends_in_a_count_and_the_run_goes_on(
    bench: Callable[..., Any], print_one: str
) -> None:
    functions = bench(log_run_bytes=1600)
    result = functions.run(f"for (let n = 0; n < 20_000; n++) {print_one}; {OK}")
    events = functions.events(result)
    assert result.status == "succeeded"
    assert result.logs.lines == 20_000
    assert result.logs.truncated
    kept, last = events[:-1], events[-1]
    assert 50 <= len(kept) <= 100
    assert last.log_stream == "platform"
    assert last.message.startswith(f"{20_000 - len(kept)} lines (")
    # The next run of the instance has all its room again.
    again = functions.again(functions.deploy(f"console.log('fresh'); {OK}"))
    assert messages(functions.events(again)) == ["fresh"]


def _environ(tmp_path: Path) -> dict[str, str]:
    return {
        "LOWCODE_FAAS_LISTEN": "127.0.0.1:0",
        "LOWCODE_FAAS_DATA_DIR": str(tmp_path / "data"),
        "LOWCODE_FAAS_RUNNER": "process",
        "LOWCODE_FAAS_STOCK": "0",
        "LOWCODE_FAAS_FUNCTION_LOGS_SINK": "none",
    }


@pytest.mark.fault(78)
def test_the_services_own_log_has_no_secret_of_a_crash(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    # Given a function with a secret in its env that crashes in every way it can
    app = dispatcher.create_app(_environ(tmp_path))
    caplog.set_level(logging.DEBUG)
    secret = "s3cr3t-of-the-function"
    source = (
        "export const handler = ({how}) => { if (how === 'throw') throw new Error(process.env.S);"
        "if (how === 'exit') process.exit(1); process.stderr.write(process.env.S);"
        "process.abort(); };"
    )
    try:
        client = app.test_client()
        body = {"name": "f", "source_code": source, "env": {"S": secret}}
        assert client.post("/functions", json=body).status_code == 201
        # When it does
        for how in ("throw", "exit", "abort"):
            answer = client.post("/functions/f/invoke", json={"input": {"how": how}})
            assert answer.status_code == 200
        # And a request with the secret is refused
        bad = {"name": "f", "source_code": source, "env": {"S\0": secret}}
        refused = client.post("/functions", json=bad)
        assert refused.status_code == 422
        assert secret not in refused.text
    finally:
        app.extensions[SERVICES].close()
    # Then nothing the service says of its own holds it
    out, err = capfd.readouterr()
    assert secret not in caplog.text + out + err


@pytest.mark.fault(79)
def test_env_files_are_their_owners_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    app = dispatcher.create_app(_environ(tmp_path))
    try:
        client = app.test_client()
        client.post("/collections", json={"path": "org", "env": {"A": "1"}})
        body = {"name": "f", "collection_path": "org", "env": {"S": "x"}}
        source = "export const handler = () => ({ok: true});"
        assert client.post("/functions", json={**body, "source_code": source}).status_code == 201
        client.put("/collections/env", json={"env": {"B": "2"}})
    finally:
        app.extensions[SERVICES].close()
        os.umask(before)
    files = list((tmp_path / "data").rglob("*.env.json"))
    assert len(files) >= 3
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
