"""Node is asked about a source before it is deployed; what it refuses leaves everything as it was."""

from __future__ import annotations

from typing import Any

import pytest

from lowcode_faas_core.model import SourceCheck, SourceFault

GOOD = "export const handler = () => ({ok: true, data: 1});\n"
BROKEN = "export const handler = () => ({ok: true});\n\nconst 5 = 6;\n"
TYPED = "export const handler = (n: number) => ({ok: true, data: n as unknown});\n"
ENUM = "export const handler = () => 1;\nenum Colour { Red }\n"


@pytest.fixture
def checking_api(api: Any) -> Any:
    """Return an API whose sources are checked: by Node, or by the stub, which is told what Node says."""
    if api.services is not None:
        fault = SourceFault("Unexpected number", 3, 7)
        api.invoker.checks[BROKEN] = SourceCheck(checked=True, fault=fault)
        enum = SourceFault("TypeScript enum is not supported in strip-only mode", 2, 1)
        api.invoker.checks[ENUM] = SourceCheck(checked=True, fault=enum)
        for source in (GOOD, TYPED):
            api.invoker.checks[source] = SourceCheck(checked=True)
    return api


def test_what_node_accepts_is_marked_as_checked(checking_api: Any) -> None:
    assert checking_api.deploy(source=GOOD)["checked"] is True
    assert checking_api.deploy("typed", TYPED, language="typescript")["checked"] is True
    assert checking_api.get("/functions/greet").json["current"]["checked"] is True


def test_what_node_refuses_is_told_with_line_and_column(checking_api: Any) -> None:
    answer = checking_api.post("/functions", {"name": "greet", "source_code": BROKEN})
    problem = answer.refused(422, "source_invalid", "/source_code")
    assert (problem["line"], problem["column"], problem["where"]) == (3, 7, "body")
    assert problem["detail"].startswith("line 3, column 7: ")
    checking_api.get("/functions/greet").refused(404, "function_not_found")

    # TypeScript is judged by what the sandbox strips, not by what a compiler would accept.
    typed = {"name": "greet", "source_code": ENUM, "language": "typescript"}
    problem = checking_api.post("/functions", typed).refused(422, "source_invalid", "/source_code")
    assert (problem["line"], problem["column"]) == (2, 1)


def test_a_refused_source_leaves_the_function_as_it_was(checking_api: Any) -> None:
    first = checking_api.deploy(source=GOOD, env={"A": "1"})
    body = {"name": "greet", "source_code": BROKEN, "env": {"B": "2"}}
    checking_api.post("/functions", body).refused(422, "source_invalid")
    assert checking_api.get("/functions/greet").json["current"] == first
    assert checking_api.get("/functions/greet/env").json == {"env": {"A": "1"}}


def test_where_nobody_can_tell_it_is_deployed_unchecked(stub_api: Any) -> None:
    assert stub_api.deploy(source=BROKEN)["checked"] is False
