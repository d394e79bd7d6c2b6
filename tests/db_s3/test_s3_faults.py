"""S3 down, forbidden, slow, and objects that are not what was stored."""

from __future__ import annotations

import multiprocessing
import os
import time

import pytest
from lowcode_faas_db_s3.storage import DbS3Storage

from lowcode_faas_core.errors import FunctionNotFound, SourceCorrupt, StorageUnavailable
from lowcode_faas_core.model import FunctionRef
from lowcode_faas_core.sources import SourceCache
from lowcode_faas_core.testing.samples import sample_draft

REF = FunctionRef("", "greet")


@pytest.mark.fault(113)
def test_s3_down(backend, deploy):
    """No deploy and no row; what is in memory runs on, what is not is a 503; then it recovers."""
    storage = backend.open()
    first = deploy(storage)
    cache = SourceCache(storage)
    cache.read(first)
    backend.to_s3.refusing = True
    backend.to_s3.cut_all()

    with pytest.raises(StorageUnavailable) as refused:
        deploy(storage, b"// 2")
    assert refused.value.outcome == "not_executed"
    with pytest.raises(StorageUnavailable):
        storage.source(first)
    assert cache.read(storage.resolve(REF).deployment) == b"// 1"
    assert backend.sql("SELECT count(*) FROM deployments") == [(1,)]
    storage.check()  # warm invocations go on
    [said] = storage.degraded()
    assert said.startswith("S3: ")

    backend.to_s3.refusing = False
    assert deploy(storage, b"// 2").version == 2
    assert storage.source(first) == b"// 1"


@pytest.mark.fault(113)
@pytest.mark.parametrize("wrong", [{"secret_key": "other"}, {"bucket": "no-such-bucket"}])
def test_s3_forbidden_or_absent(backend, deploy, wrong):
    storage = backend.open(**wrong)
    with pytest.raises(StorageUnavailable) as refused:
        deploy(storage)
    assert refused.value.detail.startswith("S3: ")
    assert "other" not in refused.value.detail
    assert backend.sql("SELECT count(*) FROM functions") == [(0,)]


@pytest.mark.fault(113)
def test_s3_that_answers_nothing(backend, deploy):
    """The wait is bounded, and no row is written."""
    storage = backend.open()
    backend.to_s3.swallowing = True
    began = time.monotonic()
    with pytest.raises(StorageUnavailable):
        deploy(storage)
    assert time.monotonic() - began < 20
    began = time.monotonic()
    [said] = storage.degraded()
    assert time.monotonic() - began < 0.5  # a balancer asks /readyz, and does not wait
    assert said.startswith("S3: no answer")
    assert backend.sql("SELECT count(*) FROM functions") == [(0,)]


@pytest.mark.fault(119)
@pytest.mark.parametrize("damage", ["changed", "longer", "shorter", "swapped", "missing"])
def test_an_object_that_is_not_what_was_stored(backend, deploy, damage):
    """It is never handed out, whatever is in its place."""
    storage = backend.open()
    other = deploy(storage, b"export const handler = () => 2;")
    row = deploy(storage, b"export const handler = () => 1;")
    kept = {path.stem: path for path in backend.objects()}
    mine, its = kept[row.deployment_id], kept[other.deployment_id]
    content = mine.read_bytes()
    if damage == "missing":
        mine.unlink()
    elif damage == "swapped":
        mine.write_bytes(its.read_bytes())
    else:
        changed = {"changed": content[::-1], "longer": content + b"\n", "shorter": content[:-1]}
        mine.write_bytes(changed[damage])
    backend.have_noticed()

    with pytest.raises(SourceCorrupt):
        storage.source(row)
    with pytest.raises(SourceCorrupt):
        SourceCache(storage).read(row)
    assert storage.source(other) == b"export const handler = () => 2;"


def _die_at(postgres, s3, point):
    def step(passed):
        if passed == point:
            os._exit(9)

    DbS3Storage(postgres, s3, step=step).deploy(REF, sample_draft(b"// died"))


@pytest.mark.fault(114)
def test_a_deploy_that_dies_between_the_object_and_the_commit(backend, deploy):
    """No version is seen; the object is found as garbage once it is old, and only then removed."""
    storage = backend.open()
    context = multiprocessing.get_context("spawn")
    child = context.Process(target=_die_at, args=(backend.postgres, backend.s3, "stored"))
    child.start()
    child.join()
    assert child.exitcode == 9
    with pytest.raises(FunctionNotFound):
        storage.deployment(REF)
    assert len(backend.objects()) == 1

    assert list(storage.collect_garbage(min_age_s=3600, remove=True)) == []
    time.sleep(1.1)  # modification times of S3 are whole seconds
    row = deploy(storage)
    [found] = storage.collect_garbage(min_age_s=0, remove=False)
    assert not found.removed
    assert len(backend.objects()) == 2
    assert [found.removed for found in storage.collect_garbage(min_age_s=0, remove=True)] == [True]
    assert [path.stem for path in backend.objects()] == [row.deployment_id]
    assert storage.source(row) == b"// 1"


@pytest.mark.fault(114)
def test_a_deploy_that_dies_after_the_commit(backend):
    """It is there, whole."""
    context = multiprocessing.get_context("spawn")
    child = context.Process(target=_die_at, args=(backend.postgres, backend.s3, "committed"))
    child.start()
    child.join()
    assert child.exitcode == 9
    storage = backend.open()
    assert storage.source(storage.deployment(REF)) == b"// died"


@pytest.mark.fault(125)
def test_rows_and_objects_that_do_not_go_together(backend, deploy):
    """After a restore of one of the two: rows without objects are named, objects without rows too."""
    storage = backend.open()
    lost, kept = deploy(storage, b"// lost"), deploy(storage, b"// kept")
    restored = storage.rollback(REF, 1)
    gone = storage.deploy(FunctionRef("", "gone"), sample_draft(b"// gone")).deployment
    files = {path.stem: path for path in backend.objects()}
    files[lost.deployment_id].unlink()
    backend.have_noticed()
    storage.delete_function(FunctionRef("", "gone"))

    assert restored.restored_from == 1
    [said] = storage.missing()
    assert "version 1 of greet" in said
    found = [each.what for each in storage.collect_garbage(min_age_s=0, remove=False)]
    assert len(found) == 1
    assert gone.deployment_id in found[0]
    assert storage.source(kept) == b"// kept"
