"""What one process builds: for which role, closed in order, and never half."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint
from types import ModuleType
from typing import Any

import pytest

from lowcode_faas_core import startup as startup_module
from lowcode_faas_core.catalogue import Candidate, Catalogue
from lowcode_faas_core.dispatcher import create_app as create_dispatcher
from lowcode_faas_core.errors import PluginError, RunnerUnavailable, StorageUnavailable
from lowcode_faas_core.hookspecs import hookimpl
from lowcode_faas_core.interfaces.log_sink import LogSink
from lowcode_faas_core.interfaces.runner import Runner
from lowcode_faas_core.interfaces.storage import Storage
from lowcode_faas_core.remote import RemoteInvoker
from lowcode_faas_core.services import SERVICES, Services
from lowcode_faas_core.startup import ProcessRole
from lowcode_faas_core.testing.memory_source import MemorySourceFetcher
from lowcode_faas_core.testing.memory_storage import MemoryStorage
from lowcode_faas_core.worker import create_app as create_worker

Recorded = list[str]


class RecordingStorage(MemoryStorage):
    def __init__(self, events: Recorded) -> None:
        super().__init__()
        self.events = events
        self.failure: Exception | None = None

    def check(self) -> None:
        if self.failure is not None:
            raise self.failure

    def close(self) -> None:
        self.events.append("storage")
        super().close()


class RecordingSink(LogSink):
    def __init__(self, events: Recorded) -> None:
        self.events = events

    def emit(self, batch: Any) -> None: ...

    def flush(self, deadline_ns: int) -> int:
        return 0

    def close(self) -> None:
        self.events.append("sink")


class RecordingFetcher(MemorySourceFetcher):
    def __init__(self, events: Recorded) -> None:
        super().__init__()
        self.events = events

    def close(self) -> None:
        self.events.append("fetcher")


class RecordingRunner(Runner):
    def __init__(self, events: Recorded) -> None:
        self.events = events
        self.failure: Exception | None = None

    def run(self, invocation: Any, source: Any, on_log: Any) -> Any:
        raise NotImplementedError

    def stats(self) -> Mapping[str, Any]:
        return {"leased": 0}

    def check(self) -> None:
        if self.failure is not None:
            raise self.failure

    def close(self, *, drain_deadline_ns: int = 0) -> None:
        self.events.append("runner")


class Installed(Candidate):
    """A candidate whose plugin is an object of this test."""

    plugin: Any = None

    def load(self) -> Any:
        if isinstance(self.plugin, Exception):
            raise self.plugin
        return self.plugin


@pytest.fixture
def events() -> Recorded:
    return []


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch, events: Recorded) -> dict[str, Any]:
    """Selectable plugins by name; a test may put in others."""
    serial = itertools.count()

    def module(hook: str, factory: Any) -> ModuleType:
        def implementation(environ: Mapping[str, str]) -> Any:
            return factory()

        found = ModuleType(f"plugin_{next(serial)}")
        implementation.__name__ = hook
        setattr(found, hook, hookimpl(implementation))
        return found

    by_name: dict[str, Any] = {
        "memory": module("lowcode_faas_storage", lambda: RecordingStorage(events)),
        "recording": module("lowcode_faas_runner", lambda: RecordingRunner(events)),
        "sink": module("lowcode_faas_log_sink", lambda: RecordingSink(events)),
        "fetcher": module("lowcode_faas_source_fetcher", lambda: RecordingFetcher(events)),
        "other-fetcher": module("lowcode_faas_source_fetcher", lambda: RecordingFetcher(events)),
        "no-good": module("lowcode_faas_runner", lambda: None),
        "broken": ImportError("not even imported"),
    }

    def installed() -> Catalogue:
        found = []
        for name, plugin in by_name.items():
            point = EntryPoint(name, f"plugin_{name}", "lowcode_faas")
            candidate = Installed(name, point.value, f"test-{name}", "1", point)
            object.__setattr__(candidate, "plugin", plugin)
            found.append(candidate)
        return Catalogue(found)

    monkeypatch.setattr(startup_module.Catalogue, "installed", installed, raising=True)
    return by_name


def environ(**changes: str) -> dict[str, str]:
    values = {
        "STORAGE": "memory",
        "RUNNER": "recording",
        "FUNCTION_LOGS_SINK": "sink",
        "SOURCE_FETCHERS": "fetcher",
        **changes,
    }
    return {f"LOWCODE_FAAS_{name}": value for name, value in values.items()}


@pytest.mark.usefixtures("plugins")
class TestBuilding:
    def test_everything_is_closed_once_what_uses_it_is(self, events: Recorded) -> None:
        services = Services.build(environ(), ProcessRole.DISPATCHER)
        assert isinstance(services.storage, Storage)
        services.close()
        services.close()
        assert list(dict.fromkeys(events)) == ["runner", "sink", "fetcher", "storage"]

    def test_what_was_opened_is_closed_when_the_rest_cannot_be(self, events: Recorded) -> None:
        with pytest.raises(PluginError, match="returned nothing"):
            Services.build(environ(RUNNER="no-good"), ProcessRole.DISPATCHER)
        assert events == ["sink", "fetcher", "storage"]

    def test_two_fetchers_of_one_scheme_stop_the_start(self, events: Recorded) -> None:
        with pytest.raises(PluginError, match="two source fetchers serve memory URLs"):
            Services.build(environ(SOURCE_FETCHERS="fetcher,other-fetcher"), ProcessRole.DISPATCHER)
        assert events == ["fetcher", "fetcher", "storage"]

    def test_a_worker_fetches_nothing(self, events: Recorded) -> None:
        Services.build(environ(SOURCE_FETCHERS="broken"), ProcessRole.WORKER).close()
        assert "fetcher" not in events

    def test_a_dispatcher_with_a_worker_imports_no_runner_and_no_sink(
        self, events: Recorded
    ) -> None:
        variables = environ(
            WORKER_URL="http://127.0.0.1:1", RUNNER="broken", FUNCTION_LOGS_SINK="broken"
        )
        services = Services.build(variables, ProcessRole.DISPATCHER)
        assert isinstance(services.invoker, RemoteInvoker)
        services.close()
        assert events == ["fetcher", "storage"]

    def test_a_worker_runs_itself_whatever_url_is_set(self) -> None:
        services = Services.build(environ(WORKER_URL="http://127.0.0.1:1"), ProcessRole.WORKER)
        assert not isinstance(services.invoker, RemoteInvoker)
        services.close()

    def test_without_capture_no_sink_is_imported(self, events: Recorded) -> None:
        variables = environ(FUNCTION_LOGS="false", FUNCTION_LOGS_SINK="broken")
        Services.build(variables, ProcessRole.DISPATCHER).close()
        assert "sink" not in events


class TestReadiness:
    @pytest.fixture
    def services(self, plugins: dict[str, Any]) -> Iterator[Services]:
        built = Services.build(environ(), ProcessRole.DISPATCHER)
        yield built
        built.close()

    def test_all_well(self, services: Services) -> None:
        readiness = services.ready()
        assert readiness.ok
        assert readiness.reasons == []
        assert readiness.sandboxes["leased"] == 0

    def test_every_reason_is_listed(self, services: Services) -> None:
        services.storage.failure = StorageUnavailable("the disk is gone")  # type: ignore[attr-defined]
        services.invoker._runner.failure = RunnerUnavailable("no node")  # type: ignore[attr-defined]
        readiness = services.ready()
        assert not readiness.ok
        assert readiness.reasons == ["the disk is gone", "no node"]
        assert [note for note in services.notes() if "the disk is gone" in note]

    def test_a_plugins_bug_is_a_reason_too(self, services: Services) -> None:
        services.storage.failure = ZeroDivisionError("oops")  # type: ignore[attr-defined]
        assert services.ready().reasons[0].startswith("ZeroDivisionError: oops")


@pytest.mark.usefixtures("plugins")
@pytest.mark.parametrize("create", [create_dispatcher, create_worker])
def test_an_application_brings_its_services(create: Any, events: Recorded) -> None:
    app = create(environ())
    assert app.test_client().get("/healthz").status_code == 200
    answer = app.test_client().get("/readyz")
    assert answer.status_code == 200, answer.text
    app.extensions[SERVICES].close()
    assert "storage" in events


@pytest.mark.parametrize("create", [create_dispatcher, create_worker])
def test_a_plugin_that_fails_to_extend_it_stops_the_start_and_leaves_nothing(
    create: Any, plugins: dict[str, Any], events: Recorded
) -> None:
    def lowcode_faas_app_created(app: Any) -> None:
        raise RuntimeError("no room")

    module = ModuleType("extending")
    module.lowcode_faas_app_created = hookimpl(lowcode_faas_app_created)  # type: ignore[attr-defined]
    plugins["extending"] = module
    with pytest.raises(PluginError, match="RuntimeError: no room"):
        create(environ(PLUGINS="extending"))
    assert "storage" in events


@pytest.mark.usefixtures("plugins")
@pytest.mark.fault(25)
class TestWorkerWithoutToken:
    @pytest.mark.parametrize(("address", "status"), [("127.0.0.1", 200), ("10.1.2.3", 403)])
    def test_only_its_own_host_is_answered(self, address: str, status: int) -> None:
        app = create_worker(environ())
        answer = app.test_client().get("/v1/info", environ_overrides={"REMOTE_ADDR": address})
        assert answer.status_code == status
        app.extensions[SERVICES].close()

    def test_unless_that_is_meant(self) -> None:
        app = create_worker(environ(ALLOW_ANONYMOUS="true"))
        overrides = {"REMOTE_ADDR": "10.1.2.3"}
        answer = app.test_client().get("/v1/info", environ_overrides=overrides)
        assert answer.status_code == 200
        app.extensions[SERVICES].close()
