"""``/function-logs/query``: the same filter over log events in the language of each backend."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime

from flask import Blueprint, Response

from lowcode_faas_core.api.answers import json_answer
from lowcode_faas_core.api.authorisation import enter
from lowcode_faas_core.api.context import services
from lowcode_faas_core.api.queries import read_query
from lowcode_faas_core.callers import Verb, requires
from lowcode_faas_core.errors import InvalidValue
from lowcode_faas_core.interfaces.log_dialect import LogFilter
from lowcode_faas_core.names import check_collection_path, check_function_name

__all__ = ["blueprint"]

blueprint = Blueprint("logquery", __name__)

#: Characters of an id: longer than any that exists.
MAX_ID = 256
_moment = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII
).fullmatch


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
    since, until = _time(given, "since"), _time(given, "until")
    if since is not None and until is not None and since >= until:
        raise InvalidValue("since must be before until", "/since", where="query")
    wanted = LogFilter(
        run_id=_id(given, "run_id"),
        execution_id=_id(given, "execution_id"),
        function=given.get("function"),
        collection_path=given.get("collection_path"),
        deployment_id=_id(given, "deployment_id"),
        since=since,
        until=until,
    )
    return json_answer(services().log_queries.answer(wanted))


def _id(given: Mapping[str, str], name: str) -> str | None:
    value = given.get(name)
    if value is not None and not 0 < len(value) <= MAX_ID:
        raise InvalidValue(
            f"{name} must have from 1 to {MAX_ID} characters", f"/{name}", where="query"
        )
    return value


def _time(given: Mapping[str, str], name: str) -> str | None:
    """Return a time in UTC with nine digits of a second, so that its text sorts as it does."""
    if name not in given:
        return None
    found = _moment(given[name])
    try:
        if found is None:
            raise ValueError(given[name])  # noqa: TRY301
        fraction = found[1] or ""
        whole = given[name].upper().replace(fraction, "", 1) if fraction else given[name].upper()
        moment = datetime.fromisoformat(whole).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidValue(
            f"{name} must be an RFC 3339 time with an offset, like 2026-11-22T09:00:00Z "
            "(a + in a query is written %2B)",
            f"/{name}",
            where="query",
        ) from None
    # Not %Y: it writes the year 758 with three digits.
    return f"{moment.replace(tzinfo=None).isoformat(timespec='seconds')}{(fraction or '.').ljust(10, '0')}Z"
