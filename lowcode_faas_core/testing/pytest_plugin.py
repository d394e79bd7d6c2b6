"""Makes pytest explain failed checks of the contracts, and know their mark; loaded by pytest itself."""

from __future__ import annotations

import pytest

__all__ = ["pytest_configure"]

# Without it a failed check of a contract would say "AssertionError" and nothing else.
pytest.register_assert_rewrite(
    *(
        f"lowcode_faas_core.testing.{name}"
        for name in (
            "authenticator_contract",
            "executions_contract",
            "executions_upkeep",
            "launcher_contract",
            "launcher_ends",
            "launcher_speaker",
            "log_sink_contract",
            "metrics_contract",
            "runner_contract",
            "source_fetcher_contract",
            "storage_collections",
            "storage_concurrency",
            "storage_contract",
            "storage_versions",
        )
    )
)


def pytest_configure(config: pytest.Config) -> None:
    """Declare the mark that some checks carry, for those who run with ``--strict-markers``."""
    config.addinivalue_line(
        "markers", "fault(N): the row of the table of faults and threats this test holds"
    )
