"""Prints the mutation score at the end of the session."""

from __future__ import annotations

import pytest

_score: list[str] = []


@pytest.fixture(scope="session")
def score() -> list[str]:
    """Lines to print at the end of the session."""
    return _score


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for line in _score:
        terminalreporter.line(line)
