"""Runs tests on several processes, and those that must be alone afterwards: ``-p tests.parallel -n 2``.

Most tests wait for processes, sockets and deadlines, so several at once cost little more than one.
A file's tests stay together, for they may share a service. What compares times or fills the machine
runs alone, on one process, when the others have ended.
"""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

#: Beginnings of the ids of tests that run when no other does.
ALONE = (
    "tests/integration/test_executions.py::test_a_follower_sees_a_line_within_a_fifth_of_a_second",
    "tests/integration/test_fairness.py",
    "tests/integration/test_idle_work.py",
    "tests/integration/test_overload.py",
    "tests/unit/test_arrival.py",
)
#: What shares, beyond a file's tests, what is dear to make: images, wheels, a clone and its .venv.
TOGETHER = (
    "tests/docker/",
    "tests/integration/test_make_run.py",
    "tests/newcomer/",
    "tests/plugins/test_made_plugins.py",
    "tests/shipping/",
)
#: What takes minutes, longest first: begun last, it would be waited for by everybody else.
EARLY = (
    *TOGETHER,
    "tests/integration/test_schemathesis.py",
    "tests/mutations/",
    "tests/nasty/",
    "tests/db_s3/",
    "tests/integration/",
)
#: What the tests' processes have to say at the end, title and lines; the first one prints it.
_told: list[tuple[str, list[str]]] = []


class Scheduling(LoadScopeScheduling):
    """Gives files to whichever process is free, and what is alone to the last that is left."""

    def _split_scope(self, nodeid: str) -> str:
        if nodeid.startswith(ALONE):
            return "alone"
        return "together" if nodeid.startswith(TOGETHER) else nodeid.partition("::")[0]

    @property
    def _must_wait(self) -> bool:
        return next(iter(self.workqueue), "") == "alone" and len(self.nodes) > 1

    def _assign_work_unit(self, node: WorkerController) -> None:
        if not self._must_wait:
            super()._assign_work_unit(node)

    def _reschedule(self, node: WorkerController) -> None:
        if not self._must_wait:
            super()._reschedule(node)
        # A process keeps its last test back until it is told what follows, or that nothing does.
        elif self._pending_of(self.assigned_work[node]) <= 2 and any(
            other is not node and not other.shutting_down for other in self.nodes
        ):
            node.shutdown()

    def remove_node(self, node: WorkerController) -> str | None:
        crashed = super().remove_node(node)
        for left in self.nodes:
            self._reschedule(left)
        return crashed


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> Scheduling:
    # Files come in the order in which they were collected, not by how many tests they have.
    config.option.loadscopereorder = False
    return Scheduling(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if hasattr(config, "workerinput"):
        items.sort(key=_turn)


def _turn(item: pytest.Item) -> tuple[bool, int]:
    early = next((n for n, start in enumerate(EARLY) if item.nodeid.startswith(start)), len(EARLY))
    return item.nodeid.startswith(ALONE), early


def pytest_collection_finish() -> None:
    # Thousands of tests are kept until the end: no collection of garbage need look at them again.
    gc.collect()
    gc.freeze()


class Teller:
    """Takes what a conftest writes to the terminal's summary."""

    def __init__(self) -> None:
        self.said: list[tuple[str, list[str]]] = []

    def section(self, title: str) -> None:
        self.said.append((title, []))

    def line(self, text: str) -> None:
        if not self.said:
            self.section("")
        self.said[-1][1].append(text)


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    # Only the first process has a terminal, and only the others have something to say.
    if not hasattr(session.config, "workerinput"):
        return
    teller = Teller()
    for plugin in session.config.pluginmanager.get_plugins():
        tell = getattr(plugin, "pytest_terminal_summary", None)
        if tell and Path(getattr(plugin, "__file__", None) or "").name == "conftest.py":
            tell(teller)
    session.config.workeroutput["told"] = teller.said  # type: ignore[attr-defined]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: WorkerController) -> None:
    _told.extend(getattr(node, "workeroutput", {}).get("told", ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for title, lines in _told:
        if title:
            terminalreporter.section(title)
        for line in lines:
            terminalreporter.line(line)
