"""Removes containers of this service that have no owner left."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from lowcode_faas_core.errors import RunnerUnavailable
from lowcode_faas_docker_runner.engine import Engine
from lowcode_faas_docker_runner.ownership import INSTANCE, MANAGED, Identity, Life

__all__ = ["Reaper"]

_log = logging.getLogger(__name__)

#: Between two looks, in seconds.
PERIOD_S: Final = 30.0
#: A container of this very process that it does not know is left alone so long, in seconds: it may
#: be in the middle of its creation.
UNKNOWN_S: Final = 120.0


class Reaper:
    """Looks at start and every 30 s. Every serving process has one; they may meet in peace.

    Found by labels, never by name: what does not carry this service's is never touched.
    """

    def __init__(self, engine: Engine, identity: Identity, known: Callable[[str], bool]) -> None:
        self._engine = engine
        self._identity = identity
        self._known = known
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        #: Containers removed since :meth:`adopt` was last asked.
        self._untold = 0
        #: Whether the engine runs the container this process is in; ``None``: not known yet.
        self._runs_us: bool | None = None
        self._stop = threading.Event()

    def open(self) -> None:
        """Begin; may be called again and again."""
        if self._thread is None:
            with self._lock:
                if self._thread is None:
                    thread = threading.Thread(target=self._run, name="docker-reaper", daemon=True)
                    thread.start()
                    self._thread = thread

    def reap(self) -> int:
        """Remove what is ours and ownerless; return how many containers that was."""
        labels = [f"{MANAGED}=true", f"{INSTANCE}={self._identity.instance}"]
        removed = 0
        for found in self._engine.containers(labels):
            if self._is_ownerless(found) and self._engine.remove(found["Id"]):
                removed += 1
                with self._lock:
                    self._untold += 1
                _log.warning("removed the ownerless container %s", found["Id"][:12])
        return removed

    def adopt(self) -> int:
        """Look now; return how many were removed since this was last asked, by the thread too."""
        self.reap()
        with self._lock:
            untold, self._untold = self._untold, 0
        return untold

    def close(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(1.0)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                self.reap()
            except RunnerUnavailable as error:
                _log.debug("%s", error.detail)
            except Exception:
                _log.exception("looking for ownerless containers failed")
            self._stop.wait(PERIOD_S)

    def _is_ownerless(self, found: dict[str, Any]) -> bool:
        labels = found.get("Labels") or {}
        if self._identity.is_own(labels):
            unknown = not self._known(found["Id"])
            return unknown and time.time() - float(found.get("Created") or 0) > UNKNOWN_S
        life, host = self._identity.judge(labels)
        if life is Life.ELSEWHERE:
            return self._knows_services() and not self._runs(self._engine.inspect(host))
        return life is Life.GONE

    def _knows_services(self) -> bool:
        """Tell whether the containers of services are this engine's, as ours is.

        An engine in a container beside them, or behind TCP, lacks the living as well as the dead.
        """
        own = self._identity.container
        if self._runs_us is None and own:
            try:
                info = self._engine.inspect(own)
            except RunnerUnavailable:
                return False
            # A container of that name is not the one of that id.
            if info is None or not info["Id"].startswith(own):
                self._runs_us = False
            elif self._runs(info):
                self._runs_us = True
        return bool(self._runs_us)

    @staticmethod
    def _runs(info: dict[str, Any] | None) -> bool:
        return info is not None and bool(info["State"].get("Running"))
