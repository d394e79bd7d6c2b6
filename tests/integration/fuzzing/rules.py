"""What a description cannot say in JSON Schema: formats of ours, and rules across several members.

Schemathesis loads this. Only requests that are meant to be legal are mended; what happens to those
that break a rule is held by the tests of the API. The rules:

- a collection is named once, or every time the same; a version, too
- a rollback names a version
- ``since`` is before ``until``
- a deadline is long enough for a sandbox to start: one of 1 ms is a 503 that says so
"""

from __future__ import annotations

import base64
from typing import Any

import schemathesis
from hypothesis import strategies as st
from schemathesis.core import NotSet
from schemathesis.generation import GenerationMode

#: Long enough for a sandbox to start on a machine that is busy, short enough not to be waited for.
PATIENCE_MS = 8000

MODULES = (
    "export const handler = (input) => ({ ok: true, data: input });",
    "export const handler = async () => ({ ok: false, error: 'no', code: 'refused' });",
    "export const handler = () => { throw new Error('thrown'); };",
    "export const handler = () => 5;",
    "console.log('loaded'); export const handler = (_, context) => ({ ok: true, data: context });",
    "export const handler = () => process.exit(3);",
    "export const other = 1;",
)

schemathesis.openapi.format("javascript-module", st.sampled_from(MODULES))
schemathesis.openapi.format(
    "page-cursor",
    # Digits: a cursor of versions holds one, and elsewhere any key will do.
    st.integers(0, 10**18 - 1).map(
        lambda key: base64.urlsafe_b64encode(str(key).encode()).decode().rstrip("=")
    ),
)


@schemathesis.hook
def map_case(context: Any, case: Any) -> Any:
    """Mend what breaks a rule that the description states in words only."""
    if case.meta is None or case.meta.generation.mode is not GenerationMode.POSITIVE:
        return case
    query = case.query if isinstance(case.query, dict) else {}
    path = case.path_parameters if isinstance(case.path_parameters, dict) else {}
    body = case.body if isinstance(case.body, dict) else {}
    once("collection_path", path, query, body)
    once("version", query, body)
    if "since" in query and "until" in query:
        del query["until"]
    operation = context.operation.definition.raw["operationId"]
    if operation.startswith("rollback") and "version" not in query and not body.get("version"):
        if isinstance(case.body, NotSet | dict | None):
            case.body, case.media_type = {**body, "version": 1}, "application/json"
    if operation.startswith("invoke") and isinstance(body.get("timeout_ms"), int):
        body["timeout_ms"] = max(body["timeout_ms"], PATIENCE_MS)
    return case


def once(name: str, *places: dict[str, Any]) -> None:
    """Leave the first value there is, and take away the others."""
    named = [place for place in places if place.get(name) is not None]
    for place in named[1:]:
        del place[name]
