"""Reaches every selected backend: by the plugin's own examination, or by the role's ``check``."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import closing
from email.utils import parsedate_to_datetime
from typing import Any, Final

from lowcode_faas_core import __version__
from lowcode_faas_core.errors import FaasError, StartError
from lowcode_faas_core.findings import Finding, clock, failure, fine, warning
from lowcode_faas_core.interfaces.executions import ExecutionStore
from lowcode_faas_core.interfaces.launcher import Launcher
from lowcode_faas_core.interfaces.runner import Runner
from lowcode_faas_core.interfaces.storage import Storage
from lowcode_faas_core.plugins import Plugin, describe
from lowcode_faas_core.startup import ProcessRole, Startup
from lowcode_faas_core.wire import API_VERSION, VERSION_HEADER
from lowcode_faas_core.worker_connections import NotSent, WorkerConnections
from lowcode_faas_core.worker_link import Late, Lost

__all__ = ["plugins", "worker"]

#: Longest wait for a worker's answer, in seconds.
WORKER_S: Final = 5.0


def plugins(startup: Startup) -> Iterator[Finding]:
    """Have every selected plugin examined, each once."""
    registry = startup.registry
    for plugin in registry.distinct():
        try:
            examination = registry.examination(plugin, startup.environ)
        except StartError as error:
            yield failure(plugin.name, error.detail)
            continue
        if examination is not None:
            with closing(examination):
                try:
                    yield from examination.findings()
                except Exception as error:
                    yield failure(plugin.name, describe(error))
            continue
        identity = plugin.candidate.identity
        for selected in registry.plugins:
            if selected.candidate.identity == identity and selected.selection.role.factories:
                yield from _built(startup, selected)


def _built(startup: Startup, plugin: Plugin) -> Iterator[Finding]:
    """Build a backend and ask it what the service asks it."""
    title = plugin.selection.role.title
    if plugin.selection.role.factories.keys() == {"lowcode_faas_execution_store"} and _foreign(
        startup
    ):
        # Opening one may make files, which must be the service's own.
        yield fine(title, f"{plugin.name} is configured; it is not opened as another user")
        return
    try:
        backend = startup.registry.build(plugin, startup.environ)
    except StartError as error:
        yield failure(title, error.detail)
        return
    with closing(backend):
        try:
            yield from _checked(title, plugin.name, backend)
        except FaasError as error:
            yield failure(title, f"{plugin.name}: {error.detail}")
        except Exception as error:  # a plugin's own bug is a finding like any other
            yield failure(title, f"{plugin.name}: {describe(error)}")


def _checked(title: str, name: str, backend: Any) -> Iterator[Finding]:
    if isinstance(backend, (Storage, Runner, Launcher, ExecutionStore)):
        backend.check()
        yield fine(title, f"{name} works")
    else:
        yield fine(title, f"{name} is configured; it cannot be asked more")
    if isinstance(backend, Storage):
        for reason in backend.degraded():
            yield failure(title, f"{name}: {reason}")
    if isinstance(backend, Launcher):
        isolation = backend.isolation()
        if isolation.boundary:
            yield fine("isolation", isolation.summary)
        else:
            yield warning(
                "isolation",
                f"{isolation.summary}: deploy only code that you would run on this machine yourself",
            )


def _foreign(startup: Startup) -> bool:
    """Tell whether the data folder belongs to another user."""
    try:
        return startup.access.data_dir.stat().st_uid != os.geteuid()
    except OSError:
        return True


def worker(startup: Startup) -> Iterator[Finding]:
    """Ask the worker whether it is ready, who it is, whether it takes our secret, and the time."""
    server = startup.server
    if startup.role is not ProcessRole.DISPATCHER or not server.worker_url:
        return
    plain = {VERSION_HEADER: str(API_VERSION)}
    headers = dict(plain)
    if server.worker_token:
        headers["Authorization"] = f"Bearer {server.worker_token}"
    connections = WorkerConnections(server.worker_url, 1)
    try:
        asked = time.time()
        answer = connections.request("GET", "/v1/info", headers, b"", time.monotonic() + WORKER_S)
        answered = time.time()
        ready = connections.request("GET", "/readyz", plain, b"", time.monotonic() + WORKER_S)
    except (NotSent, Lost, Late) as error:
        why = str(error) or "in time"
        yield failure("worker", f"{server.worker_url} does not answer ({why})")
        return
    finally:
        connections.close()
    yield from _introduced(startup, answer.status, answer.data)
    yield from _ready(server.worker_url, ready.status, ready.data)
    if date := answer.headers.get("date"):
        theirs = parsedate_to_datetime(date).timestamp()
        yield clock("worker", theirs, asked, answered)


def _introduced(startup: Startup, status: int, body: bytes) -> Iterator[Finding]:
    url = startup.server.worker_url
    if status in (401, 403):
        yield failure("worker", f"{url} refuses our LOWCODE_FAAS_WORKER_TOKEN ({status})")
        return
    try:
        info = json.loads(body)
        version, storage = str(info["version"]), str(info["storage"])
    except (ValueError, KeyError, TypeError):
        yield failure("worker", f"{url} answers {status}, and not as a worker of this release does")
        return
    if version != __version__:
        yield warning("worker", f"{url} is release {version}, and this is {__version__}")
    if storage != startup.backends.storage:
        yield failure(
            "worker",
            f"{url} has the storage {storage}, and this dispatcher {startup.backends.storage}: "
            "both must have one",
        )


def _ready(url: str, status: int, body: bytes) -> Iterator[Finding]:
    try:
        said = json.loads(body)
        reasons = [str(each) for each in (*said.get("reasons", ()), *said.get("degraded", ()))]
    except (ValueError, AttributeError, TypeError):
        reasons = []
    if status == 200 and not reasons:
        yield fine("worker", f"{url} is ready")
    elif status == 200:
        yield warning("worker", f"{url} is ready, but: {'; '.join(reasons)}")
    else:
        yield failure("worker", f"{url} is not ready: {'; '.join(reasons) or status}")
