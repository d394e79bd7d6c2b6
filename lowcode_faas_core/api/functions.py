"""``/functions``: deploying, listing, reading, rolling back and removing functions."""

from __future__ import annotations

import msgspec
from flask import Blueprint, Response, request

from lowcode_faas_core.api.answers import json_answer, no_content
from lowcode_faas_core.api.bodies import Body
from lowcode_faas_core.api.context import services
from lowcode_faas_core.api.environments import check_level
from lowcode_faas_core.api.queries import (
    collection_of,
    function_of,
    page_of_query,
    read_query,
    version_of,
)
from lowcode_faas_core.api.routing import function_route
from lowcode_faas_core.callers import Verb, requires
from lowcode_faas_core.errors import InvalidValue, SourceInvalid
from lowcode_faas_core.model import Draft, FunctionRef, Language, Limits, Reuse
from lowcode_faas_core.names import check_function_name

__all__ = ["blueprint"]

blueprint = Blueprint("functions", __name__)


class DeployBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``POST /functions``."""

    name: str
    source_code: str
    language: Language | None = None
    collection_path: str | None = None
    env: dict[str, str] | None = None
    reuse: Reuse | None = None
    limits: Limits | None = None


class RollbackBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``POST …/rollback``."""

    version: int | None = None
    collection_path: str | None = None


_deploy_body = Body(DeployBody)
_rollback_body = Body(RollbackBody, required=False)


@function_route(blueprint, "/functions", "POST")
@requires(Verb.DEPLOY)
def deploy(collection_path: str | None = None) -> Response:
    """Create a function or add its next version."""
    query = read_query("collection_path")
    limits = services().limits
    body = _deploy_body.read(limits.settings.body_bytes)
    check_function_name(body.name)
    collection = collection_of(collection_path, query, body.collection_path)
    source = body.source_code.encode()
    limits.check_source(source)
    asked = body.limits or Limits()
    limits.check(asked)
    if body.env is not None:
        check_level(body.env)
    language = body.language or Language.JAVASCRIPT
    draft = Draft(
        source=source,
        language=language,
        reuse=body.reuse or services().default_reuse,
        limits=asked,
        env=body.env,
        checked=_check(source, language, "/source_code"),
    )
    ref = FunctionRef(collection, body.name)
    outcome = services().meter.deployment(
        lambda: services().storage.deploy(ref, draft),
        lambda done: "created" if done.created else "unchanged",
    )
    return json_answer(outcome.deployment, 201 if outcome.created else 200)


def _check(source: bytes, language: Language, pointer: str) -> bool:
    """Return whether Node was seen to accept the source; it may be deployed either way.

    :raises SourceInvalid: Node refuses it.
    """
    found = services().invoker.check_source(source, language)
    if found.fault is not None:
        fault = found.fault
        raise SourceInvalid(str(fault), pointer, line=fault.line, column=fault.column)
    return found.checked


@function_route(blueprint, "/functions", "GET")
@requires(Verb.READ)
def list_functions(collection_path: str | None = None) -> Response:
    """List one page of one collection."""
    query = read_query("collection_path", "limit", "cursor")
    collection = collection_of(collection_path, query)
    return json_answer(services().storage.functions(collection, *page_of_query(query)))


@function_route(blueprint, "/functions/<name>", "GET")
@requires(Verb.READ)
def get_function(name: str, collection_path: str | None = None) -> Response:
    """Show one function."""
    ref = function_of(name, collection_path, read_query("collection_path"))
    return json_answer(services().storage.function(ref))


@function_route(blueprint, "/functions/<name>", "DELETE")
@requires(Verb.DEPLOY)
def delete_function(name: str, collection_path: str | None = None) -> Response:
    """Remove a function, its env and its versions."""
    ref = function_of(name, collection_path, read_query("collection_path"))
    services().storage.delete_function(ref)
    return no_content()


@function_route(blueprint, "/functions/<name>/source", "GET")
@requires(Verb.READ)
def get_source(name: str, collection_path: str | None = None) -> Response:
    """Answer the deployed bytes as they are."""
    query = read_query("collection_path", "version")
    ref = function_of(name, collection_path, query)
    storage = services().storage
    deployment = storage.deployment(ref, version_of(query))
    # nosniff: a source that begins like HTML must not become a page of this origin.
    headers = {"ETag": f'"{deployment.sha256}"', "X-Content-Type-Options": "nosniff"}
    if request.if_none_match.contains_weak(deployment.sha256):
        return Response(status=304, headers=headers)
    return Response(
        storage.source(deployment),
        headers=headers,
        content_type=f"{deployment.language.media_type}; charset=utf-8",
    )


@function_route(blueprint, "/functions/<name>/versions", "GET")
@requires(Verb.READ)
def list_versions(name: str, collection_path: str | None = None) -> Response:
    """List what can be pinned or restored, newest first."""
    query = read_query("collection_path", "limit", "cursor")
    ref = function_of(name, collection_path, query)
    return json_answer(services().storage.versions(ref, *page_of_query(query)))


@function_route(blueprint, "/functions/<name>/rollback", "POST")
@requires(Verb.DEPLOY)
def rollback(name: str, collection_path: str | None = None) -> Response:
    """Make an older version current, as a new deployment."""
    query = read_query("collection_path", "version")
    body = _rollback_body.read(services().limits.settings.body_bytes)
    ref = function_of(name, collection_path, query, body.collection_path)
    version = version_of(query, body.version)
    if version is None:
        raise InvalidValue("this field is required", "/version")
    restored = services().meter.deployment(
        lambda: services().storage.rollback(ref, version), lambda _: "restored"
    )
    return json_answer(restored, 201)
