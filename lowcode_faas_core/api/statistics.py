"""``/functions/{name}/stats``: what the executions of a function add up to."""

from __future__ import annotations

import re
import time
from typing import Final

import msgspec
from flask import Blueprint, Response

from lowcode_faas_core.api.answers import json_answer
from lowcode_faas_core.api.context import services
from lowcode_faas_core.api.executions import following
from lowcode_faas_core.api.queries import function_of, read_query
from lowcode_faas_core.api.routing import function_route
from lowcode_faas_core.callers import Verb, requires
from lowcode_faas_core.errors import InvalidValue
from lowcode_faas_core.ids import moment

__all__ = ["blueprint"]

blueprint = Blueprint("statistics", __name__)

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_window = re.compile(r"([1-9][0-9]{0,3})([smhd])", re.ASCII).fullmatch


@function_route(blueprint, "/functions/<name>/stats", "GET")
@requires(Verb.READ)
def stats(name: str, collection_path: str | None = None) -> Response:
    """Add up what ran within the window; a function that is gone may still have something."""
    query = read_query("collection_path", "window")
    ref = function_of(name, collection_path, query)
    window = query.get("window", "1h")
    found = _window(window)
    if found is None:
        raise InvalidValue("window must be like 90s, 15m, 1h or 7d", "/window", where="query")
    since = moment(time.time_ns() - int(found[1]) * _UNITS[found[2]] * 1_000_000_000)
    added = following().store.stats(ref, since)
    if not added.by_status:
        services().storage.function(ref)
    return json_answer(
        {
            "function_name": ref.name,
            "collection_path": ref.collection_path,
            "window": window,
            "since": since,
            **msgspec.structs.asdict(added),
        }
    )
