"""The whole way over HTTP: a function's life as a user and the data folder see it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

Serve = Callable[..., Any]


def test_a_functions_life_over_http_and_in_the_data_folder(
    serve: Serve, tmp_path: Path, poll: Callable[..., Any]
) -> None:
    service = serve(FILES_KEEP_VERSIONS="20", WORKERS="2")
    source = "export const handler = () => ({ ok: true, data: 'first' });"
    file = tmp_path / "data/collections/__root__/functions/life.mjs"

    def run(**body: Any) -> tuple[int, Any]:
        status, answer = service.call("POST", "/functions/life/invoke", body)
        assert status == 200, answer
        return answer["deployment_version"], answer["output"]["data"]

    # Deployed
    status, answer = service.call("POST", "/functions", {"name": "life", "source_code": source})
    assert (status, answer["version"]) == (201, 1)
    assert file.read_text() == source
    # Deployed again unchanged: no new version
    status, answer = service.call("POST", "/functions", {"name": "life", "source_code": source})
    assert (status, answer["version"]) == (200, 1)
    # Invoked, often enough that both serving processes know it
    assert {run() for _ in range(6)} == {(1, "first")}
    # Edited by hand: the next version once the file has stopped changing
    file.write_text(source.replace("first", "by hand"))
    poll("the edit is adopted", lambda: run() == (2, "by hand"))
    assert {run() for _ in range(6)} == {(2, "by hand")}
    # An older version on demand
    assert run(version=1) == (1, "first")
    # Rolled back, as a new version with the old bytes
    status, answer = service.call("POST", "/functions/life/rollback", {"version": 1})
    assert (status, answer["version"], answer["restored_from"]) == (201, 3, 1)
    assert {run() for _ in range(6)} == {(3, "first")}
    assert file.read_text() == source
    versions = service.call("GET", "/functions/life/versions")[1]["items"]
    assert [row["version"] for row in versions] == [3, 2, 1]
    # Deleted, for good
    assert service.call("DELETE", "/functions/life")[0] == 204
    assert not file.exists()
    assert service.call("POST", "/functions/life/invoke", {})[0] == 404
