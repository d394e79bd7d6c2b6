"""Hosts a role in gunicorn: its settings, its worker class, and the start that reports once.

The modules of the application are imported in the children only: after a reload (SIGHUP) new
workers then run what is installed now, not what the master loaded long ago.
"""

from __future__ import annotations

import ctypes
import importlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from gunicorn.app.base import BaseApplication

from lowcode_faas_core import __version__, deadlines
from lowcode_faas_core.configuration import LimitSettings, PoolSettings, ServerSettings
from lowcode_faas_core.drain import SERVICES, FaasWorker, graceful_timeout_s
from lowcode_faas_core.errors import ConfigurationError, StartError
from lowcode_faas_core.in_flight import cells_of_seats
from lowcode_faas_core.preflight import REFUSED, preflight
from lowcode_faas_core.rates import CELLS_OF_RATES
from lowcode_faas_core.setting_values import UNIX
from lowcode_faas_core.settings import PREFIX, read_settings
from lowcode_faas_core.shared_counts import SharedCounts
from lowcode_faas_core.shared_map import SharedMap
from lowcode_faas_core.startup import ProcessRole, Startup, address, check_exposure, first_token
from lowcode_faas_core.successors import Successors
from lowcode_faas_core.turns import invocation_threads, seats_of
from lowcode_faas_core.unix_listener import Master, check_path

if TYPE_CHECKING:
    from flask import Flask

__all__ = ["announce", "gunicorn_settings", "prepare", "serve"]

PR_SET_PDEATHSIG = 1
#: Seconds a stopping worker gives cancelled runs to answer their callers.
LAST_WORDS_S = 1.0
#: Attribute of gunicorn's master that holds what its workers count together.
SHARED: Final = "lowcode_faas_shared"
#: The same for what is only ever added to.
COUNTS: Final = "lowcode_faas_counts"
#: The same for how many of them began to serve.
SUCCESSORS: Final = "lowcode_faas_successors"
#: Rows for each configured worker, and at least: reloads leave draining workers beside new ones.
ROWS_PER_WORKER: Final = 4
MIN_ROWS: Final = 64


def assign_row(server: Any, worker: Any) -> None:
    """Give a new worker its row of what all of them count; runs in the master, before the fork."""
    rows = getattr(server, SHARED, None)
    if rows is None:
        most = max(MIN_ROWS, ROWS_PER_WORKER * server.cfg.workers)
        rows = SharedMap(most, cells_of_seats(seats_of(server.cfg.threads)) + CELLS_OF_RATES)
        setattr(server, SHARED, rows)
        setattr(server, COUNTS, SharedCounts(most))
        setattr(server, SUCCESSORS, Successors())
    worker.counts = getattr(server, COUNTS)
    worker.successors = getattr(server, SUCCESSORS)
    worker.row = rows.assign()
    if worker.row is None:
        server.log.warning("more workers than rows: one of them counts for itself alone")


def take_row_back(server: Any, worker: Any) -> None:
    """Give the row of a worker that ended to the next one; runs in the master."""
    if worker.row is not None:
        getattr(server, SHARED).release(worker.row)


def after_the_fork(server: Any, worker: Any) -> None:
    """Tie a new worker to its master, and let it count with the others."""
    die_with_master(worker)
    if worker.row is not None:
        worker.shared = getattr(server, SHARED).enter(worker.row)


