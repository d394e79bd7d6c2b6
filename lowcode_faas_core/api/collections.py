"""``/collections``: registering, listing and deleting nested paths, and their env."""

from __future__ import annotations

import msgspec
from flask import Blueprint, Response

from lowcode_faas_core.api.answers import json_answer, no_content
from lowcode_faas_core.api.authorisation import enter, visible
from lowcode_faas_core.api.bodies import Body
from lowcode_faas_core.api.context import services
from lowcode_faas_core.api.environments import check_level
from lowcode_faas_core.api.queries import page_of_query, read_query
from lowcode_faas_core.callers import Verb, requires
from lowcode_faas_core.names import check_collection_path

__all__ = ["blueprint"]

blueprint = Blueprint("collections", __name__)


class CreateBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``POST /collections``."""

    path: str
    env: dict[str, str] | None = None


class EnvBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``PUT …/env`` of a collection."""

    env: dict[str, str]


_create_body = Body(CreateBody)
_env_body = Body(EnvBody)


@blueprint.post("/collections")
@requires(Verb.DEPLOY)
def create_collection() -> Response:
    """Register a path."""
    read_query()
    body = _create_body.read(services().limits.settings.body_bytes)
    enter(check_collection_path(body.path, "/path", root=False))
    env = body.env or {}
    check_level(env, services().limits)
    return json_answer(services().storage.create_collection(body.path, env), 201)


@blueprint.get("/collections")
@requires(Verb.READ)
def list_collections() -> Response:
    """List one page of a subtree."""
    query = read_query("prefix", "limit", "cursor")
    prefix = check_collection_path(query.get("prefix", ""), "/prefix", where="query")
    return json_answer(services().storage.collections(visible(prefix), *page_of_query(query)))


@blueprint.get("/collections/<collection:path>")
@requires(Verb.READ)
def get_collection(path: str) -> Response:
    """Show one collection."""
    read_query()
    return json_answer(services().storage.collection(_registered(path)))


@blueprint.delete("/collections/<collection:path>")
@requires(Verb.DEPLOY)
def delete_collection(path: str) -> Response:
    """Delete an empty collection."""
    read_query()
    services().storage.delete_collection(_registered(path))
    return no_content()


@blueprint.get("/collections/env", defaults={"path": ""})
@blueprint.get("/collections/<collection:path>/env")
@requires(Verb.DEPLOY)
def get_env(path: str) -> Response:
    """Show the env of one level."""
    read_query()
    return json_answer(EnvBody(services().storage.collection_env(_level(path))))


@blueprint.put("/collections/env", defaults={"path": ""})
@blueprint.put("/collections/<collection:path>/env")
@requires(Verb.DEPLOY)
def put_env(path: str) -> Response:
    """Replace the env of one level."""
    read_query()
    _level(path)
    body = _env_body.read(services().limits.settings.body_bytes)
    check_level(body.env, services().limits)
    services().storage.set_collection_env(path, body.env)
    return json_answer(body)


def _registered(path: str) -> str:
    return enter(check_collection_path(path, "/path", where="path", root=False))


def _level(path: str) -> str:
    return enter(check_collection_path(path, "/path", where="path"))
