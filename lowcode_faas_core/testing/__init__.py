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
``docs/testing-a-plugin.md`` lists contracts, fixtures and stubs.
"""
