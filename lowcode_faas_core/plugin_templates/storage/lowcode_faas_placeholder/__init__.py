"""Keeps functions, collections and their env in one file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lowcode_faas_core.hookspecs import hookimpl
from lowcode_faas_core.interfaces.storage import Storage
from lowcode_faas_core.settings import read

from lowcode_faas_placeholder.settings import FileSettings
from lowcode_faas_placeholder.storage import FileStorage

__all__ = ["FileSettings", "FileStorage"]


@hookimpl
def lowcode_faas_settings() -> Sequence[type[Any]]:
    """Declare the variables of this plugin."""
    return [FileSettings]


@hookimpl
def lowcode_faas_storage(environ: Mapping[str, str]) -> Storage:
    """Build the storage; nothing is opened before its first use."""
    return FileStorage(read(environ, FileSettings).file)
