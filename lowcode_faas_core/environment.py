"""The env of an invocation: merged along the collection path, and explained."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

import msgspec

from lowcode_faas_core.model import EnvLevel

__all__ = ["MASK", "EnvOrigin", "Explanation", "explain", "is_secret", "merge"]

#: What stands in place of a secret's value; its length says nothing about the value.
MASK = "****"

#: Key parts that mark a value nobody should read over a shoulder. Rather one too many: the plain
#: values are behind the env routes.
_secret = re.compile(
    r"PASSWORD|PASSWD|PASSPHRASE|PWD|SECRET|TOKEN|KEY|CREDENTIAL|AUTH|COOKIE|DSN|SALT|PRIVATE"
    r"|SIGNATURE|CERT|WEBHOOK|CONNECTION_?STRING|(?:DATABASE|REDIS|MONGO\w*|POSTGRES\w*|AMQP)_URL",
    re.ASCII | re.IGNORECASE,
).search
#: ``scheme://user:password@…``, whatever the key is called.
_credentials_in_url = re.compile(r"://[^/@\s:]*:[^/@\s]+@").search


class EnvOrigin(msgspec.Struct, frozen=True):
    """A level that sets a key; ``path`` names the collection or function."""

    level: str
    path: str


class Explanation(msgspec.Struct, frozen=True):
    """Where one key's value comes from; ``hides`` lists the levels it replaces, nearest first."""

    value: str
    masked: bool
    level: str
    path: str
    hides: tuple[EnvOrigin, ...]


def merge(levels: Iterable[EnvLevel], request_env: Mapping[str, str]) -> dict[str, str]:
    """Return the env of one invocation: root first, the request's own last; the last one wins.

    An empty value is a value: nothing removes a key that an outer level set.
    """
    merged: dict[str, str] = {}
    for level in levels:
        merged.update(level.env)
    merged.update(request_env)
    return merged


def explain(
    levels: Iterable[EnvLevel], reaches: Callable[[str], bool] = lambda _: True
) -> dict[str, Explanation]:
    """Return, for each key of :func:`merge` in order of key, its value and its origin.

    Values of a level whose path the reader does not reach are masked, like secrets.
    """
    origins: dict[str, list[EnvLevel]] = {}
    for level in levels:
        for key in level.env:
            origins.setdefault(key, []).insert(0, level)
    return {key: _explain(key, origins[key], reaches) for key in sorted(origins)}


def is_secret(key: str, value: str) -> bool:
    """Tell whether a value should be masked where it is shown beside others."""
    return bool(_secret(key) or _credentials_in_url(value))


def _explain(
    key: str, nearest_first: list[EnvLevel], reaches: Callable[[str], bool]
) -> Explanation:
    winner, *hidden = nearest_first
    value = winner.env[key]
    masked = is_secret(key, value) or not reaches(winner.path)
    return Explanation(
        MASK if masked else value,
        masked,
        winner.level,
        winner.path,
        tuple(EnvOrigin(level.level, level.path) for level in hidden),
    )
