"""What belongs to a deployment id, kept in memory: it never changes."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final

from lowcode_faas_core.interfaces.storage import Storage
from lowcode_faas_core.lanes import elsewhere
from lowcode_faas_core.model import Deployment, FunctionRef

__all__ = ["DeploymentCache", "SourceCache"]

#: Bytes of source kept at most; the least recently used go first.
CACHE_BYTES: Final = 64 << 20
#: Deployments kept at most; those that were read first go first.
MOST_DEPLOYMENTS: Final = 4096


class SourceCache:
    """Bytes by deployment id. Ids are unique for ever, so nothing in here can be stale."""

    def __init__(self, storage: Storage, *, enabled: bool = True, size: int = CACHE_BYTES) -> None:
        self._storage = storage
        self._room = size if enabled else 0
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def read(self, deployment: Deployment) -> bytes:
        """Return the deployed bytes, their hash checked when they were read."""
        key = deployment.deployment_id
        with self._lock:
            source = self._kept.get(key)
            if source is not None:
                self._kept.move_to_end(key)
                return source
        source = self._storage.source(deployment)
        with self._lock:
            if len(source) <= self._room and key not in self._kept:
                self._kept[key] = source
                self._bytes += len(source)
            while self._bytes > self._room:
                _, gone = self._kept.popitem(last=False)
                self._bytes -= len(gone)
        return source


class DeploymentCache:
    """Deployments by id, for who is told which one to run: whether it is current is not asked here."""

    def __init__(self, storage: Storage, *, enabled: bool = True) -> None:
        self._storage = storage
        self._enabled = enabled
        self._kept: dict[tuple[str, FunctionRef], Deployment] = {}
        self._lock = threading.Lock()

    def known(self, deployment_id: str, ref: FunctionRef) -> Deployment | None:
        """Return a deployment of a function that is kept."""
        # Each run asks: neither a lock nor an order by use is worth one more read in thousands.
        return self._kept.get((deployment_id, ref))

    def find(self, deployment_id: str, ref: FunctionRef) -> Deployment:
        """Return a deployment of a function as ``Storage.deployment_by_id`` does, and keep it."""
        found = elsewhere(lambda: self._storage.deployment_by_id(deployment_id, ref))
        if self._enabled:
            with self._lock:
                self._kept[deployment_id, ref] = found
                if len(self._kept) > MOST_DEPLOYMENTS:
                    del self._kept[next(iter(self._kept))]
        return found
