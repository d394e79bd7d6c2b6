"""Runs functions in hardened Docker containers, at an engine here or elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lowcode_faas_core.configuration import LimitSettings, PoolSettings, ServerSettings
from lowcode_faas_core.hookspecs import hookimpl
from lowcode_faas_core.interfaces.examination import Examination
from lowcode_faas_core.interfaces.launcher import Launcher
from lowcode_faas_core.interfaces.runner import Runner
from lowcode_faas_core.limits import OperatorLimits
from lowcode_faas_core.settings import read, read_settings
from lowcode_faas_docker_runner.examination import EngineExamination
from lowcode_faas_docker_runner.files import FilesRunner
from lowcode_faas_docker_runner.host import DockerHost
from lowcode_faas_docker_runner.launcher import DockerLauncher
from lowcode_faas_docker_runner.settings import DockerSettings, Exchange

__all__ = ["DockerLauncher", "DockerSettings", "FilesRunner"]


@hookimpl
def lowcode_faas_settings() -> Sequence[type[Any]]:
    """Declare the variables of this plugin."""
    return (DockerSettings,)


@hookimpl
def lowcode_faas_launcher(environ: Mapping[str, str]) -> Launcher | None:
    """Build the launcher of the stream exchange; nothing is opened before its first use."""
    settings = read(environ, DockerSettings)
    return DockerLauncher(settings, environ) if settings.exchange is Exchange.STREAM else None


@hookimpl
def lowcode_faas_runner(environ: Mapping[str, str]) -> Runner | None:
    """Build the runner of the files exchange; nothing is opened before its first use."""
    settings = read(environ, DockerSettings)
    if settings.exchange is not Exchange.FILES:
        return None
    server, pool, limits = read_settings(environ, ServerSettings, PoolSettings, LimitSettings)
    share = pool.share(server.workers)
    return FilesRunner(DockerHost(settings, environ), share, OperatorLimits(limits))


@hookimpl
def lowcode_faas_examination(environ: Mapping[str, str]) -> Examination:
    """Build what ``lowcode-faas doctor`` looks at."""
    return EngineExamination(read(environ, DockerSettings), environ)
