"""Two dispatchers over one database and bucket: one truth."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.services.fixtures import db_s3_environ, postgres_of, s3_of
from tests.services.s3 import CACHE_S

__all__ = ["db_s3_environ", "postgres_of", "s3_of"]

SOURCE = "export const handler = () => ({{ok: true, data: {}}});\n"


@pytest.fixture
def dispatchers(serve: Callable[..., Any], db_s3_environ) -> list[Any]:
    given = {name.removeprefix("LOWCODE_FAAS_"): value for name, value in db_s3_environ.items()}
    return [serve(**given, WORKERS="2", STOCK="1", THREADS="32") for _ in range(2)]


@pytest.mark.fault(118)
def test_fifty_deploys_at_once_through_two_dispatchers(dispatchers):
    """Versions 1 to 50, no gap and no duplicate, each readable with its hash at either."""
    sources = [SOURCE.format(number) for number in range(50)]

    def deploy(number: int) -> Any:
        body = {"name": "greet", "source_code": sources[number]}
        status, row = dispatchers[number % 2].call("POST", "/functions", body)
        assert status == 201, row
        return row

    with ThreadPoolExecutor(50) as threads:
        rows = list(threads.map(deploy, range(50)))

    assert sorted(row["version"] for row in rows) == list(range(1, 51))
    for number, row in enumerate(rows):
        other = dispatchers[(number + 1) % 2]
        path = f"/functions/greet/source?version={row['version']}"
        content = other.http.request("GET", other.url + path).data
        assert content == sources[number].encode()
        assert hashlib.sha256(content).hexdigest() == row["sha256"]
    listed = dispatchers[0].call("GET", "/functions/greet/versions?limit=100")[1]["items"]
    assert [row["version"] for row in listed] == list(range(50, 0, -1))
    current = dispatchers[1].invoke("greet")[1]
    assert current["deployment_version"] == 50
    pinned = dispatchers[0].invoke("greet", version=7)[1]
    expected = next(n for n, row in enumerate(rows) if row["version"] == 7)
    assert pinned["output"]["data"] == expected


@pytest.mark.fault(122)
def test_a_deploy_is_seen_by_every_process_at_its_next_invocation(dispatchers):
    """Deployed at one dispatcher, invoked at the other, whichever of its processes answers."""
    first, second = dispatchers
    for number in range(40):
        body = {"name": "greet", "source_code": SOURCE.format(number)}
        assert first.call("POST", "/functions", body)[0] == 201
        for _ in range(3):
            result = second.invoke("greet")[1]
            assert (result["deployment_version"], result["output"]["data"]) == (number + 1, number)


@pytest.mark.fault(119)
def test_a_damaged_object_is_never_executed(dispatchers, db_s3_environ, s3_of):
    first, second = dispatchers
    first.deploy("greet", SOURCE.format(1))
    folder: Path = s3_of("rclone").buckets / db_s3_environ["LOWCODE_FAAS_S3_BUCKET"]
    [kept] = [path for path in folder.rglob("*") if path.is_file()]
    kept.write_text(SOURCE.format(2))
    time.sleep(4 * CACHE_S)

    status, problem = second.invoke("greet")
    assert (status, problem["code"], problem["outcome"]) == (500, "source_corrupt", "not_executed")
    assert second.call("GET", "/functions/greet/source")[0] == 500
