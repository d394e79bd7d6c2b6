"""``/functions/{name}/env``: the env of a function, and how an invocation's comes about."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
from flask import Blueprint, Response

from lowcode_faas_core.api.answers import json_answer
from lowcode_faas_core.api.bodies import Body
from lowcode_faas_core.api.context import current_request, services
from lowcode_faas_core.api.queries import function_of, read_query
from lowcode_faas_core.api.routing import function_route
from lowcode_faas_core.callers import Verb, requires
from lowcode_faas_core.environment import explain
from lowcode_faas_core.limits import OperatorLimits
from lowcode_faas_core.names import check_env

__all__ = ["blueprint", "check_level"]

blueprint = Blueprint("environments", __name__)


class FunctionEnvBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``PUT …/env`` of a function."""

    env: dict[str, str]
    collection_path: str | None = None


_env_body = Body(FunctionEnvBody)


def check_level(env: Mapping[str, str], limits: OperatorLimits) -> None:
    """Raise :class:`InvalidValue` when ``env`` cannot be the env of one level."""
    limits.check_env_size(env)
    check_env(env)


@function_route(blueprint, "/functions/<name>/env", "GET")
@requires(Verb.DEPLOY)
def get_env(name: str, collection_path: str | None = None) -> Response:
    """Show the function's own env."""
    ref = function_of(name, collection_path, read_query("collection_path"))
    return json_answer({"env": services().storage.function_env(ref)})


@function_route(blueprint, "/functions/<name>/env", "PUT")
@requires(Verb.DEPLOY)
def put_env(name: str, collection_path: str | None = None) -> Response:
    """Replace the function's own env."""
    query = read_query("collection_path")
    body = _env_body.read(services().limits.settings.body_bytes)
    ref = function_of(name, collection_path, query, body.collection_path)
    check_level(body.env, services().limits)
    services().storage.set_function_env(ref, body.env)
    return json_answer({"env": body.env})


@function_route(blueprint, "/functions/<name>/env/explain", "GET")
@requires(Verb.DEPLOY)
def explain_env(name: str, collection_path: str | None = None) -> Response:
    """Show the merged env and where each value comes from."""
    ref = function_of(name, collection_path, read_query("collection_path"))
    levels = services().storage.resolve(ref).levels
    return json_answer({"env": explain(levels, current_request().caller.reaches)})
