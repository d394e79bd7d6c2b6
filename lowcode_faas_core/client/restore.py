"""Writes a tree of collections to a service: first what would change there, then the changes.

What is there and not in the tree stays as it is.
"""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from lowcode_faas_core.client.archive import FunctionCopy, Tree
from lowcode_faas_core.client.connection import Connection, Refused
from lowcode_faas_core.client.paths import collection_path, function_path

__all__ = ["Change", "apply", "compare"]


@dataclass(frozen=True)
class Change:
    """One request, and what it changes."""

    #: ``collection``, ``function`` or, of either, ``env``.
    kind: str
    path: str
    #: Whether there is nothing of that path yet.
    new: bool
    method: str
    address: str
    body: dict[str, Any]
    #: What differs, in words; values of env are nobody's to read here.
    details: tuple[str, ...] = ()
    #: The difference of the sources, line by line.
    lines: tuple[str, ...] = field(default=(), repr=False)

    def document(self) -> dict[str, Any]:
        """Return it for programs."""
        return {
            "action": "create" if self.new else "change",
            "kind": self.kind,
            "path": self.path,
            "details": list(self.details),
        }


def compare(api: Connection, tree: Tree, target: str) -> Iterator[Change | None]:
    """Yield what must change for ``target`` to hold the tree; ``None`` for what is right already.

    :raises Refused: a function is there in another language.
    """
    there = {each["path"] for each in api.pages("/collections", {"prefix": target or None})} | {""}
    for relative in sorted(tree.collections):
        path = "/".join(filter(None, (target, relative)))
        yield _collection(api, tree, relative, path, path in there)
        functions: dict[str, Any] = {}
        if path in there:
            functions = {each["name"]: each for each in api.pages(function_path(path))}
        for each in tree.functions:
            if each.collection == relative:
                yield _function(api, tree, each, path, functions.get(each.name))


def apply(api: Connection, change: Change) -> None:
    """Make one change; in the order they were yielded in."""
    api.request(change.method, change.address, change.body)


def _collection(
    api: Connection, tree: Tree, relative: str, path: str, there: bool
) -> Change | None:
    env = tree.collections[relative]
    if not there:
        body = {"path": path, **({"env": env} if env else {})}
        return Change("collection", path, True, "POST", "/collections", body, _env({}, env))
    if not tree.has_env:
        return None
    address = collection_path(path, "env")
    kept = api.request("GET", address).document["env"]
    if kept == env:
        return None
    return Change("env", path, False, "PUT", address, {"env": env}, _env(kept, env))


def _function(
    api: Connection, tree: Tree, copy: FunctionCopy, path: str, kept: dict[str, Any] | None
) -> Change | None:
    named = f"{path}/{copy.name}".lstrip("/")
    source = tree.sources[copy.member]
    env = tree.envs.get(copy.member, {})
    limits = msgspec.to_builtins(copy.limits)
    body: dict[str, Any] = {
        "name": copy.name,
        "collection_path": path,
        "language": copy.language.value,
        "source_code": source.decode(),
        "reuse": copy.reuse.value,
        "limits": limits,
    }
    env_body = {"env": env} if tree.has_env else {}
    if kept is None:
        news = (f"{copy.language.value}, {len(source)} bytes", *_env({}, env))
        return Change("function", named, True, "POST", "/functions", {**body, **env_body}, news)
    current = kept["current"]
    if current["language"] != copy.language.value:
        raise Refused(409, {"detail": f"{named} is there, in {current['language']}; delete it"})
    kept_env: dict[str, str] = {}
    if tree.has_env and kept["env_keys"]:
        kept_env = api.request("GET", function_path(path, copy.name, "env")).document["env"]
    env_said = _env(kept_env, env) if tree.has_env else ()
    said: list[str] = []
    lines: tuple[str, ...] = ()
    if current["sha256"] != hashlib.sha256(source).hexdigest():
        lines = _lines(api.text(function_path(path, copy.name, "source")), source.decode(), named)
        added = sum(line.startswith("+") for line in lines[2:])
        removed = sum(line.startswith("-") for line in lines[2:])
        said.append(f"source +{added} -{removed} lines")
    for key, value in (("reuse", copy.reuse.value), ("limits", limits)):
        if current[key] != value:
            said.append(f"{key} {_words(current[key])} -> {_words(value)}")
    if said:
        whole = {**body, **(env_body if env_said else {})}
        said += env_said
        return Change("function", named, False, "POST", "/functions", whole, tuple(said), lines)
    if not env_said:
        return None
    address = function_path(path, copy.name, "env")
    return Change("env", named, False, "PUT", address, {"env": env}, env_said)


def _env(before: dict[str, str], after: dict[str, str]) -> tuple[str, ...]:
    """Name the keys that come, go and change."""
    words = [f"+{key}" for key in sorted(after.keys() - before.keys())]
    words += [f"-{key}" for key in sorted(before.keys() - after.keys())]
    words += [f"~{key}" for key in sorted(after) if key in before and before[key] != after[key]]
    return (f"env {' '.join(words)}",) if words else ()


def _lines(before: str, after: str, name: str) -> tuple[str, ...]:
    return tuple(
        difflib.unified_diff(
            before.splitlines(), after.splitlines(), f"{name} there", f"{name} here", lineterm=""
        )
    )


def _words(value: object) -> str:
    if isinstance(value, dict):
        return ",".join(f"{key}={value[key]}" for key in sorted(value)) or "default"
    return str(value)
