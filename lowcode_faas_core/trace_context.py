"""What of a caller's W3C trace context is handed on to the handler and to log events.

This service makes no spans of its own: a legal ``traceparent`` goes through with the caller's span
as the parent, and without one the handler's own tracer begins a trace.
"""

from __future__ import annotations

import re

__all__ = ["traceparent"]

#: Version, trace id, parent id, flags. Version ff and ids of zeros only are illegal.
_parts = re.compile(
    r"(?!ff)([0-9a-f]{2})-((?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16})-([0-9a-f]{2})"
).fullmatch
#: Characters of these; what follows belongs to versions later than ours.
_LENGTH = 55
#: The one flag that version 00 can pass on for a version it does not know.
_SAMPLED = 1


def traceparent(given: str | None) -> str | None:
    """Return the header as version 00; ``None`` for an illegal one, as if there had been none.

    A broken trace must not fail an invocation, so nothing is ever refused here. The header sent
    twice arrives joined by a comma, and is illegal.
    """
    if not given:
        return None
    parts = _parts(given[:_LENGTH])
    rest = given[_LENGTH:]
    if parts is None or (rest and not rest.startswith("-")):
        return None
    version, ids, flags = parts.groups()
    if version == "00":
        return None if rest else given
    return f"00-{ids}-{int(flags, 16) & _SAMPLED:02x}"
