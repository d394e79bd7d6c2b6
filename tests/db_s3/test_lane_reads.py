"""Resolving on lanes: as in a thread, over few connections, and never in anybody's way."""

from __future__ import annotations

import contextlib
import resource
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import psycopg2.extensions
import pytest
from lowcode_faas_db_s3.lane_reads import LaneReads, _Line
from lowcode_faas_db_s3.storage import DbS3Storage

from lowcode_faas_core.errors import FunctionNotFound, StorageUnavailable
from lowcode_faas_core.lanes import Lanes, pause
from lowcode_faas_core.model import FunctionRef
from lowcode_faas_core.testing.samples import sample_draft
from tests.db_s3.test_postgres_faults import KILL_ALL, REF


class Loop:
    """A main loop of a test's own."""

    def __init__(self, pool: ThreadPoolExecutor) -> None:
        self.lanes = Lanes(pool.submit)
        self.told: list[Any] = []
        #: The longest that it was away, in seconds.
        self.longest = 0.0

    def start(self, work: Callable[[], object]) -> None:
        def run() -> None:
            try:
                self.told.append(work())
            except (FunctionNotFound, StorageUnavailable) as error:
                self.told.append(type(error))

        self.lanes.start(run)

    def until(self, count: int) -> list[Any]:
        last = time.monotonic() + 30
        while len(self.told) < count:
            assert time.monotonic() < last, self.told
            begun = time.monotonic()
            self.lanes.run(0.01)
            self.longest = max(self.longest, time.monotonic() - begun)
        return self.told


@pytest.fixture
def loop() -> Iterator[Loop]:
    with ThreadPoolExecutor(4) as pool:
        made = Loop(pool)
        yield made
        made.lanes.close()


def test_many_at_once_are_answered_as_in_a_thread(backend, deploy, loop):
    storage = backend.open()
    deploy(storage)
    expected = storage.resolve(REF)
    for _ in range(40):
        loop.start(lambda: storage.resolve(REF))
    loop.start(lambda: storage.resolve(FunctionRef("", "nobody")))
    loop.start(lambda: storage.resolve(REF, 1))
    told = loop.until(42)
    assert told.count(expected) == 41
    assert told.count(FunctionNotFound) == 1
    own = backend.sql(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'lowcode-faas'"
        " AND datname = current_database()"
    )
    assert int(own[0][0]) <= 2 * backend.postgres.pool


def test_a_write_is_seen_at_once(backend, deploy, loop):
    storage = backend.open()
    for version in (1, 2, 3):
        deploy(storage, f"// {version}".encode())
        loop.start(lambda: storage.resolve(REF).deployment.version)
        assert loop.until(version)[-1] == version


def test_connections_that_were_ended_are_replaced(backend, deploy, loop):
    storage = backend.open()
    deploy(storage)
    for _ in range(4):
        loop.start(lambda: storage.resolve(REF).deployment.version)
    loop.until(4)
    # The end of a connection may come with its last words, between them and what is asked, or late.
    for ended in range(1, 21):
        backend.sql(KILL_ALL)
        for _ in range(8):
            loop.start(lambda: storage.resolve(REF).deployment.version)
        told = loop.until(4 + 8 * ended)
        assert told == [1] * len(told)


def test_a_server_that_is_silent_holds_up_nobody(backend, deploy, loop):
    storage = DbS3Storage(backend.postgres, backend.s3, silence_s=1.0)
    backend.opened.append(storage)
    deploy(storage)
    loop.start(lambda: storage.resolve(REF).deployment.version)
    assert loop.until(1) == [1]
    backend.to_postgres.swallowing = True
    loop.start(lambda: storage.resolve(REF).deployment.version)
    loop.start(lambda: "another")
    assert loop.until(3)[1:] == ["another", StorageUnavailable]
    # The next one makes a connection, to which nobody says a word either.
    began = time.monotonic()
    loop.start(lambda: storage.resolve(REF).deployment.version)
    assert loop.until(4)[3] == StorageUnavailable
    assert time.monotonic() - began < 6
    assert loop.longest < 0.7


