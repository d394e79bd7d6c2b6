"""What clients saw while PostgreSQL and S3 were stopped, killed, paused and restarted at random.

``HISTORY_SECONDS`` and ``HISTORY_SEED`` choose another length and another seed; ``make history``
is the long form.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from contextlib import ExitStack

import pytest
from lowcode_faas_db_s3.settings import PostgresSettings, S3Settings
from lowcode_faas_db_s3.storage import DbS3Storage

from tests.history.record import Operation, client, violations
from tests.services.fixtures import had, server_folder
from tests.services.postgres import Postgres
from tests.services.s3 import Rclone

SECONDS = float(os.environ.get("HISTORY_SECONDS", "20"))
#: Seconds a fault lasts: longer than the storage is patient here. With PostgreSQL paused it gives up
#: a silent connection, then one that does not come about: libpq waits 2 s at least for those.
FAULTS_S = {
    "postgres stopped": 0.7,
    "postgres killed": 0.7,
    "postgres paused": 3.5,
    "s3 stopped": 0.7,
    "s3 paused": 1.2,
}
KINDS = tuple(FAULTS_S)


@pytest.mark.slow
@pytest.mark.fault(115)
@pytest.mark.fault(116)
def test_no_history_contradicts_the_promises():
    seed = int(os.environ.get("HISTORY_SEED", str(random.randrange(10**6))))
    print(f"seed {seed}")
    with ExitStack() as stack:
        postgres = had(lambda: Postgres(server_folder(stack, "pg"), 16))
        s3 = had(lambda: Rclone(server_folder(stack, "s3")))
        servers = {"postgres": postgres.server, "s3": s3.server}
        for server in servers.values():
            stack.callback(server.stop)
            server.start()
        reached = (
            PostgresSettings(dsn=f"{postgres.dsn()} connect_timeout=2", pool=8),
            S3Settings(
                endpoint=s3.endpoint,
                bucket=s3.bucket(),
                access_key=s3.access_key,
                secret_key=s3.secret_key,
            ),
        )
        storage = DbS3Storage(*reached, silence_s=0.4, read_s=0.4)
        stack.callback(storage.close)
        storage.check()

        history: list[Operation] = []
        until = time.monotonic() + SECONDS
        clients = [
            threading.Thread(target=client, args=(storage, seed * 100 + n, until, history, 0.01))
            for n in range(8)
        ]
        for each in clients:
            each.start()
        faults = _hurt(servers, random.Random(seed), until)
        for each in clients:
            each.join()

        fates = Counter(f"{op.kind} {op.fate}" for op in history)
        bitten = _bitten(history, faults)
        print(f"{len(history)} operations: {dict(sorted(fates.items()))}")
        print(f"faults: {dict(Counter(kind for kind, *_ in faults))}, bitten: {dict(bitten)}")
        patient = DbS3Storage(*reached)
        stack.callback(patient.close)
        assert violations(history, patient) == []
        # In the short form each kind comes about twice, and one of the two may bite nobody alone.
        if SECONDS >= 60:
            assert all(bitten[kind] >= 10 for kind in KINDS), bitten
        assert bitten.total() >= 3, bitten


def _hurt(servers, chance, until):
    """Do one fault after the other until shortly before the end; return kind, begin and end."""
    faults = []
    order: list[str] = []
    while time.monotonic() < until - max(FAULTS_S.values()) - 0.5:
        if not order:
            order = chance.sample(KINDS, len(KINDS))
        kind = order.pop()
        name, _, what = kind.partition(" ")
        server = servers[name]
        began = time.monotonic()
        if what == "paused":
            server.pause()
        elif what == "killed":
            server.kill()
        else:
            server.stop()
        time.sleep(FAULTS_S[kind])
        ended = time.monotonic()
        if what == "paused":
            server.resume()
        else:
            server.start()
        faults.append((kind, began, ended))
        time.sleep(chance.uniform(0.05, 0.2))
    return faults


def _bitten(history, faults):
    """Count the faults that made a request fail by the platform which overlaps no other fault.

    A request that spans two would let a harmless fault count for the next one's work.
    """
    bites: set[int] = set()
    for op in history:
        if op.fate == "ok" or op.error.endswith("not_found"):
            continue
        met = [
            number
            for number, (_, began, ended) in enumerate(faults)
            if op.began < ended and op.ended > began
        ]
        if len(met) == 1:
            bites.update(met)
    return Counter(faults[number][0] for number in bites)
