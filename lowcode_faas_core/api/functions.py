"""``/functions``: listing, reading and removing functions."""

from __future__ import annotations

from flask import Blueprint, Response, request

from lowcode_faas_core.api.answers import json_answer, no_content
from lowcode_faas_core.api.context import services
from lowcode_faas_core.api.queries import (
    collection_of,
    function_of,
    page_of_query,
    read_query,
    version_of,
)
from lowcode_faas_core.api.routing import function_route
from lowcode_faas_core.callers import Verb, requires

__all__ = ["blueprint"]

blueprint = Blueprint("functions", __name__)


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
