"""What sandboxes hold until their end is confirmed: a name, a user id, a folder and cgroups."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from lowcode_faas_core.errors import RunnerUnavailable
from lowcode_faas_core.model import SandboxLimits
from lowcode_faas_process_runner.cgroups import Cgroups, Group
from lowcode_faas_process_runner.command import OWN_PROCESSES
from lowcode_faas_process_runner.housekeeping import Housekeeper
from lowcode_faas_process_runner.layers import Layers
from lowcode_faas_process_runner.leases import Leases

__all__ = ["Held", "Holdings"]

#: User ids of one serving process: the base, its pid times this, and a number that is free.
_UIDS: Final = 256


@dataclass
class Held:
    """What one sandbox has of the launcher; less while it is being taken."""

    name: str
    uid: int | None = None
    #: Which of this process's user ids that is; ``None`` where it is not the sandbox's own.
    number: int | None = None
    folder: str | None = None
    group: Group = field(default_factory=lambda: Group({}))


class Holdings:
    """Gives each sandbox its own, and takes it back; used by many threads."""

    def __init__(self, uid_base: int, leases: Leases, housekeeper: Housekeeper) -> None:
        self._uid_base = uid_base
        self._leases = leases
        self._housekeeper = housekeeper
        self._lock = threading.Lock()
        self._free_numbers = list(range(_UIDS - 1, -1, -1))
        self._names = itertools.count(1)
        self._outstanding: set[str] = set()

    @contextlib.contextmanager
    def taken(self, layers: Layers, cgroups: Cgroups, limits: SandboxLimits) -> Iterator[Held]:
        """Give what a sandbox is to hold; a block that fails gives it back.

        :raises RunnerUnavailable: when no user id is free, or there can be no lease.
        :raises OSError: when the folder or the cgroups cannot be made.
        """
        held = Held(f"{self._leases.owner}-{next(self._names)}")
        try:
            self._leases.acquire()
            with self._lock:
                self._outstanding.add(held.name)
            self._take_uid(held, layers)
            if not layers.private_tmp:
                held.folder = self._leases.make_folder(held.name, held.uid)
            held.group = cgroups.create(held.name, limits, OWN_PROCESSES)
            yield held
        except BaseException:
            self.give_back(held)
            raise

    def give_back(self, held: Held) -> None:
        """Take back what a sandbox held that has ended; what takes long is done by the housekeeper."""
        if held.folder is None and held.group.remove():
            self._free(held)
        else:
            self._housekeeper.do(lambda: self._clear(held))

    def all_cleared(self) -> bool:
        """Tell whether nothing is held, and nothing left to be removed."""
        with self._lock:
            return not self._outstanding

    def _take_uid(self, held: Held, layers: Layers) -> None:
        if not layers.own_uid:
            held.uid = layers.shared_uid
            return
        with self._lock:
            if not self._free_numbers:
                raise RunnerUnavailable(
                    f"a serving process can have {_UIDS} sandboxes; raise LOWCODE_FAAS_WORKERS"
                )
            held.number = self._free_numbers.pop()
        # Distinct over all serving processes without a lock: pids are, and below 2^22.
        held.uid = self._uid_base + os.getpid() * _UIDS + held.number

    def _clear(self, held: Held) -> bool:
        if held.folder is not None:
            self._leases.remove_folder(held.name)
        if not held.group.remove():
            return False
        self._free(held)
        return True

    def _free(self, held: Held) -> None:
        with self._lock:
            self._outstanding.discard(held.name)
            # Only now: the next sandbox of this uid must find nothing of the last one.
            if held.number is not None:
                self._free_numbers.append(held.number)
