"""Requests to the public API: JSON in, JSON out, and every refusal with the words it came with."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, urlencode

import urllib3

from lowcode_faas_core.client.address import Address

__all__ = ["Answer", "Connection", "Refused", "Unreachable", "segment"]

#: Longest wait for a connection, in seconds.
CONNECT_S: Final = 5.0
#: Longest silence of a service that has the request, in seconds: above the longest deadline.
READ_S: Final = 1000.0
#: Longest silence of a stream, in seconds: a service says something every ten.
STREAM_S: Final = 60.0
#: Connections that are kept; more are made where more are needed.
KEPT: Final = 16
#: Items asked for at a time where all pages are read.
PAGE: Final = 100


class Unreachable(Exception):
    """Raised when no answer came; whether a request was carried out is unknown then."""


class Refused(Exception):
    """Raised for an answer of 400 and above: a problem document, or what a proxy said instead."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.problem = problem
        super().__init__(self.sentence())

    def sentence(self) -> str:
        """Return what is wrong, and with which field, as the service said it."""
        problem = self.problem
        said = str(problem.get("detail") or problem.get("title") or f"HTTP {self.status}")
        pointer = str(problem.get("pointer") or "")
        lines = [f"{pointer}: {said}" if pointer and pointer not in said else said]
        if problem.get("outcome") == "unknown":
            lines.append("it may have run: nothing says that it did not")
        return "\n".join(lines)


@dataclass(frozen=True)
class Answer:
    """One answer below 400; ``document`` is ``None`` without a body."""

    status: int
    document: Any
    headers: Mapping[str, str] = field(default_factory=dict)


def segment(text: str) -> str:
    """Return text as one segment of a path."""
    return quote(text, safe="")


class Connection:
    """Calls one service. A context: leaving it closes what is open."""

    def __init__(self, address: Address, patience_s: float | None = None) -> None:
        """Call nobody yet.

        :param patience_s: the longest wait for anything, where nobody would wait longer.
        """
        self._address = address
        self._patience_s = patience_s
        self._http = urllib3.PoolManager(maxsize=KEPT, retries=False)

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.clear()

    def request(
        self,
        method: str,
        path: str,
        body: object = None,
        query: Mapping[str, object] | None = None,
    ) -> Answer:
        """Send one request; nothing is ever sent twice.

        :param query: parameters; those that are ``None`` are left out.
        :raises Refused: answered, and not with what was asked for.
        :raises Unreachable: not answered.
        """
        response = self.open(method, path, body, query)
        return Answer(
            response.status, _document(response.data) if response.data else None, response.headers
        )

    def text(self, path: str, query: Mapping[str, object] | None = None) -> str:
        """Return the body of a GET as text; raises as :meth:`request` does."""
        return self.open("GET", path, None, query).data.decode()

    def open(
        self,
        method: str,
        path: str,
        body: object = None,
        query: Mapping[str, object] | None = None,
        *,
        stream: bool = False,
        after: int = 0,
    ) -> urllib3.BaseHTTPResponse:
        """Return the response itself; with ``stream`` its body is not read yet.

        :param after: the last event of a stream that was read before.
        """
        url = self._address.url + path
        if asked := {name: value for name, value in (query or {}).items() if value is not None}:
            url += f"?{urlencode(asked)}"
        headers = {"Accept": "application/json"}
        if self._address.token:
            headers["Authorization"] = f"Bearer {self._address.token}"
        if body is not None:
            headers["Content-Type"] = "application/json"
        if after:
            headers["Last-Event-ID"] = str(after)
        try:
            response = self._http.request(
                method,
                url,
                body=None if body is None else json.dumps(body).encode(),
                headers=headers,
                redirect=False,
                preload_content=not stream,
                timeout=urllib3.Timeout(
                    connect=self._patience_s or CONNECT_S,
                    read=self._patience_s or (STREAM_S if stream else READ_S),
                ),
            )
        except urllib3.exceptions.HTTPError as error:
            raise Unreachable(f"{self._address.url} does not answer: {_reason(error)}") from error
        if response.status >= 300:
            raise Refused(response.status, _problem(response))
        return response

    def pages(self, path: str, query: Mapping[str, object] | None = None) -> Iterator[Any]:
        """Yield the items of every page of a list."""
        cursor: str | None = None
        while True:
            asked = {"limit": PAGE, **(query or {}), "cursor": cursor}
            document = self.request("GET", path, query=asked).document
            yield from document["items"]
            cursor = document.get("next_cursor")
            if cursor is None:
                return


def _document(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise Unreachable(f"what answered is not this service: {data[:80]!r}") from error


def _problem(response: urllib3.BaseHTTPResponse) -> dict[str, Any]:
    try:
        found = json.loads(response.data)
    except ValueError:
        found = None
    if isinstance(found, dict):
        return found
    return {"detail": f"HTTP {response.status} from something that is not this service"}


def _reason(error: BaseException) -> str:
    """Return the innermost reason: urllib3 wraps it in reprs of its own objects."""
    reason = getattr(error, "reason", None)
    found = reason if isinstance(reason, BaseException) else error
    cause = found.__cause__ or found.__context__
    return str(cause if isinstance(cause, OSError) and str(cause) else found)
