"""Every block of every page, run as a reader would; what was printed is what the page shows."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from lowcode_faas_core import hookspecs
from tests.docs.languages import PARSERS
from tests.docs.notation import contains, documents, matches, matches_text
from tests.docs.pages import Block, Page, pages
from tests.docs.reader import Printed, Reader

#: A page is a minute of typing on a machine that does much else; each block has a bound of its own.
pytestmark = pytest.mark.timeout(300)

#: Seconds until what a service prints has arrived: its sinks write in batches.
ARRIVAL_S = 10.0
SHELLS = ("sh", "bash")


@pytest.fixture
def servers(request: pytest.FixtureRequest) -> Callable[[str], dict[str, str]]:
    """Return the variables of servers of the tests' own, by the name a block asks for them."""

    def named(name: str) -> dict[str, str]:
        match name:
            case "":
                return {}
            case "db_s3":
                return dict(request.getfixturevalue("db_s3_environ"))
            case "docker":
                return {
                    "LOWCODE_FAAS_RUNNER": "docker",
                    "LOWCODE_FAAS_NODE_DOCKER_IMAGE": request.getfixturevalue("image_of")(24),
                    "LOWCODE_FAAS_DOCKER_INSTANCE": request.getfixturevalue("instance"),
                }
            case "haproxy":
                request.getfixturevalue("haproxy")
                return {}
            case "loki":
                return {"LOWCODE_FAAS_LOG_LOKI_URL": request.getfixturevalue("checker").url}
        raise AssertionError(f"nothing is known of needs={name}")

    return named


@pytest.fixture
def read(
    tmp_path: Path, servers: Callable[[str], dict[str, str]]
) -> Iterator[Callable[[Page], None]]:
    """Read a page to its end."""
    readers = []

    def whole(page: Page) -> None:
        blocks = [block.parsed() for block in page.blocks()]
        variables: dict[str, str] = {}
        for need in sorted({block.options.get("needs", "") for block in blocks}):
            variables |= servers(need)
        readers.append(reader := Reader(tmp_path, variables))
        printed: Printed | None = None
        for number, block in enumerate(blocks):
            below = blocks[number + 1] if number + 1 < len(blocks) else None
            if "in" in block.options or block.marker == "illustration":
                continue
            if block.marker == "output":
                compare(block, printed, reader)
            else:
                printed = run(block, below, reader)

    yield whole
    for reader in readers:
        reader.close()


def run(block: Block, below: Block | None, reader: Reader) -> Printed | None:
    """Do with a block what its language and options ask for."""
    name = block.options.get("file")
    if block.language in PARSERS:
        PARSERS[block.language](block.text)
    if name is not None:
        reader.write(name, block.text)
    elif "serve" in block.options:
        reader.serve(block)
    elif block.language in SHELLS:
        shown = below is not None and below.marker == "output" and below.language != "json"
        return reader.run(block, together=shown)
    elif block.language == "python":
        return reader.execute(block)
    return None


def compare(block: Block, printed: Printed | None, reader: Reader) -> None:
    """Fail with both texts where something else was printed than the block shows."""
    match block.options.get("of"):
        case "signature":
            hook = Path(block.page).stem
            signature = inspect.signature(getattr(hookspecs, hook))
            assert block.text == f"def {hook}{signature}:\n".replace("'", ""), block.where
        case "service":
            deadline = time.monotonic() + ARRIVAL_S
            while not (found := service_printed(block, reader)) and time.monotonic() < deadline:
                time.sleep(0.05)
            assert found, f"{block.where}: no service printed this\n{reader.service_text()}"
        case _:
            assert printed is not None, f"{block.where}: nothing ran above"
            same = (
                same_documents(block.text, printed.output)
                if block.language == "json"
                else matches_text(block.text, printed.output)
            )
            assert same, (
                f"{block.where} shows\n{block.text}\nand what was printed is\n{printed.output}\n"
                f"{printed.errors}\n{reader.service_text()}"
            )


def service_printed(block: Block, reader: Reader) -> bool:
    if block.language != "json":
        return contains(block.text, reader.service_text())
    (shown,) = documents(block.text)
    lines = [line for line in reader.service_text().splitlines() if line.startswith("{")]
    return any(matches(shown, found) for line in lines for found in documents(line))


def same_documents(shown: str, printed: str) -> bool:
    try:
        expected, found = documents(shown), documents(printed)
    except ValueError:
        return False
    return len(expected) == len(found) and all(map(matches, expected, found))


#: The Chinese README's blocks are the English one's, as ``tests/house`` holds.
READ = [page for page in pages() if page.blocks() and page.name != "README.zh-CN.md"]


@pytest.mark.parametrize("page", READ, ids=lambda page: page.name)
def test_a_reader_gets_what_the_page_shows(page: Page, read: Callable[[Page], None]) -> None:
    read(page)


LACKING = """\
from lowcode_faas_core.interfaces.log_sink import LogSink
class Sink(LogSink): ...
"""
MISSPELT = """\
from lowcode_faas_core.hookspecs import hookimpl
@hookimpl
def lowcode_faas_log_sinks(environ): ...
"""


def fenced(*blocks: tuple[str, str]) -> Page:
    return Page("docs/none.md", "\n".join(f"```{info}\n{text}\n```\n" for info, text in blocks))


@pytest.mark.parametrize(
    ("page", "said"),
    [
        (fenced(("sh run", "false\ntrue")), "docs/none.md:1: failed"),
        (fenced(("sh run", "echo $undefined")), "undefined: unbound variable"),
        (fenced(("sh run fails", "true")), "did not fail"),
        (fenced(("sh run", "echo a"), ("text output", "b")), "docs/none.md:5 shows"),
        (fenced(("sh run", "echo a"), ("json output", "{}")), "docs/none.md:5 shows"),
        (fenced(("sh run", "echo '{}'"), ("json output", '{"a": 1}')), "docs/none.md:5 shows"),
        (fenced(("json run", "{")), "Expecting property name"),
        (fenced(("yaml run", "a: [")), "expected the node content"),
        (fenced(("python run", LACKING)), "Sink lacks close, emit, flush"),
        (fenced(("python run", MISSPELT)), "unknown hook 'lowcode_faas_log_sinks'"),
        (fenced(("sh run needs=luck", "true")), "nothing is known of needs=luck"),
    ],
)
def test_a_page_that_is_wrong_is_found(page: Page, said: str, read: Callable[[Page], None]) -> None:
    with pytest.raises(Exception, match=said):
        read(page)


def test_what_a_block_leaves_is_there_for_the_next(read: Callable[[Page], None]) -> None:
    read(
        fenced(
            ("sh run", "name=Ada; mkdir below; cd below; greet() { echo hello $1; }"),
            ("js run file=below/x.mjs", "x"),
            ("sh run", "greet $name; cat x.mjs"),
            ("text output", "hello Ada\nx"),
        )
    )
