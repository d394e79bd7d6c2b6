"""The page of docs/ on the API, made from openapi.json."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

__all__ = ["api_page"]

NESTED = "/collections/{collection_path}/functions"
METHODS = ("get", "post", "put", "delete")

INTRODUCTION = """\
# API

This page is generated from `lowcode_faas_core/openapi.json` by `make docs`. A running service gives
the same description, with the operator's own bounds, at `GET /openapi.json`, and for people at `GET /docs`.

{description}

Every path that begins with `/functions` also exists below a collection:
`/collections/org/team/functions/…`. Elsewhere `?collection_path=org%2Fteam` says the same. {token}
"""


def _resolved(document: dict[str, Any], node: dict[str, Any]) -> dict[str, Any]:
    """Follow a reference."""
    while "$ref" in node:
        found: Any = document
        for part in node["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        node = found
    return node


def _cell(text: str) -> str:
    """Return text that a cell of a table can hold."""
    return re.sub(r"\s+", " ", text).replace("|", r"\|").strip()


class _Page:
    def __init__(self, document: dict[str, Any]) -> None:
        self._document = document

    def text(self) -> Iterator[str]:
        info, components = self._document["info"], self._document["components"]
        token = components["securitySchemes"]["token"]["description"]
        yield INTRODUCTION.format(description=info["description"], token=token)
        for tag in self._document["tags"]:
            yield f"## {tag['name'].capitalize()}\n"
            for path, item in self._document["paths"].items():
                if path.startswith(NESTED):
                    continue
                for method in METHODS:
                    if method in item and tag["name"] in item[method]["tags"]:
                        yield from self._operation(method, path, item, item[method])
        yield "## Shapes\n"
        for name, schema in components["schemas"].items():
            yield from self._shape(name, schema)
        yield from self._problems()

    def _operation(
        self, method: str, path: str, item: dict[str, Any], operation: dict[str, Any]
    ) -> Iterator[str]:
        yield f"### {method.upper()} {path}\n"
        verbs = [verb for each in operation["security"] for verb in each.get("token", ())]
        asked = f"Asks for `{'`, `'.join(verbs)}`." if verbs else "Asks nobody who they are."
        described = operation.get("description", "")
        yield " ".join(filter(None, (f"{operation['summary']}.", described, asked))) + "\n"
        parameters = [
            _resolved(self._document, each)
            for each in (*item.get("parameters", ()), *operation.get("parameters", ()))
        ]
        rows = [
            f"| `{each['name']}` | {self._kind(each['schema'])} "
            f"| {_cell(each.get('description', ''))} |"
            for each in parameters
            if each["in"] == "query"
        ]
        if rows:
            yield "\n".join(["| query | type | |", "|---|---|---|", *rows]) + "\n"
        for content in operation.get("requestBody", {}).get("content", {}).values():
            yield f"Body: {self._kind(content['schema'])}.\n"
        yield "\n".join(self._answers(operation)) + "\n"

    def _answers(self, operation: dict[str, Any]) -> Iterator[str]:
        others = []
        for status, given in operation["responses"].items():
            answer = _resolved(self._document, given)
            if status < "400":
                kinds = [self._kind(each["schema"]) for each in answer.get("content", {}).values()]
                shape = f" {' or '.join(kinds)}" if kinds else ""
                yield f"- **{status}**{shape}: {_cell(answer['description'])}"
            else:
                others.append(status)
        if others:
            yield f"- [Problems](#problems): {', '.join(others)}"

    def _kind(self, schema: dict[str, Any]) -> str:
        """Return the type of a value, with a link where it has a name."""
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            return f"[{name}](#{name.lower()})"
        if "oneOf" in schema or "anyOf" in schema:
            kinds = [self._kind(each) for each in schema.get("oneOf", schema.get("anyOf", ()))]
            return " or ".join(dict.fromkeys(kinds))
        if "enum" in schema:
            return ", ".join(f"`{each}`" for each in schema["enum"])
        given = schema.get("type", "any value")
        kinds = [given] if isinstance(given, str) else list(given)
        if "array" in kinds and "items" in schema:
            kinds[kinds.index("array")] = f"array of {self._kind(schema['items'])}"
        return " or ".join(kinds)

    def _shape(self, name: str, schema: dict[str, Any]) -> Iterator[str]:
        yield f"### {name}\n"
        if "properties" not in schema:
            yield f"{self._kind(schema)}. {schema.get('description', '')}".strip() + "\n"
            return
        if described := schema.get("description"):
            yield f"{described}\n"
        needed = schema.get("required", ())
        rows = [
            f"| `{key}`{'' if key in needed else ', optional'} | {self._kind(value)} "
            f"| {_cell(_resolved(self._document, value).get('description', ''))} |"
            for key, value in schema["properties"].items()
        ]
        yield "\n".join(["| member | type | |", "|---|---|---|", *rows]) + "\n"

    def _problems(self) -> Iterator[str]:
        """List every code, with the status it comes with."""
        yield "## Problems\n"
        yield (
            "`application/problem+json` as in RFC 9457, a [Problem](#problem). `code` is what programs "
            "look at; where an invocation was involved `outcome` says whether user code may have run.\n"
        )
        statuses: dict[str, set[str]] = {}
        for item in self._document["paths"].values():
            for method in METHODS:
                for status, given in item.get(method, {}).get("responses", {}).items():
                    name = given.get("$ref", "").rpartition("/")[2]
                    statuses.setdefault(name, set()).add(status)
        rows = []
        for name, answer in self._document["components"]["responses"].items():
            codes = [
                f"`{code}`"
                for content in answer.get("content", {}).values()
                for code in content.get("examples", {})
            ]
            status = ", ".join(sorted(statuses.get(name, {"405"})))
            rows.append(f"| {status} | {', '.join(codes)} | {_cell(answer['description'])} |")
        yield "\n".join(["| status | codes | |", "|---|---|---|", *sorted(rows)]) + "\n"


def api_page(description: Path) -> str:
    """Return the page for a description."""
    return "\n".join(_Page(json.loads(description.read_text())).text())
