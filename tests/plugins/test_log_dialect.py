from __future__ import annotations

from collections.abc import Callable

import pytest

from lowcode_faas_core.errors import PluginError
from lowcode_faas_core.interfaces.log_dialect import LogFilter
from lowcode_faas_core.logquery.queries import LogQueries
from lowcode_faas_core.plugins import FURTHER, PluginRegistry, Selection

SOURCE = """
from lowcode_faas_core.hookspecs import hookimpl
from lowcode_faas_core.interfaces.log_dialect import LogDialect

class Splunk(LogDialect):
    name = "splunk_spl"

    def query(self, wanted):
        return f"run_id={wanted.run_id}"

@hookimpl
def lowcode_faas_log_dialect(environ):
    return RESULT
"""


def registry(install: Callable[..., str], result: str) -> PluginRegistry:
    install("splunk-dialect", SOURCE.replace("RESULT", result), "splunk")
    return PluginRegistry([Selection("LOWCODE_FAAS_PLUGINS", FURTHER, ("splunk",))])


def test_a_plugin_adds_a_dialect(install: Callable[..., str]) -> None:
    queries = LogQueries({"job": "x"}, "", registry(install, "Splunk()").log_dialects({}))
    assert queries.answer(LogFilter(run_id="a"))["splunk_spl"] == "run_id=a"


def test_what_is_no_dialect_is_named(install: Callable[..., str]) -> None:
    with pytest.raises(PluginError, match=r'"splunk".*returned a str, not a .*LogDialect'):
        registry(install, "'x'").log_dialects({})


def test_a_plugin_may_decide_to_have_none(install: Callable[..., str]) -> None:
    assert registry(install, "None").log_dialects({}) == []
