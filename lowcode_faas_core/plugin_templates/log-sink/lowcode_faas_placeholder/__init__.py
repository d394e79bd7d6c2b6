"""Appends what functions print to a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lowcode_faas_core.hookspecs import hookimpl
from lowcode_faas_core.interfaces.log_sink import LogSink
from lowcode_faas_core.settings import read

from lowcode_faas_placeholder.settings import FileSettings
from lowcode_faas_placeholder.sink import FileSink

__all__ = ["FileSettings", "FileSink"]


@hookimpl
def lowcode_faas_settings() -> Sequence[type[Any]]:
    """Declare the variables of this plugin."""
    return [FileSettings]


@hookimpl
def lowcode_faas_log_sink(environ: Mapping[str, str]) -> LogSink:
    """Build the sink; nothing is opened before its first event."""
    return FileSink(read(environ, FileSettings).file)
