"""Prints what functions log as lines for people, on the service's standard output."""

from __future__ import annotations

import os
from collections.abc import Mapping

from lowcode_faas_core.hookspecs import hookimpl
from lowcode_faas_core.interfaces.log_sink import LogSink
from lowcode_faas_stdout.sink import StdoutSink

__all__ = ["StdoutSink", "lowcode_faas_log_sink"]


@hookimpl
def lowcode_faas_log_sink(environ: Mapping[str, str]) -> LogSink:
    """Build the sink on descriptor 1, coloured on a terminal unless ``NO_COLOR`` is set."""
    plain = bool(environ.get("NO_COLOR")) or environ.get("TERM") == "dumb"
    return StdoutSink(1, colour=not plain and os.isatty(1))
