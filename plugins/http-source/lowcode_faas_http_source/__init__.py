"""Fetches sources by https, from where anybody may: never from inside the operator's network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lowcode_faas_core.hookspecs import hookimpl
from lowcode_faas_core.interfaces.source import SourceFetcher
from lowcode_faas_core.settings import read
from lowcode_faas_http_source.fetcher import HttpSourceFetcher
from lowcode_faas_http_source.settings import HttpSourceSettings

__all__ = ["HttpSourceFetcher", "HttpSourceSettings"]


@hookimpl
def lowcode_faas_settings() -> Sequence[type[Any]]:
    """Declare the variables of this plugin."""
    return (HttpSourceSettings,)


@hookimpl
def lowcode_faas_source_fetcher(environ: Mapping[str, str]) -> SourceFetcher:
    """Build the fetcher; nothing is connected before the first fetch."""
    return HttpSourceFetcher(read(environ, HttpSourceSettings))
