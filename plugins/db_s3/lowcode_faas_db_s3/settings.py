"""The variables of the ``db_s3`` storage."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

import psycopg2.extensions

from lowcode_faas_core.errors import ConfigurationError
from lowcode_faas_core.settings import PREFIX, boolean, integer, setting, text

__all__ = ["PostgresSettings", "S3Settings"]


def _dsn(value: str) -> str:
    stripped = value.strip()
    if stripped:
        try:
            psycopg2.extensions.parse_dsn(stripped)
        except psycopg2.ProgrammingError:
            # libpq's own message may quote the password.
            raise ValueError(
                "must be a PostgreSQL connection string, like "
                "postgresql://user:password@host:5432/database or host=a,b dbname=faas"
            ) from None
    return stripped


def _endpoint(value: str) -> str:
    stripped = value.strip().rstrip("/")
    if stripped:
        parts = urlsplit(stripped)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("must be an http or https URL, like http://s3:8333")
        if parts.username is not None:
            raise ValueError("must not hold credentials; they have variables of their own")
    return stripped


def _prefix(value: str) -> str:
    stripped = value.strip().strip("/")
    if any(part in ("", ".", "..") for part in stripped.split("/")) and stripped:
        raise ValueError("must be a path without empty segments, . and ..")
    return f"{stripped}/" if stripped else ""


@dataclass(frozen=True)
class PostgresSettings:
    """How the database is reached."""

    dsn: str = setting(
        "POSTGRES_DSN",
        _dsn,
        "",
        "Connection string of PostgreSQL (13 or newer); several hosts are tried in order, and the "
        "one that takes writes is used.",
        secret=True,
    )
    pool: int = setting(
        "POSTGRES_POOL",
        integer(1, 1000),
        "4",
        "Connections of each serving process at most, and as many again that only resolve "
        "invocations; who finds all busy waits up to 2 s.",
    )
    executions_pool: int = setting(
        "POSTGRES_EXECUTIONS_POOL",
        integer(1, 1000),
        "2",
        "Connections of each serving process for execution records, beside the others.",
    )

    def require(self) -> None:
        """Raise what a start is refused with when no database is named.

        :raises ConfigurationError: naming the variable.
        """
        if not self.dsn:
            raise ConfigurationError(
                [f"{PREFIX}POSTGRES_DSN must be set for the storage db_s3 (or …_DSN_FILE)"]
            )


@dataclass(frozen=True)
class S3Settings:
    """Where the bucket is, and how it is spoken to."""

    endpoint: str = setting(
        "S3_ENDPOINT", _endpoint, "", "URL of the S3 server; empty: Amazon's own."
    )
    region: str = setting("S3_REGION", text, "us-east-1", "Region that requests are signed for.")
    bucket: str = setting("S3_BUCKET", text, "", "Bucket of the sources; it must exist.")
    access_key: str = setting(
        "S3_ACCESS_KEY",
        text,
        "",
        "Access key; empty: what boto3 finds (its own variables, an instance's role).",
        secret=True,
    )
    secret_key: str = setting("S3_SECRET_KEY", text, "", "Secret key.", secret=True)
    prefix: str = setting(
        "S3_PREFIX", _prefix, "", "Folder inside the bucket under which everything is kept."
    )
    path_style: bool = setting(
        "S3_PATH_STYLE",
        boolean,
        "true",
        "Name the bucket in the path, as S3-compatible servers want it; false: in the host name.",
    )

    def require(self) -> None:
        """Raise what a start is refused with when no bucket is named, or half a key pair.

        :raises ConfigurationError: naming each variable.
        """
        problems = []
        if not self.bucket:
            problems.append(f"{PREFIX}S3_BUCKET must be set for the storage db_s3")
        if bool(self.access_key) != bool(self.secret_key):
            problems.append(f"{PREFIX}S3_ACCESS_KEY and {PREFIX}S3_SECRET_KEY go together")
        if problems:
            raise ConfigurationError(problems)
