"""What the service is measured against: a bare Flask application that parses JSON and answers it."""

from __future__ import annotations

from typing import Any

from flask import Flask, abort, request

__all__ = ["app"]

app = Flask(__name__)


@app.post("/echo")
def echo() -> dict[str, Any]:
    """Answer the object that was sent as ``input``."""
    body = request.get_json()
    given = body.get("input")
    if not isinstance(given, dict):
        abort(422)
    return {"output": given}
