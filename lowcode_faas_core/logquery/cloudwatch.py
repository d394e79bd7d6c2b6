"""Amazon CloudWatch Logs Insights, whose queries have no time in their text."""

from __future__ import annotations

from lowcode_faas_core.interfaces.log_dialect import LogDialect, LogFilter

__all__ = ["CloudwatchLogsInsights"]

#: The most Insights returns.
LIMIT = 10_000


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


class CloudwatchLogsInsights(LogDialect):
    """Filters by the fields that Insights discovers in JSON lines; oldest first."""

    name = "aws_cloudwatch_logs_insights"

    def query(self, wanted: LogFilter) -> str:
        """Write it."""
        terms = [f"{field} = {_quoted(value)}" for field, value in wanted.terms()]
        condition = " and ".join(terms) or "ispresent(execution_id)"
        return (
            "fields @timestamp, level, message, function_name, execution_id, seq "
            f"| filter {condition} | sort @timestamp asc, seq asc | limit {LIMIT}"
        )
