"""``lowcode-faas logs``: a function's lines as they come, whichever of its runs prints them."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import COMMAND
from tests.integration.typing_commands import environment, typed

COUNTS = """
export const handler = async ({name, to, pause}) => {
  for (let i = 1; i <= to; i++) {
    console.log(name, i);
    if (pause) await new Promise((done) => setTimeout(done, pause));
  }
  return {ok: true};
};
"""
FAILS = """
export const handler = ({how}) => {
  if (how === "throws") throw new Error("boom");
  if (how === "late") setTimeout(() => console.log("late of a quiet run"), 20);
  return new Promise((done) => setTimeout(() => done({ok: true}), how === "waits" ? 200 : 0));
};
"""
LINES = """
export const handler = () => {
  console.log("one\\n20-forged  error  two\\n\\n\\x1b[2Jthree\\r\\n\\x85\\u2028four");
  throw new Error("boom");
};
"""
Start = Callable[..., "Follower"]


class Follower:
    """A command that goes on, and what it has printed."""

    def __init__(self, service: Any, folder: Path, *arguments: str) -> None:
        self.out, self.err = folder / "followed.txt", folder / "said.txt"
        with self.out.open("w") as out, self.err.open("w") as err:
            self.process = subprocess.Popen(
                [COMMAND, "logs", *arguments],
                stdout=out,
                stderr=err,
                env=environment(folder, service.url),
            )

    def messages(self) -> list[str]:
        """Return what is printed so far, of whole lines."""
        *lines, _ = self.out.read_text().split("\n")
        return [json.loads(line)["message"] for line in lines]

    def interrupt(self) -> int:
        """Do what Ctrl-C does, and return how it ends."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(5)


@pytest.fixture
def follow(tmp_path: Path) -> Iterator[Start]:
    started: list[Follower] = []

    def start(service: Any, *arguments: str) -> Follower:
        started.append(Follower(service, tmp_path, *arguments))
        return started[-1]

    yield start
    for each in started:
        each.process.kill()
        each.process.wait(5)


def test_every_run_of_a_function_is_followed_and_no_line_comes_twice(
    serve: Callable[..., Any], follow: Start, poll: Callable[..., Any], tmp_path: Path
) -> None:
    # Given a function that ran, one run of it that goes on, and one of its name elsewhere
    service = serve(WORKERS="1")
    service.deploy("counts", COUNTS)
    service.call("POST", "/collections", {"path": "shop"})
    service.deploy("counts", COUNTS, collection_path="shop")
    service.invoke("counts", {"name": "earlier", "to": 2})
    answers = [service.in_background("counts", {"name": "long", "to": 60, "pause": 50})]
    follower = follow(service, "counts", "-f", "--json")
    poll("what runs is followed", lambda: "long 5" in follower.messages())
    assert follower.messages()[:2] == ["earlier 1", "earlier 2"]
    assert "long 60" not in follower.messages(), "it was shown when it had ended"
    # When more of it runs, more than one may follow at a time, and its namesake
    for number in range(4):
        run = {"name": f"run{number}", "to": 8, "pause": 100}
        answers.append(service.in_background("counts", run))
    for number in range(5):
        answers.append([service.invoke("counts", {"name": f"quick{number}", "to": 3})])
    service.call("POST", "/collections/shop/functions/counts/invoke", {"input": {"to": 1}})
    # Then all lines of all of its runs come once, and in order
    expected = Counter(
        [f"earlier {i}" for i in (1, 2)]
        + [f"long {i}" for i in range(1, 61)]
        + [f"run{n} {i}" for n in range(4) for i in range(1, 9)]
        + [f"quick{n} {i}" for n in range(5) for i in range(1, 4)]
    )
    poll("all of it ran", lambda: all(answers), 30)
    assert [answer[0] for [answer] in answers] == [200] * 10
    poll("all lines came", lambda: len(follower.messages()) >= expected.total(), 20)
    time.sleep(1.2)  # another look
    found = follower.messages()
    assert Counter(found) == expected
    assert [text for text in found if text.startswith("long")] == [
        f"long {i}" for i in range(1, 61)
    ]
    assert (follower.interrupt(), follower.err.read_text()) == (130, "")


