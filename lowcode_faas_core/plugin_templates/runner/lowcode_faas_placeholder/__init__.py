"""Runs functions in Node processes on the service's machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lowcode_faas_core.hookspecs import hookimpl
from lowcode_faas_core.interfaces.launcher import Launcher
from lowcode_faas_core.settings import read

from lowcode_faas_placeholder.launcher import NodeLauncher
from lowcode_faas_placeholder.settings import NodeSettings

__all__ = ["NodeLauncher", "NodeSettings"]


@hookimpl
def lowcode_faas_settings() -> Sequence[type[Any]]:
    """Declare the variables of this plugin."""
    return [NodeSettings]


@hookimpl
def lowcode_faas_launcher(environ: Mapping[str, str]) -> Launcher:
    """Build the launcher; nothing is started before its first use."""
    return NodeLauncher(read(environ, NodeSettings).node)
