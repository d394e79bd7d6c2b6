"""Each way a plugin can be wrong stops the start with one sentence that helps; a good one is built."""

from __future__ import annotations

import sys
from collections.abc import Callable

import pytest

from lowcode_faas_core.catalogue import EXTRAS, Catalogue
from lowcode_faas_core.errors import ConfigurationError, PluginError
from lowcode_faas_core.interfaces.log_sink import LogSink
from lowcode_faas_core.interfaces.storage import Storage
from lowcode_faas_core.plugins import (
    EXECUTIONS,
    FETCHER,
    FURTHER,
    RUNNER,
    SINK,
    STORAGE,
    PluginRegistry,
    Role,
    Selection,
)
from lowcode_faas_core.testing.memory_storage import MemoryStorage

Install = Callable[..., str]

GOOD = """
from lowcode_faas_core.hookspecs import hookimpl
from lowcode_faas_core.testing.memory_storage import MemoryStorage

@hookimpl
def lowcode_faas_storage(environ):
    storage = MemoryStorage()
    storage.environ = environ
    return storage
"""
SINK_SOURCE = """
from lowcode_faas_core.hookspecs import hookimpl
from lowcode_faas_core.interfaces.log_sink import LogSink

class Sink(LogSink):
    def emit(self, batch): ...
    def flush(self, deadline_ns): return 0
    def close(self): ...

@hookimpl
def lowcode_faas_log_sink(environ):
    return Sink()
"""
BROKEN = "raise ImportError('no module named boto3')\n"


def registry(name: str, variable: str = "LOWCODE_FAAS_STORAGE") -> PluginRegistry:
    return PluginRegistry([Selection(variable, STORAGE, (name,))])


def refusal(*selections: Selection) -> str:
    with pytest.raises(PluginError) as caught:
        PluginRegistry(selections)
    return caught.value.detail


def test_a_selected_plugin_is_built_with_the_environment(install: Install) -> None:
    install("third-storage", GOOD, "third")
    storage = registry("third").storage({"A": "1"})
    assert isinstance(storage, MemoryStorage)
    assert storage.environ == {"A": "1"}  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["my_store", "my-store", "MY_STORE", " My-Store "])
def test_names_are_compared_with_case_and_separators_folded(install: Install, name: str) -> None:
    install("third-storage", GOOD, "my-store")
    assert isinstance(registry(name).storage({}), Storage)


def test_a_broken_plugin_that_is_not_selected_costs_nothing(install: Install) -> None:
    # Given a good plugin, and one whose import raises
    broken = install("broken-plugin", BROKEN, "broken")
    install("third-storage", GOOD, "third")
    # When only the good one is selected
    found = registry("third")
    # Then it works, and the other one was not touched, though it is listed
    assert isinstance(found.storage({}), Storage)
    assert broken not in sys.modules
    assert "broken" in found.catalogue.names


@pytest.mark.fault(107)
def test_a_broken_plugin_that_is_selected_is_named_with_the_reason(install: Install) -> None:
    install("broken-plugin", BROKEN, "broken", version="2.5")
    text = refusal(Selection("LOWCODE_FAAS_STORAGE", STORAGE, ("broken",)))
    assert "\n" not in text
    assert 'LOWCODE_FAAS_STORAGE names the plugin "broken" (broken-plugin 2.5)' in text
    assert "ImportError: no module named boto3" in text
    assert ".py:1)" in text


def test_a_plugin_of_ours_without_what_it_needs_comes_with_the_command(install: Install) -> None:
    source = "import nowhere_to_be_found\n"
    install("lowcode-faas-loki", source, "loki", version="9")
    install("their-loki", source, "theirs")
    catalogue = Catalogue(
        [each for each in Catalogue.installed().candidates if "9" in each.version]
    )
    selection = Selection("LOWCODE_FAAS_FUNCTION_LOGS_SINK", SINK, ("loki",))
    with pytest.raises(PluginError) as caught:
        PluginRegistry([selection], catalogue)
    assert caught.value.detail.endswith("with: pip install 'lowcode-faas-core[loki]'")
    assert "pip" not in refusal(Selection("LOWCODE_FAAS_FUNCTION_LOGS_SINK", SINK, ("theirs",)))