def test_a_connection_may_have_any_number(backend, deploy, loop):
    """A process with a thousand clients has no descriptor below 1024 left."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 4096)), hard))
    storage = backend.open()
    deploy(storage)
    with contextlib.ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        for _ in range(1100):
            stack.enter_context(open("/dev/null"))
        loop.start(lambda: storage.resolve(REF).deployment.version)
        assert loop.until(1) == [1]


class Talking:
    """A connection to a server that says more and more and never comes to an end."""

    def __init__(self, descriptor: int, seconds: float) -> None:
        self.fileno = lambda: descriptor
        self.end = time.monotonic() + seconds

    def cursor(self) -> Any:
        return SimpleNamespace(execute=lambda _query, _parameters: None)

    def poll(self) -> int:
        """Answer at last, so that whoever does not give up is found out."""
        late = time.monotonic() > self.end
        return psycopg2.extensions.POLL_OK if late else psycopg2.extensions.POLL_READ


def test_a_server_that_never_stops_talking_holds_up_nobody(loop):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.send(b"more")
        line = _Line(Talking(ours.fileno(), 9.0), loop.lanes)
        loop.start(lambda: pause(0.05) or "another")  # type: ignore[func-returns-value]
        loop.start(lambda: line.read("SELECT 1", (), time.monotonic() + 1.5))
        assert loop.until(2) == ["another", StorageUnavailable]


def test_behind_a_pooler_that_hands_connections_on(pooler, postgres_of, backend, deploy, loop):
    """PgBouncer by transaction: what one client has prepared, another one may be asked to."""
    dsn = pooler.dsn(postgres_of(16).database())
    opened = [backend.open(dsn=dsn) for _ in range(2)]
    deploy(opened[0])
    others = [FunctionRef("", f"other-{number}") for number in range(4)]
    for ref in others:
        opened[0].deploy(ref, sample_draft())

    def ask(storage: DbS3Storage, ref: FunctionRef) -> None:
        loop.start(lambda: storage.resolve(ref).deployment.function_name)

    for _ in range(10):
        for storage in opened:
            for ref in (REF, *others):
                ask(storage, ref)
    names = [ref.name for ref in (REF, *others)]
    assert sorted(loop.until(100)) == sorted(names * 20)
    deploy(opened[0], b"// 2")
    loop.start(lambda: opened[1].resolve(REF).deployment.version)
    assert loop.until(101)[-1] == 2


def test_the_statement_of_another_release_is_not_taken_for_ours(backend, loop, monkeypatch):
    """A pooler may hand on a connection on which another release has prepared its own question."""
    asked: list[str] = []
    run = _Line._run
    monkeypatch.setattr(
        _Line, "_run", lambda line, query, *more: asked.append(query) or run(line, query, *more)
    )  # type: ignore[func-returns-value]
    for query in ("SELECT %s::int", "SELECT %s::int + 1"):
        reads = LaneReads(psycopg2.extensions.parse_dsn(backend.postgres.dsn), 1, 7.0)
        loop.start(lambda: reads.read(query, (1,))[0][0])  # noqa: B023
        loop.until(len(loop.told) + 1)
        reads.close()
    assert loop.told == [1, 2]
    names = {query.split()[1] for query in asked if query.startswith("PREPARE")}
    assert len(names) == 2
    assert all(query.split()[1] in names for query in asked)


def test_where_nothing_stays_prepared_nothing_is_prepared_any_more(backend, deploy, loop):
    """A pooler gives each statement another server's connection."""
    storage = backend.open()
    deploy(storage)
    loop.start(lambda: storage.resolve(REF).deployment.version)
    loop.until(1)
    (line,) = storage._lane_reads._idle
    loop.start(lambda: line._run("DEALLOCATE ALL", (), time.monotonic() + 5) and 0)
    loop.until(2)
    for _ in range(3):
        loop.start(lambda: storage.resolve(REF).deployment.version)
    assert loop.until(5)[2:] == [1, 1, 1]
    assert storage._lane_reads._prepares is False
