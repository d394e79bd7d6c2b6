"""Elasticsearch and OpenSearch: the ``query_string`` syntax of Lucene.

Inside double quotes only the quote and the backslash mean anything, wildcards and regular
expressions do not exist. Fields are matched exactly where they are mapped as ``keyword``.
"""

from __future__ import annotations

from lowcode_faas_core.interfaces.log_dialect import LogDialect, LogFilter

__all__ = ["ElasticsearchQueryString"]


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


class ElasticsearchQueryString(LogDialect):
    """Joins one clause a field by ``AND``; times are a range over ``ts``."""

    name = "elasticsearch_query_string"

    def query(self, wanted: LogFilter) -> str:
        """Write it."""
        clauses = [f"{field}:{_quoted(value)}" for field, value in wanted.terms()]
        if wanted.since is not None or wanted.until is not None:
            since = "*" if wanted.since is None else _quoted(wanted.since)
            until = "*]" if wanted.until is None else f"{_quoted(wanted.until)}}}"
            clauses.append(f"ts:[{since} TO {until}")
        return " AND ".join(clauses) or "execution_id:*"
