"""The Docker Engine behind the SDK: every call with a time limit, every failure one sentence."""

from __future__ import annotations

import contextlib
import contextvars
import functools
import logging
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import docker
import requests
import urllib3
from docker.errors import APIError, DockerException
from docker.utils import kwargs_from_env

from lowcode_faas_core.errors import RunnerUnavailable
from lowcode_faas_core.interfaces.metrics import OperationReport
from lowcode_faas_docker_runner.advisories import known

__all__ = ["Absent", "Engine", "Refused", "Unreachable"]

_log = logging.getLogger(__name__)

#: Longest wait for an answer that takes the engine milliseconds, in seconds.
QUICK_S: Final = 5.0
#: Longest wait for creating, starting, killing and removing on an engine that is busy, in seconds.
SLOW_S: Final = 30.0

#: What to do where no engine is.
_REMEDY: Final = (
    "start it, or set DOCKER_HOST; LOWCODE_FAAS_RUNNER=process runs trusted code without it"
)

_limit: contextvars.ContextVar[float] = contextvars.ContextVar("limit", default=QUICK_S)


class Unreachable(RunnerUnavailable):
    """Raised when the engine does not answer, or not in time; what was asked may have happened."""


class Refused(RunnerUnavailable):
    """Raised when the engine answers that it cannot; ``reply`` is its HTTP status."""

    def __init__(self, detail: str, reply: int) -> None:
        super().__init__(detail)
        self.reply = reply


class Absent(Refused):
    """Raised when what a call names is not there."""


class _Client(docker.APIClient):  # type: ignore[misc]  # the SDK has no types
    """The SDK's client with a limit on every call: some of its own methods have none."""

    def request(self, *args: Any, **more: Any) -> Any:
        # The environment's proxies and certificates are for the web, not for the engine.
        self.trust_env = False
        if more.get("timeout") is None:
            more["timeout"] = _limit.get()
        return super().request(*args, **more)

    def _set_request_timeout(self, kwargs: Any) -> Any:
        return kwargs  # the limit of the call, above, and not one for all

    def _get_raw_response_socket(self, response: Any) -> Any:
        # The whole response: whoever takes its socket must close the rest of it, too.
        self._raise_for_status(response)
        return response


