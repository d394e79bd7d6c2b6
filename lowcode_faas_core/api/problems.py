"""The one place that turns errors into RFC 9457 ``application/problem+json`` answers."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import msgspec
from flask import Flask, Response
from werkzeug.exceptions import HTTPException, MethodNotAllowed

from lowcode_faas_core.api.context import current_request
from lowcode_faas_core.api.routing import explain_missing
from lowcode_faas_core.errors import (
    FaasError,
    InvalidValue,
    MalformedRequest,
    PayloadTooLarge,
    RequestError,
    SourceInvalid,
    Unauthenticated,
)

__all__ = ["TYPE_PREFIX", "install", "problem"]

#: A problem's ``type`` is this and its code.
TYPE_PREFIX = "urn:lowcode-faas:problem:"
#: Views of these names, the worker's too, must say in their problems whether user code was started.
_INVOKING = ("invoke", "replay")

_log = logging.getLogger("lowcode_faas_core.api")


def install(app: Flask) -> None:
    """Answer every error of this application, foreseen or not, as a problem."""
    app.register_error_handler(FaasError, _faas_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unforeseen)


def problem(
    status: int,
    code: str,
    title: str,
    detail: str,
    *,
    members: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """Return one problem; ``members`` are extension members beside the usual ones."""
    document = {
        "type": TYPE_PREFIX + code,
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": current_request().request_id,
        **(members or {}),
    }
    return Response(
        msgspec.json.encode(document), status, headers, mimetype="application/problem+json"
    )


def _faas_error(error: FaasError) -> Response:
    members: dict[str, Any] = {}
    headers: dict[str, str] = {}
    outcome = error.outcome
    if outcome is None and _invoking():
        outcome = "not_executed" if isinstance(error, RequestError) else "unknown"
    if outcome is not None:
        members["outcome"] = outcome
    if error.phase is not None:
        members["phase"] = error.phase
    if isinstance(error, InvalidValue):
        pointer = error.pointer
        members["pointer"] = f"/{pointer}" if pointer and pointer[0] != "/" else pointer
        members["where"] = error.where
    if isinstance(error, SourceInvalid):
        place = {"line": error.line, "column": error.column}
        members |= {name: number for name, number in place.items() if number is not None}
    if error.status in (429, 503) and error.retry_after_s is not None:
        headers["Retry-After"] = str(error.retry_after_s)
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    detail = f"{error.detail}; {error.remedy}" if error.remedy else error.detail
    return problem(error.status, error.code, error.title, detail, members=members, headers=headers)


def _http_error(error: HTTPException) -> Response:
    """Answer what Flask or Werkzeug refused before a view of ours was asked."""
    if error.code == 404:
        environ = current_request().environ
        raw = environ.get("RAW_URI") or environ.get("REQUEST_URI") or ""
        return _faas_error(explain_missing(current_request().path, raw))
    if isinstance(error, MethodNotAllowed):
        allowed = ", ".join(sorted(error.valid_methods or ()))
        detail = f"{current_request().method} is not offered here; {allowed} is"
        return problem(
            405, "method_not_allowed", "Method not allowed", detail, headers={"Allow": allowed}
        )
    if error.code == 413:
        return _faas_error(PayloadTooLarge())
    if error.code is not None and 400 <= error.code < 500:
        return _faas_error(MalformedRequest(error.description or ""))
    return _unforeseen(error)


def _unforeseen(error: Exception) -> Response:
    """Answer a fault of ours without its text, which may hold what the caller must not see."""
    request_id = current_request().request_id
    _log.error("request %s ended in an unforeseen error", request_id, exc_info=error)
    members = {"outcome": "unknown"} if _invoking() else None
    detail = "An unforeseen error; the service's own log has it under this request id."
    return problem(500, FaasError.code, FaasError.title, detail, members=members)


def _invoking() -> bool:
    return (current_request().endpoint or "").rpartition(".")[2] in _INVOKING
