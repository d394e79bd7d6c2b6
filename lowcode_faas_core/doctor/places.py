"""What lies on this machine's disk: the data folder, the tokens, the secrets."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from lowcode_faas_core.errors import StartError
from lowcode_faas_core.findings import Finding, failure, fine, readable_by_others, warning
from lowcode_faas_core.settings import infos
from lowcode_faas_core.startup import ProcessRole, Startup
from lowcode_faas_core.tokens import TokenFile

__all__ = ["data_folder", "secrets", "tokens"]

#: Below this, deploys and records will soon fail, in bytes.
SCARCE_BYTES: Final = 1 << 30
#: File systems on which locks or renames do not hold what the storage promises.
NETWORK: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "fuse.sshfs", "glusterfs"})


def data_folder(startup: Startup) -> Iterator[Finding]:
    """Look at owner, mode, room and file system of the data folder."""
    path = startup.access.data_dir.absolute()
    try:
        found = path.stat()
    except FileNotFoundError:
        above = next(each for each in path.parents if each.exists())
        if os.access(above, os.W_OK | os.X_OK):
            yield fine("data folder", f"{path} is not there yet; it is made at the first write")
        else:
            yield failure("data folder", f"{path} is not there, and {above} is not writable")
        return
    except OSError as error:
        yield failure("data folder", f"{path} cannot be looked at: {error.strerror}")
        return
    if found.st_uid != os.geteuid():
        yield warning(
            "data folder",
            f"{path} belongs to {_user(found.st_uid)}, and this is {_user(os.geteuid())}: run "
            "doctor as the service's user to see what it sees",
        )
    if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
        yield failure("data folder", f"{path} is not writable for {_user(os.geteuid())}")
        return
    if readable_by_others(path):
        yield warning(
            "data folder",
            f"{path} can be read by other users, and holds sources, env and token hashes: "
            f"chmod 700 {path}",
        )
    kind = file_system(path)
    if kind in NETWORK and startup.backends.storage.strip().lower() == "files":
        yield failure("data folder", f"{path} is on {kind}: files needs a local file system")
    room = os.statvfs(path)
    left = room.f_bavail * room.f_frsize
    if left < SCARCE_BYTES:
        yield warning("data folder", f"{path} has {left >> 20} MiB left")
    elif room.f_files and room.f_favail * 100 < room.f_files:
        yield warning("data folder", f"{path} has {room.f_favail} inodes left, below 1 %")
    else:
        yield fine("data folder", f"{path} is writable, with {left / (1 << 30):.0f} GiB left")


def tokens(startup: Startup) -> Iterator[Finding]:
    """Look at the file of the API's tokens."""
    if startup.role is not ProcessRole.DISPATCHER:
        return
    path = startup.access.tokens
    try:
        found = TokenFile(path).read()
        if found is None:
            yield fine("tokens", f"{path} is not there: no tokens")
            return
        if readable_by_others(path):
            yield warning("tokens", f"{path} can be read by other users: chmod 600 {path}")
    except StartError as error:
        yield failure("tokens", error.detail)
        return
    except OSError as error:
        yield failure("tokens", f"{path} cannot be looked at: {error.strerror}")
        return
    yield fine("tokens", f"{path} holds {len(found)}")


def secrets(startup: Startup) -> Iterator[Finding]:
    """Look at the files that hold secrets."""
    for info in infos(startup.settings_classes):
        name = startup.environ.get(f"{info.variable}_FILE", "") if info.secret else ""
        if not name:
            continue
        try:
            open_to_all = bool(Path(name).stat().st_mode & 0o007)
        except OSError as error:
            yield failure("secrets", f"{name} cannot be looked at: {error.strerror}")
            continue
        if open_to_all:
            yield warning(
                "secrets", f"{name} ({info.variable}_FILE) is open to every user: chmod 600 {name}"
            )


def file_system(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """Return the kind of file system that holds a path, ``""`` when that is not told."""
    best, kind = -1, ""
    whole = os.path.realpath(path)
    for line in mounts.read_text().splitlines():
        before, _, after = line.partition(" - ")
        point = before.split()[4].encode().decode("unicode_escape")
        inside = whole == point or whole.startswith(point.rstrip("/") + "/")
        if inside and len(point) >= best:
            best, kind = len(point), after.split()[0]
    return kind


def _user(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"
