"""Whose a container is: the labels that say so, and whether the one they name still lives."""

from __future__ import annotations

import enum
import hashlib
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["INSTANCE", "MANAGED", "OWNER", "Identity", "Life", "identify"]

_PREFIX: Final = "io.lowcode-faas."
MANAGED: Final = f"{_PREFIX}managed"
INSTANCE: Final = f"{_PREFIX}instance"
#: ``boot id:pid:start time`` of the serving process, the time in clock ticks since the boot.
OWNER: Final = f"{_PREFIX}owner"
#: ``inode of its pid namespace:host name``: a pid means nothing in another container.
PLACE: Final = f"{_PREFIX}place"

_CONTAINER_ID: Final = re.compile(r"[0-9a-f]{12}")


class Life(enum.Enum):
    """What is known about an owner."""

    LIVES = "lives"
    GONE = "gone"
    #: It may live in another container, which the engine can be asked for.
    ELSEWHERE = "elsewhere"


@dataclass(frozen=True)
class Identity:
    """The serving process, as its containers name it."""

    instance: str
    boot: str
    pid: int
    started: str
    namespace: str
    host: str

    @property
    def labels(self) -> dict[str, str]:
        """What every container of this process carries, fixed at its creation."""
        return {
            **self.service_labels,
            OWNER: f"{self.boot}:{self.pid}:{self.started}",
            PLACE: f"{self.namespace}:{self.host}",
        }

    @property
    def container(self) -> str:
        """The id of the container this process may be in, empty when it is in none it can name."""
        return self.host if _CONTAINER_ID.fullmatch(self.host) else ""

    @property
    def service_labels(self) -> dict[str, str]:
        """What everything of this service carries."""
        return {MANAGED: "true", INSTANCE: self.instance}

    def is_own(self, labels: Mapping[str, str]) -> bool:
        """Tell whether this very process made it."""
        return labels.get(OWNER) == self.labels[OWNER] and labels.get(PLACE) == self.labels[PLACE]

    def judge(self, labels: Mapping[str, str]) -> tuple[Life, str]:
        """Tell whether the owner lives, and for ``ELSEWHERE`` the container to ask for.

        Labels that cannot be read are taken for a living owner: when in doubt nothing is removed.
        """
        boot, _, rest = labels.get(OWNER, "").partition(":")
        pid, _, started = rest.partition(":")
        namespace, _, host = labels.get(PLACE, "").partition(":")
        if not (boot and pid.isdigit() and started):
            return Life.LIVES, ""
        if boot != self.boot:
            # Another boot of this machine. A machine of its own has an instance of its own.
            return Life.GONE, ""
        if namespace == self.namespace:
            return (Life.LIVES if started_at(int(pid)) == started else Life.GONE), ""
        if _CONTAINER_ID.fullmatch(host):
            return Life.ELSEWHERE, host
        return Life.LIVES, ""


def started_at(pid: int) -> str | None:
    """Return when a process started, ``None`` when there is none or it is only unreaped."""
    try:
        line = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    # The name in parentheses may hold spaces and parentheses itself.
    fields = line[line.rindex(")") + 2 :].split()
    return None if fields[0] in "ZX" else fields[19]


def identify(instance: str, environ: Mapping[str, str]) -> Identity:
    """Return who this process is; ``instance`` is the operator's choice, if any."""
    host = socket.gethostname()
    return Identity(
        instance=instance or _default_instance(host, environ),
        boot=Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        pid=os.getpid(),
        started=started_at(os.getpid()) or "",
        namespace=str(Path("/proc/self/ns/pid").stat().st_ino),
        host=host,
    )


def _default_instance(host: str, environ: Mapping[str, str]) -> str:
    # The same after a restart, another for each data folder and machine. A host name given by an
    # engine changes with every container, so that it cannot be part of it.
    machine = ""
    for path in ("/etc/machine-id", "/var/lib/dbus/machine-id"):
        try:
            machine = Path(path).read_text().strip()
        except OSError:
            continue
        if machine:
            break
    folder = Path(environ.get("LOWCODE_FAAS_DATA_DIR") or "data").expanduser().absolute()
    parts = (machine, "" if _CONTAINER_ID.fullmatch(host) else host, str(os.getuid()), str(folder))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
