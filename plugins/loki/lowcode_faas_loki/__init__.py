"""Pushes what functions log to Grafana Loki."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lowcode_faas_core.configuration import LogQuerySettings
from lowcode_faas_core.hookspecs import hookimpl
from lowcode_faas_core.interfaces.examination import Examination
from lowcode_faas_core.interfaces.log_sink import LogSink
from lowcode_faas_core.settings import read
from lowcode_faas_loki.examination import LookAtLoki
from lowcode_faas_loki.settings import LokiSettings
from lowcode_faas_loki.sink import LokiSink

__all__ = ["LokiSettings", "LokiSink"]


@hookimpl
def lowcode_faas_settings() -> Sequence[type[Any]]:
    """Declare the variables of this plugin."""
    return (LokiSettings,)


@hookimpl
def lowcode_faas_log_sink(environ: Mapping[str, str]) -> LogSink:
    """Build the sink; nothing is connected before the first push."""
    labels = dict(read(environ, LogQuerySettings).loki_labels)
    return LokiSink(read(environ, LokiSettings), labels)


@hookimpl
def lowcode_faas_examination(environ: Mapping[str, str]) -> Examination:
    """Build what ``lowcode-faas doctor`` looks at."""
    return LookAtLoki(read(environ, LokiSettings))
