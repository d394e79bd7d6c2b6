"""Reads a tree of collections from a service, as it is now."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any, Final

import msgspec

from lowcode_faas_core.client.archive import FunctionCopy, Tree
from lowcode_faas_core.client.connection import Connection, Refused
from lowcode_faas_core.client.paths import collection_path, function_path

__all__ = ["below", "snapshot"]

#: How often a function is read that is deployed anew meanwhile.
ATTEMPTS: Final = 3


def below(api: Connection, path: str) -> list[str]:
    """Return the paths of a collection and all below it, from there: itself is ``""``.

    :raises Refused: there is no such collection.
    """
    if path:
        api.request("GET", collection_path(path))
    listed = api.pages("/collections", {"prefix": path or None})
    paths = {each["path"].removeprefix(path).lstrip("/") for each in listed}
    return sorted({"", *paths})


def snapshot(
    api: Connection, path: str, *, env: bool, seen: Callable[[str], None] = lambda _: None
) -> Tree:
    """Return a collection and all below it: current versions, and env where it is wanted.

    :param seen: called with what was read.
    :raises Refused: there is no such collection, or a function is deployed all the time.
    """
    tree = Tree(path, env)
    for relative in below(api, path):
        place = "/".join(filter(None, (path, relative)))
        found = api.request("GET", collection_path(place, "env")).document["env"] if env else {}
        tree.collections[relative] = found
        for each in list(api.pages(function_path(place))):
            try:
                _add(api, tree, place, relative, each)
            except Refused as error:
                if error.status != 404:
                    raise
                continue  # it was deleted meanwhile
            seen(f"{place}/{each['name']}".lstrip("/"))
    return tree


def _add(api: Connection, tree: Tree, place: str, relative: str, function: dict[str, Any]) -> None:
    name = function["name"]
    for attempt in range(ATTEMPTS):
        if attempt:
            function = api.request("GET", function_path(place, name)).document
        current = function["current"]
        source = api.open("GET", function_path(place, name, "source")).data
        if hashlib.sha256(source).hexdigest() == current["sha256"]:
            break
    else:
        raise Refused(409, {"detail": f"{place}/{name} changes while it is read".lstrip("/")})
    fields = ("language", "reuse", "limits", "version", "source_url")
    copy = msgspec.convert(
        {"collection": relative, "name": name, **{key: current[key] for key in fields}},
        FunctionCopy,
    )
    tree.functions.append(copy)
    tree.sources[copy.member] = source
    if tree.has_env and function["env_keys"]:
        path = function_path(place, name, "env")
        tree.envs[copy.member] = api.request("GET", path).document["env"]
