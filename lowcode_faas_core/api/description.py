"""``/openapi.json`` and ``/docs``: what this API is, with the bounds this operator has set.

The page is made here, once a process, and needs nothing: no script, no font, no request anywhere.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from importlib import resources
from typing import Any, NamedTuple

import jinja2
import msgspec
from flask import Blueprint, Response, current_app
from markupsafe import Markup, escape

from lowcode_faas_core.api.context import services
from lowcode_faas_core.callers import public
from lowcode_faas_core.limits import OperatorLimits

__all__ = ["blueprint"]

blueprint = Blueprint("description", __name__)

#: Key of ``app.extensions`` under which what was made is kept.
_MADE = "lowcode_faas_description"
_making = threading.Lock()


class _Made(NamedTuple):
    document: bytes
    page: str
    policy: str


@blueprint.get("/openapi.json")
@public
def get_openapi() -> Response:
    """Answer the description of this API."""
    return Response(_made().document, mimetype="application/json")


@blueprint.get("/docs")
@public
def get_docs() -> Response:
    """Answer the same for people."""
    made = _made()
    headers = {"Content-Security-Policy": made.policy, "X-Content-Type-Options": "nosniff"}
    return Response(made.page, headers=headers, content_type="text/html; charset=utf-8")


def _made() -> _Made:
    kept: dict[str, Any] = current_app.extensions
    with _making:
        if _MADE not in kept:
            kept[_MADE] = _make(services().limits)
        found: _Made = kept[_MADE]
        return found


def _make(limits: OperatorLimits) -> _Made:
    folder = resources.files("lowcode_faas_core")
    document = json.loads(folder.joinpath("openapi.json").read_text())
    _bound(document["components"]["schemas"], limits)
    style = folder.joinpath("api", "docs.css").read_text()
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters["pretty"] = lambda value: json.dumps(value, indent=2, ensure_ascii=False)
    environment.filters["kind"] = _kind
    environment.filters["prose"] = _prose
    environment.globals["resolve"] = lambda node: _resolve(document, node)
    template = environment.from_string(folder.joinpath("api", "docs.html").read_text())
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return _Made(
        document=msgspec.json.encode(document),
        page=template.render(api=document, style=style),
        policy=(
            f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; "
            "form-action 'none'; frame-ancestors 'none'"
        ),
    )


def _bound(schemas: dict[str, Any], limits: OperatorLimits) -> None:
    """Put the operator's bounds in place of the default ones."""
    for key, bound in limits.bounds.items():
        schemas["Limits"]["properties"][key] |= {"minimum": bound.minimum, "maximum": bound.maximum}
    timeout = schemas["InvokeBody"]["properties"]["timeout_ms"]
    timeout["maximum"] = limits.settings.max_timeout_ms


def _resolve(document: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in node:
        target: Any = document
        for key in node["$ref"].removeprefix("#/").split("/"):
            target = target[key]
        node = target
    return node


def _prose(text: str) -> Markup:
    """Return a description with what stands in backticks as code."""
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if number % 2 else escape(part)
        for number, part in enumerate(text.split("`"))
    )


def _kind(schema: dict[str, Any]) -> str:
    """Return a schema in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    for several in ("oneOf", "anyOf"):
        if several in schema:
            return " or ".join(_kind(each) for each in schema[several])
    if "enum" in schema:
        return " or ".join(map(repr, schema["enum"]))
    kind = schema.get("type", "anything")
    words = " or ".join(kind) if isinstance(kind, list) else str(kind)
    if "items" in schema:
        words += f" of {_kind(schema['items'])}"
    low, high = schema.get("minimum"), schema.get("maximum")
    if low is not None or high is not None:
        words += f", {'' if low is None else low} … {'' if high is None else high}"
    return words
