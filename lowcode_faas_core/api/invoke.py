"""``/functions/{name}/invoke``: a request becomes an InvokeRequest, a verdict a 200."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from flask import Blueprint, Response

from lowcode_faas_core.api.answers import STATUS_HEADER, json_answer
from lowcode_faas_core.api.bodies import Body, decode_object
from lowcode_faas_core.api.context import ApiServices, current_request, request_id_of, services
from lowcode_faas_core.api.environments import check_level
from lowcode_faas_core.api.queries import function_of, read_query, version_of
from lowcode_faas_core.api.routing import function_route
from lowcode_faas_core.callers import Verb, requires
from lowcode_faas_core.limits import OperatorLimits
from lowcode_faas_core.model import FunctionRef, InvokeRequest, RunResult
from lowcode_faas_core.names import check_execution_id, check_run_id
from lowcode_faas_core.trace_context import traceparent

__all__ = ["InvokeBody", "blueprint", "read_body", "run"]

blueprint = Blueprint("invocations", __name__)

_NO_INPUT = msgspec.Raw(b"{}")


class InvokeBody(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """Body of ``POST …/invoke``. The input stays the caller's exact text: Node reads it once."""

    input: msgspec.Raw = _NO_INPUT
    timeout_ms: int | None = None
    env: dict[str, str] | None = None
    version: int | None = None
    run_id: str | None = None
    execution_id: str | None = None
    collection_path: str | None = None


_body = Body(InvokeBody, required=False)


@function_route(blueprint, "/functions/<name>/invoke", "POST")
@requires(Verb.INVOKE)
def invoke(name: str, collection_path: str | None = None) -> Response:
    """Run the function and answer with the verdict."""
    query = read_query("collection_path", "version")
    environ = current_request().environ
    body = read_body(environ, services().limits)
    ref = function_of(name, collection_path, query, body.collection_path)
    result = run(services(), environ, body, ref, query)
    return json_answer(result, headers={STATUS_HEADER: result.status.value})


def read_body(environ: Mapping[str, Any], limits: OperatorLimits) -> InvokeBody:
    """Return the body of a request, whose input is an object."""
    body = _body.read_from(environ, limits.settings.body_bytes)
    decode_object(body.input, "/input")
    return body


def run(
    own: ApiServices,
    environ: dict[str, Any],
    body: InvokeBody,
    ref: FunctionRef,
    query: Mapping[str, str],
) -> RunResult:
    """Check what is asked for, and invoke."""
    limits = own.limits
    limits.check_input(memoryview(body.input).nbytes)
    if body.timeout_ms is not None:
        limits.check_timeout(body.timeout_ms)
    if body.env:
        check_level(body.env, limits)
    if body.run_id is not None:
        check_run_id(body.run_id)
    if body.execution_id is not None:
        check_execution_id(body.execution_id)
    return own.invoker.invoke(
        InvokeRequest(
            ref=ref,
            request_id=request_id_of(environ),
            input=body.input,
            timeout_ms=body.timeout_ms,
            env=body.env or {},
            version=version_of(query, body.version),
            run_id=body.run_id,
            execution_id=body.execution_id,
            traceparent=traceparent(environ.get("HTTP_TRACEPARENT")),
        )
    )
