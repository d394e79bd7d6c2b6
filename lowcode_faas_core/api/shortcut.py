"""Answers plain invocations before Flask makes a request of them: that costs more than all the rest.

Plain is a ``POST`` to an invoke path with nothing in the query and a Host as everybody sends it. The
view in ``invoke`` remains the reference: what is done here, it does by the same functions in the same
order, and the answers are equal to the byte. Whatever is raised on the way is handed to Flask, which
answers it as if a view had raised it; nothing is done twice then.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from flask import Flask, request_finished, request_started

from lowcode_faas_core.api.answers import STATUS_HEADER, encode
from lowcode_faas_core.api.authorisation import check_reach, check_verb, recognise
from lowcode_faas_core.api.context import RAISED, ApiServices, current_request, request_id_of
from lowcode_faas_core.api.invoke import read_body, run
from lowcode_faas_core.api.origin import check_origin
from lowcode_faas_core.api.queries import named_collection
from lowcode_faas_core.callers import Verb
from lowcode_faas_core.lanes import LANES, elsewhere, lane
from lowcode_faas_core.model import FunctionRef
from lowcode_faas_core.names import NAME

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

__all__ = ["ShortcutFlask", "whole"]

#: As the routes have it: ``functions`` and ``env`` end a collection path.
_SEGMENT: Final = rf"(?!(?:functions|env)/){NAME}"
_path = re.compile(
    rf"/(?:collections/({_SEGMENT}(?:/{_SEGMENT})*)/)?functions/({NAME})/invoke", re.ASCII
).fullmatch
_NAMED: Final = "lowcode_faas.named"
_LABEL: Final = "[A-Za-z0-9_-]{1,63}"
#: Any other Host is Werkzeug's to judge, and a long or odd one refused.
_host = re.compile(rf"{_LABEL}(?:\.{_LABEL}){{0,10}}(?::[0-9]{{1,5}})?", re.ASCII).fullmatch


class ShortcutFlask(Flask):
    """A Flask application whose plain invocations do not go through Flask."""

    def __init__(self, own: ApiServices, *, shortcut: bool = True) -> None:
        """Make the application; without ``shortcut`` its views answer everything."""
        super().__init__("lowcode_faas_core", static_folder=None, template_folder=None)
        self._own = own
        self._wanted = shortcut
        self._sealed: tuple[int, ...] = ()
        self.before_request(_raise_again)
        self.extensions[LANES] = self.takes

    def seal(self) -> None:
        """Remember what the API consists of, before plugins add to it."""
        self._sealed = self._parts()

    def wsgi_app(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a plain invocation here, everything else as Flask does."""
        named = environ.get(_NAMED) or _plain(environ)
        if named is None or not self._open:
            return whole(super().wsgi_app, environ, start_response)
        try:
            headers, body = self._invoke(environ, *named)
        except Exception as error:
            environ[RAISED] = error
            return super().wsgi_app(environ, start_response)
        start_response("200 OK", headers)
        return (body,)

    def takes(self, environ: WSGIEnvironment) -> bool:
        """Tell whether a request is answered without Flask, unless something is wrong with it.

        What it names is noted in the environment, for whoever uses that again with another body.
        """
        environ[_NAMED] = named = _plain(environ)
        return self._open and named is not None

    def _invoke(
        self, environ: dict[str, Any], in_path: str | None, name: str
    ) -> tuple[list[tuple[str, str]], bytes]:
        own = self._own
        check_origin(environ, loopback_only=own.authentication.loopback_only)
        caller = recognise(own.authentication, environ)
        check_verb(caller, Verb.INVOKE)
        body = read_body(environ, own.limits)
        collection = named_collection(in_path, {}, body.collection_path)
        check_reach(caller, collection)
        result = run(own, environ, body, FunctionRef(collection, name), {})
        answer = encode(result)
        headers = [
            (STATUS_HEADER, str(result.status)),
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(answer))),
            ("X-Request-Id", request_id_of(environ)),
        ]
        return headers, answer

    @cached_property
    def _open(self) -> bool:
        """Whether nobody wants to see every request: a plugin's hook, or a listener to signals."""
        heard = request_started.receivers or request_finished.receivers
        return self._wanted and not heard and self._parts() == self._sealed

    def _error_handlers(self) -> list[object]:
        by_code = (codes for each in self.error_handler_spec.values() for codes in each.values())
        return [handler for found in by_code for handler in found.values()]

    def _parts(self) -> tuple[int, ...]:
        """Return how many hooks there are of each kind, and the views of invocations."""
        hooks = (
            self.before_request_funcs,
            self.after_request_funcs,
            self.teardown_request_funcs,
            self.teardown_appcontext_funcs and {None: self.teardown_appcontext_funcs},
            self.url_value_preprocessors,
            {None: self._error_handlers()},
        )
        counts = (sum(map(len, kind.values())) if kind else 0 for kind in hooks)
        views = (id(view) for rule, view in self.view_functions.items() if rule.endswith(".invoke"))
        return (*counts, *views)


def whole(
    application: WSGIApplication, environ: WSGIEnvironment, start_response: StartResponse
) -> Iterable[bytes]:
    """Have an application answer that may wait for anything; from a lane all of it in a thread."""
    if lane() is None:
        return application(environ, start_response)

    def answer() -> list[bytes]:
        parts = application(environ, start_response)
        try:
            return [b"".join(parts)]
        finally:
            close = getattr(parts, "close", None)
            if close is not None:
                close()

    return elsewhere(answer)


def _plain(environ: dict[str, Any]) -> tuple[str | None, str] | None:
    """Return collection and function of a plain invocation as its path names them."""
    if environ["REQUEST_METHOD"] != "POST" or environ.get("QUERY_STRING"):
        return None
    found = _path(environ.get("PATH_INFO", ""))
    if found is None or _host(environ.get("HTTP_HOST", "")) is None:
        return None
    return found[1], found[2]


def _raise_again() -> None:
    """Have Flask answer what the shortcut met; the first of the hooks before every view."""
    error: Exception | None = current_request().environ.get(RAISED)
    if error is not None:
        raise error
