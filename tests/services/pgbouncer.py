"""A PgBouncer of the tests' own before a PostgreSQL server: each transaction gets any connection."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import psycopg2.extensions

from tests.services.debian import install
from tests.services.postgres import Absent, GivenPostgres, answers
from tests.services.processes import WITH_ME, Server, free_port

__all__ = ["PgBouncer"]

#: PgBouncer refuses to run as root.
_NOBODY = ["setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]


class PgBouncer:
    """Pools connections by transaction; with two to the server, callers take turns on them."""

    def __init__(self, folder: Path, behind: GivenPostgres) -> None:
        self.port = free_port()
        server = psycopg2.extensions.parse_dsn(behind.dsn())
        program = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
        if not Path(program).exists():
            install("pgbouncer")
        if not Path(program).exists():
            raise Absent("pgbouncer is not installed: apt install pgbouncer")
        settings = folder / "pgbouncer.ini"
        settings.write_text(
            "[databases]\n"
            + "* = "
            + " ".join(f"{key}={server[key]}" for key in ("host", "port", "user"))
            + "\n"
            "[pgbouncer]\n"
            f"listen_addr = 127.0.0.1\nlisten_port = {self.port}\nunix_socket_dir =\n"
            "auth_type = any\npool_mode = transaction\ndefault_pool_size = 2\n"
            "max_client_conn = 500\n"
        )
        settings.chmod(0o644)
        folder.chmod(0o755)
        as_nobody = _NOBODY if os.geteuid() == 0 else []
        self.server = Server(
            [*as_nobody, *WITH_ME, program, str(settings)],
            folder / "log",
            self.answers,
            stop=signal.SIGINT,
        )

    def dsn(self, database: str = "postgres") -> str:
        """Return how a database is reached through it, which knows no ``options``."""
        return f"host=127.0.0.1 port={self.port} user=faas dbname={database} options=''"

    def answers(self) -> bool:
        """Tell whether it can be connected to now."""
        return answers(self.dsn())
