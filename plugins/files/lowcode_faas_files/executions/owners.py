"""Which processes still run what they began: each holds a lock that the kernel drops with it.

All processes of the storage ``files`` share one host, and a lock of the kernel tells more than a
process id: containers that share the folder have process ids of their own.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import threading
from pathlib import Path

from lowcode_faas_core.errors import StorageUnavailable
from lowcode_faas_core.ids import new_id

__all__ = ["Owners"]


class Owners:
    """A folder of one locked file an owner."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._guard = threading.Lock()
        self._own: tuple[int, str] | None = None
        self._closed = False

    def own(self) -> str:
        """Return the id under which this object owns what it runs, its lock held.

        :raises StorageUnavailable: no file can be made.
        """
        with self._guard:
            if self._closed:
                raise StorageUnavailable("the store of executions is closed")
            if self._own is None:
                try:
                    try:
                        self._own = self._take()
                    except FileNotFoundError:
                        # Somebody's upkeep came between the making and the lock, and removed it.
                        self._own = self._take()
                except OSError as error:
                    raise StorageUnavailable(f"the owners of executions: {error}") from error
            return self._own[1]

    def gone(self, named: set[str]) -> set[str]:
        """Return those, of ``named`` and of all who have a file, whose process has ended."""
        own = self._own[1] if self._own is not None else None
        with contextlib.suppress(OSError):
            named = named | {path.name for path in self._folder.iterdir()}
        return {owner for owner in named if owner != own and not self._lives(owner)}

    def forget(self, owner: str) -> None:
        """Remove the file of one who is gone."""
        with contextlib.suppress(OSError):
            (self._folder / owner).unlink()

    def close(self) -> None:
        """Give up what this object owns."""
        with self._guard:
            self._closed = True
            own, self._own = self._own, None
        if own is not None:
            os.close(own[0])

    def _take(self) -> tuple[int, str]:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = new_id()
        # Locked before it has its name: nobody may find it unlocked and take its owner for gone.
        unnamed = self._folder / f".{owner}"
        descriptor = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            unnamed.rename(self._folder / owner)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor, owner

    def _lives(self, owner: str) -> bool:
        try:
            descriptor = os.open(self._folder / owner, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        except OSError:
            return True  # not ours to tell: what is doubtful stays as it is
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        else:
            return False
        finally:
            os.close(descriptor)
