"""A PostgreSQL server of the tests' own: 16 from the package ``pgserver``, or 15 from Debian."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import psycopg2
import psycopg2.extensions

from tests.services.debian import install
from tests.services.processes import WITH_ME, Server, free_port

__all__ = ["Absent", "GivenPostgres", "Postgres", "answers", "binaries"]

#: Who runs it where the tests are root: PostgreSQL refuses to.
_NOBODY = ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]
_SETTINGS = (
    "listen_addresses = '127.0.0.1'",
    # What these tests lose by a crash of the machine, they do not miss.
    "fsync = off",
    "full_page_writes = off",
    "max_connections = 120",
    "shared_buffers = 32MB",
    "logging_collector = off",
    "autovacuum_naptime = 5min",
)


class Absent(Exception):
    """Raised when a server is not installed, and cannot be."""


def binaries(major: int) -> Path:
    """Return the folder of a version's programs; in continuous integration Debian's is installed.

    :raises Absent: when there is none.
    """
    if major == 16:
        package = importlib.util.find_spec("pgserver")
        if package is None or package.origin is None:
            raise Absent("the package pgserver is not installed: make .venv/.dev")
        return Path(package.origin).parent / "pginstall" / "bin"
    found = Path(f"/usr/lib/postgresql/{major}/bin")
    if not (found / "initdb").exists():
        install(f"postgresql-{major}")
    if not (found / "initdb").exists():
        raise Absent(f"no PostgreSQL {major} at {found}: apt install postgresql-{major}")
    return found


def _copied(found: Path, folder: Path) -> Path:
    """Copy the package's programs; they look for their libraries beside the package."""
    package = found.parent.parent
    shutil.copytree(package / "pginstall", folder / "pgserver" / "pginstall", symlinks=True)
    shutil.copytree(package.with_name("pgserver.libs"), folder / "pgserver.libs", symlinks=True)
    return folder / "pgserver" / "pginstall" / "bin"


def answers(dsn: str) -> bool:
    """Tell whether somebody takes a connection now."""
    try:
        psycopg2.connect(dsn, connect_timeout=2).close()
    except psycopg2.OperationalError:
        return False
    return True


class GivenPostgres:
    """A server that somebody else runs: databases are made in it, nothing else is touched."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    def dsn(self, database: str = "", *, socket: bool = False) -> str:
        """Return how a database is reached; by socket where the given address is one."""
        del socket
        return psycopg2.extensions.make_dsn(self._dsn, **({"dbname": database} if database else {}))

    def execute(self, statement: str, database: str = "") -> list[Any]:
        """Run one statement outside a transaction."""
        connection = psycopg2.connect(self.dsn(database), connect_timeout=5)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def database(self) -> str:
        """Make an empty database and return its name."""
        name = f"t_{secrets.token_hex(6)}"
        self.execute(f"CREATE DATABASE {name}")
        return name


class Postgres(GivenPostgres):
    """One server in a folder of its own, reached by TCP and by a socket.

    ``copy_of``: a standby of that one, which runs.
    """

    def __init__(self, folder: Path, major: int = 16, copy_of: Postgres | None = None) -> None:
        self.folder = folder
        self.port = free_port()
        found = binaries(major)
        self._as_nobody: list[str] = []
        if os.geteuid() == 0:
            self._as_nobody = _NOBODY
            shutil.chown(folder, "nobody", "nogroup")
            folder.chmod(0o755)
            if major == 16:
                # A checkout below a folder of root's alone can be read by nobody else.
                found = _copied(found, folder)
        self._data = folder / "data"
        if copy_of is None:
            self._run(
                str(found / "initdb"),
                *("--pgdata", str(self._data), "--username", "faas", "--auth", "trust"),
                *("--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync"),
            )
        else:
            self._run(
                str(found / "pg_basebackup"),
                *("--pgdata", str(self._data), "--write-recovery-conf", "--no-sync"),
                *("--checkpoint", "fast", "--dbname", copy_of.dsn()),
            )
        lines = [*_SETTINGS, f"port = {self.port}", f"unix_socket_directories = '{folder}'"]
        with (self._data / "postgresql.conf").open("a") as settings:
            settings.write("\n".join(lines) + "\n")
        # SIGINT is PostgreSQL's fast shutdown: it waits for no client.
        self.server = Server(
            [*self._as_nobody, *WITH_ME, str(found / "postgres"), "-D", str(self._data)],
            folder / "log",
            self.answers,
            stop=signal.SIGINT,
        )

    def dsn(self, database: str = "", *, socket: bool = False) -> str:
        """Return how a database is reached."""
        host = str(self.folder) if socket else "127.0.0.1"
        return f"host={host} port={self.port} user=faas dbname={database or 'postgres'}"

    def answers(self) -> bool:
        """Tell whether it can be connected to now."""
        return answers(self.dsn())

    def _run(self, *command: str) -> None:
        done = subprocess.run(
            [*self._as_nobody, *command], cwd="/", check=False, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(f"{command[0]}:\n{done.stdout}{done.stderr}")
