"""Storage of lowcode-faas for several machines: records in PostgreSQL, sources in S3.

And in the same database, what ran.
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
    from lowcode_faas_db_s3.settings import PostgresSettings, S3Settings

    return [PostgresSettings, S3Settings]


@hookimpl
def lowcode_faas_storage(environ: Mapping[str, str]) -> Storage:
    """Build the storage; a database that does not answer now is waited for by its first use."""
    from lowcode_faas_core.settings import read_settings
    from lowcode_faas_db_s3.settings import PostgresSettings, S3Settings
    from lowcode_faas_db_s3.storage import DbS3Storage

    postgres, s3 = read_settings(environ, PostgresSettings, S3Settings)
    return DbS3Storage.open(postgres, s3)


@hookimpl
def lowcode_faas_execution_store(environ: Mapping[str, str]) -> ExecutionStore:
    """Build the store of executions; nothing is connected before its first use."""
    from lowcode_faas_core.settings import read
    from lowcode_faas_db_s3.executions.store import PostgresExecutions
    from lowcode_faas_db_s3.settings import PostgresSettings

    return PostgresExecutions(read(environ, PostgresSettings))


@hookimpl
def lowcode_faas_examination(environ: Mapping[str, str]) -> Examination:
    """Build what ``lowcode-faas doctor`` looks at."""
    from lowcode_faas_core.configuration import ServerSettings
    from lowcode_faas_core.settings import read_settings
    from lowcode_faas_db_s3.examination import BothServers
    from lowcode_faas_db_s3.settings import PostgresSettings, S3Settings

    server, postgres, s3 = read_settings(environ, ServerSettings, PostgresSettings, S3Settings)
    return BothServers(postgres, s3, processes=server.workers)
