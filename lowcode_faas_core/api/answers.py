"""Answers as JSON, written by msgspec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from flask import Response

__all__ = ["STATUS_HEADER", "encode", "json_answer", "no_content"]

#: Says the verdict over an execution, for whoever does not read the body.
STATUS_HEADER: Final = "X-Lowcode-Faas-Status"

encode = msgspec.json.Encoder().encode


def json_answer(
    value: Any, status: int = 200, *, headers: Mapping[str, str] | None = None
) -> Response:
    """Return ``value`` as ``application/json``; structs are written as objects."""
    return Response(encode(value), status, headers, mimetype="application/json")


def no_content() -> Response:
    """Return a 204. It has no content type, since there is no content."""
    answer = Response(status=204)
    del answer.headers["Content-Type"]
    return answer
