"""What a plugin looks at for ``lowcode-faas doctor``."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

from lowcode_faas_core.findings import Finding
from lowcode_faas_core.interfaces.versioned import Versioned

__all__ = ["Examination"]


class Examination(Versioned, ABC):
    """Looks at a plugin's backend from outside the service, and changes nothing.

    Made and used by one thread, perhaps beside a running service and as another user: it makes no
    file, applies no migration, pulls no image. It speaks for the whole plugin; for one that has
    none, ``doctor`` builds the backend and calls its ``check``.
    """

    @abstractmethod
    def findings(self) -> Iterator[Finding]:
        """**Required.** Yield what is found, within seconds each; never hangs.

        What it raises is reported as a failure of the plugin, and ends its findings.
        """

    def close(self) -> None:  # optional
        """**Optional (default: nothing).** Release everything."""