def test_following_outlives_the_service(
    serve: Callable[..., Any], follow: Start, poll: Callable[..., Any], free_port: Callable[[], int]
) -> None:
    listen = f"127.0.0.1:{free_port()}"
    service = serve(LISTEN=listen)
    service.deploy("counts", COUNTS)
    follower = follow(service, "-f", "counts", "-n", "0", "--json")

    def seen() -> bool:
        service.invoke("counts", {"name": "before", "to": 1})
        return bool(follower.messages())

    poll("it is followed", seen)
    service.process.kill()
    service.process.wait(20)
    poll("the end is told", lambda: "trying again" in follower.err.read_text())
    service = serve(LISTEN=listen)
    service.invoke("counts", {"name": "after", "to": 2})
    poll("it goes on", lambda: follower.messages()[-2:] == ["after 1", "after 2"])
    assert set(follower.messages()[:-2]) == {"before 1"}
    # Once that nobody answers, and before that perhaps that the first run is not there yet.
    (said,) = set(follower.err.read_text().splitlines()) - {"it has not run yet"}
    assert follower.err.read_text().count("trying again") == 1
    assert "does not answer" in said
    assert follower.interrupt() == 130


def test_what_a_run_that_printed_nothing_failed_by_is_shown(
    serve: Callable[..., Any], follow: Start, poll: Callable[..., Any], tmp_path: Path
) -> None:
    # Given a function that prints nothing itself, and fails
    service = serve(WORKERS="1")
    service.deploy("fails", FAILS)
    run = typed(tmp_path, service.url)
    service.invoke("fails", {"how": "throws"})
    poll("it is written down", lambda: run("executions", "list")[1])
    # Then its error is what is seen of it, at once and by those who follow
    _, out, _ = run("logs", "fails")
    assert out.count("  error  handler_error: Error: boom") == 1, out
    follower = follow(service, "fails", "-f", "--json", "-n", "0")
    service.invoke("fails", {"how": "quiet"})

    def followed() -> bool:
        service.invoke("fails", {"how": "throws"})
        return any("boom" in text for text in follower.messages())

    poll("its error is followed", followed)
    assert follower.interrupt() == 130


def test_what_a_quiet_run_printed_after_its_end_is_shown(
    serve: Callable[..., Any], poll: Callable[..., Any], tmp_path: Path
) -> None:
    service = serve(WORKERS="1")
    service.deploy("fails", FAILS)
    run = typed(tmp_path, service.url)
    # What one run left behind goes on during the next
    service.invoke("fails", {"how": "late"})
    service.invoke("fails", {"how": "waits"})
    poll("it is shown", lambda: "late of a quiet run" in run("logs", "fails")[1])


def test_a_message_of_several_lines_is_several_lines_and_moves_no_cursor(
    serve: Callable[..., Any], poll: Callable[..., Any], tmp_path: Path
) -> None:
    # Given somebody who prints lines, one that looks like another's, and what a terminal acts on
    service = serve(WORKERS="1")
    service.deploy("prints", LINES)
    made = service.invoke("prints")[1]
    run = typed(tmp_path, service.url)
    poll("it is written down", lambda: run("executions", "list")[1])
    # Then each is a line, below the first and never at the margin, and the rest is escaped
    for words in (("logs", "prints"), ("logs", "show", made["execution_id"])):
        first, *more, failed, at = run(*words)[1].split("\n")[:-1]
        assert first.endswith("  info   one"), words
        assert more == [
            "    20-forged  error  two",
            "",
            "    \\x1b[2Jthree\\r",
            "    \\x85\\u2028four",
        ]
        assert failed.endswith("  error  handler_error: Error: boom")
        assert at.startswith("        at handler (prints.mjs:")
