"""The variables of this plugin."""

from __future__ import annotations

from dataclasses import dataclass

from lowcode_faas_core.settings import setting, text

__all__ = ["NodeSettings"]


@dataclass(frozen=True)
class NodeSettings:
    """What functions run on."""

    node: str = setting("PLACEHOLDER_NODE", text, "node", "The Node: path or name.")
