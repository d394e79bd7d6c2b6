"""Who gets at the Unix socket between the roles: permissions are all that guards it."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

from lowcode_faas_core.findings import Finding, fine, warning

__all__ = ["listener", "place"]


def listener(path: Path, subject: str) -> Iterator[Finding]:
    """Say who may connect to a worker at ``path``."""
    if not path.parent.is_dir():
        yield warning(subject, f"{path} needs its folder before the worker starts")
        return
    found = list(place(path, subject))
    if _open_to_all(path):
        found.append(
            warning(
                subject,
                f"every user of this machine may connect to {path}: chmod o-rwx {path}, and "
                "SocketMode=0660 where systemd makes it",
            )
        )
    yield from found or [fine(subject, f"{path} is closed to other users")]


def place(path: Path, subject: str) -> Iterator[Finding]:
    """Warn where other users could put a socket of theirs in the place of the worker's."""
    folder = path.parent.resolve()
    for each in (folder, *folder.parents):
        try:
            mode = each.stat().st_mode
        except OSError:
            continue  # what is not there, or not ours to see, is for who connects to tell
        # With the sticky bit nobody takes away what is another's, and anybody may come first.
        if mode & stat.S_IWOTH and (each == folder or not mode & stat.S_ISVTX):
            yield warning(
                subject,
                f"every user of this machine may put a socket of theirs at {path}, and would be sent "
                f"the secret, env and input: {each} must not be writable for others",
            )
            return


def _open_to_all(path: Path) -> bool:
    try:
        ways = [each.stat().st_mode & stat.S_IXOTH for each in path.parent.resolve().parents]
        ways.append(path.parent.stat().st_mode & stat.S_IXOTH)
        return all(ways) and bool(path.stat().st_mode & stat.S_IWOTH)
    except OSError:
        return False
