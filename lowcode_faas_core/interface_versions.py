"""Which versions of each role's interface this release works with.

A version is a number of the role's own. The newest grows when the interface does, which it does by
optional methods and attributes only: what was written for an older one goes on working. The oldest
grows when something is changed or taken away, which is announced two minor releases before.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from lowcode_faas_core import __version__
from lowcode_faas_core.interfaces.authenticator import Authenticator
from lowcode_faas_core.interfaces.examination import Examination
from lowcode_faas_core.interfaces.executions import ExecutionStore
from lowcode_faas_core.interfaces.launcher import Launcher
from lowcode_faas_core.interfaces.log_dialect import LogDialect
from lowcode_faas_core.interfaces.log_sink import LogSink
from lowcode_faas_core.interfaces.metrics import Metrics
from lowcode_faas_core.interfaces.runner import Runner
from lowcode_faas_core.interfaces.source import SourceFetcher
from lowcode_faas_core.interfaces.storage import Storage

__all__ = ["SUPPORTED", "Versions", "mismatch"]


@dataclass(frozen=True)
class Versions:
    """The oldest and the newest version, both included."""

    oldest: int
    newest: int

    def __str__(self) -> str:
        return f"{self.oldest}" if self.oldest == self.newest else f"{self.oldest} to {self.newest}"


SUPPORTED: Final[Mapping[type[Any], Versions]] = {
    Storage: Versions(1, 1),
    ExecutionStore: Versions(1, 1),
    Launcher: Versions(1, 1),
    Runner: Versions(1, 1),
    LogSink: Versions(1, 1),
    SourceFetcher: Versions(1, 1),
    Authenticator: Versions(1, 1),
    LogDialect: Versions(1, 1),
    Metrics: Versions(1, 1),
    Examination: Versions(1, 1),
}


def mismatch(
    interface: type[Any],
    implementation: type[Any],
    distribution: str,
    supported: Mapping[type[Any], Versions] = SUPPORTED,
) -> str | None:
    """Return why this release cannot use ``implementation``, to follow its name; or ``None``."""
    name, versions = interface.__name__, supported[interface]
    claimed = implementation.interface_version
    if not isinstance(claimed, int):
        return f"whose interface_version is {claimed!r}, not a whole number."
    if versions.oldest <= claimed <= versions.newest:
        return None
    upgrade = "lowcode-faas-core" if claimed > versions.newest else distribution
    return (
        f"which was written for version {claimed} of the interface {name}; lowcode-faas-core "
        f"{__version__} has version {versions}. Upgrade {upgrade}."
    )
