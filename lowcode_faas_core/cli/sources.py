"""What of a file or a folder is deployed: a file is a function, a folder is a collection."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from lowcode_faas_core.errors import InvalidValue
from lowcode_faas_core.names import check_collection_path, check_function_name

__all__ = [
    "COLLECTION_ENV",
    "FUNCTION_ENV",
    "LANGUAGES",
    "Folder",
    "Source",
    "check_folder",
    "check_source",
    "folders",
    "one_file",
    "read_text",
]

LANGUAGES: Final = {
    ".js": "javascript",
    ".mjs": "javascript",
    ".ts": "typescript",
    ".mts": "typescript",
}
#: Beside ``price.mjs`` this file is its env; beside a folder's sources the other is the folder's.
FUNCTION_ENV: Final = ".env.json"
COLLECTION_ENV: Final = "collection.env.json"


@dataclass(frozen=True)
class Source:
    """A file, and the function it becomes."""

    path: Path
    collection: str
    name: str

    @property
    def env(self) -> Path | None:
        """The file with its env, where there is one."""
        beside = self.path.with_name(self.path.stem + FUNCTION_ENV)
        return beside if beside.is_file() else None


@dataclass(frozen=True)
class Folder:
    """A folder, and the collection it becomes; what is below it is folders of their own."""

    path: Path
    collection: str
    sources: tuple[Source, ...]

    @property
    def env(self) -> Path | None:
        """The file with its env, where there is one."""
        beside = self.path / COLLECTION_ENV
        return beside if beside.is_file() else None


def one_file(path: Path, collection: str, name: str | None) -> Source:
    """Return a file as a function; raises ``UsageError`` where its ending is no language's."""
    if path.suffix not in LANGUAGES:
        raise click.UsageError(f"{path}: a function's file ends in {', '.join(LANGUAGES)}")
    return Source(path, collection, name or path.stem)


def folders(root: Path, collection: str) -> list[Folder]:
    """Return a folder and those below it, outer ones first.

    One with neither a source nor an env file, in it or below it, is none of ours: documents, caches
    and what packages leave behind lie among sources, and have names no collection may have.

    :raises UsageError: one cannot be read.
    """
    try:
        inside = sorted(root.iterdir())
    except OSError as error:
        raise click.UsageError(f"{root} cannot be read: {error.strerror}") from error
    below: list[Folder] = []
    sources = []
    for path in inside:
        if path.is_dir():
            if not path.name.startswith(".") and path.name != "node_modules":
                below += folders(path, f"{collection}/{path.name}".lstrip("/"))
        elif path.is_file() and path.suffix in LANGUAGES and not path.name.endswith(".d.ts"):
            sources.append(Source(path, collection, path.stem))
    found = Folder(root, collection, tuple(sources))
    return [found, *below] if sources or below or found.env else []


def check_folder(folder: Folder) -> None:
    """Raise ``UsageError``, naming its path, where it can be no collection."""
    try:
        check_collection_path(folder.collection)
    except InvalidValue as error:
        raise click.UsageError(f"{folder.path}: {error.detail}") from error


def check_source(source: Source) -> None:
    """Raise ``UsageError``, naming its path, where it can be no function."""
    try:
        check_function_name(source.name)
    except InvalidValue as error:
        raise click.UsageError(f"{source.path}: {error.detail}") from error


def read_text(path: Path) -> str:
    """Return what is in a file; raises ``UsageError`` where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise click.UsageError(f"{path} cannot be read: {error}") from error
