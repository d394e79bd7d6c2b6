from __future__ import annotations

import pytest
from lowcode_faas_core.errors import SourceBlocked, SourceUnavailable
from lowcode_faas_core.interfaces.source import FetchLimits
from lowcode_faas_core.testing.source_fetcher_contract import SourceFetcherContract

from lowcode_faas_placeholder import lowcode_faas_source_fetcher


class TestFolderFetcher(SourceFetcherContract):
    @pytest.fixture
    def fetcher(self, tmp_path):
        environ = {"LOWCODE_FAAS_PLACEHOLDER_FOLDER": str(tmp_path)}
        return lowcode_faas_source_fetcher(environ)

    @pytest.fixture
    def publish(self, tmp_path):
        def put(source):
            (tmp_path / "greet.mjs").write_bytes(source)
            return "placeholder:greet.mjs"

        return put

    def test_names_lead_nowhere_else(self, fetcher, tmp_path):
        (tmp_path / "link").symlink_to(__file__)
        limits = FetchLimits(max_bytes=10_000, timeout_s=5)
        for name in ("..", "../x", "/etc/passwd", ".hidden", "a/b", "a\0b"):
            with pytest.raises(SourceBlocked):
                fetcher.fetch(f"placeholder:{name}", limits)
        with pytest.raises(SourceUnavailable):
            fetcher.fetch("placeholder:link", limits)
