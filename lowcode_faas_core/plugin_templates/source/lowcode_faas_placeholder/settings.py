"""The variables of this plugin."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lowcode_faas_core.settings import path, setting

__all__ = ["FolderSettings"]


@dataclass(frozen=True)
class FolderSettings:
    """Where sources come from."""

    folder: Path = setting("PLACEHOLDER_FOLDER", path, "sources", "The folder.")
