"""One open directory and what may be done in it: no symlink is followed, no file is ever torn."""

from __future__ import annotations

import errno
import os
import secrets
import shutil
import stat
import time
from types import TracebackType

from lowcode_faas_core.errors import NameClash, PlatformError, StorageFull, StorageUnavailable

__all__ = ["TEMPORARY", "Folder", "Key", "Unreadable", "key_of", "platform_error", "stamp_after"]

#: How names begin that are never part of the store; leftovers of a crash are swept by age.
TEMPORARY = ".tmp-"

#: What changes when a file does: inode, mtime, size, ctime.
Key = tuple[int, int, int, int]

_FULL = {errno.ENOSPC, errno.EDQUOT}
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Unreadable(Exception):  # never leaves the plugin
    """Raised for a file that is there but is not one to read: a link, a directory, too large."""


def key_of(status: os.stat_result) -> Key:
    """Return what identifies this state of a file."""
    return (status.st_ino, status.st_mtime_ns, status.st_size, status.st_ctime_ns)


def stamp_after(previous: os.stat_result | None) -> int:
    """Return an mtime in ns that no earlier file of this name had.

    Kernel timestamps stand still for up to 10 ms and inode numbers are used again at once, so two
    writes in quick succession could leave a file that looks like the one before last.
    """
    return max(time.time_ns(), previous.st_mtime_ns + 1 if previous is not None else 0)


def platform_error(error: OSError) -> PlatformError:
    """Return what an error of the file system means to the caller."""
    where = f" ({os.fsdecode(error.filename)})" if isinstance(error.filename, (str, bytes)) else ""
    reason = error.strerror or str(error)
    if error.errno in _FULL:
        return StorageFull(f"the data folder is full: {reason}{where}")
    return StorageUnavailable(f"the data folder cannot be used: {reason}{where}")


class Folder:
    """An open directory; every name is taken relative to its descriptor.

    ``path`` is for messages and for watching only.
    """

    def __init__(self, fd: int, path: str) -> None:
        self.fd = fd
        self.path = path

    @classmethod
    def root(cls, path: str) -> Folder:
        """Open the data folder itself, the only place where an operator's symlink is followed."""
        return cls(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), path)

    def __enter__(self) -> Folder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        os.close(self.fd)

    def sub(self, name: str) -> Folder:
        """Open a directory inside; a symlink is an ``OSError`` (``ELOOP`` or ``ENOTDIR``)."""
        return Folder(os.open(name, _DIRECTORY, dir_fd=self.fd), f"{self.path}/{name}")

    def make(self, name: str) -> Folder:
        """Open a directory inside, made (mode 0700, durable) when it is absent."""
        try:
            return self.sub(name)
        except FileNotFoundError:
            pass
        try:
            os.mkdir(name, 0o700, dir_fd=self.fd)
        except FileExistsError:
            return self.sub(name)
        folder = self.sub(name)
        try:
            os.fchmod(folder.fd, 0o700)  # whatever the umask took away
            self.sync()
        except BaseException:
            os.close(folder.fd)
            raise
        return folder

    def status(self, name: str) -> os.stat_result | None:
        """Return the status of ``name`` itself, never of what a link points to."""
        try:
            return os.stat(name, dir_fd=self.fd, follow_symlinks=False)
        except FileNotFoundError:
            return None

    def key(self) -> Key:
        """Return the directory's own state: it changes when a name in it comes or goes."""
        return key_of(os.fstat(self.fd))

    def names(self) -> list[str]:
        """Return every name inside, in no order."""
        return os.listdir(self.fd)

    def is_exact(self, name: str) -> bool:
        """Tell whether an existing ``name`` is spelt like this on disk.

        A file system that folds case answers ``greet`` with ``Greet``. The directory is listed
        only when the name with its case swapped is the very same file.
        """
        mine, twin = self.status(name), self.status(name.swapcase())
        if mine is None or twin is None or mine.st_ino != twin.st_ino:
            return True
        return name.swapcase() == name or name in self.names()

    def refuse_clash(self, *names: str) -> None:
        """Raise :class:`NameClash` when a file cannot be written under one of ``names``."""
        for name in names:
            status = self.status(name)
            if status is not None and stat.S_ISDIR(status.st_mode):
                raise NameClash(f"{name} is a directory in the data folder")
            if not self.is_exact(name):
                raise NameClash(
                    f"{name} differs only in case from a name in use, "
                    "and this file system cannot tell them apart"
                )

    def read(self, name: str, limit: int) -> tuple[bytes, os.stat_result]:
        """Return the bytes of a regular file and the status they were read under.

        :raises Unreadable: not a regular file, or larger than ``limit`` bytes.
        """
        try:
            # Without O_NONBLOCK a planted FIFO would hold the reader for ever.
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            fd = os.open(name, flags, dir_fd=self.fd)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):
                raise Unreadable("it is not a regular file") from error
            raise
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise Unreadable("it is not a regular file")
            if status.st_size > limit:
                raise Unreadable(f"it is larger than {limit} bytes")
            chunks = []
            rest = limit + 1
            while rest and (chunk := os.read(fd, min(rest, 1 << 20))):
                chunks.append(chunk)
                rest -= len(chunk)
        finally:
            os.close(fd)
        if not rest:
            raise Unreadable(f"it is larger than {limit} bytes")
        return b"".join(chunks), status

    def stage(self, data: bytes, stamp: int | None = None) -> str:
        """Write ``data`` durably under a temporary name (mode 0600) and return that name."""
        name = f"{TEMPORARY}{os.getpid()}-{secrets.token_hex(8)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, 0o600, dir_fd=self.fd)
        try:
            try:
                os.fchmod(fd, 0o600)
                view = memoryview(data)
                while view:
                    view = view[os.write(fd, view) :]
                if stamp is not None:
                    os.utime(fd, ns=(stamp, stamp))
                # An error here is final: the kernel may have dropped the pages, and a second
                # fsync would report success over lost bytes.
                os.fsync(fd)
            finally:
                os.close(fd)
        except BaseException:
            self.discard(name)
            raise
        return name

    def put(self, name: str, data: bytes, stamp: int | None = None) -> None:
        """Write a file whole or not at all; its name is durable after ``sync``."""
        temporary = self.stage(data, stamp)
        try:
            self.rename(temporary, name)
        except BaseException:
            self.discard(temporary)
            raise

    def touch(self, name: str) -> None:
        """Make an empty file; durable after ``sync``."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        os.close(os.open(name, flags, 0o600, dir_fd=self.fd))

    def rename(self, old: str, new: str, to: Folder | None = None) -> None:
        """Put ``old`` in the place of ``new`` in one step; durable after ``sync``."""
        os.rename(old, new, src_dir_fd=self.fd, dst_dir_fd=(to or self).fd)

    def discard(self, name: str) -> None:
        """Remove a file if it is there and can be removed; an empty name is none."""
        try:
            os.unlink(name, dir_fd=self.fd)
        except OSError:
            return

    def remove(self, name: str) -> None:
        """Remove a file that may be absent."""
        try:
            os.unlink(name, dir_fd=self.fd)
        except FileNotFoundError:
            return

    def remove_tree(self, name: str) -> None:
        """Remove a directory and all below it as far as possible, following no link."""
        shutil.rmtree(name, ignore_errors=True, dir_fd=self.fd)

    def sync(self) -> None:
        """Make the names in this directory durable."""
        os.fsync(self.fd)
