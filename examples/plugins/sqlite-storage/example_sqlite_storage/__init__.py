"""Keeps functions, collections and their env in an SQLite database."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from example_sqlite_storage.storage import SqliteStorage
from lowcode_faas_core.hookspecs import hookimpl
from lowcode_faas_core.interfaces.storage import Storage
from lowcode_faas_core.settings import path, read, setting

__all__ = ["SqliteSettings", "SqliteStorage"]


@dataclass(frozen=True)
class SqliteSettings:
    """Where the database is."""

    file: Path = setting("EXAMPLE_SQLITE_FILE", path, "functions.sqlite", "The database's file.")


@hookimpl
def lowcode_faas_settings() -> Sequence[type[Any]]:
    """Declare the variables of this plugin."""
    return [SqliteSettings]


@hookimpl
def lowcode_faas_storage(environ: Mapping[str, str]) -> Storage:
    """Build the storage; the database is opened at its first use."""
    return SqliteStorage(read(environ, SqliteSettings).file)
