"""Marks what a serving process owns on disk, so that what its death leaves can be told and removed.

A lease is a file its owner holds locked: the kernel lets go of the lock whatever happens to the
owner, also in another pid namespace, where comparing process numbers would say nothing.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shutil
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lowcode_faas_core.errors import RunnerUnavailable

__all__ = ["Leases"]

_SUFFIX: Final = ".lease"


class Leases:
    """The folder of all leases of this user on this machine, and the one of this launcher."""

    def __init__(self, folder: Path | None = None) -> None:
        # The real path: Node's permissions do not follow symbolic links.
        self._folder = folder or Path(os.path.realpath(tempfile.gettempdir())) / (
            f"lowcode-faas-process-{os.geteuid()}"
        )
        self._lock = threading.Lock()
        self._held: int | None = None
        #: Names this launcher in everything it leaves on disk.
        self.owner = secrets.token_hex(8)

    def acquire(self) -> None:
        """Take this launcher's lease; does nothing when it is held.

        :raises RunnerUnavailable: when the folder cannot be used or belongs to someone else.
        """
        with self._lock:
            if self._held is not None:
                return
            try:
                self._prepare_folder()
                fresh = self._folder / f"{self.owner}.new"
                held = os.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                # Locked before it has its name: nobody sees it free.
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                fresh.rename(self._path(self.owner))
            except OSError as error:
                raise RunnerUnavailable(
                    f"{self._folder} cannot be used: {error.strerror}"
                ) from error
            self._held = held

    def make_folder(self, name: str, uid: int | None) -> str:
        """Make and return a folder of that name, which ends in this owner's, for ``uid`` alone."""
        self.acquire()
        folder = self._folder / name
        folder.mkdir(mode=0o700)
        if uid is not None:
            os.chown(folder, uid, uid)
        return str(folder)

    def is_known(self, owner: str) -> bool:
        """Tell whether there is a lease of that owner, who may be gone."""
        return self._path(owner).exists()

    @contextlib.contextmanager
    def abandoned(self) -> Iterator[list[str]]:
        """Give the owners that are gone.

        The leases of those still in the list when the block ends without error vanish.
        """
        with contextlib.ExitStack() as held:
            owners = []
            for path in self._folder.glob(f"*{_SUFFIX}"):
                try:
                    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
                except OSError:
                    continue
                held.callback(os.close, descriptor)
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except OSError:
                    continue
                owners.append(path.name.removesuffix(_SUFFIX))
            yield owners
            for owner in owners:
                self._path(owner).unlink(missing_ok=True)

    def remove_folder(self, name: str) -> None:
        """Remove one folder; no symbolic link in it is followed."""
        shutil.rmtree(self._folder / name, ignore_errors=True)

    def remove_folders(self, owner: str) -> set[str]:
        """Remove the folders of an owner and return their names."""
        found = set()
        for path in self._folder.glob(f"{owner}-*"):
            self.remove_folder(path.name)
            found.add(path.name)
        return found

    def release(self, *, all_cleared: bool = True) -> None:
        """Give the lease back; may be called twice.

        When something could not be removed, the unlocked lease stays: it is what a later life of
        the service finds the rest by.
        """
        with self._lock:
            held, self._held = self._held, None
        if held is not None:
            if all_cleared:
                self._path(self.owner).unlink(missing_ok=True)
            os.close(held)

    def _path(self, owner: str) -> Path:
        return self._folder / f"{owner}{_SUFFIX}"

    def _prepare_folder(self) -> None:
        with contextlib.suppress(FileExistsError):
            self._folder.mkdir(mode=0o711)
            # The mode of mkdir is cut by the umask; sandboxes with a uid of their own pass through.
            self._folder.chmod(0o711)
        found = self._folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise RunnerUnavailable(
                f"{self._folder} is not a folder of this user; remove it or set TMPDIR"
            )
