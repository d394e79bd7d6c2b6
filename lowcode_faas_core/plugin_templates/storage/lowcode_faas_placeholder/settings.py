"""The variables of this plugin."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lowcode_faas_core.settings import path, setting

__all__ = ["FileSettings"]


@dataclass(frozen=True)
class FileSettings:
    """Where everything is kept."""

    file: Path = setting("PLACEHOLDER_FILE", path, "functions.data", "The file.")
