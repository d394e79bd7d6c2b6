"""Server-sent events, read as they come."""

from __future__ import annotations

from collections.abc import Iterator

import urllib3

from lowcode_faas_core.client.connection import Unreachable

__all__ = ["events"]


def events(response: urllib3.BaseHTTPResponse) -> Iterator[tuple[str, str]]:
    """Yield name (``message`` when it has none) and data of each event, in order.

    :raises Unreachable: the stream broke; what was yielded came whole.
    """
    name, data = "message", ""
    for line in _lines(response):
        key, _, value = line.partition(":")
        if key == "event":
            name = value.strip()
        elif key == "data":
            data += value.removeprefix(" ")
        elif not line:
            if data:
                yield name, data
            name, data = "message", ""


def _lines(response: urllib3.BaseHTTPResponse) -> Iterator[str]:
    pending = b""
    try:
        for chunk in response.stream(None):
            *whole, pending = (pending + chunk).split(b"\n")
            yield from (line.decode().rstrip("\r") for line in whole)
    except urllib3.exceptions.HTTPError as error:
        raise Unreachable(f"the stream broke: {error}") from error
