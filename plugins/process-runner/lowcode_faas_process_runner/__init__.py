"""Runs sandboxes as local Node processes: for development and for code that is trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lowcode_faas_core.hookspecs import hookimpl
from lowcode_faas_core.interfaces.launcher import Launcher
from lowcode_faas_core.settings import read
from lowcode_faas_process_runner.launcher import ProcessLauncher
from lowcode_faas_process_runner.settings import ProcessSettings

__all__ = ["ProcessLauncher", "ProcessSettings"]


@hookimpl
def lowcode_faas_settings() -> Sequence[type[Any]]:
    """Declare the variables of this plugin."""
    return (ProcessSettings,)


@hookimpl
def lowcode_faas_launcher(environ: Mapping[str, str]) -> Launcher:
    """Build the launcher; nothing is opened or started before its first use."""
    return ProcessLauncher(read(environ, ProcessSettings), environ)
