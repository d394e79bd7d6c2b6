"""Sends what functions print to syslog."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from example_syslog_sink.settings import SyslogSettings
from example_syslog_sink.sink import SyslogSink
from lowcode_faas_core.hookspecs import hookimpl
from lowcode_faas_core.interfaces.log_sink import LogSink
from lowcode_faas_core.settings import read

__all__ = ["SyslogSettings", "SyslogSink"]


@hookimpl
def lowcode_faas_settings() -> Sequence[type[Any]]:
    """Declare the variables of this plugin."""
    return [SyslogSettings]


@hookimpl
def lowcode_faas_log_sink(environ: Mapping[str, str]) -> LogSink:
    """Build the sink; it connects with its first event."""
    settings = read(environ, SyslogSettings)
    return SyslogSink(settings.address, settings.facility, settings.max_bytes)
