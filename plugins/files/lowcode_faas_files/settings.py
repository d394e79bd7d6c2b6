"""The variables of the ``files`` storage."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from lowcode_faas_core.settings import integer, path, setting

__all__ = ["FilesSettings"]


@dataclass(frozen=True)
class FilesSettings:
    """Where the data folder is, and how much history it keeps."""

    data_dir: Path = setting("DATA_DIR", path, "data", "Folder of the files storage.")
    keep_versions: int = setting(
        "FILES_KEEP_VERSIONS",
        integer(1, 10_000),
        "1",
        "How many versions of a function keep their bytes, the current one included.",
    )
