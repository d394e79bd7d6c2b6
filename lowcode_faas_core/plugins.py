"""Finds the plugins the environment names, imports those and no others, and calls their factories.

Entry-point metadata says what is installed; an installed plugin that nobody selected is never
imported, so that a broken one costs nothing. Factories are addressed to one plugin, never broadcast.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import threading
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, cast

import pluggy

from lowcode_faas_core import hookspecs
from lowcode_faas_core.catalogue import Candidate, Catalogue, fold, nearest
from lowcode_faas_core.errors import PluginError, StartError
from lowcode_faas_core.hook_trace import HookTrace
from lowcode_faas_core.hookspecs import GROUP
from lowcode_faas_core.interface_versions import mismatch
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
from lowcode_faas_core.settings import is_settings_class

if TYPE_CHECKING:
    from flask import Flask

__all__ = [
    "EXECUTIONS",
    "FETCHER",
    "FURTHER",
    "METRICS",
    "RUNNER",
    "SINK",
    "STORAGE",
    "Plugin",
    "PluginRegistry",
    "Role",
    "Selection",
    "describe",
    "roles_of",
]

HOOKS: tuple[str, ...] = tuple(
    name
    for name, value in vars(hookspecs).items()
    if name.startswith(f"{GROUP}_") and inspect.isfunction(value)
)


#: Seconds until a plugin that has not answered is named.
PATIENCE_S: Final = 5.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Role:
    """What a plugin is selected for: its name for people, and hooks one of which it must have."""

    title: str
    factories: Mapping[str, type[Any]]


METRICS = Role("metrics plugin", {"lowcode_faas_metrics": Metrics})
STORAGE = Role("storage", {"lowcode_faas_storage": Storage})
RUNNER = Role("runner", {"lowcode_faas_launcher": Launcher, "lowcode_faas_runner": Runner})
SINK = Role("log sink", {"lowcode_faas_log_sink": LogSink})
EXECUTIONS = Role("execution store", {"lowcode_faas_execution_store": ExecutionStore})
FETCHER = Role("source fetcher", {"lowcode_faas_source_fetcher": SourceFetcher})
#: Takes part through hooks that every selected plugin is asked for; has no factory.
FURTHER = Role("further plugin", {})


def roles_of(module: Any) -> list[str]:
    """Return the titles of what a plugin that was imported could be selected for."""
    # These are about what it is selected for, whatever that is.
    own = {"lowcode_faas_settings", "lowcode_faas_examination"}
    has = {hook for hook in HOOKS if hasattr(module, hook)} - own
    found = []
    for role in (STORAGE, RUNNER, SINK, EXECUTIONS, FETCHER, METRICS):
        if has & role.factories.keys():
            found.append(role.title)
            has -= role.factories.keys()
    return [*found, FURTHER.title] if has else found


@dataclass(frozen=True)
class Selection:
    """What one variable names: ``names`` as the operator wrote them, all for the same role."""

    variable: str
    role: Role
    names: tuple[str, ...]
    #: Whether a plugin that cannot serve the role is passed over: nobody named it for that.
    unasked: bool = False


@dataclass(frozen=True)
class Plugin:
    """A selected plugin, imported."""

    candidate: Candidate
    selection: Selection
    name: str
    module: Any

    @property
    def where(self) -> str:
        """How messages name it."""
        return f'{self.selection.variable} names the plugin "{self.name}" ({self.candidate.origin})'


@contextlib.contextmanager
def _patience(whose: str) -> Iterator[None]:
    """Say whom a start waits for, when it is long: nothing else would be printed."""
    said = f"lowcode-faas: still waiting: {whose} has not returned after {PATIENCE_S:g} s"
    timer = threading.Timer(PATIENCE_S, _log.warning, (said,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


class PluginRegistry:
    """The selected plugins of one process. Not thread-safe: used while services are built."""

    def __init__(
        self,
        selections: Iterable[Selection],
        catalogue: Catalogue | None = None,
        *,
        trace: bool = False,
    ) -> None:
        """Import what is selected; with ``trace`` say on stderr each hook that is called.

        :raises PluginError: with every problem of every selection, one paragraph each.
        """
        self.catalogue = catalogue or Catalogue.installed()
        self._pluggy = pluggy.PluginManager(GROUP)
        self._pluggy.add_hookspecs(hookspecs)
        self.plugins: list[Plugin] = []
        if trace:
            HookTrace(self._origin_of).attach(self._pluggy)
        problems: list[str] = []
        for selection in selections:
            taken: dict[str, str] = {}
            for name in selection.names:
                try:
                    plugin = self._select(selection, name, taken)
                    if plugin is not None:
                        self.plugins.append(plugin)
                except PluginError as error:
                    problems.append(error.detail)
        if problems:
            raise PluginError("\n".join(dict.fromkeys(problems)))

    def _select(self, selection: Selection, name: str, taken: dict[str, str]) -> Plugin | None:
        candidate = self.catalogue.find(selection.variable, name)
        first = taken.setdefault(candidate.identity, "")
        if first:
            both = f'"{first}" twice' if fold(first) == fold(name) else f'"{first}" and "{name}"'
            raise PluginError(
                f"{selection.variable} names {both}, which is one plugin "
                f"({candidate.origin}); name it once."
            )
        taken[candidate.identity] = name
        plugin = Plugin(candidate, selection, name, None)
        try:
            module = candidate.load()
        except (Exception, SystemExit) as error:
            command = isinstance(error, ModuleNotFoundError) and candidate.install_command
            raise PluginError(
                f"{plugin.where}, which cannot be imported: {describe(error)}"
                + (f" Install what it needs with: {command}" if command else "")
            ) from error
        plugin = Plugin(candidate, selection, name, module)
        self._register(plugin)
        missing = selection.role.factories
        if missing and not any(self._has(plugin, hook) for hook in missing):
            if selection.unasked:
                return None
            has = [hook for hook in HOOKS if self._has(plugin, hook)]
            raise PluginError(
                f"{plugin.where}, which is no {selection.role.title}: it has no "
                f"{' or '.join(missing)}; it has {', '.join(has) or 'no hook at all'}."
            )
        return plugin

    def _register(self, plugin: Plugin) -> None:
        if self._pluggy.is_registered(plugin.module):
            return
        for name in dir(plugin.module):
            if name.startswith(f"{GROUP}_") and inspect.isroutine(getattr(plugin.module, name)):
                self._check_hook(plugin, name)
        try:
            self._pluggy.register(plugin.module, name=plugin.candidate.identity)
            self._pluggy.check_pending()
        except (pluggy.PluginValidationError, ValueError) as error:
            # The first line of pluggy's text names the plugin object; the reason follows.
            reason = " ".join(str(error).split("\n")[-1].split())
            raise PluginError(
                f"{plugin.where}, whose hooks do not fit this version: {reason}"
            ) from error

    def _check_hook(self, plugin: Plugin, name: str) -> None:
        if name not in HOOKS:
            near = nearest(name, HOOKS)
            hint = f" Did you mean {near}?" if near else f" Hooks are {', '.join(HOOKS)}."
            raise PluginError(f"{plugin.where}, whose {name} is no hook.{hint}")
        if self._pluggy.parse_hookimpl_opts(plugin.module, name) is None:
            raise PluginError(
                f"{plugin.where}, whose {name} is not marked with @hookimpl "
                "and would never be called."
            )

    def _has(self, plugin: Plugin, hook: str) -> bool:
        return self._pluggy.parse_hookimpl_opts(plugin.module, hook) is not None

    def _call(self, plugin: Plugin, hook: str, **arguments: Any) -> list[Any]:
        others = [other for other in self._pluggy.get_plugins() if other is not plugin.module]
        caller = self._pluggy.subset_hook_caller(hook, remove_plugins=others)
        try:
            with _patience(f"{plugin.where}, whose {hook}"):
                results: list[Any] = caller(**arguments)
        except StartError:
            # A plugin's own sentence for the operator, usually about one of its variables.
            raise
        except (Exception, SystemExit) as error:
            raise PluginError(f"{plugin.where}, whose {hook} failed: {describe(error)}") from error
        return results

    def _origin_of(self, identity: str) -> str:
        found = [each for each in self.plugins if each.candidate.identity == identity]
        return f"{found[0].name} ({found[0].candidate.origin})" if found else identity

    def selected(self, role: Role) -> list[Plugin]:
        """Return the plugins of one role, in the order the variable names them."""
        return [plugin for plugin in self.plugins if plugin.selection.role is role]

    def settings_classes(self) -> list[type[Any]]:
        """Return the settings classes of every selected plugin, each plugin asked once."""
        found: dict[type[Any], None] = {}
        for plugin in self.distinct():
            for result in self._call(plugin, "lowcode_faas_settings"):
                if not isinstance(result, Sequence) or not all(map(is_settings_class, result)):
                    raise PluginError(
                        f"{plugin.where}, whose lowcode_faas_settings did not return "
                        "settings classes."
                    )
                found.update(dict.fromkeys(result))
        return list(found)

    def metrics(self, environ: Mapping[str, str]) -> Metrics | None:
        """Build what counts; ``None`` when no plugin is selected."""
        selected = self.selected(METRICS)
        return cast(Metrics, self.build(selected[0], environ)) if selected else None

    def storage(self, environ: Mapping[str, str]) -> Storage:
        """Build the storage."""
        return cast(Storage, self.build(self.selected(STORAGE)[0], environ))

    def runner(self, environ: Mapping[str, str]) -> Launcher | Runner:
        """Build what runs functions: a launcher of Node sandboxes, or a runner of another kind."""
        return cast("Launcher | Runner", self.build(self.selected(RUNNER)[0], environ))

    def sinks(self, environ: Mapping[str, str]) -> dict[str, LogSink]:
        """Build the log sinks, by the name the operator gave each."""
        return {each.name: self.build(each, environ) for each in self.selected(SINK)}

    def executions(self, environ: Mapping[str, str]) -> ExecutionStore | None:
        """Build the store of executions; ``None`` when none is selected."""
        selected = self.selected(EXECUTIONS)
        return cast(ExecutionStore, self.build(selected[0], environ)) if selected else None

    def fetchers(self, environ: Mapping[str, str]) -> list[SourceFetcher]:
        """Build the source fetchers, in the order the variable names them."""
        return [self.build(each, environ) for each in self.selected(FETCHER)]

    def build(self, plugin: Plugin, environ: Mapping[str, str]) -> Any:
        """Build what one plugin is selected for: an object of its role's class."""
        role = plugin.selection.role
        # A plugin may have both kinds of runner, and build the one its settings ask for.
        hooks = [hook for hook in role.factories if self._has(plugin, hook)]
        built = {
            hook: result
            for hook in hooks
            for result in self._call(plugin, hook, environ=environ)
            if result is not None
        }
        if len(built) > 1:
            raise PluginError(f"{plugin.where}, whose {' and '.join(built)} built; one only.")
        if not built:
            raise PluginError(
                f"{plugin.where}, whose {' and '.join(hooks)} returned nothing, "
                f"not {_named(role, hooks)}."
            )
        ((hook, result),) = built.items()
        if not isinstance(result, role.factories[hook]):
            raise PluginError(
                f"{plugin.where}, whose {hook} returned a {type(result).__name__}, "
                f"not {_named(role, [hook])}."
            )
        self._check_version(plugin, role.factories[hook], result)
        return result

    def log_dialects(self, environ: Mapping[str, str]) -> list[LogDialect]:
        """Build the dialects of every selected plugin that has one, each plugin asked once."""
        return self._build_each("lowcode_faas_log_dialect", LogDialect, environ)

    def authenticators(self, environ: Mapping[str, str]) -> list[Authenticator]:
        """Build the authenticators of every selected plugin that has one, in order."""
        return self._build_each("lowcode_faas_authenticate", Authenticator, environ)

    def examination(self, plugin: Plugin, environ: Mapping[str, str]) -> Examination | None:
        """Build what the doctor looks at for one plugin; ``None`` when it leaves that to us."""
        built = self._build_one(plugin, "lowcode_faas_examination", Examination, environ)
        return cast(Examination, built[0]) if built else None

    def _build_each(self, hook: str, kind: type[Any], environ: Mapping[str, str]) -> list[Any]:
        return [
            built
            for plugin in self.distinct()
            for built in self._build_one(plugin, hook, kind, environ)
        ]

    def _build_one(
        self, plugin: Plugin, hook: str, kind: type[Any], environ: Mapping[str, str]
    ) -> list[Any]:
        built = self._call(plugin, hook, environ=environ)
        for result in built:
            if not isinstance(result, kind):
                raise PluginError(
                    f"{plugin.where}, whose {hook} returned a {type(result).__name__}, "
                    f"not a {kind.__module__}.{kind.__qualname__}."
                )
            self._check_version(plugin, kind, result)
        return built

    def _check_version(self, plugin: Plugin, kind: type[Any], result: object) -> None:
        reason = mismatch(kind, type(result), plugin.candidate.distribution)
        if reason is not None:
            raise PluginError(f"{plugin.where}, {reason}")

    def app_created(self, app: Flask) -> None:
        """Let every selected plugin extend the application, each once."""
        for plugin in self.distinct():
            self._call(plugin, "lowcode_faas_app_created", app=app)

    def distinct(self) -> list[Plugin]:
        """Return the selected plugins, each once, whatever it is selected for."""
        return list({plugin.candidate.identity: plugin for plugin in self.plugins}.values())


def describe(error: BaseException) -> str:
    """Return one line about ``error``: its type, its text, and the last place it passed."""
    text = " ".join(str(error).split()) or "no message"
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {text}{place}"


def _named(role: Role, hooks: Sequence[str]) -> str:
    kinds = [role.factories[hook] for hook in hooks]
    return " or ".join(f"a {kind.__module__}.{kind.__qualname__}" for kind in kinds)
