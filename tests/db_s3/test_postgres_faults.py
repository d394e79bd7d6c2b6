"""PostgreSQL down, restarted, silent, out of connections, and cut at COMMIT."""

from __future__ import annotations

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from lowcode_faas_db_s3.storage import DbS3Storage

from lowcode_faas_core.errors import CommitUnknown, FunctionNotFound, StorageUnavailable
from lowcode_faas_core.model import FunctionRef

REF = FunctionRef("", "greet")
KILL_ALL = """
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
WHERE application_name = 'lowcode-faas' AND datname = current_database()"""


@pytest.mark.fault(116)
def test_down_at_start_then_there(backend, deploy):
    """Building waits for nobody; the first use that gets through makes the schema."""
    backend.to_postgres.refusing = True
    storage = backend.open()
    for call in (storage.check, lambda: storage.resolve(REF), lambda: deploy(storage)):
        with pytest.raises(StorageUnavailable) as refused:
            call()
        assert "127.0.0.1" not in refused.value.detail
        assert str(backend.to_postgres.port) not in refused.value.detail
        assert "faas" not in refused.value.detail
    backend.to_postgres.refusing = False
    assert deploy(storage).version == 1


@pytest.mark.fault(116)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_restarted(backend, deploy, number):
    """While it is down every call is a 503; afterwards the dead connections are noticed unasked."""
    storage = backend.open()
    deploy(storage)
    with ThreadPoolExecutor(4) as threads:  # several idle connections
        list(threads.map(lambda _: storage.resolve(REF), range(20)))
    server = backend.servers.postgres.server
    server.stop(number)
    with pytest.raises(StorageUnavailable):
        storage.resolve(REF)
    server.start()
    for source in (b"// 2", b"// 3"):
        deploy(storage, source)
    assert storage.resolve(REF).deployment.version == 3


@pytest.mark.fault(116)
def test_terminated_between_two_uses(backend, deploy):
    """Nobody notices: reads are repeated, writes begin anew."""
    storage = backend.open()
    deploy(storage)
    backend.sql(KILL_ALL)
    assert storage.resolve(REF).deployment.version == 1
    backend.sql(KILL_ALL)
    assert deploy(storage, b"// 2").version == 2


@pytest.mark.fault(116)
def test_a_server_that_takes_no_writes(backend, deploy):
    """A write is a 503 that nothing came of, and works again when the server takes writes."""
    storage = backend.open()
    deploy(storage)
    backend.sql(f"ALTER DATABASE {backend.database} SET default_transaction_read_only = on")
    backend.sql(KILL_ALL)
    with pytest.raises(StorageUnavailable):
        deploy(storage, b"// 2")
    with pytest.raises(StorageUnavailable):
        storage.check()
    backend.servers.postgres.execute(
        f"ALTER DATABASE {backend.database} RESET default_transaction_read_only"
    )
    assert deploy(storage, b"// 2").version == 2


@pytest.mark.fault(116)
def test_a_server_that_is_silent(backend, deploy):
    """Paused, with every connection intact: callers are answered in bounded time."""
    storage = backend.open()
    deploy(storage)
    server = backend.servers.postgres.server
    server.pause()
    try:
        began = time.monotonic()
        with pytest.raises(StorageUnavailable):
            storage.resolve(REF)
        assert time.monotonic() - began < 15
    finally:
        server.resume()
    assert storage.resolve(REF).deployment.version == 1


@pytest.mark.fault(117)
def test_all_connections_busy(backend, deploy):
    """Who finds none waits two seconds, then gets a 503; no other error, and nothing leaks."""
    storage = backend.open(pool=4)
    deploy(storage)
    release = threading.Event()
    holding = threading.Barrier(5)

    def hold() -> None:
        with storage._pool.connection():
            holding.wait()
            release.wait()

    def ask(_: int) -> float:
        began = time.monotonic()
        with pytest.raises(StorageUnavailable, match="busy"):
            storage.resolve(REF)
        return time.monotonic() - began

    with ThreadPoolExecutor(54) as threads:
        held = [threads.submit(hold) for _ in range(4)]
        holding.wait()
        waited = list(threads.map(ask, range(50)))
        release.set()
        for each in held:
            each.result()
        answers = list(threads.map(lambda _: storage.resolve(REF), range(50)))
    assert all(1.9 < each < 4 for each in waited)
    assert {each.deployment.version for each in answers} == {1}


@pytest.mark.fault(115)
def test_the_connection_breaks_after_commit_arrived(backend, deploy):
    """The database says that it was committed: the deploy is answered, once."""
    storage = backend.open()
    cut = _cut_once(backend.to_postgres, "after")
    row = deploy(storage)
    assert cut == ["after"]
    assert (row.version, storage.source(row)) == (1, b"// 1")
    assert backend.sql("SELECT count(*) FROM deployments") == [(1,)]


@pytest.mark.fault(115)
def test_the_connection_breaks_before_commit_arrived(backend, deploy):
    """The database says that it was not: the transaction is run again."""
    storage = backend.open()
    cut = _cut_once(backend.to_postgres, "before")
    assert deploy(storage).version == 1
    assert cut == ["before"]
    assert deploy(storage, b"// 2").version == 2
    assert backend.sql("SELECT count(*) FROM deployments") == [(2,)]


