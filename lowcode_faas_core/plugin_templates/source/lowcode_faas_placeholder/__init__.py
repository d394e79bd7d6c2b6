"""Takes sources from a folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lowcode_faas_core.hookspecs import hookimpl
from lowcode_faas_core.interfaces.source import SourceFetcher
from lowcode_faas_core.settings import read

from lowcode_faas_placeholder.fetcher import FolderFetcher
from lowcode_faas_placeholder.settings import FolderSettings

__all__ = ["FolderFetcher", "FolderSettings"]


@hookimpl
def lowcode_faas_settings() -> Sequence[type[Any]]:
    """Declare the variables of this plugin."""
    return [FolderSettings]


@hookimpl
def lowcode_faas_source_fetcher(environ: Mapping[str, str]) -> SourceFetcher:
    """Build the fetcher; the folder is looked at when something is fetched."""
    return FolderFetcher(read(environ, FolderSettings).folder)