def die_with_master(worker: Any) -> None:
    """Have the kernel kill this worker when the master ends, however that ends.

    Without it a worker with a request in flight lives on for the graceful timeout after a
    ``kill -9`` of the master, and its sandboxes with it.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        worker.log.warning("prctl(PR_SET_PDEATHSIG): %s", os.strerror(ctypes.get_errno()))
    if os.getppid() != worker.ppid:  # the master ended before the call above took effect
        os._exit(0)


def build_after_the_fork(server: Any) -> None:
    """Undo ``--preload``: what the master built is closed, and each worker builds its own.

    Threads do not survive a fork, sockets and sandboxes would be shared by all workers.
    """
    app, server.app.callable = server.app.callable, None
    if app is not None:
        app.extensions[SERVICES].close()
        server.log.warning("preload_app is ignored: every worker builds its own services")


def close_services(server: Any, worker: Any) -> None:
    """End the services of a worker that exits, then the process, whatever threads still do."""
    del server
    worker.quitting = True
    app = getattr(worker, "wsgi", None)
    services = app.extensions.get(SERVICES) if app is not None else None
    if services is not None:
        worker.go_on_during(services.close)
    if not worker.booted:
        return
    deadline = time.monotonic() + LAST_WORDS_S
    own = threading.current_thread()
    worker.tpool.shutdown(wait=False)
    if worker.others >= 0:
        worker.hands.shutdown(wait=False)
    while time.monotonic() < deadline and any(
        thread is not own and not thread.daemon for thread in threading.enumerate()
    ):
        worker.go_on(0.01)
    sys.stdout.flush()
    sys.stderr.flush()
    # The interpreter would now join the thread pool, whose threads may sit in a slow client's read.
    os._exit(0)


def gunicorn_settings(server: ServerSettings, role: ProcessRole) -> dict[str, Any]:
    """Return gunicorn's settings for a role.

    :raises ConfigurationError: for an address that must not be served like this.
    """
    check_exposure(server, role)
    host, port = address(server, role)
    shown = f"[{host}]" if ":" in host else host
    return {
        "bind": [f"{shown}:{port}", *_unix(server, role)],
        # Of a Unix socket: who is neither its owner nor of its group reaches no worker.
        "umask": 0o007,
        "workers": server.workers,
        "threads": server.threads,
        "worker_class": FaasWorker,
        "preload_app": False,
        # An idle connection ends here last: the dispatcher closes its own after 30 s, so that no
        # request is sent into a connection that this side is closing.
        "keepalive": 75,
        "graceful_timeout": graceful_timeout_s(server),
        # The limit on names is the application's to report, with a problem document.
        "limit_request_line": 8190,
        # Heartbeats are a file's times: on a disk, a slow fsync of someone else stops them.
        "worker_tmp_dir": "/dev/shm" if os.access("/dev/shm", os.W_OK) else None,  # noqa: S108
        "control_socket_disable": True,
        # No peer may name another path or scheme in a header, not even one on this machine.
        "forwarded_allow_ips": "",
        # gunicorn asks nobody on a Unix socket for an address.
        "forwarder_headers": "",
        "secure_scheme_headers": {},
        "accesslog": None,
        "proc_name": f"lowcode-faas {role}",
        "on_starting": build_after_the_fork,
        "on_reload": build_after_the_fork,
        "pre_fork": assign_row,
        "post_fork": after_the_fork,
        "child_exit": take_row_back,
        "worker_exit": close_services,
    }


def start_lines(server: ServerSettings, pool: PoolSettings, role: ProcessRole) -> list[str]:
    """Return what an operator wants to see once at start."""
    share = pool.share(server.workers)
    places = invocation_threads(server.threads)
    host, port = address(server, role)
    lines = [
        f"lowcode-faas {__version__} {role} on {' and '.join([f'{host}:{port}', *_unix(server, role)])}",
        f"{server.workers} workers x ({server.threads} - 2) threads: "
        f"{server.workers * places} invocations at a time",
    ]
    if role is ProcessRole.WORKER or not server.worker_url:
        lines.append(
            f"of the service, and of each worker: sandboxes {pool.max_instances}, "
            f"{share.max_instances}; stock {pool.stock}, {share.stock}; "
            f"queue {pool.queue}, {share.queue}"
        )
    else:
        lines.append(f"invocations go to the worker at {server.worker_url}")
    return lines


def announce(arbiter: Any, environ: Mapping[str, str], role: ProcessRole) -> None:
    """Log how the service is laid out, and the deadlines it goes by."""
    server, pool, limits = read_settings(environ, ServerSettings, PoolSettings, LimitSettings)
    lines = start_lines(server, pool, role)
    for line in (*lines, *deadlines.lines(role, server, pool, limits, arbiter.cfg)):
        arbiter.log.info(line)


class _Service(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    def __init__(self, environ: Mapping[str, str], role: ProcessRole) -> None:
        self.environ = environ
        self.role = role
        (self.server,) = read_settings(environ, ServerSettings)
        super().__init__()

    def load_config(self) -> None:
        for name, value in gunicorn_settings(self.server, self.role).items():
            self.cfg.set(name, value)
        self.cfg.set("when_ready", lambda arbiter: announce(arbiter, self.environ, self.role))

    def run(self) -> None:
        try:
            Master(self).run()
        except StartError as error:
            report(error)
            raise SystemExit(REFUSED) from error

    def load(self) -> Flask:
        return create_app(self.environ, self.role, self.server.workers)


def create_app(environ: Mapping[str, str], role: ProcessRole, processes: int) -> Flask:
    """Import the role's module and build its application."""
    module = importlib.import_module(f"lowcode_faas_core.{role}")
    app: Flask = module.create_app(environ, processes=processes)
    return app


