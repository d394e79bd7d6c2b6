"""Server-sent events, read as they come, and the lines of one execution that come so."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Any, Final

import urllib3

from lowcode_faas_core.client.connection import Connection, Unreachable, segment

__all__ = ["events", "follow_one"]

#: Pause before a stream that ended is asked for again, in seconds.
AGAIN_S: Final = 1.0


def follow_one(api: Connection, execution_id: str) -> Iterator[dict[str, Any] | str]:
    """Yield the lines of an execution as they come, and its status when it ends.

    A stream that ends or breaks before is taken up where it was: a service that is restarted
    sends its followers away.

    :raises Unreachable: nobody answers any more.
    :raises Refused: it is not there, or as many follow as may.
    """
    after = 0
    while True:
        path = f"/executions/{segment(execution_id)}/logs"
        stream = api.open("GET", path, None, {"follow": 1}, stream=True, after=after)
        try:
            for name, data in events(stream):
                document = json.loads(data)
                if name == "end":
                    yield str(document["status"])
                    return
                after = document["seq"]
                yield document
        except Unreachable:
            pass  # whether somebody else answers is found out by asking
        time.sleep(AGAIN_S)


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
