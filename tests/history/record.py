"""Clients that deploy, pin, roll back and read, what they saw, and what no history may show."""

from __future__ import annotations

import random
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from lowcode_faas_core.errors import NotFound, PlatformError
from lowcode_faas_core.interfaces.storage import Storage
from lowcode_faas_core.model import Deployment, FunctionRef
from lowcode_faas_core.testing.samples import sample_draft

__all__ = ["Operation", "client", "violations"]

REFS = tuple(FunctionRef("", f"f{number}") for number in range(3))


@dataclass(frozen=True)
class Operation:
    """One call of one client. ``fate``: ``ok``, ``failed`` (nothing was written) or ``unknown``."""

    kind: str
    ref: FunctionRef
    began: float
    ended: float
    fate: str
    #: The bytes written or read.
    source: bytes | None = None
    row: Deployment | None = None
    error: str = ""


def client(
    storage: Storage, seed: int, until: float, history: list[Operation], pause_s: float = 0.0
) -> None:
    """Call at random until ``time.monotonic() > until``; append what happened to ``history``."""
    chance = random.Random(seed)
    number = 0
    while time.monotonic() < until:
        number += 1
        ref = chance.choice(REFS)
        kind = chance.choices(("deploy", "read", "pin", "rollback"), (4, 3, 2, 1))[0]
        source = f"// {seed} {number}\n".encode() if kind == "deploy" else None
        began = time.monotonic()
        row: Deployment | None = None
        fate, error = "ok", ""
        try:
            if kind == "deploy":
                row = storage.deploy(ref, sample_draft(source or b"")).deployment
            else:
                row = storage.resolve(ref).deployment
                if kind == "pin":
                    row = storage.resolve(ref, chance.randint(1, row.version)).deployment
                if kind == "rollback":
                    row = storage.rollback(ref, chance.randint(1, row.version))
                source = storage.source(row) if kind != "rollback" else None
        except NotFound as refused:
            fate, error = "failed", refused.code
        except PlatformError as refused:
            unknown = refused.outcome == "unknown"
            fate, error = "unknown" if unknown else "failed", refused.detail
        history.append(Operation(kind, ref, began, time.monotonic(), fate, source, row, error))
        if pause_s:
            # Who was refused waits longer: an outage must not be most of the history.
            time.sleep(chance.uniform(0, pause_s if fate == "ok" else 10 * pause_s))


def run_clients(
    storage: Storage, seed: int, seconds: float, count: int = 8, pause_s: float = 0.0
) -> list[Operation]:
    """Run clients side by side and return their common history."""
    history: list[Operation] = []
    until = time.monotonic() + seconds
    threads = [
        threading.Thread(target=client, args=(storage, seed * 100 + each, until, history, pause_s))
        for each in range(count)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return history


def violations(history: Iterable[Operation], storage: Storage) -> list[str]:
    """Return what contradicts the storage's promises, given what is kept in the end."""
    history = list(history)
    found: list[str] = []
    kept = {ref: _kept(storage, ref) for ref in REFS}
    written = {op.source for op in history if op.kind == "deploy" and op.fate != "failed"}

    for op in history:
        if op.fate != "ok" or op.row is None:
            continue
        if op.kind in ("deploy", "rollback"):
            last = kept[op.ref].get(op.row.version)
            if last is None or last[0].deployment_id != op.row.deployment_id:
                found.append(f"lost: {op.kind} of {op.ref} version {op.row.version}")
            elif op.kind == "deploy" and last[1] != op.source:
                found.append(f"other bytes: {op.ref} version {op.row.version}")
        elif op.source not in written:
            found.append(f"never written, yet read: {op.source!r}")
        else:
            last = kept[op.ref].get(op.row.version)
            if last is not None and last[1] != op.source:
                found.append(f"a version changed: {op.ref} version {op.row.version}")

    for ref, rows in kept.items():
        if sorted(rows) != list(range(1, len(rows) + 1)):
            found.append(f"versions of {ref} have gaps: {sorted(rows)}")
        found += [
            f"kept, though it failed: {ref} version {version}"
            for version, (row, source) in rows.items()
            if source not in written and row.restored_from is None
        ]
        found += [
            f"restored other bytes: {ref} version {version}"
            for version, (row, source) in rows.items()
            if row.restored_from in rows and source != rows[row.restored_from][1]
        ]
        found += _out_of_order(
            [op for op in history if op.ref == ref and op.fate == "ok" and op.row is not None]
        )
    return found


def _kept(storage: Storage, ref: FunctionRef) -> dict[int, tuple[Deployment, bytes]]:
    rows: dict[int, tuple[Deployment, bytes]] = {}
    cursor = None
    while True:
        try:
            page = storage.versions(ref, 1000, cursor)
        except NotFound:
            return rows
        for row in page.items:
            assert row.version not in rows, f"{ref} lists version {row.version} twice"
            rows[row.version] = (row, storage.source(row))
        cursor = page.next_cursor
        if cursor is None:
            return rows


def _out_of_order(operations: list[Operation]) -> list[str]:
    """Versions grow with time: whoever begins after an answer sees, or makes, a later one."""
    found = []
    writes = sorted(
        (op for op in operations if op.kind in ("deploy", "rollback")), key=lambda op: op.ended
    )
    makers: dict[int, set[str]] = defaultdict(set)
    for op in writes:
        assert op.row is not None
        makers[op.row.version].add(op.row.deployment_id)
    found += [f"version {v} was given twice" for v, ids in makers.items() if len(ids) > 1]
    at, highest = 0, 0
    for op in sorted(operations, key=lambda op: op.began):
        while at < len(writes) and writes[at].ended < op.began:
            row = writes[at].row
            assert row is not None
            highest = max(highest, row.version)
            at += 1
        assert op.row is not None
        if op.kind in ("deploy", "rollback") and op.row.version <= highest:
            found.append(f"{op.kind} got version {op.row.version} after {highest} was answered")
        if op.kind == "read" and op.row.version < highest:
            found.append(f"read version {op.row.version} after {highest} was answered")
    return found
