"""One deadline from the caller to user code: the chain in force, and what would contradict it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from lowcode_faas_core.configuration import LimitSettings, PoolSettings, ServerSettings
from lowcode_faas_core.drain import FaasWorker, graceful_timeout_s
from lowcode_faas_core.errors import ConfigurationError
from lowcode_faas_core.intake import ARRIVAL_S
from lowcode_faas_core.settings import PREFIX
from lowcode_faas_core.startup import ProcessRole
from lowcode_faas_core.waits import CONNECT_S, GRACE_S, IDLE_S, RETRIES

__all__ = ["check_gunicorn", "check_settings", "lines"]

#: The main loop of a gunicorn worker shows that it lives once a second; a busy machine is late.
LEAST_HEARTBEAT_S: Final = 5


def lines(
    role: ProcessRole,
    server: ServerSettings,
    pool: PoolSettings,
    limits: LimitSettings,
    gunicorn: Any,
) -> list[str]:
    """Return the chain as it is in force; ``gunicorn`` is the configuration gunicorn goes by."""
    top_ms = limits.max_timeout_ms
    remote = role is ProcessRole.DISPATCHER and bool(server.worker_url)
    found = [
        f"deadline of an invocation: {limits.default_timeout_ms} ms unless it names another, at "
        f"most {top_ms} ms"
    ]
    if remote:
        found.append(
            f"of it up to {CONNECT_S:g} s to connect, {RETRIES + 1} tries of what did not start; "
            f"the worker has {GRACE_S:g} s on top to answer: a balancer waits longer than "
            f"{top_ms / 1000 + GRACE_S:g} s"
        )
    else:
        queue_ms = min(pool.queue_timeout_ms, top_ms)
        found.append(
            f"of it up to {queue_ms} ms in the queue, the rest for the start, the module and the "
            "handler; then user code is killed, and within 2 s its caller is answered"
        )
    found += [
        f"gunicorn: request head within {ARRIVAL_S:g} s, idle connections {gunicorn.keepalive} s, "
        f"heartbeat {gunicorn.timeout} s (no bound on requests)",
        f"on SIGTERM: not ready but serving for {server.drain_notice_s:g} s, then up to "
        f"{server.drain_timeout_s:g} s for what runs; SIGKILL after {gunicorn.graceful_timeout} s",
    ]
    return found


def check_settings(environ: Mapping[str, str], pool: PoolSettings, limits: LimitSettings) -> None:
    """Refuse a wait that no deadline leaves room for; a default that is cut short is no mistake.

    :raises ConfigurationError: naming the variables.
    """
    variable = f"{PREFIX}QUEUE_TIMEOUT_MS"
    if variable in environ and pool.queue_timeout_ms > limits.max_timeout_ms:
        raise ConfigurationError(
            [
                f"{variable} ({pool.queue_timeout_ms}) is above {PREFIX}INVOKE_MAX_TIMEOUT_MS "
                f"({limits.max_timeout_ms}): no invocation may wait that long"
            ]
        )


def check_gunicorn(role: ProcessRole, server: ServerSettings, gunicorn: Any) -> None:
    """Refuse what a command line or a file of gunicorn's own changed to what cannot hold.

    :raises ConfigurationError: naming gunicorn's settings and our variables.
    """
    problems = []
    if not issubclass(gunicorn.worker_class, FaasWorker):
        problems.append(
            f"gunicorn's worker_class is {gunicorn.worker_class.__name__}: only FaasWorker drains, "
            "and keeps its timeout off requests"
        )
    least_s = graceful_timeout_s(server)
    if gunicorn.graceful_timeout < least_s:
        problems.append(
            f"gunicorn's graceful_timeout ({gunicorn.graceful_timeout}) ends the process in the "
            f"middle of its drain: {PREFIX}DRAIN_NOTICE_S ({server.drain_notice_s:g}), "
            f"{PREFIX}DRAIN_TIMEOUT_S ({server.drain_timeout_s:g}) and what follows need {least_s}"
        )
    if 0 < gunicorn.timeout < LEAST_HEARTBEAT_S:
        problems.append(
            f"gunicorn's timeout ({gunicorn.timeout}) kills processes that are only late to show "
            f"that they live: it must be 0 or at least {LEAST_HEARTBEAT_S}"
        )
    if role is ProcessRole.WORKER and gunicorn.keepalive <= IDLE_S:
        problems.append(
            f"gunicorn's keepalive ({gunicorn.keepalive}) closes connections that dispatchers "
            f"still use: it must be above {IDLE_S:g}"
        )
    if problems:
        raise ConfigurationError(problems)
