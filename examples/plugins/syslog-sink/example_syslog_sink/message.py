"""Log events in the words of RFC 5424."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator

from lowcode_faas_core.model import LogEvent

__all__ = ["datagrams"]

_SEVERITIES = {"error": 3, "warn": 4, "info": 6, "debug": 7}
#: Characters that a receiver that writes lines would act on, and what marks an escape.
_active = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\\\\]")
_BOM = b"\xef\xbb\xbf"  # the standard's sign that what follows is UTF-8


def datagrams(event: LogEvent, facility: int, max_bytes: int) -> Iterator[bytes]:
    """Return the event as one message, or in numbered parts of at most ``max_bytes`` each."""
    message = _active.sub(_escape, event.message).encode("utf-8", "replace")
    room = max_bytes - len(_header(event, facility, 10**6, 10**6)) - len(_BOM)
    parts = list(_cut(message, max(room, 64)))
    for number, part in enumerate(parts, 1):
        yield _header(event, facility, number, len(parts)) + _BOM + part


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    if match.group() == "\\":
        return "\\\\"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def _cut(message: bytes, room: int) -> Iterator[bytes]:
    at = 0
    while len(message) - at > room:
        end = at + room
        while message[end] & 0xC0 == 0x80:  # within a character
            end -= 1
        yield message[at:end]
        at = end
    yield message[at:]


def _header(event: LogEvent, facility: int, part: int, parts: int) -> bytes:
    priority = facility * 8 + _SEVERITIES.get(event.level, 6)
    # The standard has six digits of a second at most.
    time = f"{event.ts[:26]}Z" if len(event.ts) > 27 else event.ts
    path = event.collection_path
    data = {
        "function": f"{path}/{event.function_name}" if path else event.function_name,
        "version": str(event.deployment_version),
        "deployment_id": event.deployment_id,
        "execution_id": event.execution_id,
        "run_id": event.run_id,
        "stream": event.log_stream,
        "seq": str(event.seq),
    }
    data |= {name: "true" for name in ("late", "truncated") if getattr(event, name)}
    if parts > 1:
        data |= {"part": str(part), "parts": str(parts)}
    pairs = " ".join(f'{name}="{_quoted(value)}"' for name, value in data.items())
    # 32473 is the number that is set aside for examples.
    text = f"<{priority}>1 {time} {_HOST} lowcode-faas - - [event@32473 {pairs}] "
    return text.encode()


def _quoted(value: str) -> str:
    return re.sub(r'(["\\\]])', r"\\\1", value)


_HOST = re.sub(r"[^\x21-\x7e]", "", socket.gethostname())[:255] or "-"