def test_a_plugin_that_ends_the_process_at_import_is_refused(install: Install) -> None:
    install("rude-plugin", "import sys\nsys.exit('bye')\n", "rude")
    assert "SystemExit: bye" in refusal(Selection("LOWCODE_FAAS_STORAGE", STORAGE, ("rude",)))


def test_an_unknown_name_is_answered_with_what_is_there_and_the_nearest(install: Install) -> None:
    install("third-storage", GOOD, "sqlite_store")
    text = refusal(Selection("LOWCODE_FAAS_STORAGE", STORAGE, ("sqlite-sotre",)))
    assert text.startswith('LOWCODE_FAAS_STORAGE names the plugin "sqlite-sotre", which is not')
    for name in ("docker", "files", "process-runner", "sqlite_store", "stdout"):
        assert f" {name}," in text or f" {name})" in text
    assert "Did you mean sqlite_store?" in text


@pytest.mark.parametrize(("name", "extra"), sorted(EXTRAS.items()))
def test_an_uninstalled_plugin_of_ours_comes_with_the_command(name: str, extra: str) -> None:
    with pytest.raises(PluginError) as caught:
        Catalogue([]).find("LOWCODE_FAAS_X", name.upper())
    assert "installed: none" in caught.value.detail
    assert caught.value.detail.endswith(f": pip install 'lowcode-faas-core[{extra}]'")


def test_a_misspelt_name_of_ours_that_is_not_installed_comes_with_both() -> None:
    with pytest.raises(
        PluginError, match=r"Did you mean docker\? .*'lowcode-faas-core\[docker\]'$"
    ):
        Catalogue([]).find("LOWCODE_FAAS_RUNNER", "dokcer")


def test_a_name_two_distributions_offer_is_refused(install: Install) -> None:
    install("one-storage", GOOD, "same-name")
    install("other-storage", GOOD, "same_name", version="3")
    text = refusal(Selection("LOWCODE_FAAS_STORAGE", STORAGE, ("same-name",)))
    assert "one-storage 1.0" in text
    assert "other-storage 3" in text
    assert "uninstall one" in text


def test_a_name_two_distributions_offer_costs_nothing_unselected(install: Install) -> None:
    install("one-storage", GOOD, "same-name")
    install("other-storage", GOOD, "same_name")
    install("third-storage", GOOD, "third")
    assert isinstance(registry("third").storage({}), Storage)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("third", "third"), '"third" twice'),
        (("third", "THIRD"), '"third" twice'),
        (("third", "alias"), '"third" and "alias", which is one plugin'),
    ],
)
def test_the_same_plugin_twice_in_one_list_is_refused(
    install: Install, names: tuple[str, ...], said: str
) -> None:
    install("third-sink", SINK_SOURCE, "third", "alias")
    text = refusal(Selection("LOWCODE_FAAS_FUNCTION_LOGS_SINK", SINK, names))
    assert "LOWCODE_FAAS_FUNCTION_LOGS_SINK" in text
    assert said in text
    assert "third-sink 1.0" in text


def test_sinks_are_built_in_the_order_of_the_list(install: Install) -> None:
    install("a-sink", SINK_SOURCE, "a")
    install("b-sink", SINK_SOURCE, "b")
    selection = Selection("LOWCODE_FAAS_FUNCTION_LOGS_SINK", SINK, ("b", "a"))
    sinks = PluginRegistry([selection]).sinks({})
    assert list(sinks) == ["b", "a"]
    assert all(isinstance(sink, LogSink) for sink in sinks.values())


def test_a_plugin_without_the_role_is_refused_with_what_it_has(install: Install) -> None:
    install("third-sink", SINK_SOURCE, "third")
    text = refusal(Selection("LOWCODE_FAAS_RUNNER", RUNNER, ("third",)))
    assert "no runner" in text
    assert "no lowcode_faas_launcher or lowcode_faas_runner" in text
    assert "it has lowcode_faas_log_sink" in text


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("return None", "returned nothing, not a lowcode_faas_core.interfaces.storage.Storage"),
        ("return {'deploy': 1}", "returned a dict, not a"),
        ("raise OSError('disk is gone')", "failed: OSError: disk is gone"),
        ("import sys; sys.exit(3)", "failed: SystemExit: 3"),
        (
            "from lowcode_faas_core.interfaces.storage import Storage\n"
            "    class Half(Storage):\n        def close(self): ...\n"
            "    return Half()",
            "TypeError: Can't instantiate abstract class Half",
        ),
    ],
)
def test_a_half_written_factory_is_named(install: Install, body: str, said: str) -> None:
    source = f"""
from lowcode_faas_core.hookspecs import hookimpl

@hookimpl
def lowcode_faas_storage(environ):
    {body}
"""
    install("half-storage", source, "half")
    with pytest.raises(PluginError) as caught:
        registry("half").storage({})
    text = caught.value.detail
    assert 'LOWCODE_FAAS_STORAGE names the plugin "half" (half-storage 1.0)' in text
    assert "lowcode_faas_storage" in text
    assert said in text
    assert "\n" not in text


