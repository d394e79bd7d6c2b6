"""The kept versions of a function: their rows and bytes, in a dot folder beside the source."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from lowcode_faas_core.errors import SourceCorrupt, VersionNotFound, VersionNotKept
from lowcode_faas_files.disk import Folder, Unreadable
from lowcode_faas_files.layout import VERSIONS, parse_stem, stem
from lowcode_faas_files.reader import MAX_JSON_BYTES, enter
from lowcode_faas_files.records import Row, decode_row, sha256

__all__ = ["History"]

#: Bytes of a version that is no longer kept stay readable this long (ns) after it was superseded:
#: whoever resolved it just before may still be about to read them.
LINGER_NS = 60_000_000_000
#: At most this many such versions of a function stay, whatever their age.
MAX_LINGERING = 64


class History:
    """Knows which versions are kept: the newest ``keep_versions``, the current one included."""

    def __init__(self, keep_versions: int) -> None:
        self.keep_versions = keep_versions

    @contextmanager
    def folder(self, functions: Folder | None, name: str) -> Iterator[Folder | None]:
        """Open the folder of a function's kept versions, ``None`` when there is none."""
        versions = enter(functions, VERSIONS) if functions is not None else None
        if versions is None:
            yield None
            return
        with versions:
            history = enter(versions, name)
            if history is None:
                yield None
                return
            with history:
                yield history

    def is_kept(self, current: Row, version: int) -> bool:
        """Tell whether a version can still be pinned or restored."""
        return current.version - self.keep_versions < version <= current.version

    def rows(
        self,
        history: Folder | None,
        current: Row,
        wanted: Callable[[int, str], bool] = lambda _version, _id: True,
    ) -> list[Row]:
        """Return the kept versions that are wanted, newest first, the current one included."""
        found = [current] if wanted(current.version, current.deployment_id) else []
        entries = set(history.names()) if history is not None else set()
        for entry in entries:
            parsed = parse_stem(entry)
            if (
                history is None
                or parsed is None
                or entry != f"{stem(*parsed)}.json"
                or parsed[0] == current.version
                or not self.is_kept(current, parsed[0])
                or not wanted(*parsed)
            ):
                continue
            with suppress(FileNotFoundError, Unreadable):
                row = decode_row(history.read(entry, MAX_JSON_BYTES)[0])
                if row is not None and row.archive in entries:
                    found.append(row)
        return sorted(found, key=lambda row: -row.version)

    def row(self, history: Folder | None, current: Row, version: int, name: str) -> Row:
        """Return the row of a version that can be pinned or restored."""
        if not 1 <= version <= current.version:
            raise VersionNotFound(f"{name} has no version {version}")
        for row in self.rows(history, current, lambda number, _: number == version):
            return row
        raise self._not_kept(version, name)

    def read(self, history: Folder | None, row: Row, name: str) -> bytes:
        """Return the bytes of a kept version, checked against its hash."""
        gone = self._not_kept(row.version, name)
        if history is None:
            raise gone
        try:
            data, _ = history.read(row.archive, row.size)
        except FileNotFoundError:
            raise gone from None
        except Unreadable as error:
            raise SourceCorrupt(
                f"the kept bytes of version {row.version} of {name}: {error}"
            ) from error
        if sha256(data) != row.sha256:
            raise SourceCorrupt(
                f"the kept bytes of version {row.version} of {name} do not match their hash"
            )
        return data

    def _not_kept(self, version: int, name: str) -> VersionNotKept:
        return VersionNotKept(
            f"version {version} of {name} was not kept; "
            f"LOWCODE_FAAS_FILES_KEEP_VERSIONS is {self.keep_versions}"
        )

    def last_version(self, functions: Folder | None, name: str) -> int:
        """Return the highest version the history mentions, for a function whose meta is lost."""
        with self.folder(functions, name) as history:
            entries = history.names() if history is not None else []
        return max((parsed[0] for parsed in map(parse_stem, entries) if parsed), default=0)

    def prune(self, history: Folder, current: Row) -> None:
        """Remove what is not kept any more, and what never was committed."""
        entries = history.names()
        by_stem: dict[tuple[int, str], list[str]] = {}
        for entry in entries:
            parsed = parse_stem(entry)
            if parsed is not None:
                by_stem.setdefault(parsed, []).append(entry)
        superseded = {}
        for (version, _), files in by_stem.items():
            for file in files:
                status = history.status(file)
                if status is not None and not file.endswith(".json"):
                    superseded[version - 1] = status.st_mtime_ns
        lingering = 0
        for (version, deployment_id), files in sorted(by_stem.items(), reverse=True):
            if (version, deployment_id) == (current.version, current.deployment_id):
                continue
            if version < current.version:
                if self.is_kept(current, version) and any(
                    file == f"{version}-{deployment_id}.json" for file in files
                ):
                    continue
                age = time.time_ns() - superseded.get(version, 0)
                if age < LINGER_NS and lingering < MAX_LINGERING:
                    lingering += 1
                    continue
            for file in files:
                history.discard(file)
