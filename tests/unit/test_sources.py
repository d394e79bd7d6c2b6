from __future__ import annotations

import hashlib

import pytest

from lowcode_faas_core.model import Draft, FunctionRef, Language, Reuse
from lowcode_faas_core.sources import SourceCache
from lowcode_faas_core.testing.memory_storage import MemoryStorage


class CountingStorage(MemoryStorage):
    reads = 0

    def source(self, deployment):
        self.reads += 1
        return super().source(deployment)


@pytest.fixture
def storage():
    return CountingStorage()


def deploy(storage, name, source):
    draft = Draft(source=source, language=Language.JAVASCRIPT, reuse=Reuse.WARM)
    return storage.deploy(FunctionRef("", name), draft).deployment


@pytest.mark.fault(123)
def test_a_source_is_read_once_and_the_least_used_goes_first(storage):
    a, b, c = (deploy(storage, name, name.encode() * 100) for name in "abc")
    cache = SourceCache(storage, size=200)

    for deployment in (a, b, a, b, a):
        source = cache.read(deployment)
        assert hashlib.sha256(source).hexdigest() == deployment.sha256
    assert storage.reads == 2

    cache.read(c)  # b was used longest ago
    cache.read(a)
    assert storage.reads == 3
    cache.read(b)
    assert storage.reads == 4


def test_what_is_larger_than_the_cache_is_read_each_time(storage):
    large = deploy(storage, "large", b"x" * 300)
    cache = SourceCache(storage, size=200)
    assert cache.read(large) == cache.read(large)
    assert storage.reads == 2


def test_switched_off_it_keeps_nothing(storage):
    small = deploy(storage, "small", b"x")
    cache = SourceCache(storage, enabled=False)
    assert cache.read(small) == cache.read(small) == b"x"
    assert storage.reads == 2
