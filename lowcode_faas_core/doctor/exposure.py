"""What was configured: who may call, what travels in the clear, what two roles must share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from lowcode_faas_core.doctor import unix_sockets
from lowcode_faas_core.errors import StartError
from lowcode_faas_core.findings import Finding, failure, fine, warning
from lowcode_faas_core.setting_values import UNIX, is_loopback
from lowcode_faas_core.settings import PREFIX
from lowcode_faas_core.startup import ProcessRole, Startup, address, check_exposure

__all__ = ["callers", "roles", "variables"]


def variables(startup: Startup) -> Iterator[Finding]:
    """Name the variables that nobody reads."""
    odd = startup.warnings()
    for sentence in odd:
        yield warning("variables", sentence)
    if not odd:
        yield fine("variables", "all are known")


def callers(startup: Startup) -> Iterator[Finding]:
    """Say who can call this role."""
    host, port = address(startup.server, startup.role)
    where = f"{host}:{port}"
    if is_loopback(host):
        yield fine("callers", f"{where} is open to this machine only")
    elif startup.server.allow_anonymous:
        yield warning(
            "callers",
            f"{PREFIX}ALLOW_ANONYMOUS is on and {where} can be reached by others: whoever connects "
            "runs code here",
        )
    else:
        try:
            check_exposure(startup.server, startup.role)
        except StartError as error:
            yield failure("callers", error.detail)
        else:
            yield fine("callers", f"whoever connects to {where} is asked for a token")
    if startup.role is ProcessRole.WORKER and startup.server.worker_socket is not None:
        yield from unix_sockets.listener(startup.server.worker_socket, "callers")


def roles(startup: Startup) -> Iterator[Finding]:
    """Say what a worker elsewhere means for a dispatcher."""
    server = startup.server
    if startup.role is not ProcessRole.DISPATCHER or not server.worker_url:
        return
    if server.worker_url.startswith(UNIX):
        # On this machine, and as private as the socket.
        yield from unix_sockets.place(Path(server.worker_url.removeprefix(UNIX)), "worker")
        return
    url = urlsplit(server.worker_url)
    if is_loopback(url.hostname or ""):
        return
    if url.scheme == "http":
        yield warning(
            "worker",
            f"{PREFIX}WORKER_URL is http: the secret, env and input travel in the clear to "
            f"{url.hostname}; keep that network to yourself or put TLS before the worker",
        )
    if not server.worker_token:
        yield warning(
            "worker", f"{PREFIX}WORKER_TOKEN is not set; a worker elsewhere refuses callers then"
        )
    if startup.backends.storage.strip().lower() == "files":
        yield warning(
            "storage",
            f"files needs dispatcher and worker to see one local data folder; if {url.hostname} is "
            "another machine, use db_s3",
        )
