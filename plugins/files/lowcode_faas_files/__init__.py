"""Storage of lowcode-faas in a folder of plain files, which people may edit by hand.

And beside it, in one SQLite database, what ran.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from lowcode_faas_core.hookspecs import hookimpl

if TYPE_CHECKING:
    from lowcode_faas_core.interfaces.examination import Examination
    from lowcode_faas_core.interfaces.executions import ExecutionStore
    from lowcode_faas_core.interfaces.storage import Storage

__all__ = [
    "lowcode_faas_examination",
    "lowcode_faas_execution_store",
    "lowcode_faas_settings",
    "lowcode_faas_storage",
]


@hookimpl
def lowcode_faas_settings() -> Sequence[type[Any]]:
    """Name the plugin's variables."""
    from lowcode_faas_files.settings import FilesSettings

    return [FilesSettings]


@hookimpl
def lowcode_faas_storage(environ: Mapping[str, str]) -> Storage:
    """Build the storage; nothing on disk is touched before its first use."""
    from lowcode_faas_core.configuration import LimitSettings, PoolSettings
    from lowcode_faas_core.settings import read_settings
    from lowcode_faas_files.settings import FilesSettings
    from lowcode_faas_files.storage import FilesStorage

    own, limits, pool = read_settings(environ, FilesSettings, LimitSettings, PoolSettings)
    return FilesStorage(
        own.data_dir,
        keep_versions=own.keep_versions,
        source_bytes=limits.source_bytes,
        default_reuse=pool.reuse,
    )


@hookimpl
def lowcode_faas_execution_store(environ: Mapping[str, str]) -> ExecutionStore:
    """Build the store of executions; nothing on disk is touched before its first use."""
    from lowcode_faas_core.settings import read
    from lowcode_faas_files.executions.store import SqliteExecutions
    from lowcode_faas_files.settings import FilesSettings

    return SqliteExecutions(read(environ, FilesSettings).data_dir)


@hookimpl
def lowcode_faas_examination(environ: Mapping[str, str]) -> Examination:
    """Build what ``lowcode-faas doctor`` looks at."""
    from lowcode_faas_core.catalogue import fold
    from lowcode_faas_core.configuration import BackendSettings
    from lowcode_faas_core.settings import read_settings
    from lowcode_faas_files.examination import LookAtFiles
    from lowcode_faas_files.settings import FilesSettings

    own, backends = read_settings(environ, FilesSettings, BackendSettings)
    return LookAtFiles(
        own,
        storage=fold(backends.storage) == "files",
        executions=fold(backends.executions or backends.storage) == "files",
    )
