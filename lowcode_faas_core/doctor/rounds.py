"""Everything that is looked at, in order: what was configured, this machine, then the backends."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from lowcode_faas_core.doctor import backends, exposure, machine, places
from lowcode_faas_core.findings import Finding, failure
from lowcode_faas_core.plugins import describe
from lowcode_faas_core.startup import Startup

__all__ = ["CHECKS", "examine"]

Check = Callable[[Startup], Iterable[Finding]]

CHECKS: Final[tuple[Check, ...]] = (
    exposure.variables,
    exposure.callers,
    exposure.roles,
    places.data_folder,
    places.tokens,
    places.secrets,
    machine.time_of_day,
    machine.descriptors,
    machine.shared_memory,
    machine.kernel,
    machine.swap,
    backends.plugins,
    backends.worker,
)


def examine(startup: Startup) -> Iterator[Finding]:
    """Yield every finding as it is made; a check that fails is one itself, and the next goes on."""
    for check in CHECKS:
        try:
            yield from check(startup)
        except Exception as error:
            yield failure(check.__name__.replace("_", " "), describe(error))
