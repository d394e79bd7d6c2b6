from __future__ import annotations

import os
import pty

import pytest
from lowcode_faas_stdout import StdoutSink, lowcode_faas_log_sink
from lowcode_faas_stdout.sink import coloured, escaped, line

from lowcode_faas_core.interfaces.log_sink import Undelivered
from lowcode_faas_core.model import LogEvent


def event(message: str, **changes: object) -> LogEvent:
    values: dict[str, object] = {
        "ts": "2026-11-22T09:00:00.123456789Z",
        "level": "info",
        "message": message,
        "log_stream": "stdout",
        "run_id": "run-1",
        "execution_id": "0193a4c0-0000-7000-8000-0123456789ab",
        "function_name": "greet",
        "collection_path": "org/team",
        "deployment_id": "d",
        "deployment_version": 3,
        "seq": 1,
    }
    return LogEvent(**{**values, **changes})  # type: ignore[arg-type]


def printed(*events: LogEvent) -> str:
    reader, writer = os.pipe()
    try:
        StdoutSink(writer).emit(events)
        os.close(writer)
        return os.read(reader, 1 << 16).decode()
    finally:
        os.close(reader)


def test_a_line_says_when_what_where_and_the_message() -> None:
    assert printed(event("hello")) == (
        "2026-11-22T09:00:00.123Z INFO  org/team/greet v3 0123456789ab | hello\n"
    )


def test_root_functions_late_and_cut_lines_are_told_apart() -> None:
    text = line(event("x", collection_path="", late=True, truncated=True, level="warn"))
    assert text == "2026-11-22T09:00:00.123Z WARN  greet v3 0123456789ab late cut | x"


@pytest.mark.fault(80)
@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ('a\n{"level":"error","run_id":"victim"}', 'a\\n{"level":"error","run_id":"victim"}'),
        ("\x1b[2J", "\\e[2J"),
        ("a\rb", "a\\rb"),
        ("a\u2028b\u2029", "a\\u2028b\\u2029"),
        ("\ud800", "\\ud800"),
        ("a\0b\x7f\x9b", "a\\x00b\\x7f\\x9b"),
        ("\u202eevil", "\\u202eevil"),
        ("a\\nb", "a\\\\nb"),
        ("tab\tand \U0001f600 stay", "tab\tand \U0001f600 stay"),
    ],
)
def test_what_would_forge_a_line_or_move_a_terminal_is_escaped(message: str, shown: str) -> None:
    assert escaped(message) == shown
    assert printed(event(message)).count("\n") == 1


def test_a_line_longer_than_a_pipe_holds_is_written_whole() -> None:
    # Given a reader slower than the sink, and a line above the pipe's 64 KiB
    import threading

    reader, writer = os.pipe()
    received = bytearray()

    def drain() -> None:
        while chunk := os.read(reader, 1000):
            received.extend(chunk)

    thread = threading.Thread(target=drain)
    thread.start()
    # When it is printed
    StdoutSink(writer).emit([event("x" * 200_000)])
    os.close(writer)
    thread.join(10)
    os.close(reader)
    # Then nothing is missing
    assert received.count(b"x") == 200_000
    assert received.endswith(b"x\n")


@pytest.mark.fault(88)
def test_what_a_broken_pipe_swallowed_is_counted() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with pytest.raises(Undelivered) as raised:
        StdoutSink(writer).emit([event("x"), event("y")])
    os.close(writer)
    assert raised.value.count == 2


def test_colours_mark_what_is_serious() -> None:
    assert coloured(event("x", level="error")).startswith("\x1b[31m2026-11-22T09")
    assert coloured(event("x", level="error")).endswith("| x\x1b[0m")
    assert coloured(event("x")) == line(event("x"))


def test_only_a_terminal_is_coloured(monkeypatch: pytest.MonkeyPatch) -> None:
    master, terminal = pty.openpty()
    monkeypatch.setattr(os, "isatty", lambda descriptor: descriptor == 1)
    try:
        for environ, colour in (({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)):
            sink = lowcode_faas_log_sink(environ)
            assert (sink._line is coloured) is colour  # type: ignore[attr-defined]
        StdoutSink(terminal, colour=True).emit([event("x", level="warn")])
        assert os.read(master, 4096).startswith(b"\x1b[33m")
    finally:
        os.close(master)
        os.close(terminal)


def test_the_factory_needs_no_settings_and_close_may_be_repeated() -> None:
    sink = lowcode_faas_log_sink({})
    assert sink.flush(0) == 0
    sink.close()
    sink.close()
