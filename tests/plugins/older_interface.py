"""A plugin of pytest's that takes away what later versions of the interfaces brought.

``INTERFACE_VERSION`` says which version is left. Whoever claims it and uses more fails its kit.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

FROZEN = Path(__file__).parent / "interfaces"


def take_away(interface: type, version: list[str]) -> list[str]:
    """Leave those members of an interface that this version of it has; return the others."""
    kept = {re.split(r"[.(:]", line, maxsplit=2)[1] for line in version}
    kept.add("interface_version")
    later = [name for name in vars(interface) if not name.startswith("_") and name not in kept]
    for name in later:
        delattr(interface, name)
    return later


def pytest_configure(config: pytest.Config) -> None:
    from lowcode_faas_core.interface_versions import SUPPORTED

    wanted = int(os.environ["INTERFACE_VERSION"])
    for interface in SUPPORTED:
        frozen = FROZEN / f"{interface.__name__}-{wanted}.txt"
        if frozen.exists():
            take_away(interface, frozen.read_text().splitlines())
