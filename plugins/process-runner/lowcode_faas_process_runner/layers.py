"""Finds out which layers of isolation this machine gives, by trying each with a trivial command.

util-linux does the privileged steps, so no code of ours runs between fork and exec: that would be
unsafe in a process with threads.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lowcode_faas_core.errors import RunnerUnavailable

__all__ = ["TOOL_PATH", "Layers", "Tools", "detect"]

#: Where the tools are looked for: fixed, so that the service's PATH cannot slip one in.
TOOL_PATH: Final = "/usr/sbin:/usr/bin:/sbin:/bin"
_PROBE_TIMEOUT_S: Final = 10.0
#: The user that owns nothing, by tradition.
_NOBODY: Final = 65534
#: An exit code a failing layer does not have.
_PROBE_CODE: Final = 37


@dataclass(frozen=True)
class Tools:
    """Absolute paths of what the chain of commands is made of."""

    setpriv: str
    shell: str
    unshare: str | None
    mount: str | None


@dataclass(frozen=True)
class Layers:
    """What holds here. Every flag is the outcome of a trial, not of a guess from the version."""

    tools: Tools
    root: bool
    own_uid: bool = False
    #: A user all sandboxes share, where there are not enough user ids for one each.
    shared_uid: int | None = None
    pid_namespace: bool = False
    user_namespace: bool = False
    private_tmp: bool = False

    def namespace_command(self) -> list[str]:
        """Return the command that enters the new namespaces; empty when there are none."""
        if not self.pid_namespace or self.tools.unshare is None:
            return []
        command = [self.tools.unshare]
        if self.user_namespace:
            command += ["--user", "--map-root-user"]
        if self.private_tmp:
            command += ["--mount"]
        return [*command, "--pid", "--fork", "--kill-child"]

    def drop_command(self, uid: int | None) -> list[str]:
        """Return the command that gives up privileges for good and then executes its arguments."""
        command = [self.tools.setpriv, "--no-new-privs"]
        if uid is not None:
            command += ["--reuid", str(uid), "--regid", str(uid), "--clear-groups"]
        if self.root or self.user_namespace:
            command += ["--inh-caps", "-all", "--bounding-set", "-all"]
        if not self.pid_namespace:
            # A change of uid clears the death signal set at the start of the chain.
            command += ["--pdeathsig", "KILL"]
        return command

    def mount_line(self, size_mb: int) -> str:
        """Return the shell line that puts a private file system of that size over /tmp."""
        if not self.private_tmp or self.tools.mount is None:
            return ""
        # An inode costs about 1 KiB of kernel memory: as many as there are 4 KiB blocks.
        options = f"size={size_mb}m,nr_inodes={size_mb * 256},mode=1777,nosuid,nodev"
        return f"{shlex.quote(self.tools.mount)} -t tmpfs -o {options} tmpfs /tmp || exit 125\n"


def detect(uid: int) -> Layers:
    """Try the layers, the best first, and return what works; takes about 10 ms.

    ``uid`` is one that a sandbox would get.

    :raises RunnerUnavailable: when not even the death signal can be set.
    """
    tools = _tools()
    root = os.geteuid() == 0
    own_uid = root and _maps(uid)
    shared_uid = _NOBODY if root and not own_uid and _maps(_NOBODY) else None
    tried_uid = uid if own_uid else shared_uid
    if tools.unshare is not None:
        for private_tmp in (True, False) if tools.mount is not None else (False,):
            layers = Layers(
                tools,
                root,
                own_uid=own_uid,
                shared_uid=shared_uid,
                pid_namespace=True,
                user_namespace=not root,
                private_tmp=private_tmp,
            )
            if not _fails(layers, tried_uid):
                return layers
    plain = Layers(tools, root, own_uid=own_uid, shared_uid=shared_uid)
    reason = _fails(plain, tried_uid)
    if not reason:
        return plain
    raise RunnerUnavailable(
        f"{tools.setpriv} cannot tie a process to the service's life: {reason}; "
        "util-linux 2.33 or later is needed"
    )


def _tools() -> Tools:
    setpriv = shutil.which("setpriv", path=TOOL_PATH)
    shell = shutil.which("sh", path=TOOL_PATH)
    if setpriv is None or shell is None:
        missing = "setpriv (package util-linux)" if setpriv is None else "sh"
        raise RunnerUnavailable(f"the process runner needs {missing} in {TOOL_PATH}")
    return Tools(
        setpriv,
        shell,
        shutil.which("unshare", path=TOOL_PATH),
        shutil.which("mount", path=TOOL_PATH),
    )


def _maps(uid: int) -> bool:
    """Tell whether the user namespace the service lives in knows ``uid`` as a user and a group."""
    for name in ("uid_map", "gid_map"):
        try:
            with Path(f"/proc/self/{name}").open(encoding="ascii") as file:
                ranges = [line.split() for line in file]
        except OSError:
            return False
        if not any(int(first) <= uid < int(first) + int(count) for first, _, count in ranges):
            return False
    return True


def _fails(layers: Layers, uid: int | None) -> str:
    """Try the whole chain once; return why it fails, or nothing."""
    probe = f"exit {_PROBE_CODE}"
    script = f'{layers.mount_line(1)}"$@"\nexit $?'
    command = [
        layers.tools.setpriv,
        "--pdeathsig",
        "KILL",
        *layers.namespace_command(),
        *(layers.tools.shell, "-c", script, "sh"),
        *layers.drop_command(uid),
        *(layers.tools.shell, "-c", probe),
    ]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PROBE_TIMEOUT_S,
            env={},
            cwd="/",
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if done.returncode == _PROBE_CODE:
        return ""
    return done.stderr.decode("utf-8", "replace").strip() or f"exit code {done.returncode}"
