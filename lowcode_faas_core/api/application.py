"""Builds the Flask application of the public API around the services of one process."""

from __future__ import annotations

from functools import partial

from flask import Flask, Response

from lowcode_faas_core.api import (
    authorisation,
    collections,
    deployments,
    description,
    environments,
    executions,
    functions,
    invoke,
    logquery,
    operations,
    problems,
    statistics,
)
from lowcode_faas_core.api.context import EXTENSION, ApiRequest, ApiServices, current_request
from lowcode_faas_core.api.origin import check_origin
from lowcode_faas_core.api.queries import check_target
from lowcode_faas_core.api.routing import CollectionPathConverter
from lowcode_faas_core.api.shortcut import ShortcutFlask

__all__ = ["create_api"]


def create_api(services: ApiServices, *, shortcut: bool = True) -> Flask:
    """Return a new application; nothing is shared between two of them but their services.

    Without ``shortcut`` it answers plain invocations by their view, as it does all others.
    """
    app = ShortcutFlask(services, shortcut=shortcut)
    app.request_class = ApiRequest
    app.extensions[EXTENSION] = services
    # A redirect would turn a POST into a GET, and //functions into another host's path.
    app.url_map.strict_slashes = True
    app.url_map.merge_slashes = False
    app.url_map.converters["collection"] = CollectionPathConverter
    app.before_request(check_target)
    app.before_request(partial(_check_origin, services))
    app.before_request(authorisation.authorise)
    app.after_request(_name_request)
    app.after_request(authorisation.hold_back_unchecked)
    problems.install(app)
    for module in (
        collections,
        functions,
        deployments,
        environments,
        invoke,
        executions,
        statistics,
        logquery,
        operations,
        description,
    ):
        app.register_blueprint(module.blueprint)
    app.seal()
    return app


def _check_origin(services: ApiServices) -> None:
    loopback_only = services.authentication.loopback_only
    check_origin(current_request().environ, loopback_only=loopback_only)


def _name_request(answer: Response) -> Response:
    request = current_request()
    answer.headers["X-Request-Id"] = request.request_id
    if request.method == "OPTIONS" and not answer.calculate_content_length():
        # Flask's own answer to OPTIONS declares HTML, and holds nothing.
        answer.headers.pop("Content-Type", None)
    return answer
