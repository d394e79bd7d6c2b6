"""Pages of sorted keys, and the opaque cursors that lead from one to the next."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable

from lowcode_faas_core.errors import InvalidValue

__all__ = ["decode_cursor", "encode_cursor", "page_of"]


def encode_cursor(key: str) -> str:
    """Return the cursor of the page that begins after ``key``."""
    return base64.urlsafe_b64encode(key.encode()).decode("ascii").rstrip("=")


def decode_cursor(cursor: str) -> str:
    """Return the key a cursor stands for, or raise :class:`InvalidValue`.

    Only what :func:`encode_cursor` makes is accepted: base64 in Python ignores foreign characters
    and leftover bits, and two spellings of one cursor would hide a caller's mistake. No name holds
    a NUL, and a database may not even take one to compare with.
    """
    try:
        key = base64.urlsafe_b64decode(cursor.encode("ascii") + b"=" * (-len(cursor) % 4)).decode()
    except (binascii.Error, UnicodeError):
        key = ""
    if not key or "\0" in key or encode_cursor(key) != cursor:
        raise InvalidValue("the cursor is not one a list has answered", "cursor", where="query")
    return key


def page_of(
    keys: Iterable[str], limit: int, cursor: str | None = None
) -> tuple[list[str], str | None]:
    """Return at most ``limit`` keys after ``cursor`` in code-point order, and the next cursor.

    A cursor names the last key of its page, not a position, so that keys added or removed
    meanwhile make no other key appear twice or go missing.
    """
    after = decode_cursor(cursor) if cursor is not None else ""
    rest = sorted(key for key in keys if key > after)
    if len(rest) <= limit:
        return rest, None
    page = rest[:limit]
    return page, encode_cursor(page[-1])
