"""``/function-logs/query``: the same filter over log events in the language of each backend."""

from __future__ import annotations

from flask import Blueprint, Response

from lowcode_faas_core.api.answers import json_answer
from lowcode_faas_core.api.authorisation import enter
from lowcode_faas_core.api.context import services
from lowcode_faas_core.api.queries import id_of, read_query, time_of
from lowcode_faas_core.callers import Verb, requires
from lowcode_faas_core.errors import InvalidValue
from lowcode_faas_core.interfaces.log_dialect import LogFilter
from lowcode_faas_core.names import check_collection_path, check_function_name

__all__ = ["blueprint"]

blueprint = Blueprint("logquery", __name__)


@blueprint.get("/function-logs/query")
@requires(Verb.READ)
def query() -> Response:
    """Write the queries. Ids may be any text: a caller's own may come from elsewhere."""
    given = read_query(
        "run_id",
        "execution_id",
        "function",
        "collection_path",
        "deployment_id",
        "since",
        "until",
    )
    if "function" in given:
        check_function_name(given["function"], "/function", where="query")
    if "collection_path" in given:
        check_collection_path(given["collection_path"], where="query")
    # Without it the queries find events of every collection.
    enter(given.get("collection_path", ""))
    since, until = time_of(given, "since"), time_of(given, "until")
    if since is not None and until is not None and since >= until:
        raise InvalidValue("since must be before until", "/since", where="query")
    wanted = LogFilter(
        run_id=id_of(given, "run_id"),
        execution_id=id_of(given, "execution_id"),
        function=given.get("function"),
        collection_path=given.get("collection_path"),
        deployment_id=id_of(given, "deployment_id"),
        since=since,
        until=until,
    )
    return json_answer(services().log_queries.answer(wanted))
