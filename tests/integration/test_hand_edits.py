"""Edits by hand that do not compile, over HTTP and with Node's own judgement."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

Serve = Callable[..., Any]


def test_an_edit_that_does_not_compile_never_runs(
    serve: Serve, tmp_path: Path, poll: Callable[..., Any]
) -> None:
    service = serve(WORKERS="1")
    functions = tmp_path / "data/collections/__root__/functions"

    def run(name: str = "greet") -> Any:
        status, answer = service.call("POST", f"/functions/{name}/invoke", {})
        if status != 200:
            return status
        return answer["deployment_version"], answer["status"], answer["output"]["data"]

    source = "export const handler = () => ({ ok: true, data: 'first' });"
    service.call("POST", "/functions", {"name": "greet", "source_code": source})
    assert run() == (1, "succeeded", "first")

    # A mistake: the last good version answers, and the log says what is wrong, once
    (functions / "greet.mjs").write_text(source.replace("first", "second") + "\nconst = 1;\n")
    poll("the mistake is told", lambda: run() and "greet.mjs is not adopted" in service.text())
    assert [run() for _ in range(5)] == [(1, "succeeded", "first")] * 5
    [told] = [line for line in service.text().splitlines() if "is not adopted" in line]
    assert "collections/__root__/functions/greet.mjs is not adopted: line 2, column 7: " in told

    # Mended: the next version
    (functions / "greet.mjs").write_text(source.replace("first", "second"))
    poll("the mended file is adopted", lambda: run() == (2, "succeeded", "second"))

    # Dropped in broken: no function; mended, it is one. Types are no mistake in TypeScript.
    (functions / "fresh.mts").write_text("export const handler = (input: unknown => 1;")
    assert run("fresh") == 404
    assert [item["name"] for item in service.call("GET", "/functions")[1]["items"]] == ["greet"]
    (functions / "fresh.mts").write_text(
        "export const handler = (input: unknown) => ({ ok: true, data: 'typed' as string });"
    )
    poll("it is a function now", lambda: run("fresh") == (1, "succeeded", "typed"))
