"""The part of the storage contract that needs several threads, processes or handles."""

from __future__ import annotations

import hashlib
import itertools
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, Any

import pytest

from lowcode_faas_core.errors import (
    CollectionExists,
    CollectionNotEmpty,
    CollectionNotFound,
    FaasError,
    NotFound,
    VersionNotKept,
)
from lowcode_faas_core.interfaces.storage import Storage
from lowcode_faas_core.model import Deployment, Draft, FunctionRef, Language, Reuse

if TYPE_CHECKING:
    from concurrent.futures import Executor

__all__ = ["Factory", "StorageConcurrencyContract", "let_caches_settle"]

#: Makes one more handle on the same backend; it must be picklable to be used in other processes.
Factory = Callable[[], Storage]

REF = FunctionRef("", "busy")


#: How a forked child ends whose storage refused to work there.
_REFUSED = 3
#: Seconds that readers look on at least while others write.
_LOOKING_S = 0.3
#: Seconds after which a storage that caches may take what it read for settled.
_SETTLED_S = 0.06


def let_caches_settle(read: Callable[[], object]) -> None:
    """Read until whatever caches the answer has had time to trust it."""
    end = time.monotonic() + _SETTLED_S
    while time.monotonic() < end:
        read()
        time.sleep(_SETTLED_S / 10)
    read()


def _package(storage: Storage) -> str:
    return type(storage).__module__.partition(".")[0]


def _dawdle(meet: Callable[[], object], package: str) -> None:
    """Wait for the others, then have this thread sleep now and then between two lines of Python.

    On a busy machine one writer may be done before the next begins, and a lock that is missing
    does not show. Held up in the middle of things, each lets the others come in between. Only the
    lines of ``package`` count: a client library has thousands, and no lock of the storage's.
    """
    meet()
    lines = itertools.cycle((3, 17, 7, 29, 11, 37))
    left = next(lines)

    def trace(frame: FrameType, event: str, _arg: object) -> Any:  # itself: typeshed has no name
        nonlocal left
        if event == "call":
            name = frame.f_globals.get("__name__") or ""  # at its end, the interpreter empties them
            return trace if name.partition(".")[0] == package else None
        left -= 1
        if left == 0:
            left = next(lines)
            time.sleep(0.0001)
        return trace

    sys.settrace(trace)


def _dawdle_warmed_up(factory: Factory, meet: Callable[[], object]) -> None:
    """Import and open everything first: the time it takes must not set the writers apart."""
    storage = factory()
    with suppress(NotFound):
        storage.resolve(REF)
    storage.close()
    _dawdle(meet, _package(storage))


def _alone() -> None:
    """Wait for nobody."""


def _draft(source: bytes, env: dict[str, str] | None = None) -> Draft:
    return Draft(source=source, language=Language.JAVASCRIPT, reuse=Reuse.WARM, env=env)


def _deploy_and_read(storage: Storage, writer: int, count: int) -> list[Deployment]:
    """Deploy different sources, each with an env that names it, and read each back at once."""
    rows = []
    for number in range(count):
        tag = f"{writer}-{number}"
        source = (f"// {tag}\n" * 200).encode()
        row = storage.deploy(REF, _draft(source, {"TAG": tag})).deployment
        with suppress(VersionNotKept):  # others may have deployed past what is kept
            assert storage.source(row) == source
        rows.append(row)
    return rows


def _in_process(factory: Factory, writer: int, count: int) -> list[Deployment]:
    storage = factory()
    try:
        return _deploy_and_read(storage, writer, count)
    finally:
        storage.close()


def _create(factory: Factory, path: str) -> bool:
    storage = factory()
    try:
        storage.create_collection(path, {})
    except CollectionExists:
        return False
    finally:
        storage.close()
    return True


