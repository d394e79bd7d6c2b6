"""The statements, and how their rows become values of the domain.

Kept apart from who runs them, so that the tests explain the very text that runs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from lowcode_faas_core.model import (
    Collection,
    Deployment,
    Function,
    FunctionRef,
    Language,
    Limits,
    Reuse,
)

__all__ = [
    "COLLECTION",
    "COLLECTIONS",
    "DEPLOYMENT",
    "DEPLOYMENT_BY_ID",
    "FUNCTION",
    "FUNCTIONS",
    "RESOLVE",
    "VERSIONS",
    "collection",
    "deployment",
    "env_of",
    "env_text",
    "function",
    "like_prefix",
    "limits_text",
]

#: The columns :func:`deployment` reads, in its order.
_ROW: Final = """d.deployment_id, d.version, f.language, d.sha256, d.size, d.source_url, d.reuse,
    d.limits, d.created_at, d.version = f.latest_version, d.checked, d.restored_from, d.object_key"""
_WIDTH: Final = 13

#: Parameters: version or None, collection path, name. One row when the function exists; its
#: deployment is NULL when it has no such version.
DEPLOYMENT: Final = f"""
SELECT {_ROW}
FROM functions f
LEFT JOIN deployments d
    ON d.function_id = f.id AND d.version = COALESCE(%s::bigint, f.latest_version)
WHERE f.collection_path = %s AND f.name = %s"""

#: Parameters: deployment id, collection path, name.
DEPLOYMENT_BY_ID: Final = f"""
SELECT {_ROW}
FROM functions f
LEFT JOIN deployments d ON d.function_id = f.id AND d.deployment_id = %s
WHERE f.collection_path = %s AND f.name = %s"""

#: Parameters: the paths from the root, version or None, collection path, name. What an invocation
#: needs, in one round trip: "C" order puts a path's ancestors before it, the root first.
RESOLVE: Final = f"""
SELECT {_ROW}, f.env,
    ARRAY(SELECT c.env FROM collections c WHERE c.path = ANY(%s::text[]) ORDER BY c.path)
FROM functions f
LEFT JOIN deployments d
    ON d.function_id = f.id AND d.version = COALESCE(%s::bigint, f.latest_version)
WHERE f.collection_path = %s AND f.name = %s"""

#: Parameters: collection path, name, the version before which to begin or None, rows.
VERSIONS: Final = f"""
SELECT {_ROW}
FROM functions f
JOIN deployments d ON d.function_id = f.id
WHERE f.collection_path = %s AND f.name = %s AND d.version < %s
ORDER BY d.version DESC
LIMIT %s"""

#: Parameters: collection path, name.
FUNCTION: Final = f"""
SELECT {_ROW}, f.name, f.collection_path, f.env, f.created_at, f.updated_at
FROM functions f
JOIN deployments d ON d.function_id = f.id AND d.version = f.latest_version
WHERE f.collection_path = %s AND f.name = %s"""

#: Parameters: collection path, the name after which to begin, rows.
FUNCTIONS: Final = f"""
SELECT {_ROW}, f.name, f.collection_path, f.env, f.created_at, f.updated_at
FROM (
    SELECT * FROM functions
    WHERE collection_path = %s AND name > %s
    ORDER BY name
    LIMIT %s
) f
JOIN deployments d ON d.function_id = f.id AND d.version = f.latest_version
ORDER BY f.name"""

#: Parameters: path.
COLLECTION: Final = "SELECT path, env, created_at FROM collections WHERE path = %s"

#: Parameters: the path after which to begin, the subtree's path, its children's LIKE pattern, rows.
COLLECTIONS: Final = """
SELECT path, env, created_at FROM collections
WHERE path > %s AND (path = %s OR path LIKE %s)
ORDER BY path
LIMIT %s"""


def like_prefix(prefix: str) -> str:
    """Return the LIKE pattern of everything that begins with ``prefix``, taken literally."""
    escaped = prefix.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_")
    return escaped + "%"


def env_text(env: dict[str, str]) -> str:
    """Return an env as it is kept: ASCII, the keys in their order."""
    return json.dumps(env, separators=(",", ":"))


def env_of(text: str) -> dict[str, str]:
    """Return an env from what is kept."""
    env: dict[str, str] = json.loads(text)
    return env


def limits_text(limits: Limits) -> str:
    """Return limits as they are kept."""
    return msgspec.json.encode(limits).decode()


def deployment(ref: FunctionRef, row: Sequence[Any]) -> tuple[Deployment, str]:
    """Return a deployment and the key of its object."""
    (
        deployment_id,
        version,
        language,
        sha256,
        size,
        source_url,
        reuse,
        limits,
        created_at,
        current,
        checked,
        restored_from,
        key,
    ) = row[:_WIDTH]
    return (
        Deployment(
            deployment_id=deployment_id,
            function_name=ref.name,
            collection_path=ref.collection_path,
            version=version,
            language=Language(language),
            sha256=sha256,
            size=size,
            source_url=source_url,
            reuse=Reuse(reuse),
            limits=msgspec.json.decode(limits, type=Limits),
            created_at=created_at,
            current=current,
            checked=checked,
            restored_from=restored_from,
        ),
        key,
    )


def function(row: Sequence[Any]) -> Function:
    """Return a function as lists show it."""
    name, path, env, created_at, updated_at = row[_WIDTH:]
    current, _ = deployment(FunctionRef(path, name), row)
    return Function(
        name=name,
        collection_path=path,
        language=current.language,
        current=current,
        env_keys=sorted(env_of(env)),
        created_at=created_at,
        updated_at=updated_at,
    )


def collection(row: Sequence[Any]) -> Collection:
    """Return a registered collection."""
    path, env, created_at = row
    return Collection(path=path, env_keys=sorted(env_of(env)), created_at=created_at)
