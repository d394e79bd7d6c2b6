"""Many writers, and readers that look all the time, over the files storage."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest
from lowcode_faas_files.storage import FilesStorage

from lowcode_faas_core.errors import FunctionNotFound
from lowcode_faas_core.model import Draft, FunctionRef, Language, Reuse

REF = FunctionRef("", "busy")


def draft(source: bytes, env: dict[str, str] | None = None) -> Draft:
    return Draft(source=source, language=Language.JAVASCRIPT, reuse=Reuse.WARM, env=env)


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory where there is one: thousands of fsyncs, each called, none slow."""
    if not os.access("/dev/shm", os.W_OK):
        yield tmp_path / "data"
        return
    folder = Path(tempfile.mkdtemp(prefix="faas-busy-", dir="/dev/shm"))
    yield folder / "data"
    shutil.rmtree(folder)


def deploy_fifty_at_once(data: Path, writer: int) -> list[tuple[int, str, str]]:
    storage = FilesStorage(data, keep_versions=100)

    def deploy(number: int) -> tuple[int, str, str]:
        tag = f"{writer}-{number}"
        source = f"// {tag}\n".encode() * 100
        row = storage.deploy(REF, draft(source, {"TAG": tag})).deployment
        assert storage.source(row) == source
        assert hashlib.sha256(source).hexdigest() == row.sha256
        return row.version, row.deployment_id, tag

    with ThreadPoolExecutor(50) as threads:
        return list(threads.map(deploy, range(50)))


@pytest.mark.fault(110)
def test_two_processes_of_fifty_concurrent_deploys(data: Path) -> None:
    with ProcessPoolExecutor(2, multiprocessing.get_context("fork")) as processes:
        futures = [processes.submit(deploy_fifty_at_once, data, writer) for writer in range(2)]
        rows = {version: (row_id, tag) for one in futures for version, row_id, tag in one.result()}

    storage = FilesStorage(data, keep_versions=100)
    assert sorted(rows) == list(range(1, 101))
    for row in storage.versions(REF, 1000).items:
        row_id, tag = rows[row.version]
        assert row.deployment_id == row_id
        assert storage.source(row) == f"// {tag}\n".encode() * 100
    resolution = storage.resolve(REF)
    assert resolution.deployment.version == 100
    assert resolution.levels[-1].env == {"TAG": rows[100][1]}
    seen = data / "collections/__root__/functions/busy.mjs"
    assert hashlib.sha256(seen.read_bytes()).hexdigest() == resolution.deployment.sha256


def deploy_a_thousand(data: Path) -> None:
    storage = FilesStorage(data)
    for number in range(1, 1001):
        text = f"// {number}\n"
        storage.deploy(REF, draft(text.encode() * (1 + number % 50), {"TAG": text}))


@pytest.mark.fault(111)
def test_a_reader_during_a_thousand_deploys_sees_no_torn_source(data: Path) -> None:
    writer = multiprocessing.get_context("fork").Process(target=deploy_a_thousand, args=(data,))
    writer.start()
    storage = FilesStorage(data)
    seen: set[int] = set()
    reads = 0
    while writer.is_alive():
        try:
            resolution = storage.resolve(REF)
        except FunctionNotFound:
            assert not seen, "a deployed function was gone for a moment"
            continue
        row = resolution.deployment
        source = storage.source(row)
        tag = resolution.levels[-1].env["TAG"]
        assert source == tag.encode() * (1 + row.version % 50)
        assert tag == f"// {row.version}\n"
        assert row.version >= max(seen, default=0), "versions went backwards"
        seen.add(row.version)
        reads += 1
    writer.join()

    assert writer.exitcode == 0
    assert storage.resolve(REF).deployment.version == 1000
    assert len(seen) > 10
    print(f"{reads} reads saw {len(seen)} of 1000 versions")


@pytest.mark.fault(111)
def test_the_file_people_see_is_never_torn(data: Path) -> None:
    storage = FilesStorage(data)
    storage.deploy(REF, draft(b"// 0\n" * 5000))
    file = data / "collections/__root__/functions/busy.mjs"
    done = threading.Event()
    torn = []

    def look() -> None:
        while not done.is_set():
            lines = set(file.read_bytes().splitlines())
            if len(lines) != 1:
                torn.append(lines)

    reader = threading.Thread(target=look)
    reader.start()
    for number in range(1, 100):
        storage.deploy(REF, draft(b"// %d\n" % number * 5000))
    done.set()
    reader.join()

    assert torn == []


@pytest.mark.fault(124)
def test_who_resolved_before_a_deploy_or_rollback_still_gets_the_bytes(data: Path) -> None:
    storage = FilesStorage(data)
    first = storage.deploy(REF, draft(b"// first")).deployment
    for number in range(10):
        storage.deploy(REF, draft(b"// %d" % number))

    assert storage.source(first) == b"// first"
    assert [row.version for row in storage.versions(REF, 100).items] == [11]


@pytest.mark.fault(124)
def test_a_collection_renamed_by_hand_keeps_its_functions(data: Path) -> None:
    storage = FilesStorage(data)
    storage.create_collection("old", {"A": "1"})
    storage.deploy(FunctionRef("old", "f"), draft(b"// f", {"B": "2"}))
    before = storage.resolve(FunctionRef("old", "f")).deployment
    (data / "collections/old").rename(data / "collections/new")

    with pytest.raises(FunctionNotFound):
        storage.resolve(FunctionRef("old", "f"))
    moved = storage.resolve(FunctionRef("new", "f"))
    assert moved.deployment.deployment_id == before.deployment_id
    assert [level.env for level in moved.levels] == [{}, {"A": "1"}, {"B": "2"}]
    assert storage.source(moved.deployment) == b"// f"
