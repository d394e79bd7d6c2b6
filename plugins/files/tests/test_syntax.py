from __future__ import annotations

import logging
import os
import time
from pathlib import Path

import pytest
from lowcode_faas_files.storage import FilesStorage

from lowcode_faas_core.errors import FunctionNotFound
from lowcode_faas_core.model import Draft, FunctionRef, Language, Reuse, SourceCheck, SourceFault

REF = FunctionRef("", "greet")


class Checker:
    """Finds fault with whatever says so, and remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, Language]] = []

    def __call__(self, source: bytes, language: Language) -> SourceCheck:
        self.asked.append((source, language))
        fault = SourceFault("no", 1, 4) if b"broken" in source else None
        return SourceCheck(checked=True, fault=fault)


@pytest.fixture
def checker() -> Checker:
    return Checker()


@pytest.fixture
def storage(data_dir: Path, checker: Checker) -> FilesStorage:
    storage = FilesStorage(data_dir, keep_versions=3)
    storage.check_sources_with(checker)
    return storage


@pytest.fixture
def functions(data_dir: Path) -> Path:
    return data_dir / "collections/__root__/functions"


def draft(source: bytes) -> Draft:
    return Draft(source=source, language=Language.JAVASCRIPT, reuse=Reuse.WARM)


def put(path: Path, content: str) -> None:
    """Write a file as somebody who finished a while ago."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    past = time.time() - 60
    os.utime(path, (past, past))


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_an_edit_that_does_not_compile_is_refused_and_told_once(
    storage: FilesStorage, functions: Path, checker: Checker, caplog: pytest.LogCaptureFixture
) -> None:
    storage.deploy(REF, draft(b"// 1"))
    put(functions / "greet.mjs", "// broken")
    for _ in range(3):
        row = storage.resolve(REF).deployment
        assert (row.version, storage.source(row)) == (1, b"// 1")
    assert [item.current.version for item in storage.functions("", 10).items] == [1]
    assert checker.asked == [(b"// broken", Language.JAVASCRIPT)]
    assert warnings(caplog) == [
        "collections/__root__/functions/greet.mjs is not adopted: line 1, column 4: no"
    ]

    put(functions / "greet.mjs", "// good")
    assert storage.resolve(REF).deployment.version == 2

    # The same mistake again is another edit, and no other content.
    put(functions / "greet.mjs", "// broken")
    assert storage.resolve(REF).deployment.version == 2
    assert [source for source, _ in checker.asked] == [b"// broken", b"// good"]
    assert len(warnings(caplog)) == 2


def test_nothing_is_asked_of_a_refused_edit_on_the_hot_path(
    storage: FilesStorage, functions: Path, checker: Checker
) -> None:
    storage.deploy(REF, draft(b"// 1"))
    put(functions / "greet.mjs", "// broken")
    last = time.monotonic() + 5
    while not (storage._resolved.get(REF) and storage._resolved[REF].settled):
        storage.resolve(REF)
        assert time.monotonic() < last, "a refused edit never settles"
    before = storage._resolved[REF]
    storage.resolve(REF)
    assert storage._resolved[REF] is before
    assert len(checker.asked) == 1


def test_a_new_function_that_does_not_compile_is_none(
    storage: FilesStorage, functions: Path
) -> None:
    put(functions / "fresh.mts", "// broken")
    ref = FunctionRef("", "fresh")
    with pytest.raises(FunctionNotFound, match=r"fresh\.mts was refused: line 1, column 4"):
        storage.resolve(ref)
    assert storage.functions("", 10).items == []
    put(functions / "fresh.mts", "// mended")
    assert storage.resolve(ref).deployment.version == 1


def test_a_deploy_takes_the_place_of_a_refused_edit(
    storage: FilesStorage, functions: Path, checker: Checker
) -> None:
    file = functions / "greet.mjs"
    storage.deploy(REF, draft(b"// 1"))
    put(file, "// broken")
    # Of the bytes that are current already: the file is mended, no version is made.
    assert not storage.deploy(REF, draft(b"// 1")).created
    assert file.read_bytes() == b"// 1"
    put(file, "// broken")
    assert storage.deploy(REF, draft(b"// 2")).deployment.version == 2
    assert file.read_bytes() == b"// 2"
    put(file, "// broken")
    assert storage.rollback(REF, 1).version == 3
    assert file.read_bytes() == b"// 1"
    assert [source for source, _ in checker.asked] == [b"// broken"]


def test_without_a_checker_every_edit_is_adopted(data_dir: Path, functions: Path) -> None:
    storage = FilesStorage(data_dir)
    storage.deploy(REF, draft(b"// 1"))
    put(functions / "greet.mjs", "// broken")
    assert storage.resolve(REF).deployment.version == 2
