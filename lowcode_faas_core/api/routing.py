"""How paths are told apart: a collection path has slashes of its own, and reserved words end it.

``functions`` and ``env`` can be no segment of a collection path, so that
``/collections/org/team/functions/x/env`` can be read in one way only. Paths are matched exactly:
no redirect adds or removes a slash.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from flask import Blueprint, Response
from werkzeug.routing import BaseConverter

from lowcode_faas_core.errors import FaasError, InvalidValue, NotFound
from lowcode_faas_core.names import NAME, check_collection_path

__all__ = ["CollectionPathConverter", "explain_missing", "function_route"]

V = TypeVar("V", bound=Callable[..., Response])

_SEGMENT = r"(?!(?:functions|env)(?:/|\Z))[^/]++"


class CollectionPathConverter(BaseConverter):
    """Matches what stands where a collection path belongs, legal or not; views check it.

    Possessive, so that a megabyte of segments is looked at once.
    """

    regex = rf"{_SEGMENT}(?:/{_SEGMENT})*"
    part_isolating = False


def function_route(blueprint: Blueprint, rule: str, method: str) -> Callable[[V], V]:
    """Register a view of ``/functions…`` under its flat and its nested path.

    The view takes ``collection_path=None``: what the nested path says, if it is one.
    """

    def register(view: V) -> V:
        for path in (rule, f"/collections/<collection:collection_path>{rule}"):
            blueprint.add_url_rule(path, view.__name__, view, methods=[method])
        return view

    return register


def explain_missing(path: str, raw_uri: str) -> FaasError:
    """Return why no route matched: an illegal name that looks like more path, or nothing there.

    The server decodes ``%2F`` before routing, so a name that holds one matches no route, or
    another's. ``raw_uri`` is the request's target as it was sent, ``""`` when not known.
    """
    segments = path.split("/")[1:]
    in_collection = segments[0] == "collections"
    pointer = "/collection_path" if in_collection else "/name"
    if "." in segments or ".." in segments:
        return InvalidValue("the segments . and .. name nothing here", pointer, where="path")
    if "" in segments:
        return NotFound(
            "there is no such path; a path has no empty segment and no slash at its end"
        )
    if in_collection and len(segments) > 1:
        try:
            check_collection_path(_collection_part(segments[1:]), pointer, where="path")
        except InvalidValue as error:
            return error
    _, functions, after = raw_uri.partition("?")[0].lower().rpartition("/functions/")
    if functions and "%2f" in after:
        return InvalidValue(f"a function name must match {NAME}", "/name", where="path")
    return NotFound("there is no such path")


def _collection_part(segments: list[str]) -> str:
    """Return what stands where a collection path belongs in ``/collections/{segments}``."""
    if "functions" in segments[1:]:
        last = len(segments) - 1 - segments[::-1].index("functions")
        return "/".join(segments[:last])
    if segments[-1] == "env" and len(segments) > 1:
        return "/".join(segments[:-1])
    return "/".join(segments)
