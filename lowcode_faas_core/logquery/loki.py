"""LogQL twice: over parsed JSON, and over the bytes of the line, which costs Loki much less.

LogQL has no time in its text. Its strings are Go's, whose escapes are a superset of JSON's; values
are compared by ``=`` and ``|=`` only, never as patterns.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from lowcode_faas_core.interfaces.log_dialect import LogDialect, LogFilter

__all__ = ["LokiJson", "LokiSubstring"]


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


class _Loki(LogDialect):
    def __init__(self, labels: Mapping[str, str]) -> None:
        """Select the streams that have these labels; Loki demands at least one."""
        matchers = ", ".join(f"{name}={_quoted(value)}" for name, value in labels.items())
        self._selector = f"{{{matchers}}}"


class LokiJson(_Loki):
    """Parses each line as JSON and compares fields."""

    name = "loki_logql_json"

    def query(self, wanted: LogFilter) -> str:
        """Write it; lines that are not JSON (the service's own log) are left out."""
        stages = [self._selector, "json", '__error__=""']
        stages += [f"{field}={_quoted(value)}" for field, value in wanted.terms()]
        return " | ".join(stages)


class LokiSubstring(_Loki):
    """Looks for each member of the JSON object as text.

    A member cannot be forged from within a message: there every quote stands behind a backslash.
    """

    name = "loki_logql_substr"

    def query(self, wanted: LogFilter) -> str:
        """Write it; a filter without ids finds every line that is an event."""
        members = [f'"{field}":{_quoted(value)}' for field, value in wanted.terms()]
        return " ".join(
            [self._selector, *(f"|= {_quoted(m)}" for m in members or ['"execution_id":"'])]
        )