class Engine:
    """Calls the engine that ``DOCKER_HOST`` and its companions name. For many threads.

    Opens nothing before the first call; a client that lost its engine is built anew, so that an
    engine that comes back, perhaps as another version, is found without a restart.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._environ = dict(environ)
        self.address = environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"
        #: Whether a TCP connection to it is encrypted.
        self.encrypted = bool(environ.get("DOCKER_TLS_VERIFY") or environ.get("DOCKER_CERT_PATH"))
        self._lock = threading.Lock()
        self._client: Any = None
        self._closed = False
        self.version: dict[str, Any] = {}
        self._report: OperationReport = _tell_nobody

    def report_to(self, report: OperationReport) -> None:
        """Tell ``report`` of every call from now on, by what it was to do."""
        self._report = report

    def create(self, config: dict[str, Any], name: str, limit_s: float = SLOW_S) -> str:
        """Create a container and return its id."""
        with self._call("create a container", limit_s) as client:
            found: str = client.create_container_from_config(config, name)["Id"]
            return found

    def attach(
        self, container: str, limit_s: float = QUICK_S
    ) -> tuple[socket.socket, Callable[[], None]]:
        """Return the stream to and from a container not yet started, and what closes it."""
        with self._call("attach to a container", limit_s) as client:
            wanted = {"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1}
            response = client.attach_socket(container, params=wanted)
            found: socket.socket = response.raw._fp.fp.raw._sock
            if isinstance(found, ssl.SSLSocket):  # holds the state of the encryption

                def close() -> None:
                    found.close()
                    response.close()

                return found, close
            with contextlib.closing(response):
                own = socket.socket(fileno=os.dup(found.fileno()))
            return own, own.close

    def start(self, container: str, limit_s: float = SLOW_S) -> None:
        """Start a container."""
        with self._call("start a container", limit_s) as client:
            client.start(container)

    def inspect(self, container: str, limit_s: float = QUICK_S) -> dict[str, Any] | None:
        """Return what the engine knows about a container, ``None`` when it knows none."""
        try:
            with self._call("look at a container", limit_s) as client:
                found: dict[str, Any] = client.inspect_container(container)
                return found
        except Absent:
            return None

    def kill(self, container: str, limit_s: float = SLOW_S) -> None:
        """Kill a container and wait until it is dead; one that is gone or over is no error."""
        with contextlib.suppress(Absent), self._call("kill a container", limit_s) as client:
            try:
                client.kill(container)
            except APIError as error:
                if error.status_code != 409:  # "is not running"
                    raise

    def remove(self, container: str, limit_s: float = SLOW_S, *, force: bool = True) -> bool:
        """Remove a container with its volumes; False when it was not there.

        Alive or not, unless ``force`` is False: then one that lives stays, and the answer is False.
        """
        try:
            with self._call("remove a container", limit_s) as client:
                client.remove_container(container, v=True, force=force)
                return True
        except Refused as error:
            if isinstance(error, Absent) or error.reply == 409:
                # Its removal is already in progress, or it lives and there was no force.
                return False
            raise

    def containers(self, labels: list[str]) -> list[dict[str, Any]]:
        """Return every container that has all the labels, whatever its state."""
        with self._call("list containers", QUICK_S * 2) as client:
            found: list[dict[str, Any]] = client.containers(all=True, filters={"label": labels})
            return found

    def image(self, name: str, limit_s: float = QUICK_S) -> dict[str, Any] | None:
        """Return what the engine knows about an image, ``None`` when it has none of that name."""
        try:
            with self._call("look at an image", limit_s) as client:
                found: dict[str, Any] = client.inspect_image(name)
                return found
        except Absent:
            return None

    @contextlib.contextmanager
    def following(self, container: str, silence_s: float) -> Iterator[Any]:
        """Give the response that carries a container's log, framed, from its start to its end."""
        with self._call("follow a log", silence_s) as client:
            wanted = {"stdout": 1, "stderr": 1, "follow": 1, "tail": "all"}
            url = client._url("/containers/{0}/logs", container)
            response = client.get(url, params=wanted, stream=True)
            with contextlib.closing(response):
                client._raise_for_status(response)
                yield response

    def last_errors(self, container: str, lines: int, limit_s: float = QUICK_S) -> bytes:
        """Return the last lines that a container wrote to stderr, as far as its log has them."""
        with self._call("read a log", limit_s) as client:
            found: bytes = client.logs(container, stdout=False, stderr=True, tail=lines)
            return found

    @contextlib.contextmanager
    def calling(self, what: str, limit_s: float) -> Iterator[Any]:
        """Give the SDK's client for calls that only one concern makes; errors come out as ours."""
        with self._call(what, limit_s) as client:
            yield client

    def info(self) -> dict[str, Any]:
        """Return what the engine says about itself and its machine."""
        with self._call("describe itself", QUICK_S) as client:
            found: dict[str, Any] = client.info()
            return found

    def ping(self, limit_s: float = QUICK_S) -> None:
        """Return when the engine answers."""
        with self._call("answer", limit_s) as client:
            client.ping()

    def close(self) -> None:
        """Drop the connections; later calls are refused."""
        with self._lock:
            self._closed = True
            client, self._client = self._client, None
        if client is not None:
            client.close()

    @contextlib.contextmanager
    def _call(self, what: str, limit_s: float) -> Iterator[Any]:
        if limit_s <= 0:
            raise Unreachable(f"no time was left to {what}")
        before = _limit.set(limit_s)
        began_ns, outcome = time.monotonic_ns(), "error"
        try:
            yield self._connected()
            outcome = "ok"
        except APIError as error:
            refusal = _refusal(what, error)
            outcome = "absent" if isinstance(refusal, Absent) else outcome
            raise refusal from error
        except requests.Timeout as error:
            raise Unreachable(
                f"the Docker Engine at {self.address} did not {what} within {limit_s:.3g} s"
            ) from error
        except (
            DockerException,
            requests.RequestException,
            urllib3.exceptions.HTTPError,
            OSError,
            ValueError,
        ) as error:
            if _timed_out(error):
                raise Unreachable(
                    f"the Docker Engine at {self.address} did not {what} within {limit_s:.3g} s"
                ) from error
            self._forget_client()
            raise Unreachable(self._unreachable(error)) from error
        finally:
            _limit.reset(before)
            self._report(_operation(what), outcome, time.monotonic_ns() - began_ns)

    def _connected(self) -> Any:
        client = self._client
        if client is None:
            with self._lock:
                if self._closed:
                    raise RunnerUnavailable("the runner is closed")
                if self._client is None:
                    self._client = self._connect()
                client = self._client
        return client

    def _connect(self) -> Any:
        client = _Client(
            version="auto",
            timeout=QUICK_S,
            **kwargs_from_env(environment=self._environ),
        )
        if client.base_url.startswith("http+docker:"):
            # The SDK keeps idle connections of a socket by the whole URL, which names a container:
            # none of them would ever be used again.
            client.headers["Connection"] = "close"
        first, self.version = not self.version, client.version()
        if first:
            for has, advisory in known(self.version, by_copying=False):
                _log.warning(
                    "the engine's %s %s is older than the fixes of %s, which let code out of its "
                    "container; update it unless your distribution has brought the fixes back",
                    advisory.part,
                    has,
                    ", ".join(advisory.identities),
                )
        return client

    def _forget_client(self) -> None:
        # Not closed: other threads may be in the middle of a call; it is collected after them.
        with self._lock:
            self._client = None

    def _unreachable(self, error: BaseException) -> str:
        cause = _os_error(error)
        where = f"no Docker Engine answers at {self.address}"
        if isinstance(cause, PermissionError):
            return (
                f"{where}: permission denied; let the service's user into the group that owns "
                "the socket"
            )
        if isinstance(cause, FileNotFoundError):
            return f"{where}: there is no such socket; {_REMEDY}"
        if isinstance(cause, ConnectionRefusedError):
            return f"{where}: connection refused; {_REMEDY}"
        if cause is not None:
            return f"{where}: {cause.strerror or cause}"
        return f"{where}: {' '.join(str(error).split())[:300]}"


