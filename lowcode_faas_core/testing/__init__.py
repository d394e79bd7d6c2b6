"""The test kit: what a plugin must hold, and stubs to build tests on.

Whoever writes a plugin subclasses the contract of its role and gives one fixture::

    from lowcode_faas_core.testing.storage_contract import StorageContract

    class TestMyStorage(StorageContract):
        @pytest.fixture
        def storage(self):
            storage = MyStorage(...)
            yield storage
            storage.close()

The contracts need pytest (``pip install lowcode-faas-core[testing]``), the stubs do not.
"""

from __future__ import annotations

from contextlib import suppress

with suppress(ImportError):
    import pytest

    # Without it a failed check of a contract would say "AssertionError" and nothing else.
    pytest.register_assert_rewrite(
        "lowcode_faas_core.testing.executions_contract",
        "lowcode_faas_core.testing.launcher_contract",
        "lowcode_faas_core.testing.log_sink_contract",
        "lowcode_faas_core.testing.runner_contract",
        "lowcode_faas_core.testing.source_fetcher_contract",
        "lowcode_faas_core.testing.storage_concurrency",
        "lowcode_faas_core.testing.storage_contract",
    )
