"""Prints what functions log as JSON, one object a line, for whatever collects standard output."""

from __future__ import annotations

from collections.abc import Mapping

from lowcode_faas_core.hookspecs import hookimpl
from lowcode_faas_core.interfaces.log_sink import LogSink
from lowcode_faas_promtail_json.sink import JsonSink

__all__ = ["JsonSink", "lowcode_faas_log_sink"]


@hookimpl
def lowcode_faas_log_sink(environ: Mapping[str, str]) -> LogSink:
    """Build the sink on descriptor 1; it has no settings."""
    del environ
    return JsonSink()
