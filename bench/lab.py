"""Where a row is measured: its services, its peers and what those need, ended in reverse order.

Whatever ends the measurement, an error or Ctrl-C, leaving the lab ends what was started in it; when
this process is killed, the kernel kills the servers (``bench.servers``).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from bench import peers
from bench.servers import COMMAND, ROOT, Server, Service, Unmeasurable
from lowcode_faas_core.configuration import ServerSettings
from lowcode_faas_core.settings import read_settings
from tests.docker import engine
from tests.services.fixtures import server_folder
from tests.services.postgres import Absent, Postgres
from tests.services.s3 import Rclone

__all__ = ["HELLO", "Lab", "node"]

HELLO = "export const handler = ({ name }) => ({ ok: true, data: { message: `hello ${name}` } });"


def node() -> Path:
    """Return the Node that the process runner uses."""
    script = ROOT / "scripts" / "node_path.py"
    return Path(subprocess.check_output([sys.executable, script], text=True).strip())


class Lab:
    """Starts what a row asks for; a context manager."""

    def __init__(self) -> None:
        """Start nothing yet."""
        self._stack = contextlib.ExitStack()
        self.folder = Path()

    def __enter__(self) -> Lab:
        """Make a folder for everything."""
        kept = tempfile.TemporaryDirectory(prefix="faas-bench-", ignore_cleanup_errors=True)
        self.folder = Path(self._stack.enter_context(kept))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End everything, the last started first."""
        self._stack.close()

    def service(
        self,
        name: str = "lowcode-faas",
        settings: Mapping[str, str] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> Service:
        """Start the service on its defaults but for ``settings``; it asks for a token, as by default.

        ``settings`` are named without their prefix, ``environ`` is passed on as it is.
        """
        data, variables = self._variables(name, settings)
        prefixed = {f"LOWCODE_FAAS_{key}": value for key, value in variables.items()}
        made = subprocess.run(
            [COMMAND, "token", "create", "bench"],
            env={**os.environ, **prefixed},
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            raise Unmeasurable(f"{name} makes no token: {made.stderr.strip()[-300:]}")
        headers = {"Authorization": f"Bearer {made.stdout.strip()}"}
        return self._ready(Service(name, data, variables, headers, environ))

    def worker(self, name: str = "worker", settings: Mapping[str, str] | None = None) -> Service:
        """Start what runs invocations for a dispatcher; the two of them share ``WORKER_TOKEN``."""
        data, variables = self._variables(name, settings)
        return self._ready(Service(name, data, variables, role="worker"))

    def echo(self) -> Server:
        """Start the bare Flask application."""
        (settings,) = read_settings({}, ServerSettings)
        return self._started([peers.echo(settings.workers, settings.threads, peers.HEADERS)])[0]

    def hosts(self) -> list[Server]:
        """Start the other hosts of functions that are there, each as one process."""
        return [self.bare(), *self._started(peers.others(node(), self.folder, peers.HEADERS))]

    def bare(self) -> Server:
        """Start the bare server of Node."""
        return self._started([peers.bare(node(), peers.HEADERS)])[0]

    def engine(self) -> tuple[str, dict[str, str]]:
        """Return an image with Node, and the variables that name the Docker Engine it is at.

        The engine that answers is used; where none does, root gets a private one.

        :raises Unmeasurable: there is none, and none can be started.
        """
        variables = {}
        if not engine.is_there():
            if os.geteuid() != 0 or shutil.which("dockerd") is None:
                raise Unmeasurable("no Docker Engine answers, and none can be started")
            try:
                own = self._stack.enter_context(engine.private())
            except SystemExit as error:
                raise Unmeasurable(str(error.code).partition("\n")[0]) from error
            variables["DOCKER_HOST"] = own.address
        made = subprocess.run(
            [sys.executable, ROOT / "tests" / "docker" / "image.py", "24"],
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            raise Unmeasurable(f"no image with Node can be made: {made.stderr.strip()[-300:]}")
        return made.stdout.strip(), variables

    def database(self) -> dict[str, str]:
        """Start PostgreSQL and S3; return the settings by which ``db_s3`` reaches them.

        :raises Unmeasurable: one of them is not there.
        """
        try:
            postgres = Postgres(server_folder(self._stack, "pg"))
            s3 = Rclone(server_folder(self._stack, "s3"))
        except Absent as absent:
            raise Unmeasurable(str(absent)) from absent
        for server in (postgres.server, s3.server):
            self._stack.callback(server.stop)
            server.start()
        settings = {
            "STORAGE": "db_s3",
            "POSTGRES_DSN": f"postgresql://faas@127.0.0.1:{postgres.port}/postgres",
            "S3_ENDPOINT": s3.endpoint,
            "S3_BUCKET": s3.bucket(),
            "S3_ACCESS_KEY": s3.access_key,
            "S3_SECRET_KEY": s3.secret_key,
        }
        return settings

    def _variables(
        self, name: str, settings: Mapping[str, str] | None
    ) -> tuple[Path, dict[str, str]]:
        data = self.folder / name
        # The notice is for balancers: without it the next service starts two seconds sooner.
        variables = {"RUNNER": "process", "DRAIN_NOTICE_S": "0", **(settings or {})}
        return data, {"DATA_DIR": str(data), **variables}

    def _ready(self, service: Service) -> Service:
        self._stack.callback(service.stop)
        service.wait()
        return service

    def _started(self, servers: list[Server]) -> list[Server]:
        for server in servers:
            self._stack.callback(server.stop)
        for server in servers:
            server.wait()
        return servers