def _tell_nobody(_op: str, _outcome: str, _took_ns: int) -> None:
    """Take what nobody counts."""


@functools.cache
def _operation(what: str) -> str:
    """Return ``create_container`` for "create a container"."""
    return "_".join(word for word in what.split() if word not in ("a", "an", "the"))


def _refusal(what: str, error: APIError) -> Refused:
    reply = int(error.status_code or 500)
    said = " ".join(str(error.explanation or error).split())[:500]
    kind = Absent if reply == 404 else Refused
    return kind(f"the Docker Engine could not {what}: {said}", reply)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    waiting: list[BaseException] = [error]
    while waiting:
        each = waiting.pop(0)
        if id(each) in seen:
            continue
        seen.add(id(each))
        yield each
        waiting += [a for a in each.args if isinstance(a, BaseException)]
        reason = getattr(each, "reason", None)
        waiting += [
            c for c in (reason, each.__cause__, each.__context__) if isinstance(c, BaseException)
        ]


def _os_error(error: BaseException) -> OSError | None:
    for each in _chain(error):
        # requests' own errors are OSErrors, too, without a number.
        if isinstance(each, OSError) and each.errno is not None:
            return each
    return None


def _timed_out(error: BaseException) -> bool:
    cause = _os_error(error)
    if cause is not None and not isinstance(cause, TimeoutError):
        return False  # a refused connection is a kind of timeout to urllib3
    kinds = (TimeoutError, requests.Timeout, urllib3.exceptions.TimeoutError)
    return any(isinstance(each, kinds) for each in _chain(error))
