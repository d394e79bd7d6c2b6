"""Query parameters and the other places a request names a collection or a version in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from urllib.parse import parse_qsl

from flask import request

from lowcode_faas_core.api.authorisation import enter
from lowcode_faas_core.errors import (
    ConflictingValues,
    InvalidValue,
    MalformedRequest,
    NotFound,
)
from lowcode_faas_core.limits import MAX_LIST_ITEMS
from lowcode_faas_core.model import FunctionRef
from lowcode_faas_core.names import check_collection_path, check_function_name

__all__ = [
    "check_target",
    "collection_of",
    "function_of",
    "id_of",
    "named_collection",
    "page_of_query",
    "read_query",
    "time_of",
    "version_of",
]

#: Far above any version a function will reach, and within what every storage can count to.
MAX_VERSION = 2**31 - 1
_DEFAULT_LIST_ITEMS = 100
_MAX_PARAMETERS = 64
#: Characters of an id: longer than any that exists.
_MAX_ID = 256
_moment = re.compile(
    r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII
).fullmatch


def check_target() -> None:
    """Refuse a path that is not UTF-8, holds control characters, or begins with two slashes.

    The server has decoded ``%00``, and Werkzeug replaces ``%ff`` by U+FFFD and takes ``//functions``
    for ``/functions``, so that no view could tell. Runs before every view.
    """
    path: str = request.environ.get("PATH_INFO", "")
    if path.startswith("//"):
        raise NotFound("there is no such path; a path has no empty segment")
    if path.isascii() and path.isprintable():
        return
    try:
        decoded = path.encode("latin-1").decode("utf-8")
    except UnicodeError:
        raise MalformedRequest("the path is not UTF-8") from None
    if "\ufffd" in decoded:
        # A server that decodes leniently has put it where a byte was not UTF-8.
        raise MalformedRequest("the path is not UTF-8")
    _refuse_control_characters(decoded, "path")


def read_query(*allowed: str) -> dict[str, str]:
    """Return the query parameters, each once.

    :raises MalformedRequest: it cannot be decoded.
    :raises ConflictingValues: one parameter has two values.
    :raises InvalidValue: a parameter is not among ``allowed``: a typo must not pass for a default.
    """
    raw: str = request.environ.get("QUERY_STRING", "")
    if not raw:
        return {}
    try:
        text = raw.encode("latin-1").decode("utf-8")
        pairs = parse_qsl(
            text, keep_blank_values=True, errors="strict", max_num_fields=_MAX_PARAMETERS
        )
    except UnicodeError:
        raise MalformedRequest("the query is not UTF-8") from None
    except ValueError:
        raise MalformedRequest(f"a query has at most {_MAX_PARAMETERS} parameters") from None
    found: dict[str, str] = {}
    for name, value in pairs:
        _refuse_control_characters(name, "query")
        _refuse_control_characters(value, "query")
        if name not in allowed:
            known = f"; known here: {', '.join(allowed)}" if allowed else ""
            raise InvalidValue(f"{name!r} is no parameter{known}", _token(name), where="query")
        if found.setdefault(name, value) != value:
            raise ConflictingValues(f"{name} is given twice with different values")
    return found


def page_of_query(query: Mapping[str, str]) -> tuple[int, str | None]:
    """Return ``limit`` and ``cursor``."""
    limit = _DEFAULT_LIST_ITEMS
    if "limit" in query:
        limit = _whole_number(query["limit"], "limit", MAX_LIST_ITEMS)
    return limit, query.get("cursor")


def collection_of(in_path: str | None, query: Mapping[str, str], in_body: str | None = None) -> str:
    """Return the collection a request means, if it is the caller's: see :func:`named_collection`.

    :raises Forbidden: it is not the caller's.
    """
    return enter(named_collection(in_path, query, in_body))


def named_collection(
    in_path: str | None, query: Mapping[str, str], in_body: str | None = None
) -> str:
    """Return the collection a request names, wherever it does; the root when nowhere.

    :raises InvalidValue: one of the places holds no legal path.
    :raises ConflictingValues: two places hold different ones.
    """
    found: list[str] = []
    for value, where in (
        (in_path, "path"),
        (query.get("collection_path"), "query"),
        (in_body, "body"),
    ):
        if value is not None:
            found.append(check_collection_path(value, where=where))
    if len(set(found)) > 1:
        raise ConflictingValues("collection_path is given twice with different values")
    return found[0] if found else ""


def function_of(
    name: str, in_path: str | None, query: Mapping[str, str], in_body: str | None = None
) -> FunctionRef:
    """Return the function that path, query and body name together."""
    check_function_name(name, where="path")
    return FunctionRef(collection_of(in_path, query, in_body), name)


def version_of(query: Mapping[str, str], in_body: int | None = None) -> int | None:
    """Return the version a request names, ``None`` when it names none."""
    if in_body is not None and not 1 <= in_body <= MAX_VERSION:
        raise InvalidValue(f"version must be from 1 to {MAX_VERSION}", "/version")
    if "version" not in query:
        return in_body
    version = _whole_number(query["version"], "version", MAX_VERSION)
    if in_body is not None and in_body != version:
        raise ConflictingValues("version is given twice with different values")
    return version


def id_of(query: Mapping[str, str], name: str) -> str | None:
    """Return an id, which may be any text: a caller's own may come from elsewhere."""
    value = query.get(name)
    if value is not None and not 0 < len(value) <= _MAX_ID:
        raise InvalidValue(
            f"{name} must have from 1 to {_MAX_ID} characters", f"/{name}", where="query"
        )
    return value


def time_of(query: Mapping[str, str], name: str) -> str | None:
    """Return a time in UTC with nine digits of a second, so that its text sorts as it does."""
    if name not in query:
        return None
    found = _moment(query[name])
    try:
        if found is None:
            raise ValueError(query[name])  # noqa: TRY301
        fraction = found[1] or ""
        whole = query[name].upper().replace(fraction, "", 1) if fraction else query[name].upper()
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


def _whole_number(text: str, name: str, maximum: int) -> int:
    # A length bound first: int() of a megabyte of digits takes seconds.
    if text.isascii() and text.isdigit() and len(text) <= 10 and 1 <= int(text) <= maximum:
        return int(text)
    raise InvalidValue(
        f"{name} must be a whole number from 1 to {maximum}", f"/{name}", where="query"
    )


def _refuse_control_characters(text: str, where: str) -> None:
    if not text.isprintable() and any(ord(c) < 32 or ord(c) == 127 for c in text):
        raise MalformedRequest(f"the {where} holds control characters")


def _token(name: str) -> str:
    return "/" + name.replace("~", "~0").replace("/", "~1")
