"""``lowcode-faas dev``: a file that is run, and run again; and nothing of it that stays behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import COMMAND
from tests.integration.typing_commands import environment, typed

GREET = """
export const handler = (input) => {
  console.log('asked', input.name);
  if (input.fail) return {ok: false, error: 'as asked'};
  return {ok: true, data: `${process.env.WORD} ${input.name}`};
};
"""
THROWS = """
export const handler = ({text}) => {
  console.log("one\\ntwo\\x1b[2J");
  const error = new Error("boom\\nagain \\x1b[31mred\\r\\x85");
  throw text ? error.message : error;
};
"""
SPIN = "export const handler = () => { console.log('spins'); for (;;); };"
Start = Callable[..., Any]
Poll = Callable[..., Any]


def folders(scratch: Path) -> list[Path]:
    """Return the data folders that are there."""
    return list(scratch.glob("lowcode-faas-dev-*"))


def test_once_runs_it_and_ends_as_it_ended(tmp_path: Path) -> None:
    (tmp_path / "greet.mjs").write_text(GREET)
    (tmp_path / "greet.env.json").write_text('{"WORD": "beside"}')
    (tmp_path / "other.env").write_text("WORD=other\n")
    (tmp_path / "torn.mts").write_text("export const handler = (")
    scratch = tmp_path / "tmp"
    scratch.mkdir()
    # A service's own environment is not this one's: no worker is asked, no database opened
    run = typed(tmp_path, "http://127.0.0.1:9")
    others = {
        "TMPDIR": str(scratch),
        "LOWCODE_FAAS_WORKER_URL": "http://127.0.0.1:9",
        "LOWCODE_FAAS_STORAGE": "db_s3",
        "LOWCODE_FAAS_MAX_INSTANCES_PER_FUNCTION": "0",
    }
    once = ("dev", "greet.mjs", "--once")
    for arguments, code, data in (
        (("-d", '{"name": "x"}'), 0, "beside x"),
        (("-d", "-", "--env-file", "other.env"), 0, "other pipe"),
        (("-d", '{"name": "y"}', "--env", "WORD=given"), 0, "given y"),
    ):
        found, out, talk = run(*once, *arguments, stdin='{"name": "pipe"}', **others)
        assert (found, json.loads(out)["data"]) == (code, data)
        assert talk.startswith("info   asked ")
        assert "\nsucceeded  (" in talk
    result = json.loads(run(*once, "-d", '{"fail": true}', "--json", **others)[1])
    assert (result["status"], result["output"]["error"]) == ("failed", "as asked")
    for arguments, code, said in (
        (("greet.mjs", "-d", '{"fail": true}'), 1, "failed"),
        (("torn.mts",), 1, "invalid_handler"),
        (("greet.mjs", "--timeout-ms", "99999999"), 2, "timeout"),
    ):
        found, _, talk = run("dev", "--once", *arguments, **others)
        assert (found, "Traceback" in talk) == (code, False), (arguments, talk)
        assert said in talk, (arguments, talk)
    assert folders(scratch) == []


def test_what_went_wrong_is_said_once_on_lines_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "throws.mjs").write_text(THROWS)
    run = typed(tmp_path, "http://127.0.0.1:9")
    code, out, talk = run("dev", "throws.mjs", "--once")
    assert (code, out) == (1, "")
    printed, more, ended, *stack = talk.split("\n")[:-1]
    assert [printed, more] == ["info   one", "    two\\x1b[2J"]
    assert ended.startswith("handler_error: boom  (cold start, ")
    assert stack[:2] == ["Error: boom", "again \\x1b[31mred\\r\\x85"]
    assert stack[2].startswith("    at handler (throws.mjs:4:")
    assert len(stack) == 3
    # What is no Error has no stack that would repeat it
    _, _, talk = run("dev", "throws.mjs", "--once", "-d", '{"text": true}')
    _, _, ended, *rest = talk.split("\n")[:-1]
    assert ended.startswith("handler_error: boom  (")
    assert rest == ["    again \\x1b[31mred\\r\\x85"]
    # Nor is it said beside the document that has it
    _, out, talk = run("dev", "throws.mjs", "--once", "--json")
    assert json.loads(out)["error"]["message"].startswith("boom")
    assert talk.split("\n") == [printed, more, ""]


def test_a_change_runs_it_again_and_ctrl_c_leaves_nothing(
    start: Start, poll: Poll, tmp_path: Path
) -> None:
    source, extra, given = (tmp_path / name for name in ("greet.mjs", "extra.env", "in.json"))
    source.write_text(GREET)
    extra.write_text("WORD=hello")
    given.write_text('{"name": "you"}')
    dev = start(COMMAND, "dev", source, "-d", "@in.json", "--env-file", "extra.env", port=0)

    def said(text: str, count: int = 1) -> None:
        poll(text, lambda: dev.text().count(text) >= count, 30)

    said('"hello you"')
    said("watching")
    # An editor that puts another file in the place of the first
    other = tmp_path / "greet.mjs.new"
    other.write_text(GREET.replace("${input.name}", "dear ${input.name}"))
    other.replace(source)
    said('"hello dear you"')
    extra.write_text("WORD=ahoy")
    said('"ahoy dear you"')
    given.write_text('{"name": "all"}')
    said('"ahoy dear all"')
    # What is wrong is said, and the next change is waited for
    source.write_text("export const handler = (")
    said("invalid_handler")
    given.write_text("{")
    said("in.json is not JSON")
    given.write_text('{"name": "us"}')
    source.unlink()
    source.write_text(GREET)
    said('"ahoy us"')
    said("watching", 7)
    dev.interrupt()
    assert dev.process.wait(10) == 130
    assert "Traceback" not in dev.text()
    assert not [seen for seen in dev.family() if seen.lives()]
    assert folders(dev.scratch) == []
    assert dev.left_behind(dev.owners()) == []


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_node_outlives_it_whatever_ends_it(
    how: signal.Signals, start: Start, poll: Poll, tmp_path: Path
) -> None:
    source = tmp_path / "spin.mjs"
    source.write_text(SPIN)
    dev = start(COMMAND, "dev", source, port=0)
    poll("it runs", lambda: "spins" in dev.text(), 30)
    poll("it spins", dev.busy, 30)
    own = dev.family()
    dev.process.send_signal(how)
    assert dev.process.wait(10) == (-how if how is signal.SIGKILL else 128 + how)
    poll("all of it is gone", lambda: not [seen for seen in own if seen.lives()], 10)
    if how is not signal.SIGKILL:
        assert folders(dev.scratch) == []
        return
    # What a killed one leaves, a later one removes; not what another holds, or has just made
    [left] = folders(dev.scratch)
    fresh = dev.scratch / "lowcode-faas-dev-fresh"
    fresh.mkdir()
    source.write_text(GREET)
    another = start(COMMAND, "dev", source, port=0)
    poll("it watches", lambda: "watching" in another.text(), 30)
    [held] = {*folders(dev.scratch)} - {left, fresh}
    for path, age_s in ((left, 100), (held, 100), (fresh, 0)):
        os.utime(path, (time.time() - age_s,) * 2)
    assert typed(tmp_path, "")("dev", "spin.mjs", "--once", TMPDIR=str(dev.scratch))[0] == 0
    assert {*folders(dev.scratch)} == {held, fresh}


def test_enter_runs_it_again(poll: Poll, tmp_path: Path) -> None:
    (tmp_path / "greet.mjs").write_text(GREET)
    terminal, theirs = os.openpty()
    said = tmp_path / "said.txt"
    with said.open("w") as output:
        process = subprocess.Popen(
            [COMMAND, "dev", "greet.mjs"],
            stdin=theirs,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=tmp_path,
            env=environment(tmp_path, ""),
        )
    try:
        poll("it ran", lambda: said.read_text().count("watching") == 1, 30)
        os.write(terminal, b"\n")
        poll("it ran again", lambda: said.read_text().count("watching") == 2, 30)
        assert "warm start" in said.read_text()
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        os.close(terminal)
        os.close(theirs)
