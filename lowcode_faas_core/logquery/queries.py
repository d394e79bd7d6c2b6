"""All dialects of one service: ours, and those of its plugins."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from lowcode_faas_core.errors import PluginError
from lowcode_faas_core.interfaces.log_dialect import LogDialect, LogFilter
from lowcode_faas_core.logquery.cloudwatch import CloudwatchLogsInsights
from lowcode_faas_core.logquery.elasticsearch import ElasticsearchQueryString
from lowcode_faas_core.logquery.google import GoogleCloudLogging
from lowcode_faas_core.logquery.grafana import explore_url
from lowcode_faas_core.logquery.loki import LokiJson, LokiSubstring

__all__ = ["LogQueries"]

_name = re.compile(r"[a-z][a-z0-9_]{0,63}", re.ASCII).fullmatch
#: Members of the answer that are no dialect's.
OTHER_MEMBERS = frozenset(("grafana_explore_url", "start", "end"))


class LogQueries:
    """Writes one filter in every language. Immutable; used by many threads at once."""

    def __init__(
        self,
        labels: Mapping[str, str],
        explore_template: str = "",
        further: Iterable[LogDialect] = (),
    ) -> None:
        """Join our dialects and ``further`` ones.

        :raises PluginError: two have one name, or one has no legal name.
        """
        self._logql = LokiJson(labels)
        self._template = explore_template
        ours = (
            self._logql,
            LokiSubstring(labels),
            ElasticsearchQueryString(),
            CloudwatchLogsInsights(),
            GoogleCloudLogging(),
        )
        self._dialects: dict[str, LogDialect] = {}
        for dialect in (*ours, *further):
            name = getattr(dialect, "name", None)
            kind = f"{type(dialect).__module__}.{type(dialect).__qualname__}"
            if not isinstance(name, str) or not _name(name):
                raise PluginError(f"the log dialect {kind} has no legal name, but {name!r}")
            if name in self._dialects or name in OTHER_MEMBERS:
                raise PluginError(f'the log dialect {kind} is named "{name}", which is taken')
            self._dialects[name] = dialect

    def answer(self, wanted: LogFilter) -> dict[str, str | None]:
        """Return the members of the answer of ``GET /function-logs/query``."""
        answer: dict[str, str | None] = {
            name: dialect.query(wanted) for name, dialect in self._dialects.items()
        }
        if self._template:
            logql = self._logql.query(wanted)
            answer["grafana_explore_url"] = explore_url(self._template, logql, wanted)
        return {**answer, "start": wanted.since, "end": wanted.until}
