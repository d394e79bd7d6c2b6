"""What both exchanges need of the engine: creating, starting, removing, image, network, reaping."""

from __future__ import annotations

import itertools
import secrets
import threading
import time
from collections.abc import Mapping
from typing import Any, Final

from lowcode_faas_core.errors import RunnerUnavailable
from lowcode_faas_core.interfaces.launcher import Isolation
from lowcode_faas_core.model import SandboxLimits
from lowcode_faas_docker_runner import arguments
from lowcode_faas_docker_runner.ends import Ends
from lowcode_faas_docker_runner.engine import SLOW_S, Absent, Engine, Refused, Unreachable
from lowcode_faas_docker_runner.images import Images
from lowcode_faas_docker_runner.network import Network
from lowcode_faas_docker_runner.ownership import identify
from lowcode_faas_docker_runner.reaper import Reaper
from lowcode_faas_docker_runner.settings import DockerSettings

__all__ = ["DockerHost", "NetworkGone", "left"]

#: A create whose answer was lost may still take effect so long after, in seconds.
LATE_CREATE_S: Final = 60.0
#: So long a failed start keeps the runner from being called ready, in seconds.
TROUBLE_S: Final = 30.0
#: Longest wait for the last containers to be removed at close, in seconds.
CLOSE_S: Final = 8.0


class NetworkGone(Refused):
    """Raised when a container could not start for want of its network: another try may."""


class DockerHost:
    """One a serving process, used by many threads.

    Opens nothing and starts no thread before it is first used.
    """

    def __init__(self, settings: DockerSettings, environ: Mapping[str, str]) -> None:
        self.settings = settings
        self.identity = identify(settings.instance, environ)
        self.engine = Engine(environ)
        self.ends = Ends()
        self.images = Images(self.engine, settings.image)
        self.network = Network(self.engine, self.identity, settings.network)
        self.reaper = Reaper(self.engine, self.identity, self._knows)
        self._known: set[str] = set()
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._begun = False
        self.closed = False
        self._trouble: tuple[float, str] | None = None

    def begin(self) -> None:
        """Start what runs in the background, once."""
        if self.closed:
            raise RunnerUnavailable("the runner is closed")
        with self._lock:
            first, self._begun = not self._begun, True
        if first:
            try:
                self.reaper.open()
                if self.settings.prewarm_image:
                    self.images.prewarm()
            except RuntimeError as error:  # no thread can be had; whoever comes next tries again
                self._begun = False
                raise RunnerUnavailable(f"the runner cannot begin: {error}") from error

    def create(
        self,
        limits: SandboxLimits,
        command: list[str],
        deadline_ns: int,
        *,
        kept_log_bytes: int = 0,
        meeting: str = "",
    ) -> str:
        """Create a container and return its id; waits for the image when that is being pulled.

        :raises RunnerUnavailable: with what the operator can do; nothing is left of it then.
        """
        network = self.network.ensure(left(deadline_ns))
        config = arguments.container(
            self.settings,
            limits,
            command,
            labels=self.identity.labels,
            network=network,
            kept_log_bytes=kept_log_bytes,
            meeting=meeting,
        )
        try:
            return self._create(config, deadline_ns)
        except Absent as error:
            if "image" not in error.detail.lower():
                raise
        self.images.obtain(deadline_ns)
        return self._create(config, deadline_ns)

    def start(self, container: str, deadline_ns: int) -> None:
        """Start it.

        :raises NetworkGone: when somebody has removed the network; it is made again by then.
        """
        try:
            self.engine.start(container, left(deadline_ns))
        except Refused as error:
            if "network" not in error.detail.lower():
                raise
            self.network.forget()
            self.network.ensure(left(deadline_ns))
            raise NetworkGone(error.detail, error.reply) from error

    def remove(self, container: str) -> None:
        """Have it removed in the background, alive or not."""
        self.ends.remove(lambda: self._removed(container))

    def note(self, error: RunnerUnavailable | None) -> None:
        """Remember whether the last start worked: readiness depends on it."""
        self._trouble = None if error is None else (time.monotonic(), error.detail)

    def check(self) -> None:
        """Return when containers can be started now."""
        self.begin()
        self.engine.ping()
        self.images.check()
        trouble = self._trouble
        if trouble is not None and time.monotonic() - trouble[0] < TROUBLE_S:
            raise RunnerUnavailable(trouble[1])

    def isolation(self) -> Isolation:
        """Say what separates user code from the host."""
        settings = self.settings
        features = {
            "container",
            "own-uid",
            "no-capabilities",
            "read-only-root",
            "private-tmp",
            "memory-cgroup",
            "pids-limit",
            "cpu-quota",
        }
        network = self.network.name
        if network == "none":
            features.add("no-network")
            reach = "no network"
        else:
            reach = f"the network {network}"
        runtime = f" with the runtime {settings.runtime}" if settings.runtime else ""
        return Isolation(
            f"hardened containers of {settings.image}{runtime}, {reach}",
            frozenset(features),
            boundary=True,
        )

    def close(self) -> None:
        """End the threads, remove the network, drop the connections."""
        if self.closed:
            return
        self.closed = True
        self.reaper.close()
        self.ends.close(CLOSE_S)
        self.network.remove()
        self.engine.close()

    def _create(self, config: dict[str, Any], deadline_ns: int) -> str:
        identity = self.identity
        name = f"lowcode-faas-{identity.instance}-{identity.pid}-{next(self._numbers)}"
        # An earlier life with this pid may have left one of this name.
        name += f"-{secrets.token_hex(3)}"
        try:
            container = self.engine.create(config, name, left(deadline_ns))
        except Unreachable:
            # It may exist, or come to exist: the answer was lost, not the question.
            last = time.monotonic() + LATE_CREATE_S
            self.ends.remove(lambda: self.engine.remove(name) or time.monotonic() > last)
            raise
        self._known.add(container)
        return container

    def _removed(self, container: str) -> bool:
        self.engine.remove(container)
        self._known.discard(container)
        return True

    def _knows(self, container: str) -> bool:
        return container in self._known


def left(deadline_ns: int) -> float:
    """Return the seconds until a deadline, at most what any call may take.

    :raises RunnerUnavailable: when there are none.
    """
    seconds = (deadline_ns - time.monotonic_ns()) / 1e9
    if seconds <= 0:
        raise RunnerUnavailable("the deadline passed while a sandbox was starting")
    return min(seconds, SLOW_S)