def check_port(server: ServerSettings, role: ProcessRole) -> None:
    """Say that the port is taken before gunicorn tries it five times.

    :raises ConfigurationError: when the address cannot be bound.
    """
    if "GUNICORN_FD" in os.environ or "LISTEN_FDS" in os.environ:
        return  # the listener is inherited, from an earlier master or from systemd
    host, port = address(server, role)
    variable = f"{PREFIX}{'WORKER_' if role is ProcessRole.WORKER else ''}LISTEN"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            reason = error.strerror or str(error)
            raise ConfigurationError(
                [f"{variable} is {host}:{port}, which cannot be listened on: {reason}"]
            ) from error


def _unix(server: ServerSettings, role: ProcessRole) -> list[str]:
    if role is ProcessRole.DISPATCHER or server.worker_socket is None:
        return []
    return [f"{UNIX}{server.worker_socket}"]


def check_platform() -> None:
    """Refuse what the service cannot stand on: process death signals and /proc are Linux's.

    :raises StartError: with a sentence for whoever tried.
    """
    if not sys.platform.startswith("linux") or not Path("/proc/self/stat").exists():
        raise StartError(
            f"lowcode-faas runs on Linux with /proc mounted; this is {sys.platform}. "
            "On other systems run it in a Linux container or virtual machine."
        )


def attempt(environ: Mapping[str, str], role: ProcessRole) -> None:
    """Build the role's application once and close it again, saying what an operator should know.

    :raises SystemExit: with code 2 when it cannot start; the reasons are on stderr by then.
    """
    try:
        startup = Startup.read(environ, role)
        warn(startup.warnings())
        check_exposure(startup.server, role)
        deadlines.check_settings(environ, startup.pool, startup.limits)
        check_port(startup.server, role)
        if role is ProcessRole.WORKER and startup.server.worker_socket is not None:
            check_path(startup.server.worker_socket)
        services = create_app(environ, role, startup.server.workers).extensions[SERVICES]
        try:
            services.invoker.check_chain()
            for note in services.notes():
                print(f"lowcode-faas: {note}", file=sys.stderr)  # noqa: T201
        finally:
            services.close()
        show_first_token(startup)
    except StartError as error:
        report(error)
        raise SystemExit(REFUSED) from error


def prepare(arbiter: Any, environ: Mapping[str, str], role: ProcessRole) -> None:
    """Do what ``serve`` does before it starts gunicorn, where gunicorn was started by others.

    :raises SystemExit: with code 2 when it cannot start as configured.
    """
    build_after_the_fork(arbiter)
    server, pool, limits = read_settings(environ, ServerSettings, PoolSettings, LimitSettings)
    try:
        deadlines.check_gunicorn(role, server, arbiter.cfg)
        deadlines.check_settings(environ, pool, limits)
    except StartError as error:
        report(error)
        raise SystemExit(REFUSED) from error
    # In a child: it imports plugins.
    preflight(lambda: show_first_token(Startup.read(environ, role)))


def show_first_token(startup: Startup) -> None:
    """Make the first token where one is needed, and print it: the only time anybody sees it."""
    token = first_token(startup)
    if token is not None:
        print(  # noqa: T201
            "lowcode-faas: there were no tokens, so this one was made. It may do everything and is "
            f"shown only now:\n{token}",
            file=sys.stderr,
            flush=True,
        )


def warn(warnings: Iterable[str]) -> None:
    """Print what is odd, one a line."""
    for warning in warnings:
        print(f"lowcode-faas: warning: {warning}", file=sys.stderr)  # noqa: T201


def report(error: StartError) -> None:
    """Print why the process does not start, one problem a line, after what may explain it."""
    warn(error.warnings)
    for line in error.detail.splitlines():
        print(f"lowcode-faas: {line}", file=sys.stderr)  # noqa: T201


def serve(environ: Mapping[str, str], role: ProcessRole) -> None:
    """Serve the role until it is told to stop.

    :raises SystemExit: with code 2 when it cannot start as configured.
    """
    try:
        check_platform()
    except StartError as error:
        report(error)
        raise SystemExit(REFUSED) from error
    code = preflight(lambda: attempt(environ, role))
    if code != 0:
        raise SystemExit(code)
    _Service(environ, role).run()