def test_a_factorys_own_sentence_for_the_operator_is_kept(install: Install) -> None:
    source = """
from lowcode_faas_core.errors import ConfigurationError
from lowcode_faas_core.hookspecs import hookimpl

@hookimpl
def lowcode_faas_storage(environ):
    raise ConfigurationError(["LOWCODE_FAAS_DSN is missing"])
"""
    install("dsn-storage", source, "dsn")
    with pytest.raises(ConfigurationError, match=r"^LOWCODE_FAAS_DSN is missing$"):
        registry("dsn").storage({})


@pytest.mark.parametrize("mark", ["@hookimpl\n", ""])
def test_a_misspelt_hook_is_refused_with_the_nearest(install: Install, mark: str) -> None:
    source = GOOD + f"\n{mark}def lowcode_faas_lanucher(environ): ...\n"
    install("typo-storage", source, "typo")
    text = refusal(Selection("LOWCODE_FAAS_STORAGE", STORAGE, ("typo",)))
    assert "lowcode_faas_lanucher is no hook. Did you mean lowcode_faas_launcher?" in text


def test_a_hook_without_its_mark_is_refused(install: Install) -> None:
    install("bare-storage", GOOD.replace("@hookimpl", ""), "bare")
    text = refusal(Selection("LOWCODE_FAAS_STORAGE", STORAGE, ("bare",)))
    assert "lowcode_faas_storage is not marked with @hookimpl" in text


def test_a_hook_with_another_signature_is_refused(install: Install) -> None:
    install("old-storage", GOOD.replace("(environ)", "(environ, options)"), "old")
    text = refusal(Selection("LOWCODE_FAAS_STORAGE", STORAGE, ("old",)))
    assert "hooks do not fit this version" in text
    assert "options" in text


BOTH = """
from lowcode_faas_core.hookspecs import hookimpl
from lowcode_faas_core.testing.stub_launcher import StubLauncher

@hookimpl
def lowcode_faas_launcher(environ):
    return None if "other" in environ else StubLauncher()

@hookimpl
def lowcode_faas_runner(environ):
    return "no runner" if "other" in environ or "both" in environ else None
"""


def test_of_both_kinds_of_runner_a_plugin_builds_the_one_it_is_asked_for(install: Install) -> None:
    install("both-runner", BOTH, "both")
    found = PluginRegistry([Selection("LOWCODE_FAAS_RUNNER", RUNNER, ("both",))])
    assert type(found.runner({})).__name__ == "StubLauncher"
    with pytest.raises(PluginError, match="lowcode_faas_runner returned a str"):
        found.runner({"other": "1"})
    with pytest.raises(PluginError, match="one only"):
        found.runner({"both": "1"})


def test_every_problem_of_every_selection_is_reported_at_once(install: Install) -> None:
    install("broken-plugin", BROKEN, "broken")
    text = refusal(
        Selection("LOWCODE_FAAS_STORAGE", STORAGE, ("broken",)),
        Selection("LOWCODE_FAAS_RUNNER", RUNNER, ("nothing-like-it",)),
    )
    assert len(text.split("\n")) == 2


