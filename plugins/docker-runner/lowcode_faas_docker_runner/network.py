"""The network of user code: none, one the operator made, or a bridge of the service's own."""

from __future__ import annotations

import hashlib
import logging
import threading

from docker.errors import APIError, NotFound

from lowcode_faas_core.errors import RunnerUnavailable
from lowcode_faas_docker_runner.engine import QUICK_S, SLOW_S, Absent, Engine, Refused
from lowcode_faas_docker_runner.ownership import Identity
from lowcode_faas_docker_runner.settings import OWN_NETWORK

__all__ = ["Network"]

_log = logging.getLogger(__name__)


class Network:
    """Makes the service's own network when it is first needed. Used by many threads.

    All serving processes of a service share it: whoever stops last removes it.
    """

    def __init__(self, engine: Engine, identity: Identity, setting: str) -> None:
        self._engine = engine
        self._identity = identity
        self._own = setting == OWN_NETWORK
        self.name = f"lowcode-faas-{identity.instance}" if self._own else setting
        self._lock = threading.Lock()
        self._made = False

    def ensure(self, limit_s: float = SLOW_S) -> str:
        """Return the name of a network that was there when this was last looked at."""
        if self._own and not self._made:
            with self._lock:
                if not self._made:
                    self._make(limit_s)
                    self._made = True
        return self.name

    def forget(self) -> None:
        """Look again the next time: somebody has removed it."""
        self._made = False

    def remove(self) -> None:
        """Remove the service's own network unless another process of the service still uses it."""
        if not self._made:
            return
        self._made = False
        try:
            with self._engine.calling("remove a network", QUICK_S) as client:
                client.remove_network(self.name)
        except Absent:
            return
        except Refused as error:
            _log.debug("the network %s stays: %s", self.name, error.detail)
        except RunnerUnavailable as error:
            _log.warning("the network %s stays: %s", self.name, error.detail)

    def _make(self, limit_s: float) -> None:
        with self._engine.calling("make a network", limit_s) as client:
            if self._is_there(client):
                return
            digest = hashlib.sha256(self._identity.instance.encode()).hexdigest()
            try:
                client.create_network(
                    self.name,
                    driver="bridge",
                    check_duplicate=True,
                    labels=self._identity.service_labels,
                    options={
                        "com.docker.network.bridge.enable_icc": "false",
                        # Fixed, so that an operator's firewall can name it.
                        "com.docker.network.bridge.name": f"lcf-{digest[:10]}",
                    },
                )
            except APIError:
                # Another process of the service was faster.
                if not self._is_there(client):
                    raise

    def _is_there(self, client: object) -> bool:
        try:
            found = client.inspect_network(self.name)  # type: ignore[attr-defined]
        except NotFound:
            return False
        labels = found.get("Labels") or {}
        if any(labels.get(key) != value for key, value in self._identity.service_labels.items()):
            raise RunnerUnavailable(
                f"the network {self.name} was not made by this service; remove it, or set "
                "LOWCODE_FAAS_DOCKER_INSTANCE"
            )
        return True
