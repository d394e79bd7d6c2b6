"""What ``lowcode-faas doctor`` looks at: the data folder as the storage sees it, and what ran."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from typing import Final

from lowcode_faas_core.errors import FaasError
from lowcode_faas_core.findings import Finding, failure, fine, warning
from lowcode_faas_core.interfaces.examination import Examination
from lowcode_faas_files.executions.database import OLDEST_SQLITE, SCHEMA_VERSION
from lowcode_faas_files.executions.store import SqliteExecutions
from lowcode_faas_files.settings import FilesSettings
from lowcode_faas_files.storage import FilesStorage

__all__ = ["LookAtFiles"]

MAGIC: Final = b"SQLite format 3\0"
#: Where a database's header has the number that its users give the schema, big-endian.
USER_VERSION: Final = slice(60, 64)


class LookAtFiles(Examination):
    """Reads; a database is judged by its header, since opening it would make files beside it."""

    def __init__(self, settings: FilesSettings, *, storage: bool, executions: bool) -> None:
        self._settings = settings
        self._storage = storage
        self._executions = executions

    def findings(self) -> Iterator[Finding]:
        """See :class:`Examination`."""
        if self._storage:
            yield from self._functions()
        if self._executions:
            yield from self._records()

    def _functions(self) -> Iterator[Finding]:
        with closing(FilesStorage(self._settings.data_dir)) as storage:
            try:
                storage.check()
            except FaasError as error:
                yield failure("storage", f"files: {error.detail}")
                return
        yield fine("storage", "files works")
        if self._settings.keep_versions == 1:
            yield warning(
                "storage",
                "only the current version of a function keeps its bytes: no rollback, no pinned "
                "version; raise LOWCODE_FAAS_FILES_KEEP_VERSIONS",
            )

    def _records(self) -> Iterator[Finding]:
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            yield failure("executions", f"SQLite {sqlite3.sqlite_version} is too old")
        path = SqliteExecutions.place(self._settings.data_dir)
        try:
            with path.open("rb") as file:
                header = file.read(USER_VERSION.stop)
        except FileNotFoundError:
            yield fine("executions", f"{path} is not there yet; it is made at the first run")
            return
        except OSError as error:
            yield failure("executions", f"{path} cannot be read: {error.strerror}")
            return
        version = int.from_bytes(header[USER_VERSION])
        if header and not header.startswith(MAGIC):
            yield failure("executions", f"{path} is not a database of SQLite")
        elif version > SCHEMA_VERSION:
            yield failure(
                "executions",
                f"{path} has schema {version}, which this release does not know: upgrade here",
            )
        else:
            yield fine("executions", f"{path} is there, for SQLite {sqlite3.sqlite_version}")
