"""The command line against a running service, as somebody types it."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.integration.typing_commands import Run, typed

GREET = """
export const handler = (input) => {
  console.log('asked', input.name);
  if (input.fail) throw new Error('as asked');
  return {ok: true, data: {message: `${process.env.GREETING ?? 'hello'} ${input.name}`}};
};
"""

#: The bodies of versions, from the first on.
ANSWERS = (
    "return {ok: true, data: input.n};",
    "return {ok: true, data: input.n + 99};",
    "return {ok: true, data: {b: 1, a: 2}};",
    "return {ok: true, data: 'x\\x1b[2J\\xa0'};",
    "return {ok: true, data: {long: 'y'.repeat(1000), tail: 1}};",
    "return {ok: false, error: 'no'};",
    "throw new Error('boom');",
    "return {ok: true, data: {long: 'y'.repeat(1000), tail: 2}};",
    "return {ok: true, data: null};",
)


@pytest.fixture
def mirror(tmp_path: Path) -> Iterator[str]:
    """Serve the test's folder; return host and port."""
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def run(serve: Callable[..., Any], tmp_path: Path, mirror: str) -> Run:
    """Run ``lowcode-faas`` in a folder of its own; returns exit code, stdout and stderr."""
    service = serve(
        WORKERS="1", FILES_KEEP_VERSIONS="20", SOURCE_ALLOW_HTTP="true", SOURCE_ALLOW_HOSTS=mirror
    )
    return typed(tmp_path, service.url)


def test_a_function_from_its_first_version_to_its_end(run: Run, tmp_path: Path) -> None:
    # Given a file that is deployed
    source = tmp_path / "greet.mjs"
    source.write_text(GREET)
    assert run("collections", "create", "shop") == (0, "shop\n", "")
    assert run("deploy", "greet.mjs", "-c", "shop") == (0, "shop/greet  version 1  deployed\n", "")
    assert run("deploy", "greet.mjs", "-c", "shop")[1] == "shop/greet  version 1  unchanged\n"
    # When it is invoked in each way its input can be given
    (tmp_path / "input.json").write_text('{"name": "file"}')
    for data, stdin, name in (
        ('{"name": "word"}', "", "word"),
        ("@input.json", "", "file"),
        ("-", '{"name": "pipe"}', "pipe"),
    ):
        code, out, talk = run("invoke", "greet", "-c", "shop", "-d", data, stdin=stdin)
        assert (code, json.loads(out)["data"]["message"]) == (0, f"hello {name}")
        assert talk.startswith("succeeded  (")
    # Then env of the collection reaches it, and that of one run comes before
    assert run("env", "set", "GREETING=good day", "A=1", "-c", "shop")[0] == 0
    assert run("env", "unset", "A", "-c", "shop")[0] == 0
    assert run("env", "get", "-c", "shop") == (0, "GREETING=good day\n", "")
    explained = run("env", "explain", "greet", "-c", "shop")[1].split()
    assert explained == ["GREETING", "good", "day", "collection", "shop"]
    once = ("--env", "GREETING=ahoy")
    for more, word in (((), "good day"), (once, "ahoy")):
        _, out, _ = run("invoke", "greet", "-c", "shop", "-d", '{"name": "x"}', *more)
        assert json.loads(out)["data"]["message"] == f"{word} x"
    # And a second version can be taken back
    source.write_text(GREET.replace("hello", "hi"))
    assert run("deploy", "greet.mjs", "-c", "shop")[1] == "shop/greet  version 2  deployed\n"
    done = run("rollback", "greet", "-c", "shop")
    assert done == (0, "greet  version 3  as version 1\n", "")
    listed = run("versions", "greet", "-c", "shop", "--json")[1]
    assert [each["version"] for each in json.loads(listed)] == [3, 2, 1]
    assert run("show", "greet", "-c", "shop", "--source")[1] == GREET
    assert "version     3" in run("show", "greet", "-c", "shop")[1]
    assert run("list", "-c", "shop")[1].startswith("greet  v3  javascript")
    # And it is deleted by nobody's accident: where none can be asked, it has to be said
    code, out, talk = run("delete", "greet", "-c", "shop")
    assert (code, out) == (2, "")
    assert "Error: nobody can be asked here: give --yes" in talk
    assert run("delete", "greet", "-c", "shop", keys="n\n")[0] == 1
    assert run("list", "-c", "shop")[1].startswith("greet")
    assert run("delete", "greet", "-c", "shop", "--yes") == (0, "", "deleted shop/greet\n")
    run("deploy", "greet.mjs", "-c", "shop")
    assert run("delete", "greet", "-c", "shop", keys="y\n")[0] == 0
    assert run("list", "-c", "shop") == (0, "", "no functions here\n")


