"""Runs sandboxes as hardened Docker containers, at an engine here or elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lowcode_faas_core.hookspecs import hookimpl
from lowcode_faas_core.interfaces.launcher import Launcher
from lowcode_faas_core.settings import read
from lowcode_faas_docker_runner.launcher import DockerLauncher
from lowcode_faas_docker_runner.settings import DockerSettings

__all__ = ["DockerLauncher", "DockerSettings"]


@hookimpl
def lowcode_faas_settings() -> Sequence[type[Any]]:
    """Declare the variables of this plugin."""
    return (DockerSettings,)


@hookimpl
def lowcode_faas_launcher(environ: Mapping[str, str]) -> Launcher:
    """Build the launcher; nothing is opened or started before its first use."""
    return DockerLauncher(read(environ, DockerSettings), environ)
