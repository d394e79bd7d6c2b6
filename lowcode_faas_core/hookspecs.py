"""The hooks, in call order. Each factory is called on exactly the plugin the environment names.

pluggy finds and builds a backend; it never operates one: what a factory returns is an object of
the abstract class named here, and everything else happens by its methods.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import pluggy

from lowcode_faas_core.interfaces.authenticator import Authenticator
from lowcode_faas_core.interfaces.examination import Examination
from lowcode_faas_core.interfaces.executions import ExecutionStore
from lowcode_faas_core.interfaces.launcher import Launcher
from lowcode_faas_core.interfaces.log_dialect import LogDialect
from lowcode_faas_core.interfaces.log_sink import LogSink
from lowcode_faas_core.interfaces.metrics import Metrics
from lowcode_faas_core.interfaces.runner import Runner
from lowcode_faas_core.interfaces.source import SourceFetcher
from lowcode_faas_core.interfaces.storage import Storage

if TYPE_CHECKING:
    from flask import Flask

__all__ = ["GROUP", "hookimpl", "hookspec"]

#: Both the entry-point group and the name of the pluggy project.
GROUP = "lowcode_faas"

hookspec = pluggy.HookspecMarker(GROUP)
hookimpl = pluggy.HookimplMarker(GROUP)


@hookspec
def lowcode_faas_settings() -> Sequence[type[Any]]:  # type: ignore[empty-body]
    """Return the plugin's settings classes (frozen dataclasses of ``settings.setting`` fields).

    Called on every selected plugin before anything is built: their problems are reported together
    with the core's, and the documentation and ``lowcode-faas config`` list them.
    """


@hookspec
def lowcode_faas_metrics(environ: Mapping[str, str]) -> Metrics:  # type: ignore[empty-body]
    """Build what counts. Called once, on the plugin ``LOWCODE_FAAS_METRICS`` names.

    Numbers that all serving processes share come from ``Counts.of_service()``, asked for in here.

    :param environ: the environment as it was at start.
    """


@hookspec
def lowcode_faas_storage(environ: Mapping[str, str]) -> Storage:  # type: ignore[empty-body]
    """Build the storage. Called once, on the plugin ``LOWCODE_FAAS_STORAGE`` names.

    :param environ: the environment as it was at start.
    """


@hookspec
def lowcode_faas_launcher(environ: Mapping[str, str]) -> Launcher:  # type: ignore[empty-body]
    """Build what starts sandboxes. Called once, on the plugin ``LOWCODE_FAAS_RUNNER`` names.

    :param environ: the environment as it was at start.
    """


@hookspec
def lowcode_faas_runner(environ: Mapping[str, str]) -> Runner:  # type: ignore[empty-body]
    """Build a runner that is not a pool of Node sandboxes; given instead of a launcher.

    :param environ: the environment as it was at start.
    """


@hookspec
def lowcode_faas_log_sink(environ: Mapping[str, str]) -> LogSink:  # type: ignore[empty-body]
    """Build a log sink. Called once on each plugin ``LOWCODE_FAAS_FUNCTION_LOGS_SINK`` names.

    :param environ: the environment as it was at start.
    """


@hookspec
def lowcode_faas_execution_store(environ: Mapping[str, str]) -> ExecutionStore:  # type: ignore[empty-body]
    """Build the store of executions. Called once, on the plugin ``LOWCODE_FAAS_EXECUTIONS`` names.

    :param environ: the environment as it was at start.
    """


@hookspec
def lowcode_faas_source_fetcher(environ: Mapping[str, str]) -> SourceFetcher:  # type: ignore[empty-body]
    """Build a source fetcher. Called once on each plugin ``LOWCODE_FAAS_SOURCE_FETCHERS`` names.

    :param environ: the environment as it was at start.
    """


@hookspec
def lowcode_faas_log_dialect(environ: Mapping[str, str]) -> LogDialect:  # type: ignore[empty-body]
    """Build a dialect of ``GET /function-logs/query``. Called on every selected plugin.

    :param environ: the environment as it was at start.
    """


@hookspec
def lowcode_faas_authenticate(environ: Mapping[str, str]) -> Authenticator:  # type: ignore[empty-body]
    """Build what recognises callers of the API. Called on every selected plugin, at the dispatcher.

    :param environ: the environment as it was at start.
    """


@hookspec
def lowcode_faas_app_created(app: Flask) -> None:
    """Extend the finished application: add a blueprint, a metric. Called on every selected plugin.

    :param app: the Flask application of the role, all of the core's routes registered.
    """


@hookspec
def lowcode_faas_examination(environ: Mapping[str, str]) -> Examination:  # type: ignore[empty-body]
    """Build what ``lowcode-faas doctor`` looks at. Called on every selected plugin, by it alone.

    :param environ: the environment of the command.
    """
