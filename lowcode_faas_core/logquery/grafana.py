"""The address of Grafana's Explore page with a query filled in, from the operator's template."""

from __future__ import annotations

import json
import re
from urllib.parse import quote

from lowcode_faas_core.interfaces.log_dialect import LogFilter

__all__ = ["PLACEHOLDERS", "explore_url"]

#: ``logql_json`` is the query as it stands within a JSON string, which newer Explore links hold.
PLACEHOLDERS = ("logql", "logql_json", "run_id", "deployment_id")

_placeholder = re.compile(r"\{\{(" + "|".join(PLACEHOLDERS) + r")\}\}")


def explore_url(template: str, logql: str, wanted: LogFilter) -> str:
    """Fill in each placeholder, URL-encoded once, in one pass: no value is looked at again."""
    values = {
        "logql": logql,
        "logql_json": json.dumps(logql, ensure_ascii=False)[1:-1],
        "run_id": wanted.run_id or "",
        "deployment_id": wanted.deployment_id or "",
    }
    return _placeholder.sub(lambda found: quote(values[found[1]], safe=""), template)
