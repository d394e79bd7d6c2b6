"""Who calls, what a caller may do, and what a route asks for. Knows nothing of HTTP or Flask."""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

__all__ = [
    "ANYONE",
    "PUBLIC",
    "UNDECLARED",
    "Caller",
    "Scope",
    "Verb",
    "public",
    "requires",
    "scope_of",
]

V = TypeVar("V", bound=Callable[..., Any])

_ATTRIBUTE = "lowcode_faas_scope"


class Verb(enum.StrEnum):
    """What a caller may be allowed to do; none includes another, except ``admin``: all of them."""

    READ = "read"
    DEPLOY = "deploy"
    INVOKE = "invoke"
    ADMIN = "admin"


@dataclass(frozen=True)
class Caller:
    """Somebody who was recognised: some verbs, on one collection and all that lies below it.

    ``id`` is stable and unique, ``name`` is for people; neither is a secret. ``collection`` is
    ``""`` for the whole tree.
    """

    id: str
    name: str
    verbs: frozenset[Verb]
    collection: str = ""

    def holds(self, verb: Verb) -> bool:
        """Tell whether ``verb`` is allowed anywhere."""
        return verb in self.verbs or Verb.ADMIN in self.verbs

    def reaches(self, collection: str) -> bool:
        """Tell whether ``collection`` lies in the subtree: ``org/teamX`` is not below ``org/team``."""
        own = self.collection
        return not own or collection == own or collection.startswith(f"{own}/")

    def may(self, verb: Verb, collection: str) -> bool:
        """Tell whether ``verb`` is allowed on ``collection``."""
        return self.holds(verb) and self.reaches(collection)


#: Who calls where nobody is asked who they are.
ANYONE: Final = Caller("anyone", "anyone", frozenset((Verb.ADMIN,)))


@dataclass(frozen=True)
class Scope:
    """What a route asks for: a verb, on the collection that a request names or on the whole tree.

    Without a verb the route is public.
    """

    verb: Verb | None
    whole_tree: bool = False


PUBLIC: Final = Scope(None)
#: A route that declares nothing, such as one of a plugin that forgot it, is not left open.
UNDECLARED: Final = Scope(Verb.ADMIN, whole_tree=True)


def requires(verb: Verb, *, whole_tree: bool = False) -> Callable[[V], V]:
    """Declare, on a view, what its callers need.

    Unless it is the whole tree, the view must say which collection a request means.
    """
    return lambda view: _declare(view, Scope(verb, whole_tree))


def public(view: V) -> V:
    """Declare that a view answers everybody."""
    return _declare(view, PUBLIC)


def scope_of(view: Callable[..., Any] | None) -> Scope | None:
    """Return what a view declares, ``None`` when that is nothing."""
    found: Scope | None = getattr(view, _ATTRIBUTE, None)
    return found


def _declare(view: V, scope: Scope) -> V:
    setattr(view, _ATTRIBUTE, scope)
    return view
