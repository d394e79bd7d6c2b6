"""One chain of commands that is all but Node, kept for the next start: that is a fifth of the way."""

from __future__ import annotations

import socket
import threading
from dataclasses import dataclass

from lowcode_faas_core.model import SandboxLimits
from lowcode_faas_process_runner.cgroups import Group
from lowcode_faas_process_runner.node import Node
from lowcode_faas_process_runner.sandbox import ProcessSandbox

__all__ = ["Begun", "Spare"]


@dataclass(frozen=True)
class Begun:
    """A sandbox whose Node has not spoken yet, and what it was made for."""

    sandbox: ProcessSandbox
    channel: socket.socket
    group: Group | None
    limits: SandboxLimits
    node: Node
    #: What must come before the greeting: nothing where Node starts at once.
    leave: bytes

    def fits(self, limits: SandboxLimits, node: Node) -> bool:
        """Tell whether a start with these limits can go on from here."""
        return (self.limits, self.node) == (limits, node) and not self.sandbox.gone()


class Spare:
    """Room for one of them; used by many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._begun: Begun | None = None
        self._closed = False

    def take(self) -> Begun | None:
        """Take what is there."""
        with self._lock:
            begun, self._begun = self._begun, None
        return begun

    def take_fitting(self, limits: SandboxLimits, node: Node) -> Begun | None:
        """Take what is there if a start with these limits can go on from it."""
        with self._lock:
            if self._begun is None or not self._begun.fits(limits, node):
                return None
            begun, self._begun = self._begun, None
        return begun

    def put(self, begun: Begun) -> bool:
        """Keep it; False where there is one already, or none is wanted any more."""
        with self._lock:
            if self._closed or self._begun is not None:
                return False
            self._begun = begun
            return True

    def wanted(self, limits: SandboxLimits, node: Node) -> bool:
        """Tell whether one is missing, or no use any more."""
        with self._lock:
            return not self._closed and (self._begun is None or not self._begun.fits(limits, node))

    def close(self) -> Begun | None:
        """Want none any more; return the one there was."""
        with self._lock:
            self._closed = True
        return self.take()
