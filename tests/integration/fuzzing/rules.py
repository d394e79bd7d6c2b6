"""What a description cannot say in JSON Schema: formats of ours, and rules across several members.

Schemathesis loads this. Only requests that are meant to be legal are mended; what happens to those
that break a rule is held by the tests of the API. The rules:

- a collection is named once, or every time the same; a version, too
- a rollback names a version
- a pull names a URL, since most functions have none, and pins nothing: who knows what is there
- ``since`` is before ``until``
- a deadline is long enough for a sandbox to start: one of 1 ms is a 503 that says so
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from typing import Any

import schemathesis
from hypothesis import strategies as st
from schemathesis.generation import GenerationMode

#: Long enough for a sandbox to start on a machine that is busy; none of the modules waits for it.
PATIENCE_MS = 30_000

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
#: Where the test serves one of them.
SOURCE_URL = os.environ["FUZZING_SOURCE_URL"]
schemathesis.openapi.format("source-url", st.just(SOURCE_URL))
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
    query, path, body = map(members, (case.query, case.path_parameters, case.body))
    once("collection_path", path, query, body)
    once("version", query, body)
    if "since" in query:
        query.pop("until", None)
    operation = context.operation.definition.raw["operationId"]
    if operation.startswith("rollback") and not (query.get("version") or body.get("version")):
        body["version"] = 1
        case.media_type = "application/json"
    if operation.startswith("pull"):
        body.pop("sha256", None)
        body["source_url"] = SOURCE_URL
        case.media_type = "application/json"
    elif "source_url" in body:
        body["source_url"] = SOURCE_URL  # an example names a server that is not there
    if isinstance(body.get("limits"), Mapping):
        body["limits"] = wait(dict(body["limits"]))
    wait(body)
    case.query = query
    if body or isinstance(case.body, dict):
        case.body = body
    return case


@schemathesis.hook
def before_add_examples(context: Any, examples: list[Any]) -> None:
    """Mend those that are put together from examples of the description and what was answered."""
    examples[:] = [map_case(context, case) for case in examples]


def members(part: Any) -> dict[str, Any]:
    """Return a copy of what a part of the request holds."""
    return dict(part) if isinstance(part, Mapping) else {}


def wait(deadlines: dict[str, Any]) -> dict[str, Any]:
    """Make a deadline, if there is one, long enough."""
    if isinstance(deadlines.get("timeout_ms"), int | float):
        deadlines["timeout_ms"] = max(deadlines["timeout_ms"], PATIENCE_MS)
    return deadlines


def once(name: str, *places: dict[str, Any]) -> None:
    """Leave the first value there is, and take away the others."""
    named = [place for place in places if place.get(name) is not None]
    for place in named[1:]:
        del place[name]
