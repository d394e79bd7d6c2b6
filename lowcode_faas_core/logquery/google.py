"""Google Cloud Logging's query language.

Its ``=`` compares text without regard to case, so that ``Greet`` also finds ``greet``: an
exact comparison would need a regular expression, which no index serves.
"""

from __future__ import annotations

import json

from lowcode_faas_core.interfaces.log_dialect import LogDialect, LogFilter

__all__ = ["GoogleCloudLogging"]


class GoogleCloudLogging(LogDialect):
    """Compares members of ``jsonPayload``, which is where agents put a JSON line."""

    name = "google_cloud_logging"

    def query(self, wanted: LogFilter) -> str:
        """Write it; strings take JSON's escapes."""
        terms = [
            f"jsonPayload.{field}={json.dumps(value, ensure_ascii=False)}"
            for field, value in wanted.terms()
        ]
        if wanted.since is not None:
            terms.append(f'timestamp>="{wanted.since}"')
        if wanted.until is not None:
            terms.append(f'timestamp<"{wanted.until}"')
        return " AND ".join(terms) or "jsonPayload.execution_id:*"