def test_factories_are_addressed_never_broadcast(install: Install) -> None:
    # Given a storage and a further plugin that could build a storage, too
    install("third-storage", GOOD, "third")
    install("other-storage", GOOD.replace("environ\n", "{'other': '1'}\n"), "other")
    found = PluginRegistry(
        [
            Selection("LOWCODE_FAAS_STORAGE", STORAGE, ("third",)),
            Selection("LOWCODE_FAAS_PLUGINS", FURTHER, ("other",)),
        ]
    )
    # Then the one that the variable names is asked
    assert found.storage({}).environ == {}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("hook", "role", "module", "abstract"),
    [
        ("lowcode_faas_storage", STORAGE, "storage", "Storage"),
        ("lowcode_faas_launcher", RUNNER, "launcher", "Launcher"),
        ("lowcode_faas_runner", RUNNER, "runner", "Runner"),
        ("lowcode_faas_log_sink", SINK, "log_sink", "LogSink"),
        ("lowcode_faas_execution_store", EXECUTIONS, "executions", "ExecutionStore"),
        ("lowcode_faas_source_fetcher", FETCHER, "source", "SourceFetcher"),
    ],
)
def test_each_factory_builds_an_object_of_its_role(
    install: Install, hook: str, role: Role, module: str, abstract: str
) -> None:
    source = f"""
from lowcode_faas_core.hookspecs import hookimpl
from lowcode_faas_core.interfaces.{module} import {abstract}

methods = dict.fromkeys({abstract}.__abstractmethods__, lambda *given: None)
Built = type("Built", ({abstract},), methods)

@hookimpl
def {hook}(environ):
    return Built()
"""
    install("role-plugin", source, "role")
    found = PluginRegistry([Selection("LOWCODE_FAAS_X", role, ("role",))])
    build = {
        STORAGE: found.storage,
        RUNNER: found.runner,
        SINK: lambda environ: found.sinks(environ)["role"],
        EXECUTIONS: found.executions,
        FETCHER: lambda environ: found.fetchers(environ)[0],
    }
    assert type(build[role]({})).__mro__[1].__name__ == abstract


def test_no_execution_store_is_a_choice() -> None:
    assert PluginRegistry([]).executions({}) is None


def test_a_storage_that_keeps_no_executions_is_passed_over_unless_named(install: Install) -> None:
    install("third-storage", GOOD, "third")
    storage = Selection("LOWCODE_FAAS_STORAGE", STORAGE, ("third",))
    unasked = Selection("LOWCODE_FAAS_STORAGE", EXECUTIONS, ("third",), unasked=True)
    assert PluginRegistry([storage, unasked]).executions({}) is None
    named = Selection("LOWCODE_FAAS_EXECUTIONS", EXECUTIONS, ("third",))
    with pytest.raises(PluginError, match="is no execution store"):
        PluginRegistry([storage, named])


SETTINGS = """
from dataclasses import dataclass
from lowcode_faas_core.hookspecs import hookimpl
from lowcode_faas_core.settings import setting, integer

@dataclass(frozen=True)
class Third:
    size: int = setting("THIRD_SIZE", integer(1), "5", "Size.")

@hookimpl
def lowcode_faas_settings():
    return [Third]
"""


def test_the_settings_of_each_selected_plugin_are_listed_once(install: Install) -> None:
    install("third-storage", GOOD + SETTINGS, "third", "again")
    found = PluginRegistry(
        [
            Selection("LOWCODE_FAAS_STORAGE", STORAGE, ("third",)),
            Selection("LOWCODE_FAAS_PLUGINS", FURTHER, ("again",)),
        ]
    )
    assert [cls.__name__ for cls in found.settings_classes()] == ["Third"]


@pytest.mark.parametrize("answer", ["5", "[int]", "['x']"])
def test_settings_that_are_no_settings_classes_are_refused(install: Install, answer: str) -> None:
    source = GOOD + SETTINGS.replace("[Third]", answer)
    install("third-storage", source, "third")
    with pytest.raises(PluginError, match="did not return settings classes"):
        registry("third").settings_classes()


def test_the_application_is_shown_to_each_selected_plugin_once(install: Install) -> None:
    from flask import Flask

    source = """
from lowcode_faas_core.hookspecs import hookimpl

@hookimpl
def lowcode_faas_app_created(app):
    app.config["SEEN"] = app.config.get("SEEN", 0) + 1
"""
    install("third-storage", GOOD + source, "third", "again")
    install("metrics", source, "metrics")
    found = PluginRegistry(
        [
            Selection("LOWCODE_FAAS_STORAGE", STORAGE, ("third",)),
            Selection("LOWCODE_FAAS_PLUGINS", FURTHER, ("again", "metrics")),
        ]
    )
    app = Flask("x")
    found.app_created(app)
    assert app.config["SEEN"] == 2
