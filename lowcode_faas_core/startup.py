"""What one process was told: the settings and plugins of its role, every problem reported at once."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

from lowcode_faas_core.catalogue import Catalogue
from lowcode_faas_core.configuration import (
    CORE_SETTINGS,
    AccessSettings,
    AdmissionSettings,
    BackendSettings,
    ExecutionSettings,
    LimitSettings,
    LogQuerySettings,
    PoolSettings,
    ServerSettings,
)
from lowcode_faas_core.errors import ConfigurationError, PluginError, StartError
from lowcode_faas_core.plugins import (
    EXECUTIONS,
    FETCHER,
    FURTHER,
    METRICS,
    RUNNER,
    SINK,
    STORAGE,
    PluginRegistry,
    Selection,
)
from lowcode_faas_core.setting_values import UNIX, is_loopback
from lowcode_faas_core.settings import PREFIX, infos, read, read_settings, unknown_names
from lowcode_faas_core.tokens import TokenFile

__all__ = ["ProcessRole", "Startup", "address", "check_exposure", "first_token", "selections"]


S = TypeVar("S")


class ProcessRole(enum.StrEnum):
    """Which service this process is."""

    DISPATCHER = "dispatcher"
    WORKER = "worker"


def selections(
    role: ProcessRole, server: ServerSettings, backends: BackendSettings
) -> list[Selection]:
    """Return what ``role`` needs: a dispatcher with a worker elsewhere needs no runner, no sink."""
    wanted = [Selection(f"{PREFIX}STORAGE", STORAGE, (backends.storage,))]
    if role is ProcessRole.WORKER or not server.worker_url:
        wanted.append(Selection(f"{PREFIX}RUNNER", RUNNER, (backends.runner,)))
        if backends.function_logs:
            wanted.append(Selection(f"{PREFIX}FUNCTION_LOGS_SINK", SINK, backends.log_sinks))
    if not backends.executions:
        # The storage's plugin keeps them, if it can.
        wanted.append(Selection(f"{PREFIX}STORAGE", EXECUTIONS, (backends.storage,), unasked=True))
    elif backends.executions.strip().lower() != "none":
        wanted.append(Selection(f"{PREFIX}EXECUTIONS", EXECUTIONS, (backends.executions,)))
    if role is ProcessRole.DISPATCHER:
        wanted.append(Selection(f"{PREFIX}SOURCE_FETCHERS", FETCHER, backends.source_fetchers))
    if backends.metrics.strip().lower() != "none":
        wanted.append(Selection(f"{PREFIX}METRICS", METRICS, (backends.metrics,)))
    wanted.append(Selection(f"{PREFIX}PLUGINS", FURTHER, backends.plugins))
    return wanted


@dataclass(frozen=True)
class Startup:
    """The parsed environment of one role, and the plugins it selects, imported but not built."""

    role: ProcessRole
    environ: Mapping[str, str]
    server: ServerSettings
    access: AccessSettings
    backends: BackendSettings
    pool: PoolSettings
    limits: LimitSettings
    log_query: LogQuerySettings
    admission: AdmissionSettings
    executions: ExecutionSettings
    registry: PluginRegistry
    settings_classes: tuple[type[Any], ...]

    @classmethod
    def read(
        cls, environ: Mapping[str, str], role: ProcessRole, catalogue: Catalogue | None = None
    ) -> Startup:
        """Read ``environ`` once and import what it selects.

        :raises StartError: with every problem found, in variables and in plugins.
        """
        # What cannot be read is taken as not given, only to find out what else is wrong.
        server = _read_or_default(environ, ServerSettings)
        backends = _read_or_default(environ, BackendSettings)
        try:
            registry = PluginRegistry(
                selections(role, server, backends), catalogue, trace=backends.trace_plugins
            )
            classes = (*CORE_SETTINGS, *registry.settings_classes())
        except PluginError as error:
            _raise_with_core_problems(environ, error)
        try:
            values = read_settings(environ, *classes)
        except ConfigurationError as error:
            error.warnings = tuple(unknown_names(environ, infos(classes)))
            raise
        return cls(
            role=role,
            environ=environ,
            server=values[0],
            access=values[1],
            backends=values[2],
            pool=values[3],
            limits=values[4],
            log_query=values[5],
            admission=values[6],
            executions=values[CORE_SETTINGS.index(ExecutionSettings)],
            registry=registry,
            settings_classes=classes,
        )

    def warnings(self) -> list[str]:
        """Return a sentence for each variable of ours that nobody declared, or that does nothing."""
        found = unknown_names(self.environ, infos(self.settings_classes))
        server = self.server
        if (
            self.role is ProcessRole.DISPATCHER
            and server.worker_socket is not None
            and not server.worker_url
        ):
            found.append(
                f"{PREFIX}WORKER_SOCKET is the worker's: this dispatcher runs invocations itself. For "
                f"the worker to run them, set {PREFIX}WORKER_URL={UNIX}{server.worker_socket}."
            )
        return found


def _read_or_default(environ: Mapping[str, str], cls: type[S]) -> S:
    try:
        return read(environ, cls)
    except ConfigurationError:
        return cls()


def _raise_with_core_problems(environ: Mapping[str, str], error: PluginError) -> NoReturn:
    raised: StartError = error
    try:
        read_settings(environ, *CORE_SETTINGS)
    except ConfigurationError as other:
        raised = StartError(f"{error.detail}\n{other.detail}")
    # Without the plugins nobody knows their variables: only what is nearly one of ours is odd.
    raised.warnings = tuple(unknown_names(environ, infos(CORE_SETTINGS), nearly=True))
    raise raised from (None if raised is error else error)


def address(server: ServerSettings, role: ProcessRole) -> tuple[str, int]:
    """Return host and port the role listens on."""
    return server.worker_listen if role is ProcessRole.WORKER else server.listen


def check_exposure(server: ServerSettings, role: ProcessRole) -> None:
    """Refuse an address of a worker that others can reach when nothing would ask who they are.

    A dispatcher asks everybody whom it cannot tell from this machine's own users.

    :raises ConfigurationError: naming the variables that decide it.
    """
    host, port = address(server, role)
    if role is ProcessRole.DISPATCHER or is_loopback(host):
        return
    if server.allow_anonymous or server.worker_token:
        return
    raise ConfigurationError(
        [
            f"{PREFIX}WORKER_LISTEN is {host}:{port}, an address others can reach, and nothing "
            "would ask who they are: whoever connects runs code here. Either set "
            f"{PREFIX}WORKER_TOKEN, or set {PREFIX}ALLOW_ANONYMOUS=true if that is meant."
        ]
    )


def first_token(startup: Startup) -> str | None:
    """Make an administrator's token where nobody could call otherwise, and return it.

    That is a dispatcher which others can reach, that has no token yet and no plugin that knows
    callers. The token is known this once: whoever calls this shows it to the operator.

    :raises StartError: the file of tokens cannot be used, or a plugin cannot be built.
    """
    host, _ = address(startup.server, startup.role)
    if startup.role is ProcessRole.WORKER or is_loopback(host) or startup.server.allow_anonymous:
        return None
    file = TokenFile(startup.access.tokens)
    if file.read():
        return None
    others = startup.registry.authenticators(startup.environ)
    for each in others:
        each.close()
    return None if others else file.create_first()
