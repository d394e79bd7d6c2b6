"""The same warm hello with its functions in PostgreSQL and S3 instead of files."""

from __future__ import annotations

from functools import partial
from typing import Final

from bench.lab import HELLO, Lab
from bench.load import Target, load
from bench.rounds import alternate
from bench.rows import Expectation, Findings, Plan
from bench.rows.warm import BODY, BUSY, table, throughput

__all__ = ["EXPECTED", "measure"]

_STORED = Expectation("warm throughput, 32 connections: `db_s3` / `files`", 0.7, least=True)
EXPECTED: Final = (_STORED,)


def measure(lab: Lab, plan: Plan) -> Findings:
    """Measure; executions are kept where each storage keeps them."""
    targets = []
    for service in (lab.service("db_s3", lab.database()), lab.service("files")):
        service.deploy("hello", HELLO)
        service.invoke("hello", BODY["input"])
        targets.append(Target(service, "/functions/hello/invoke", BODY))
        load(targets[-1], BUSY, plan.seconds)
    subjects = {each.name: partial(load, each, BUSY, plan.seconds) for each in targets}
    taken = alternate(subjects, plan.rounds)
    return Findings([throughput(taken, "db_s3", "files", _STORED)], table(taken, BUSY))