@pytest.mark.fault(115)
@pytest.mark.parametrize("fate", ["before", "after"])
def test_nobody_can_tell_whether_it_was_committed(backend, deploy, fate):
    """The answer is "unknown", and looking afterwards says which; either way nothing is half there."""
    storage = backend.open()

    def watch(data: bytes) -> str | None:
        if b"COMMIT" in data:
            backend.to_postgres.refusing = True
            return fate
        return None

    backend.to_postgres.watch = watch
    with pytest.raises(CommitUnknown) as unknown:
        deploy(storage)
    assert unknown.value.outcome == "unknown"
    backend.to_postgres.watch = lambda _data: None
    backend.to_postgres.refusing = False
    if fate == "after":
        assert storage.source(storage.deployment(REF)) == b"// 1"
    else:
        with pytest.raises(FunctionNotFound):
            storage.deployment(REF)
    assert deploy(storage, b"// 2").version == (2 if fate == "after" else 1)


@pytest.mark.fault(115)
@pytest.mark.parametrize("times", [2, 10_000])
def test_the_confirming_read_fails_too(backend, deploy, times):
    """Committed, and twice or for ever not to be read back: answered in the end, or unknown."""
    storage = backend.open()
    cut = _cut_once(backend.to_postgres, "after")
    at_commit = backend.to_postgres.watch
    failed: list[bytes] = []

    def watch(data: bytes) -> str | None:
        if b"FROM deployments WHERE deployment_id" in data and len(failed) < times:
            failed.append(data)
            return "before"
        return at_commit(data)

    backend.to_postgres.watch = watch
    if times > 2:
        with pytest.raises(CommitUnknown) as unknown:
            deploy(storage)
        assert unknown.value.outcome == "unknown"
    else:
        assert deploy(storage).version == 1
    assert cut == ["after"]
    assert len(failed) >= 2
    backend.to_postgres.watch = lambda _data: None
    assert storage.deployment(REF).version == 1


@pytest.mark.fault(116)
def test_a_link_that_is_silent_from_the_first_word(backend):
    """The look at the schema is bounded as every other statement is, and so are those who wait."""
    backend.to_postgres.watch = lambda data: (
        setattr(backend.to_postgres, "swallowing", True) if b"to_regclass" in data else None
    )
    storage = DbS3Storage(backend.postgres, backend.s3, silence_s=0.5)
    backend.opened.append(storage)

    def ask(_: int) -> float:
        began = time.monotonic()
        with pytest.raises(StorageUnavailable):
            storage.check()
        return time.monotonic() - began

    with ThreadPoolExecutor(6) as threads:
        waited = list(threads.map(ask, range(6)))
    assert max(waited) < 12
    backend.to_postgres.watch = lambda _data: None
    backend.to_postgres.swallowing = False
    backend.to_postgres.cut_all()
    storage.check()


@pytest.mark.fault(115)
def test_the_backend_is_ended_during_commit(backend, deploy):
    """Whatever PostgreSQL made of it, the answer and the rows agree, also for env and deletes."""
    storage = backend.open()
    deploy(storage)
    ended: list[int] = []

    def watch(data: bytes) -> None:
        if b"COMMIT" in data and len(ended) < number:
            ended.append(number)
            backend.sql(KILL_ALL)

    backend.to_postgres.watch = watch
    for number in range(1, 7):
        storage.set_function_env(REF, {"N": str(number)})
        assert storage.function_env(REF) == {"N": str(number)}
    assert len(ended) == 6


@pytest.mark.fault(121)
@pytest.mark.parametrize("state", ["40001", "40P01"])
def test_a_transaction_that_is_asked_to_run_again(backend, deploy, state):
    """It is, up to three times; after that it is a 503, and nothing was written."""
    storage = backend.open()
    backend.sql(f"""
        CREATE SEQUENCE failures;
        CREATE TABLE fail_until (number bigint);
        INSERT INTO fail_until VALUES (3);
        CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF nextval('failures') <= (SELECT number FROM fail_until) THEN
                RAISE EXCEPTION 'again' USING ERRCODE = '{state}';
            END IF;
            RETURN NEW;
        END $$;
        CREATE TRIGGER fail BEFORE INSERT ON deployments FOR EACH ROW EXECUTE FUNCTION fail();
    """)
    assert deploy(storage).version == 1
    assert backend.sql("SELECT last_value FROM failures") == [(4,)]
    backend.sql("UPDATE fail_until SET number = 1000")
    with pytest.raises(StorageUnavailable):
        deploy(storage, b"// 2")
    assert backend.sql("SELECT last_value FROM failures") == [(8,)]
    assert storage.deployment(REF).version == 1


def _cut_once(proxy, fate):
    cut = []

    def watch(data: bytes) -> str | None:
        if b"COMMIT" in data and not cut:
            cut.append(fate)
            return fate
        return None

    proxy.watch = watch
    return cut
