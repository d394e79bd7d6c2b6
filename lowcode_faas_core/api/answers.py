"""Answers as JSON, written by msgspec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from flask import Response

__all__ = ["json_answer", "no_content"]

_encode = msgspec.json.Encoder().encode


def json_answer(
    value: Any, status: int = 200, *, headers: Mapping[str, str] | None = None
) -> Response:
    """Return ``value`` as ``application/json``; structs are written as objects."""
    return Response(_encode(value), status, headers, mimetype="application/json")


def no_content() -> Response:
    """Return a 204. It has no content type, since there is no content."""
    answer = Response(status=204)
    del answer.headers["Content-Type"]
    return answer
