from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from lowcode_faas_http_source import (
    HttpSourceFetcher,
    lowcode_faas_settings,
    lowcode_faas_source_fetcher,
)

from lowcode_faas_core.testing.source_fetcher_contract import SourceFetcherContract


class TestHttpSource(SourceFetcherContract):
    @pytest.fixture
    def server(self, serve: Callable[..., Any]) -> Any:
        return serve()

    @pytest.fixture
    def fetcher(self, fetcher_of: Callable[..., HttpSourceFetcher], server: Any) -> Any:
        return fetcher_of(server)

    @pytest.fixture
    def publish(self, server: Any, answer: Callable[..., bytes]) -> Callable[[bytes], str]:
        def publish(source: bytes) -> str:
            etag = f'"{hashlib.sha256(source).hexdigest()}"'

            def script(peer: Any, head: str) -> None:
                if not head.startswith("GET /greet.mjs "):
                    peer.sendall(answer(404, b""))
                elif f"If-None-Match: {etag}" in head:
                    peer.sendall(answer(304, b"", ETag=etag))
                else:
                    peer.sendall(answer(200, source, ETag=etag))

            server.script = script
            return str(server.url)

        return publish


def test_it_is_built_from_its_variables() -> None:
    (settings,) = lowcode_faas_settings()
    assert settings().allow_ports == {443}
    fetcher = lowcode_faas_source_fetcher({"LOWCODE_FAAS_SOURCE_ALLOW_HTTP": "true"})
    assert isinstance(fetcher, HttpSourceFetcher)
    fetcher.close()