class StorageConcurrencyContract:
    """Writers and readers at the same time."""

    @pytest.fixture
    def storage(self) -> Storage:
        """**Required.** Return a fresh, empty storage that keeps at least ten versions."""
        raise NotImplementedError("the contract's subclass gives the fixture `storage`")

    @pytest.fixture
    def make_storage(self, storage: Storage) -> Factory:
        """**Optional.** Return what makes a second handle on the same backend.

        By default the same handle, so that the checks still check read-after-write.
        """
        return lambda: storage

    @pytest.fixture
    def spawn_storage(self) -> Factory | None:
        """**Optional.** Return a picklable ``make_storage`` for other processes."""
        return None

    @pytest.fixture
    def turn_s(self) -> float:
        """**Optional.** Return how long one thread runs before the next gets its turn, in seconds.

        More than the default suits storages whose client computes a lot for each call: threads
        that change places every few microseconds then hardly get on.
        """
        return 5e-6

    @pytest.fixture(autouse=True)
    def _threads_take_turns_often(self, turn_s: float) -> Iterator[None]:
        before = sys.getswitchinterval()
        sys.setswitchinterval(turn_s)
        yield
        sys.setswitchinterval(before)

    def test_concurrent_deploys_get_different_versions(self, storage: Storage) -> None:
        """Versions are unique and without gaps, whatever the order; the last one is current."""
        start = threading.Barrier(6)
        with ThreadPoolExecutor(
            6, initializer=_dawdle, initargs=(start.wait, _package(storage))
        ) as threads:
            _check_concurrent_deploys(storage, threads, 6, 8, lambda: storage)

    def test_concurrent_deploys_of_processes(
        self, storage: Storage, spawn_storage: Factory | None
    ) -> None:
        """The same across processes that share the backend."""
        if spawn_storage is None:
            pytest.skip("this storage gives no spawn_storage")
        context = multiprocessing.get_context("spawn")
        # Whoever came up first would be done before the second began.
        start = context.Barrier(2)
        with ProcessPoolExecutor(
            2, context, initializer=_dawdle_warmed_up, initargs=(spawn_storage, start.wait)
        ) as processes:
            _check_concurrent_deploys(storage, processes, 2, 12, spawn_storage)

    def test_one_of_many_creates_a_collection(self, make_storage: Factory) -> None:
        """Of concurrent creations of one collection exactly one succeeds."""
        with ThreadPoolExecutor(6) as threads:
            made = list(threads.map(lambda _: _create(make_storage, "org/team"), range(6)))

        assert made.count(True) == 1

    def test_a_collection_is_deleted_or_deployed_into(self, make_storage: Factory) -> None:
        """Of a deploy and the deletion of its collection at one time, exactly one succeeds."""
        storage, other = make_storage(), make_storage()
        ref = FunctionRef("brief", "busy")
        rounds = 12

        def rehearse() -> float:
            storage.create_collection("brief", {})
            began = time.monotonic()
            storage.deploy(ref, _draft(b"// deployed"))
            took_s = time.monotonic() - began
            storage.delete_function(ref)
            storage.delete_collection("brief")
            return took_s

        def deploy(start: threading.Barrier) -> bool:
            start.wait()
            try:
                storage.deploy(ref, _draft(b"// deployed"))
            except CollectionNotFound:
                return False
            return True

        def delete(start: threading.Barrier, lag_s: float) -> bool:
            start.wait()
            time.sleep(lag_s)
            try:
                other.delete_collection("brief")
            except CollectionNotEmpty:
                return False
            return True

        with ThreadPoolExecutor(
            2, initializer=_dawdle, initargs=(_alone, _package(storage))
        ) as threads:
            took_s = threads.submit(rehearse).result()
            for number in range(rounds):
                storage.create_collection("brief", {})
                start = threading.Barrier(2)
                deployed = threads.submit(deploy, start)
                # Each time a little later into the deploy, from its beginning to its end.
                deleted = threads.submit(delete, start, took_s * number / rounds)
                assert deployed.result() != deleted.result()
                if deployed.result():
                    assert storage.source(storage.resolve(ref).deployment) == b"// deployed"
                    storage.delete_function(ref)
                    storage.delete_collection("brief")

    def test_a_reader_sees_whole_old_or_whole_new(
        self, storage: Storage, make_storage: Factory
    ) -> None:
        """What is read during deploys is one version: its bytes, its hash and its env agree."""
        storage.deploy(REF, _draft(b"// 0", {"TAG": "0"}))
        reader = make_storage()
        done = threading.Event()
        wrong: list[str] = []

        def read() -> None:
            while not done.is_set():
                resolution = reader.resolve(REF)
                deployment = resolution.deployment
                try:
                    source = reader.source(deployment)
                except VersionNotKept:
                    continue
                tag = resolution.levels[-1].env["TAG"]
                if hashlib.sha256(source).hexdigest() != deployment.sha256:
                    wrong.append(f"version {deployment.version} has other bytes")
                if source != b"// " + tag.encode():
                    wrong.append(f"version {deployment.version} came with the env of {tag}")

        with ThreadPoolExecutor(2) as threads:
            readers = [threads.submit(read) for _ in range(2)]
            try:
                # At least so many, and so long that a fast storage is caught in between as well.
                end = time.monotonic() + _LOOKING_S
                number = 0
                while number < 60 or time.monotonic() < end:
                    number += 1
                    storage.deploy(REF, _draft(f"// {number}".encode(), {"TAG": str(number)}))
            finally:
                done.set()
            for one in readers:
                one.result()

        assert wrong == []

    def test_a_write_is_seen_by_the_other_handle_at_once(
        self, storage: Storage, make_storage: Factory
    ) -> None:
        """After a write returned, every handle reads it: deploy, env, delete; no cache is stale."""
        other = make_storage()
        storage.deploy(REF, _draft(b"first", {"N": "-"}))
        for number in range(5):
            if number in (0, 3):
                let_caches_settle(lambda: other.resolve(REF))
            row = storage.deploy(REF, _draft(b"%d" % number)).deployment
            assert other.resolve(REF).deployment.deployment_id == row.deployment_id
            storage.set_function_env(REF, {"N": str(number)})
            assert other.resolve(REF).levels[-1].env == {"N": str(number)}
            storage.set_collection_env("", {"ROOT": str(number)})
            assert other.resolve(REF).levels[0].env == {"ROOT": str(number)}
        storage.delete_function(REF)
        with pytest.raises(NotFound):
            other.resolve(REF)
        other.deploy(REF, _draft(b"again"))
        assert storage.source(storage.resolve(REF).deployment) == b"again"

    def test_a_handle_survives_a_fork(self, storage: Storage) -> None:
        """Used in a forked child it works or raises; what the parent has stays whole.

        Services build their storage after the fork, so refusing is enough. Taking the parent's
        connection along unasked, and mixing up its answers, is not.
        """
        first = storage.deploy(REF, _draft(b"// parent", {"A": "parent"})).deployment
        child = os.fork()
        if child == 0:
            status = 1
            try:
                signal.alarm(20)  # a lock that somebody held at the fork would hold it for ever
                status = _use_after_fork(storage, first)
            finally:
                os._exit(status)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert code in (0, _REFUSED), f"the child read something else, or ended with {code}"
        assert storage.source(first) == b"// parent"
        current = storage.resolve(REF)
        expected = {b"// parent": {"A": "parent"}, b"// child": {"A": "child"}}
        assert current.levels[-1].env == expected[storage.source(current.deployment)]
        later = storage.deploy(REF, _draft(b"// later")).deployment
        assert later.version == current.deployment.version + 1
        assert storage.source(storage.deployment(REF)) == b"// later"


def _use_after_fork(storage: Storage, parents: Deployment) -> int:
    try:
        if storage.source(storage.deployment(REF)) != b"// parent":
            return 1
        row = storage.deploy(REF, _draft(b"// child", {"A": "child"})).deployment
        if row.version != parents.version + 1 or storage.source(row) != b"// child":
            return 1
    except FaasError:
        return _REFUSED
    return 0


def _check_concurrent_deploys(
    storage: Storage, executor: Executor, writers: int, each: int, factory: Factory
) -> None:
    another = factory()
    run = _in_process if another is not storage else None
    if another is not storage:
        another.close()
    futures = [
        executor.submit(_in_process, factory, writer, each)
        if run is not None
        else executor.submit(_deploy_and_read, storage, writer, each)
        for writer in range(writers)
    ]
    rows = [row for future in futures for row in future.result()]

    assert sorted(row.version for row in rows) == list(range(1, writers * each + 1))
    assert len({row.deployment_id for row in rows}) == writers * each
    current = storage.resolve(REF)
    last = max(rows, key=lambda row: row.version)
    assert current.deployment.deployment_id == last.deployment_id
    tag = current.levels[-1].env["TAG"]
    assert storage.source(current.deployment) == (f"// {tag}\n" * 200).encode()
