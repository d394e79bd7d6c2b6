"""Asks every request who calls, and holds it to what its route declares.

Views declare their scope with ``@requires`` or ``@public``; a route that declares none is the
administrators'. The verb is checked before the view, the collection as soon as the view knows which
one is meant, which may be in the body: ``collection_of`` calls ``enter``. An answer of a view that
never did is held back, so that a route cannot forget it.
"""

from __future__ import annotations

import logging

from flask import Response, current_app

from lowcode_faas_core.api.context import current_request, services
from lowcode_faas_core.api.problems import problem
from lowcode_faas_core.callers import UNDECLARED, scope_of
from lowcode_faas_core.errors import FaasError, Forbidden

__all__ = ["authorise", "enter", "hold_back_unchecked", "visible"]

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
    shown = request.environ.get("HTTP_AUTHORIZATION", "")
    caller = request.caller = services().authentication.authenticate(shown)
    if not caller.holds(scope.verb):
        held = ", ".join(sorted(caller.verbs)) or "none"
        raise Forbidden(f"this needs the verb {scope.verb}; the caller has {held}")
    if scope.whole_tree:
        enter("")


def enter(collection: str) -> str:
    """Return the collection that the request names, if it is the caller's.

    :raises Forbidden: it is not in the caller's subtree.
    """
    request = current_request()
    if not request.caller.reaches(collection):
        named = f"names {collection}" if collection else "means the root, or the whole tree"
        raise Forbidden(
            f"the caller reaches {request.caller.collection} and what lies below it; this {named}"
        )
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
