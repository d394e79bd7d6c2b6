"""Which name in the data folder holds what."""

from __future__ import annotations

import re
from collections.abc import Iterable

from lowcode_faas_core.model import Language
from lowcode_faas_core.names import NAME

__all__ = [
    "COLLECTIONS",
    "COLLECTION_ENV",
    "COLLECTION_META",
    "FUNCTIONS",
    "LOCKS",
    "ROOT",
    "VERSIONS",
    "collection_parts",
    "env_name",
    "function_names",
    "is_name",
    "meta_name",
    "parse_stem",
    "source_name",
    "stem",
]

COLLECTIONS = "collections"
ROOT = "__root__"
FUNCTIONS = "functions"
COLLECTION_ENV = "collection.env.json"
COLLECTION_META = "collection.meta.json"
#: Beside the sources: the bytes of kept versions, and what a commit has staged.
VERSIONS = ".versions"
LOCKS = ".locks"

_is_name = re.compile(NAME, re.ASCII).fullmatch
_stem = re.compile(r"([1-9][0-9]{0,17})-([0-9a-f-]{36})", re.ASCII)


def collection_parts(path: str) -> tuple[str, ...]:
    """Return the directories from the data folder down to a collection."""
    return (COLLECTIONS, *(path.split("/") if path else (ROOT,)))


def source_name(name: str, language: Language) -> str:
    """Return the file name of a function's source."""
    return name + language.suffix


def env_name(name: str) -> str:
    """Return the file name of a function's env."""
    return f"{name}.env.json"


def meta_name(name: str) -> str:
    """Return the file name whose rename commits a deploy."""
    return f"{name}.meta.json"


def stem(version: int, deployment_id: str) -> str:
    """Return how the names of one deployment's files begin."""
    return f"{version}-{deployment_id}"


def parse_stem(name: str) -> tuple[int, str] | None:
    """Return version and deployment id of a file of the history, ``None`` for others."""
    match = _stem.match(name)
    return (int(match[1]), match[2]) if match else None


def is_name(name: str) -> bool:
    """Tell whether a directory entry can be a function's name or a collection's segment."""
    return _is_name(name) is not None


def function_names(entries: Iterable[str], *, meta: bool = False) -> set[str]:
    """Return the functions that have a source (or, with ``meta``, a meta file) among entries."""
    suffixes = tuple(language.suffix for language in Language)
    stems = set()
    for entry in entries:
        if entry.endswith(suffixes):
            stems.add(entry[:-4])
        elif meta and entry.endswith(".meta.json"):
            stems.add(entry[: -len(".meta.json")])
    return {name for name in stems if _is_name(name)}
