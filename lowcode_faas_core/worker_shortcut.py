"""Runs of a dispatcher answered without Flask, which cost twice what the run itself did.

Only what is all in order takes this way, and only a verdict is answered here: everything else goes
through the application, which judges it as if this were not here.
"""

from __future__ import annotations

import hmac
import io
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

import msgspec
from flask import Flask

from lowcode_faas_core.api.context import RAISED
from lowcode_faas_core.api.shortcut import whole
from lowcode_faas_core.model import RunResult
from lowcode_faas_core.names import is_request_id
from lowcode_faas_core.wire import API_VERSION, VERSION_HEADER, RunRequest

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

__all__ = ["Shortcut"]

_VERSION_KEY: Final = "HTTP_" + VERSION_HEADER.upper().replace("-", "_")

_TAKEN: Final = "lowcode_faas.taken"

_decode = msgspec.json.Decoder(RunRequest).decode
_encode = msgspec.json.Encoder().encode


class Shortcut:
    """Stands before an application's own ``wsgi_app``."""

    def __init__(
        self,
        app: Flask,
        token: str,
        largest: int,
        run: Callable[[RunRequest], RunResult],
    ) -> None:
        """Answer with ``run`` who shows ``token``; bodies above ``largest`` bytes go elsewhere."""
        self._application = app.wsgi_app
        self._shown = f"Bearer {token}".encode()
        self._largest = largest
        self._run = run

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a run, or have the application answer."""
        if _TAKEN not in environ and not self.takes(environ):
            return whole(self._application, environ, start_response)
        length = int(environ["CONTENT_LENGTH"])
        content = environ["wsgi.input"].read(length)
        environ["wsgi.input"] = io.BytesIO(content)
        try:
            request = _decode(content)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return whole(self._application, environ, start_response)
        try:
            result = self._run(request)
        except Exception as error:  # the application has the words for it
            environ[RAISED] = error
            return whole(self._application, environ, start_response)
        answer = _encode(result)
        given = environ.get("HTTP_X_REQUEST_ID", "")
        start_response(
            "200 OK",
            [
                ("Content-Type", "application/json"),
                ("Content-Length", str(len(answer))),
                ("X-Lowcode-Faas-Status", str(result.status)),
                (VERSION_HEADER, str(API_VERSION)),
                ("X-Request-Id", given if given and is_request_id(given) else result.request_id),
            ],
        )
        return (answer,)

    def takes(self, environ: WSGIEnvironment) -> bool:
        """Tell whether it is a run, and all in order as far as its head says.

        What is so is noted in the environment: one that is used again, with another body of a
        length that lanes take, is not looked at again.
        """
        length = environ.get("CONTENT_LENGTH", "")
        taken = (
            environ["PATH_INFO"] == "/v1/run"
            and environ["REQUEST_METHOD"] == "POST"
            and environ.get(_VERSION_KEY) == str(API_VERSION)
            and environ.get("CONTENT_TYPE") == "application/json"
            and "HTTP_CONTENT_ENCODING" not in environ
            and length.isascii()
            and length.isdigit()
            and len(length) < 10
            and int(length) <= self._largest
            and hmac.compare_digest(
                environ.get("HTTP_AUTHORIZATION", "").encode("latin-1", "replace"), self._shown
            )
        )
        if taken:
            environ[_TAKEN] = True
        return taken
