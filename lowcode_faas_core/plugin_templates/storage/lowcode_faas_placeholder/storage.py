"""One file that each write replaces, under a lock that all processes of the host respect."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
from lowcode_faas_core.documents import Documents, DocumentStorage
from lowcode_faas_core.errors import StorageUnavailable

__all__ = ["FileStorage"]


class FileDocuments(Documents):
    """What the file holds, and what a transaction makes of it."""

    def __init__(self, kept: dict[str, bytes]) -> None:
        self.kept = kept

    def get(self, key: str) -> bytes | None:
        return self.kept.get(key)

    def put(self, key: str, value: bytes) -> None:
        self.kept[key] = value

    def delete(self, key: str) -> None:
        del self.kept[key]

    def keys(self, prefix: str) -> Iterable[str]:
        return [key for key in self.kept if key.startswith(prefix)]


class FileStorage(DocumentStorage):
    """Holds nothing between two transactions, so that threads and forks share nothing."""

    interface_version = 1

    def __init__(self, file: Path) -> None:
        self._file = file

    @contextlib.contextmanager
    def transaction(self, *, write: bool) -> Iterator[Documents]:
        try:
            with self._alone() if write else contextlib.nullcontext():
                documents = FileDocuments(self._read())
                yield documents
                if write:
                    self._replace(documents.kept)
        except (OSError, msgspec.MsgspecError) as error:
            raise StorageUnavailable(f"{self._file} cannot be used: {error}") from error

    def check(self) -> None:
        with self.transaction(write=True):
            pass

    def close(self) -> None:
        """Nothing is open."""

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        with open(f"{self._file}.lock", "ab") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # given back when the file is closed
            yield

    def _read(self) -> dict[str, bytes]:
        try:
            return msgspec.msgpack.decode(self._file.read_bytes(), type=dict[str, bytes])
        except FileNotFoundError:
            return {}

    def _replace(self, kept: dict[str, bytes]) -> None:
        fresh = self._file.with_name(f"{self._file.name}.new")
        fresh.touch(mode=0o600)  # env holds secrets
        with fresh.open("wb") as file:
            file.write(msgspec.msgpack.encode(kept))
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._file)
        folder = os.open(self._file.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)  # or a power loss could bring the old file back
        finally:
            os.close(folder)
