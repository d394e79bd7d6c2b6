"""No thread can be had for a while, which sandboxes themselves may bring about: nothing is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from lowcode_faas_core.configuration import LimitSettings
from lowcode_faas_core.limits import OperatorLimits
from lowcode_faas_core.model import FunctionRef, Limits
from lowcode_faas_core.sandbox.instance import Bounds
from lowcode_faas_core.sandbox.pool import Pool
from lowcode_faas_core.sandbox.shelves import Want
from lowcode_faas_core.testing.stub_launcher import StubLauncher

LIMITS = OperatorLimits(LimitSettings()).resolve(Limits())
WANT = Want(FunctionRef("", "f"), ("f",), LIMITS, fresh=False, request_env=False)
FAR = 1 << 62


@pytest.fixture
def refused(monkeypatch) -> Callable[..., list[str]]:
    """Have no thread of these names start until the list is emptied; it names those that tried."""

    def refuse(*names: str) -> list[str]:
        start = threading.Thread.start
        tried = [""]

        def fails(thread: threading.Thread) -> None:
            if tried and thread.name in names:
                tried.append(thread.name)
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", fails)
        return tried

    return refuse


@pytest.fixture
def pool(caps) -> Iterator[Pool]:
    launcher = StubLauncher()
    made = Pool(launcher, caps(), LIMITS, Bounds(1000, 1000))
    yield made
    made.close()
    assert launcher.living() == 0


def test_a_pool_that_gets_no_thread_does_not_open(pool, refused):
    tried = refused("undertaker")
    with pytest.raises(RuntimeError):
        pool.open()
    tried.clear()


def test_what_was_to_end_meanwhile_ends_with_the_next(pool, refused, until):
    first, second = (pool.lease(WANT._replace(fresh=True), FAR).instance for _ in range(2))
    tried = refused("undertaker")
    pool.discard(first)
    assert "undertaker" in tried
    tried.clear()
    pool.discard(second)
    until(lambda: pool.stats()["ending"] == 0)


def test_who_waits_is_served_by_what_there_is_and_no_place_is_lost(pool, refused, until):
    tried = refused("pool-start")
    held = pool.lease(WANT, FAR).instance
    with ThreadPoolExecutor(3) as threads:
        waiting = [threads.submit(pool.lease, WANT, FAR) for _ in range(3)]
        until(lambda: pool.waiting == 3)
        until(lambda: "pool-start" in tried)
        for _ in range(3):
            assert pool.stats()["starting"] == 0
            pool.release(held, reusable=True)
            until(lambda: any(one.done() for one in waiting))
            (done,) = [one for one in waiting if one.done()]
            assert done.result().instance is held
            waiting.remove(done)
    stats = pool.stats()
    assert (stats["leased"], stats["starting"], stats["waiting"]) == (1, 0, 0)
    pool.release(held, reusable=True)
