"""Asks every request who calls, and holds it to what its route declares.

Views declare their scope with ``@requires`` or ``@public``; a route that declares none is the
administrators'. The verb is checked before the view, the collection as soon as the view knows which
one is meant, which may be in the body: ``collection_of`` calls ``enter``. An answer of a view that
never did is held back, so that a route cannot forget it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from flask import Response, current_app

from lowcode_faas_core.api.context import current_request, services
from lowcode_faas_core.api.problems import problem
from lowcode_faas_core.authentication import Authentication
from lowcode_faas_core.callers import UNDECLARED, Caller, Verb, scope_of
from lowcode_faas_core.errors import FaasError, Forbidden

__all__ = [
    "authorise",
    "check_reach",
    "check_verb",
    "enter",
    "hold_back_unchecked",
    "recognise",
    "visible",
]

_log = logging.getLogger("lowcode_faas_core.api")


def authorise() -> None:
    """Find out who calls, and whether they hold the verb of the route. Runs before every view.

    :raises Unauthenticated: the caller is not known.
    :raises Forbidden: the caller may not do this anywhere, or not in the whole tree.
    """
    request = current_request()
    if request.endpoint is None or request.method == "OPTIONS":
        return  # no such route, or Flask's own answer: both say only what /openapi.json says
    scope = scope_of(current_app.view_functions[request.endpoint]) or UNDECLARED
    request.scope = scope
    if scope.verb is None:
        return
    caller = request.caller = recognise(services().authentication, request.environ)
    check_verb(caller, scope.verb)
    if scope.whole_tree:
        enter("")


def recognise(authentication: Authentication, environ: Mapping[str, Any]) -> Caller:
    """Return who calls.

    :raises Unauthenticated: the caller is not known.
    """
    return authentication.authenticate(environ.get("HTTP_AUTHORIZATION", ""))


def check_verb(caller: Caller, verb: Verb) -> None:
    """Raise :class:`Forbidden` unless the caller may do this somewhere."""
    if not caller.holds(verb):
        held = ", ".join(sorted(caller.verbs)) or "none"
        raise Forbidden(f"this needs the verb {verb}; the caller has {held}")


def check_reach(caller: Caller, collection: str) -> None:
    """Raise :class:`Forbidden` unless a collection lies in the caller's subtree."""
    if not caller.reaches(collection):
        named = f"names {collection}" if collection else "means the root, or the whole tree"
        raise Forbidden(
            f"the caller reaches {caller.collection} and what lies below it; this {named}"
        )


def enter(collection: str) -> str:
    """Return the collection that the request names, if it is the caller's.

    :raises Forbidden: it is not in the caller's subtree.
    """
    request = current_request()
    check_reach(request.caller, collection)
    request.entered = True
    return collection


def visible(prefix: str) -> str:
    """Return what of the subtree ``prefix`` the caller sees, for lists: all of it, or the own part.

    :raises Forbidden: the two have nothing in common.
    """
    own = current_request().caller.collection
    if own and (not prefix or own.startswith(f"{prefix}/")):
        prefix = own
    return enter(prefix)


def hold_back_unchecked(answer: Response) -> Response:
    """Replace an answer that was given without asking whether the caller may have it."""
    request = current_request()
    if request.entered or request.scope.verb is None or answer.status_code >= 400:
        return answer
    _log.error("%s %s never says which collection it is about", request.method, request.url_rule)
    return problem(
        500, FaasError.code, FaasError.title, "The route does not say which collection it is about."
    )
