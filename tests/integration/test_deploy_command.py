"""``lowcode-faas deploy``: what of a folder is deployed, what it keeps, and how it refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.typing_commands import Run, typed

OK = "export const handler = () => ({ok: true});\n"


@pytest.fixture
def service(serve: Callable[..., Any]) -> Any:
    return serve(WORKERS="1", FILES_KEEP_VERSIONS="20")


@pytest.fixture
def run(service: Any, tmp_path: Path) -> Run:
    """Run ``lowcode-faas`` in a folder of its own; returns exit code, stdout and stderr."""
    return typed(tmp_path, service.url)


def make(root: Path, files: dict[str, str | None]) -> None:
    """Write files below a folder; ``None`` is an empty folder."""
    for name, text in files.items():
        path = root / name
        (path if text is None else path.parent).mkdir(parents=True, exist_ok=True)
        if text is not None:
            path.write_text(text)


def test_a_folder_without_sources_is_no_collection(run: Run, tmp_path: Path) -> None:
    make(
        tmp_path / "fj",
        {
            "lim.mjs": OK,
            "eu/deep/price.mjs": OK,
            "bare/collection.env.json": '{"A": "1"}',
            "__pycache__": None,
            "x.egg-info/PKG-INFO": "Name: x\n",
            "my dir/notes.txt": "none",
            "docs/page.md": "# none\n",
            "emptyd": None,
        },
    )
    code, out, talk = run("deploy", "fj")
    assert (code, talk) == (0, "")
    assert out == "lim  version 1  deployed\neu/deep/price  version 1  deployed\n"
    # A folder is there for those below it, and for its env
    assert run("collections", "list")[1].split() == ["bare", "A", "eu", "eu/deep"]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"my dir/a.mjs": OK}, "fj/my dir: each segment of a collection path must match"),
        ({"my dir/collection.env.json": "{}"}, "fj/my dir: each segment"),
        ({"env/deep/a.mjs": OK}, "fj/env: 'env' is a reserved word"),
        ({"a/b/c/d/e/f/g/h/i/a.mjs": OK}, "fj/a/b/c/d/e/f/g/h: a collection path has at most 8"),
        ({"eu/a b.mjs": OK}, "fj/eu/a b.mjs: a function name must match"),
        ({"eu/torn.mjs": OK, "eu/torn.env.json": "{"}, "fj/eu/torn.env.json"),
        ({"eu/a.mjs": OK, "eu/collection.env.json": "{"}, "fj/eu/collection.env.json"),
    ],
)
def test_what_is_illegal_is_named_before_anything_is_deployed(
    files: dict[str, str | None], said: str, run: Run, tmp_path: Path
) -> None:
    make(tmp_path / "fj", {"lim.mjs": OK, **files})
    code, out, talk = run("deploy", "fj", "-c", "team")
    assert (code, out) == (2, "")
    assert f"Error: {said}" in talk
    assert run("collections", "list")[1] == ""


def test_a_bad_collection_is_not_blamed_on_a_file(run: Run, tmp_path: Path) -> None:
    make(tmp_path, {"fj/lim.mjs": OK})
    for what in ("fj", "fj/lim.mjs"):
        code, _, talk = run("deploy", what, "-c", "my team")
        assert (code, "Error: -c 'my team': each segment" in talk) == (2, True), talk


def test_an_env_file_of_a_shell_is_read(run: Run, tmp_path: Path) -> None:
    lines = "# for everybody\nA=1\n\nexport B=2\n  export\tC = x=y\nexport=4\nexported=5\n"
    make(tmp_path, {"lim.mjs": OK, "eu.env": lines})
    assert run("deploy", "lim.mjs", "--env-file", "eu.env")[0] == 0
    assert run("env", "get", "-f", "lim")[1] == "A=1\nB=2\nC= x=y\nexport=4\nexported=5\n"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("A=1\nexport B C=3\n", "eu.env, line 2: an env key must match"),
        ("A=1\n\nexport B\n", "eu.env, line 3: not KEY=VALUE"),
        ("# no\n=1\n", "eu.env, line 2: an env key must match"),
        ("A=1\nPATH=/bin\n", "eu.env, line 2: PATH is refused"),
        ('{\n "A": "1",\n "B-": "2"\n}', "eu.env, line 3: an env key must match"),
        ('{\n "A": "B",\n "B": 2\n}', "eu.env, line 3: B must be a string"),
        ('{"A": "\\u0000"}', "eu.env, line 1: an env value may not contain NUL"),
        ('{\n "A"\n}', "eu.env: not JSON: Expecting ':' delimiter: line 3 column 1"),
    ],
)
def test_what_is_wrong_in_an_env_file_has_its_line(
    content: str, said: str, run: Run, tmp_path: Path
) -> None:
    make(tmp_path, {"lim.mjs": OK, "eu.env": content})
    for words in (("deploy", "lim.mjs"), ("collections", "create", "shop")):
        code, out, talk = run(*words, "--env-file", "eu.env")
        assert (code, out, f"Error: {said}" in talk) == (2, "", True), talk


def current(service: Any, name: str) -> tuple[dict[str, Any], str]:
    """Return the limits of a function that are set, and its reuse."""
    found = service.call("GET", f"/functions/{name}")[1]["current"]
    return {key: value for key, value in found["limits"].items() if value is not None}, found[
        "reuse"
    ]


def test_a_redeploy_keeps_limits_and_reuse(run: Run, service: Any, tmp_path: Path) -> None:
    # Given a function whose limits somebody set over the API
    make(tmp_path, {"fj/lim.mjs": OK, "fj/new.mjs": OK})
    limits = {"memory_mb": 512, "timeout_ms": 5000}
    service.deploy("lim", OK, limits=limits, reuse="fresh")
    # When the same bytes are deployed, by themselves or with their folder, then nothing changes
    assert run("deploy", "fj/lim.mjs")[1] == "lim  version 1  unchanged\n"
    assert run("deploy", "fj")[1] == "lim  version 1  unchanged\nnew  version 1  deployed\n"
    # And other bytes change only the source
    (tmp_path / "fj/lim.mjs").write_text(f"// other\n{OK}")
    assert run("deploy", "fj/lim.mjs")[1] == "lim  version 2  deployed\n"
    assert current(service, "lim") == (limits, "fresh")
    # What is named changes, and nothing else; default is the operator's
    words = ("--cpus", "0.5", "--pids", "32", "--tmp-mb", "16", "--memory-mb", "default")
    assert run("deploy", "fj/lim.mjs", *words)[1] == "lim  version 3  deployed\n"
    mixed = {"cpus": 0.5, "pids": 32, "tmp_mb": 16, "timeout_ms": 5000}
    assert current(service, "lim") == (mixed, "fresh")
    run("deploy", "fj/lim.mjs", "--timeout-ms", "70", "--reuse", "default")
    assert current(service, "lim") == ({**mixed, "timeout_ms": 70}, "warm")
    # And all of it can be put back, but for what is named beside
    run("deploy", "fj/lim.mjs", "--defaults", "--memory-mb", "64")
    assert current(service, "lim") == ({"memory_mb": 64}, "warm")
    run("deploy", "fj", "--defaults", "--reuse", "fresh")
    assert current(service, "lim") == ({}, "fresh")
    # While the API takes what it is sent for all there is
    service.deploy("bare", OK, limits=limits, reuse="fresh")
    assert service.call("POST", "/functions", {"name": "bare", "source_code": OK})[0] == 201
    assert current(service, "bare") == ({}, "warm")


def test_limits_are_refused_in_words_of_the_command(run: Run, tmp_path: Path) -> None:
    make(tmp_path, {"fj/lim.mjs": OK})
    for words, code, said in (
        (("fj/lim.mjs", "--memory-mb", "lots"), 2, "'lots' is neither a whole number nor default"),
        (("fj/lim.mjs", "--memory-mb", "1.5"), 2, "'1.5' is neither a whole number nor default"),
        (("fj/lim.mjs", "--memory-mb", "9" * 400), 2, "is neither a whole number nor default"),
        (("fj/lim.mjs", "--cpus", "nan"), 2, "'nan' is neither a number nor default"),
        (("fj/lim.mjs", "--reuse", "cold"), 2, "'cold' is not one of"),
        (("fj", "--pids", "20"), 2, "--pids goes with a file, not with a folder"),
        (("fj/lim.mjs", "--memory-mb", "1"), 1, "fj/lim.mjs: /limits/memory_mb: "),
    ):
        found, out, talk = run("deploy", *words)
        assert (found, out, said in talk) == (code, "", True), talk
    assert run("list")[1] == ""
    helped = run("deploy", "--help")[1]
    for said in ("--timeout-ms", "keeps the limits and reuse of the current version", "--defaults"):
        assert said in " ".join(helped.split())


def test_who_may_not_read_is_told_how_to_deploy(serve: Callable[..., Any], tmp_path: Path) -> None:
    # Given a token that may deploy and not read: what is there cannot be kept
    make(tmp_path, {"lim.mjs": OK})
    tokens = {"LOWCODE_FAAS_API_TOKENS_FILE": str(tmp_path / "tokens.json")}
    run = typed(tmp_path, "http://127.0.0.1:9")
    made = run("token", "create", "ci", "--verbs", "deploy", **tokens)[1].strip()
    service = serve(WORKERS="1", API_TOKENS_FILE=tokens["LOWCODE_FAAS_API_TOKENS_FILE"])
    run, token = typed(tmp_path, service.url), {"LOWCODE_FAAS_TOKEN": made}
    # When it deploys, then it is not guessed
    code, out, talk = run("deploy", "lim.mjs", **token)
    assert (code, out) == (1, "")
    assert "needs the verb read" in talk
    assert "--defaults deploys without looking" in talk
    # And with all that was to be kept named, nothing has to be looked at
    assert run("deploy", "lim.mjs", "--defaults", **token)[1] == "lim  version 1  deployed\n"


def test_a_collection_that_is_not_there_has_its_command(run: Run, tmp_path: Path) -> None:
    make(tmp_path, {"lim.mjs": OK})
    code, out, talk = run("deploy", "lim.mjs", "-c", "newcoll/x")
    assert (code, out) == (1, "")
    command = "lowcode-faas collections create newcoll/x"
    assert talk == (
        f"Error: lim.mjs: the collection 'newcoll/x' is not registered; `{command}` registers it\n"
    )
    assert run(*command.split()[1:])[0] == 0
    assert run("deploy", "lim.mjs", "-c", "newcoll/x")[0] == 0


def test_a_syntax_error_is_shown_where_it_is(run: Run, tmp_path: Path) -> None:
    make(
        tmp_path, {"fj/syntax.mjs": "export const handler = () => ({\n\tok: true, a\u0301 b\n});\n"}
    )
    for what in ("fj/syntax.mjs", "fj"):
        code, out, talk = run("deploy", what)
        assert (code, out) == (1, "")
        said, line, caret = talk.splitlines()
        assert said.startswith("Error: fj/syntax.mjs: /source_code: line 2, column 17")
        # The second of the two words, where a mark above a letter takes no column of its own
        assert (line, caret) == ("    ok: true, a\u0301 b", " " * 16 + "^")
    # Where the source ends too early there is no place to mark
    (tmp_path / "torn.mjs").write_text("export const handler = (")
    said, line = run("deploy", "torn.mjs")[2].splitlines()
    assert said.startswith("Error: torn.mjs: /source_code: line 1: ")
    assert line == "export const handler = ("


def test_what_a_terminal_would_obey_is_shown_as_text(run: Run, tmp_path: Path) -> None:
    (tmp_path / "odd.mjs").write_text("export const handler = '\x01' oops;\n")
    talk = run("deploy", "odd.mjs")[2]
    _, line, caret = talk.splitlines()
    assert "\\x01" in line
    assert line[caret.index("^") :].startswith("oops")
