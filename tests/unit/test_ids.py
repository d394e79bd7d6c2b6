"""Ids are made of numbers that were drawn ahead, each used once."""

from __future__ import annotations

import os
from collections import deque
from uuid import RFC_4122, UUID

import pytest

from lowcode_faas_core import ids


class Raided(deque[int]):
    """Numbers that other threads take as soon as they are there."""

    def pop(self) -> int:  # type: ignore[override]  # of the last one alone
        self.clear()
        return super().pop()


def test_others_may_take_all_that_was_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "_drawn", Raided())
    made = {UUID(ids.new_id()) for _ in range(100)}
    assert len(made) == 100
    assert {(each.version, each.variant) for each in made} == {(7, RFC_4122)}


def test_a_forked_process_draws_its_own() -> None:
    while not ids._drawn:
        ids.new_id()
    child = os.fork()
    if child == 0:
        os._exit(len(ids._drawn))
    assert os.waitpid(child, 0)[1] == 0
