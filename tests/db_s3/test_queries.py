"""What goes over the wire to PostgreSQL."""

from __future__ import annotations

import pytest

from lowcode_faas_core.model import FunctionRef
from lowcode_faas_core.testing.samples import sample_draft


def test_resolving_an_invocation_is_one_round_trip(backend):
    """Deployment and every level of env, in one message each way."""
    storage = backend.open()
    storage.create_collection("org/team/eu", {"A": "1"})
    ref = FunctionRef("org/team/eu", "greet")
    storage.deploy(ref, sample_draft(b"// 1", env={"B": "2"}))
    storage.resolve(ref)
    sent: list[bytes] = []
    backend.to_postgres.watch = sent.append
    for version in (None, 1):
        sent.clear()
        found = storage.resolve(ref, version)
        assert [level.path for level in found.levels] == [
            *("", "org", "org/team", "org/team/eu"),
            "org/team/eu/greet",
        ]
        assert len(sent) == 1


@pytest.mark.parametrize("path", ["a_b", "a-b"])
def test_a_prefix_is_taken_literally(backend, path):
    """``_`` and ``%`` are wildcards of LIKE, and ``_`` is a letter of names."""
    storage = backend.open()
    for each in ("a_b/x", "aXb/x", "a-b/x", "a_bc/x"):
        storage.create_collection(each, {})
    found = [each.path for each in storage.collections(path, 10).items]
    assert found == [path, f"{path}/x"]
    assert storage.collections("a%", 10).items == []