def test_a_source_is_fetched_again(run: Run, tmp_path: Path, mirror: str) -> None:
    source = tmp_path / "greet.mjs"
    source.write_text(GREET)
    run("deploy", "greet.mjs")
    # Without a URL there is nothing to fetch; with one, it is kept
    code, out, talk = run("pull", "greet")
    assert (code, out, "name one" in talk) == (1, "", True)
    url = f"http://{mirror}/greet.mjs"
    assert run("pull", "greet", "--url", url)[1] == f"greet  version 1  unchanged  from {url}\n"
    source.write_text(GREET.replace("hello", "hi"))
    assert run("pull", "greet", "--url", url)[1] == f"greet  version 2  deployed  from {url}\n"
    source.write_text(GREET.replace("hello", "hey"))
    pinned = ("--sha256", hashlib.sha256(b"other").hexdigest())
    assert run("pull", "greet", *pinned)[0] == 1
    pulled = json.loads(run("pull", "greet", "--json")[1])
    assert (pulled["version"], pulled["source_url"]) == (3, url)
    assert "hey" in run("show", "greet", "--source")[1]


def test_a_folder_is_a_collection(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "all"
    (folder / "eu").mkdir(parents=True)
    (folder / "one.mjs").write_text(GREET)
    (folder / "eu" / "two.ts").write_text("export const handler = (_: object) => ({ok: true});")
    (folder / "eu" / "two.env.json").write_text('{"B": "2"}')
    (folder / "collection.env.json").write_text('{"A": "1"}')
    assert run("deploy", "all", "-c", "shop")[0] == 0
    assert run("deploy", "all", "-c", "shop")[1].count("unchanged") == 2
    assert run("collections", "tree")[1] == "shop/\n  one  v1\n  eu/\n    two  v1\n"
    assert run("collections", "list")[1].split() == ["shop", "A", "shop/eu"]
    assert run("env", "get", "-f", "two", "-c", "shop/eu")[1] == "B=2\n"


def test_what_goes_wrong_is_one_sentence_and_an_exit_code(run: Run, tmp_path: Path) -> None:
    (tmp_path / "greet.mjs").write_text(GREET)
    (tmp_path / "torn.mjs").write_text("export const handler = (")
    run("deploy", "greet.mjs")
    # A run that did not succeed is no success of the command, and its output is what it is
    code, out, talk = run("invoke", "greet", "-d", '{"fail": true}')
    assert (code, out) == (1, "")
    assert talk.startswith("handler_error: as asked")
    for arguments, code, said in (
        (("invoke", "nobody"), 1, "nobody"),
        (("deploy", "torn.mjs"), 1, "line 1"),
        (("invoke", "greet", "-d", "{"), 2, "--data is not JSON"),
        (("invoke", "greet", "--env", "A"), 2, "'A' is not KEY=VALUE"),
        (("deploy", "nowhere.mjs"), 2, "nowhere.mjs"),
        (("env", "unset", "NOTHING"), 1, "not set here: NOTHING"),
        (("collections", "create", "a//b"), 1, "path"),
    ):
        found, out, talk = run(*arguments)
        assert (found, out) == (code, ""), arguments
        assert said in talk, arguments
        assert "Traceback" not in talk
    found, _, talk = run("list", LOWCODE_FAAS_URL="http://127.0.0.1:9")
    assert (found, talk) == (
        1,
        "Error: http://127.0.0.1:9 does not answer: [Errno 111] Connection refused\n",
    )


def test_logs_query_speaks_every_language(run: Run) -> None:
    code, out, _ = run("logs", "query", "--run-id", "r-1", "-c", "shop")
    assert code == 0
    assert out.count("r-1") >= 5


def test_what_ran_is_found_and_followed(run: Run, tmp_path: Path) -> None:
    (tmp_path / "greet.mjs").write_text(GREET)
    run("deploy", "greet.mjs")
    made = json.loads(run("invoke", "greet", "-d", '{"name": "x"}', "--json")[1])
    # Following an execution that has ended shows all of it; it waits for the record, too
    code, out, talk = run("logs", "show", "-f", made["execution_id"])
    assert (code, talk) == (0, "succeeded\n")
    assert out.endswith("  info   asked x\n")
    for words in (("logs", "show"), ("logs",), ("logs", "-f")):
        assert run(*words, made["execution_id"])[:2] == (0, out)
    assert run("logs", "greet")[1].split()[-3:] == ["info", "asked", "x"]
    assert run("logs", "nobody") == (1, "", "Error: there is no function nobody\n")
    listed = run("executions", "list", "-f", "greet")[1]
    assert listed.split()[0] == made["execution_id"]
    shown = json.loads(run("executions", "show", made["execution_id"])[1])
    assert (shown["status"], shown["input"]) == ("succeeded", None)
    code, _, talk = run("executions", "replay", made["execution_id"])
    assert code == 1
    assert "was not kept" in talk
    assert "LOWCODE_FAAS_EXECUTIONS_KEEP_IO=true" in talk


def test_the_end_of_an_id_is_enough_where_it_is_one_runs_alone(
    serve: Callable[..., Any], poll: Callable[..., Any], tmp_path: Path
) -> None:
    # Given what the console shows of an id, and two runs whose ids end alike
    service = serve(WORKERS="1", EXECUTIONS_KEEP_IO="true")
    run = typed(tmp_path, service.url)
    service.deploy("greet", GREET)
    whole = service.invoke("greet", {"name": "x"})[1]["execution_id"]
    poll("the console has it", lambda: "asked x" in service.text())
    [short] = re.findall(r" ([0-9a-f]{12}) \| asked x", service.text())
    for each in ("one-order-4711", "two-order-4711", "order-47"):
        service.invoke("greet", {"name": each}, execution_id=each)
    poll("they are listed", lambda: len(run("executions", "list")[1].splitlines()) == 4)
    # Then each command takes it for the whole
    for end in (short, short[-8:], whole):
        assert json.loads(run("executions", "show", end)[1])["execution_id"] == whole
        assert f", {whole})\n" in run("executions", "replay", end)[2]
        for words in (("logs",), ("logs", "-f"), ("logs", "show"), ("logs", "show", "-f")):
            code, out, talk = run(*words, end)
            assert (code, out.endswith("  info   asked x\n")) == (0, True), (words, talk)
    # An id that is whole is that run's, whichever others end in it
    assert run("logs", "show", "order-47")[1].endswith("  asked order-47\n")
    # And where it is none's, or not one's alone, that is said and nothing runs
    both = "order-4711 is the end of several: two-order-4711, one-order-4711\n"
    poll("what ran is listed", lambda: len(run("executions", "list")[1].splitlines()) == 7)
    for words, told in (
        (("executions", "show", "order-4711"), both),
        (("executions", "replay", "order-4711"), both),
        (("logs", "show", "order-4711"), both),
        (("logs", "show", "-f", "order-4711"), both),
        (("logs", "order-4711"), both),
        (("executions", "show", "order-4712"), "none of the newest 2000 ends in it"),
        (("executions", "replay", "order-4712"), "none of the newest 2000 ends in it"),
        (("logs", "show", "order-4712"), "none of the newest 2000 ends in it"),
        (("logs", "order-4712"), "there is no function order-4712\n"),
        (("executions", "show", short[-7:]), "an execution id must match"),
        (("executions", "show", str(uuid.uuid4())), "is kept\n"),
    ):
        code, out, talk = run(*words)
        assert (code, out) == (1, ""), words
        assert told in talk, (words, talk)
    assert "newest" not in run("executions", "show", str(uuid.uuid4()))[2]
    time.sleep(1.5)  # what runs is written down by then
    assert len(run("executions", "list")[1].splitlines()) == 7


def test_a_replay_prints_what_came_out_and_whether_it_is_the_same(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    run = typed(
        tmp_path, serve(WORKERS="1", EXECUTIONS_KEEP_IO="true", FILES_KEEP_VERSIONS="20").url
    )
    source = tmp_path / "answers.mjs"
    # Given a function of versions that answer one input differently
    ran = {}
    for version, body in enumerate(ANSWERS, 1):
        source.write_text(f"export const handler = (input) => {{ {body} }};")
        assert run("deploy", "answers.mjs")[0] == 0
        made = json.loads(run("invoke", "answers", "-d", '{"n": 5}', "--json")[1])
        ran[version] = made["execution_id"]
    # Then a replay's output is on standard output, as that of invoke, and the rest is talk
    for version, again, data, verdict in (
        (1, 1, 5, "output: same"),
        (1, 2, 104, "output: differs (5 -> 104)"),
        (3, 3, {"b": 1, "a": 2}, "output: same"),
        (1, 9, None, "output: differs (5 -> null)"),
        (1, 3, {"b": 1, "a": 2}, 'output: differs (5 -> {"a": 2, "b": 1})'),
    ):
        code, out, talk = run("executions", "replay", ran[version], "--version", str(again))
        assert (code, json.loads(out)) == (0, {"ok": True, "data": data})
        original, replay, said = talk.splitlines()
        assert original == f"original  succeeded  (version {version}, {ran[version]})"
        assert replay.startswith("replay    succeeded  (")
        assert f", version {again}, execution " in replay
        assert said == verdict
    # And one line says how, however long they are and whatever is in them
    for again, verdict in (
        (4, r'output: differs (5 -> "x\u001b[2J\xa0")'),
        (6, 'output: differs ({"data": 5, "ok": true} -> {"error": "no", "ok": false})'),
    ):
        said = run("executions", "replay", ran[1], "--version", str(again))[2].splitlines()[-1]
        assert said == verdict
    said = run("executions", "replay", ran[5], "--version", "8")[2].splitlines()[-1]
    assert said.startswith("output: differs (…")
    assert 'tail": 1' in said
    assert 'tail": 2' in said
    assert len(said) < 120
    # A run that came to no output has none to compare, and a replay that comes to none differs
    code, out, talk = run("executions", "replay", ran[1], "--version", "7")
    assert (code, out) == (1, "")
    assert talk.splitlines()[1].startswith("replay    handler_error: boom  (")
    assert talk.splitlines()[-1] == 'output: differs ({"data": 5, "ok": true} -> none)'
    code, out, talk = run("executions", "replay", ran[7], "--version", "1")
    assert (code, json.loads(out)["data"]) == (0, 5)
    assert talk.startswith("original  handler_error: boom  (version 7, ")
    assert "output:" not in talk


def test_names_are_completed_from_the_service(run: Run, tmp_path: Path) -> None:
    (tmp_path / "greet.mjs").write_text(GREET)
    (tmp_path / "great.mjs").write_text(GREET)
    run("deploy", "greet.mjs")
    run("collections", "create", "shop/eu")
    run("deploy", "great.mjs", "-c", "shop/eu")

    def completed(*words: str, **environ: str) -> list[str]:
        given = {
            "_LOWCODE_FAAS_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(("lowcode-faas", *words)),
            "COMP_CWORD": str(len(words)),
            **environ,
        }
        code, out, talk = run(**given)
        assert (code, talk) == (0, "")
        return [line.partition(",")[2] for line in out.splitlines() if line]

    for words, names in (
        (("invoke", "gr"), ["greet"]),
        (("logs", "-c", "shop/eu", "gr"), ["great"]),
        (("logs", "gr"), ["greet"]),
        (("show", "--collection", "shop/eu", ""), ["great"]),
        (("env", "get", "-c", "shop/eu", "-f", "g"), ["great"]),
        (("list", "-c", "s"), ["shop", "shop/eu"]),
        (("collections", "delete", "shop/"), ["shop/eu"]),
        (("versions", "x"), []),
        (("vers",), ["versions"]),
        (("collections", "l"), ["list"]),
    ):
        assert completed(*words) == names, words
    # Without a service, or with one that says nothing, there is nothing to offer, and soon
    assert completed("invoke", "g", LOWCODE_FAAS_URL="http://127.0.0.1:9") == []
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        assert completed("invoke", "--server", url, "g") == []


def test_progress_is_for_a_terminal_on_stderr(run: Run, tmp_path: Path) -> None:
    (tmp_path / "all").mkdir()
    for name in ("one", "two"):
        (tmp_path / "all" / f"{name}.mjs").write_text(GREET)
    assert run("deploy", "all")[2] == ""
    # Data go on to who reads them, and the bar to who watches
    terminal, theirs = os.openpty()
    done = run("deploy", "all", "--json", stderr=theirs)
    assert run("export", "all.tar.gz", stderr=theirs)[0] == 0
    os.close(theirs)
    said = os.read(terminal, 65536).decode()
    os.close(terminal)
    assert [each["version"] for each in json.loads(done[1])] == [1, 1]
    assert "deploying" in said
    assert "100%" in said
    assert "reading  2" in said
    shown = json.loads(run("collections", "tree", "--json")[1])
    both = [{"name": name, "version": 1} for name in ("one", "two")]
    assert shown == [{"path": "", "functions": both}]
