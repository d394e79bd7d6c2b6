from __future__ import annotations

from collections.abc import Callable

import pytest

from lowcode_faas_core.doctor.rounds import examine
from lowcode_faas_core.findings import Level
from lowcode_faas_core.startup import ProcessRole, Startup

SOURCE = """
from lowcode_faas_core.findings import fine
from lowcode_faas_core.hookspecs import hookimpl
from lowcode_faas_core.interfaces.examination import Examination

class LookAtQueue(Examination):
    def findings(self):
        yield fine("queue", "answers")
        FAIL

@hookimpl
def lowcode_faas_examination(environ):
    return RESULT
"""


@pytest.fixture
def found(install: Callable[..., str]) -> Callable[..., list[tuple[str, str, str]]]:
    def run(result: str = "LookAtQueue()", fail: str = "") -> list[tuple[str, str, str]]:
        source = SOURCE.replace("RESULT", result).replace("FAIL", fail)
        install("queue-plugin", source, "queue")
        environ = {
            "LOWCODE_FAAS_PLUGINS": "queue",
            "LOWCODE_FAAS_RUNNER": "process",
            "LOWCODE_FAAS_FUNCTION_LOGS": "false",
        }
        startup = Startup.read(environ, ProcessRole.DISPATCHER)
        return [(each.level.value, each.subject, each.text) for each in examine(startup)]

    return run


def test_a_plugin_adds_findings(found) -> None:
    assert ("ok", "queue", "answers") in found()


def test_what_it_raises_is_a_failure_of_it_alone(found) -> None:
    findings = found(fail="raise OSError('broken')")
    assert ("ok", "queue", "answers") in findings
    (failed,) = [each for each in findings if each[0] == Level.FAILURE]
    assert failed[1] == "queue"
    assert "OSError: broken" in failed[2]
    assert ("ok", "runner", "process works") in findings


def test_what_is_no_examination_is_named(found) -> None:
    (failed,) = [each for each in found("'x'") if each[0] == Level.FAILURE]
    assert "returned a str, not a" in failed[2]


def test_a_plugin_may_leave_it_to_its_backend(found) -> None:
    assert "queue" not in {subject for _, subject, _ in found("None")}
