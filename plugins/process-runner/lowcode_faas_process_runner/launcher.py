"""Starts Node sandboxes as local processes, as far apart from the host as this machine allows."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import secrets
import socket
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lowcode_faas_core.errors import RunnerUnavailable
from lowcode_faas_core.interfaces.launcher import Isolation, Launcher
from lowcode_faas_core.model import SandboxLimits
from lowcode_faas_core.sandbox.loader import LOADER, bootstrap
from lowcode_faas_core.sandbox.protocol import TOKEN_BYTES, greeting
from lowcode_faas_process_runner.cgroups import Cgroups
from lowcode_faas_process_runner.command import LEAVE, allocation, command
from lowcode_faas_process_runner.handshake import NotReady, await_ready
from lowcode_faas_process_runner.holdings import Held, Holdings
from lowcode_faas_process_runner.housekeeping import Housekeeper
from lowcode_faas_process_runner.layers import Layers, detect
from lowcode_faas_process_runner.leases import Leases
from lowcode_faas_process_runner.memory_watch import MemoryWatch
from lowcode_faas_process_runner.node import Node, NodeFinder
from lowcode_faas_process_runner.sandbox import ProcessSandbox
from lowcode_faas_process_runner.settings import ProcessSettings
from lowcode_faas_process_runner.spare import Begun, Spare
from lowcode_faas_process_runner.spawner import Order, Spawner, discard

__all__ = ["ProcessLauncher"]

#: How long a start that failed waits for what it had begun to end.
_ABANDON_S: Final = 2.0
#: The chain's shell gives the numbers below to the channel and to its own redirections.
_FIRST_INHERITED: Final = 20
#: Longest preparation, in nanoseconds.
_PREPARATION_NS: Final = 10_000_000_000
#: Between two looks whether a sandbox has entered its cgroups.
_GROUP_POLL_S: Final = 0.0005
_PRIVATE_TMP: Final = "/tmp"  # noqa: S108  # the sandbox's own, mounted for it alone
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Means:
    """What this machine offers, found out once."""

    layers: Layers
    cgroups: Cgroups
    loader: str
    bootstrap: bytes


class ProcessLauncher(Launcher):
    """See :class:`Launcher`. Opens nothing and starts no thread before its first start.

    ``layers`` and ``cgroups`` stand in for what would be found on this machine, ``source`` for the
    core's bootstrap.
    """

    def __init__(
        self,
        settings: ProcessSettings,
        environ: Mapping[str, str],
        *,
        layers: Layers | None = None,
        cgroups: Cgroups | None = None,
        source: bytes | None = None,
        leases: Leases | None = None,
    ) -> None:
        self._settings = settings
        self._nodes = NodeFinder(settings.node_bin, environ)
        # User code gets its own variables later; of the service's only the time zone passes.
        self._environ = {"TZ": environ["TZ"]} if environ.get("TZ") else {}
        self._given = (layers, cgroups, source)
        self._means: _Means | None = None
        self._leases = leases or Leases()
        self._spawner = Spawner()
        self._housekeeper = Housekeeper()
        self._memory_watch = MemoryWatch()
        self._holdings = Holdings(settings.uid_base, self._leases, self._housekeeper)
        self._spare = Spare()
        self._lock = threading.Lock()
        self._finding = threading.Lock()
        self._closing = threading.Lock()
        #: The Node that was started last, and a descriptor of it.
        self._opened: tuple[Node, int] | None = None

    def start(self, limits: SandboxLimits, deadline_ns: int) -> ProcessSandbox:
        """Start a sandbox: one thread spawns them all, the caller's waits for ``ready``."""
        means = self._find_means()
        node = self._nodes.find()
        spare = self._spare.take_fitting(limits, node)
        if spare is not None:
            try:
                return self._finish(means, spare, deadline_ns)
            except NotReady as error:
                _log.debug("what was prepared for a sandbox was of no use: %s", error)
        try:
            begun = self._begin(means, limits, node, deadline_ns)
            return self._finish(means, begun, deadline_ns)
        except NotReady as error:
            raise RunnerUnavailable(f"a sandbox did not get ready: {error}") from error

    def prepare(self, limits: SandboxLimits) -> None:
        """Have all but Node there: the namespace, its file system, and groups that are empty yet."""
        means = self._find_means()
        node = self._nodes.find()
        if not self._spare.wanted(limits, node):
            return
        old = self._spare.take()
        if old is not None:
            self._dismiss(old.sandbox)
        deadline_ns = time.monotonic_ns() + _PREPARATION_NS
        begun = self._begin(means, limits, node, deadline_ns, on_leave=True)
        if not self._spare.put(begun):
            self._dismiss(begun.sandbox)

    def adopt_orphans(self) -> int:
        """Remove groups and folders of launchers that are gone, with any process still in them."""
        cgroups = self._find_means().cgroups
        found: set[str] = set()
        with self._leases.abandoned() as owners:
            for owner in list(owners):
                groups, all_gone = cgroups.remove_owned(owner)
                found |= groups | self._leases.remove_folders(owner)
                if not all_gone:
                    owners.remove(owner)
        cgroups.remove_forgotten(self._leases.is_known)
        return len(found)

    def isolation(self) -> Isolation:
        """Say which layers hold here, and that they are no boundary against hostile code."""
        means = self._find_means()
        layers, groups = means.layers, means.cgroups.parents
        parts = {
            "pid-namespace": layers.pid_namespace,
            "own-uid": layers.own_uid,
            "shared-uid": layers.shared_uid is not None,
            "private-tmp": layers.private_tmp,
            "memory-cgroup": "memory" in groups,
            "memory-watch": "memory" not in groups,
            "pids-limit": "pids" in groups or layers.own_uid,
            "cpu-quota": "cpu" in groups,
            "node-permission": True,
        }
        features = [name for name, holds in parts.items() if holds]
        absent = [
            name
            for name in ("pid-namespace", "own-uid", "private-tmp", "memory-cgroup", "cpu-quota")
            if name not in features
        ]
        summary = "local processes with " + ", ".join(features)
        if absent:
            summary += "; without " + ", ".join(absent)
        return Isolation(
            f"{summary}; not a boundary against hostile code", frozenset(features), boundary=False
        )

    def check(self) -> None:
        """Find Node and the tools; what was found once is not tried again."""
        self._nodes.find()
        self._find_means()

    def close(self) -> None:
        """End what was prepared and all threads, and remove what is left on disk."""
        # Whoever comes second waits: what is not removed yet would keep the lease from being so.
        with self._closing:
            spare = self._spare.close()
            if spare is not None:
                self._dismiss(spare.sandbox)
            self._spawner.close()
            self._housekeeper.close()
            self._memory_watch.close()
            self._leases.release(all_cleared=self._holdings.all_cleared())
            with self._lock:
                opened, self._opened = self._opened, None
            if opened is not None:
                os.close(opened[1])

    def _find_means(self) -> _Means:
        if self._means is None:
            with self._finding:
                if self._means is None:
                    layers, cgroups, source = self._given
                    self._means = _Means(
                        layers or detect(self._settings.uid_base),
                        cgroups or Cgroups.find(),
                        LOADER,
                        source or bootstrap(),
                    )
        return self._means

    def _node_descriptor(self, node: Node) -> int:
        """Return a descriptor of Node: after the uid drop its folder may be out of reach.

        :raises RunnerUnavailable: it is another one by now, whose flags may differ.
        """
        with self._lock:
            if self._opened is None or self._opened[0] != node:
                with Path(node.path).open("rb") as file:
                    if os.fstat(file.fileno()).st_mtime_ns != node.changed_ns:
                        raise RunnerUnavailable(f"{node.path} was replaced just now")
                    descriptor = fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, _FIRST_INHERITED)
                if self._opened is not None:
                    os.close(self._opened[1])
                self._opened = node, descriptor
            return fcntl.fcntl(self._opened[1], fcntl.F_DUPFD_CLOEXEC, _FIRST_INHERITED)

    def _begin(
        self,
        means: _Means,
        limits: SandboxLimits,
        node: Node,
        deadline_ns: int,
        *,
        on_leave: bool = False,
    ) -> Begun:
        """Start the chain of commands, which waits for leave where it is to, before it starts Node."""
        try:
            with self._holdings.taken(means.layers, means.cgroups, limits) as held:
                return self._spawn(means, held, limits, node, deadline_ns, on_leave)
        except OSError as error:
            raise RunnerUnavailable(f"a sandbox cannot be started: {error.strerror}") from error

    def _finish(self, means: _Means, begun: Begun, deadline_ns: int) -> ProcessSandbox:
        """Have Node started, and return when its bootstrap is ready.

        :raises NotReady: when it never will be, with what its commands said.
        """
        sandbox = begun.sandbox
        try:
            hello = begun.leave + greeting(sandbox.token, means.bootstrap)
            node_pid = await_ready(begun.channel, sandbox.token, hello, deadline_ns)
            sandbox.identify(node_pid, behind_init=means.layers.pid_namespace)
            _await_group(begun, node_pid, deadline_ns)
            if "memory" not in means.cgroups.parents:
                self._memory_watch.add(sandbox, begun.limits.memory_mb << 20)
        except (NotReady, OSError) as error:
            said = self._abandon(sandbox)
            raise NotReady(f"{error} ({said})" if said else str(error)) from error
        except BaseException:
            self._abandon(sandbox)
            raise
        return sandbox

    def _spawn(
        self,
        means: _Means,
        held: Held,
        limits: SandboxLimits,
        node: Node,
        deadline_ns: int,
        on_leave: bool,
    ) -> Begun:
        layers = means.layers
        folder = held.folder or _PRIVATE_TMP
        environ = {**self._environ, **allocation(limits), "HOME": folder, "TMPDIR": folder}
        with contextlib.ExitStack() as ours, contextlib.ExitStack() as theirs:
            node_fd = self._node_descriptor(node)
            theirs.callback(os.close, node_fd)
            argv = command(
                layers,
                node,
                f"/proc/self/fd/{node_fd}",
                limits,
                means.loader,
                folder=folder,
                uid=held.uid,
                groups=held.group.paths,
                limit_processes=layers.own_uid and "pids" not in means.cgroups.parents,
                on_leave=on_leave,
            )
            channel, end = socket.socketpair()
            ours.callback(channel.close)
            theirs.callback(end.close)
            # Before Node can speak: the kernel notes the sender as a message is sent.
            channel.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            (stdout, written), (stderr, told) = _pipe(ours, theirs), _pipe(ours, theirs)
            folder = held.folder or "/"
            order = Order(argv, environ, folder, end.fileno(), written, told, (node_fd,))
            # The order closes them from here on.
            end.detach()
            theirs.pop_all()
            pid = self._spawned(order, deadline_ns)
            ours.callback(discard, pid)
            sandbox = ProcessSandbox(
                name=f"process {pid}",
                token=secrets.token_bytes(TOKEN_BYTES),
                pid=pid,
                channel=channel,
                stdout=stdout,
                stderr=stderr,
                release=lambda: self._released(sandbox, held),
            )
            ours.pop_all()
        return Begun(sandbox, channel, held.group, limits, node, LEAVE if on_leave else b"")

    def _spawned(self, order: Order, deadline_ns: int) -> int:
        future = self._spawner.spawn(order)
        try:
            return future.result(timeout=max(0.0, (deadline_ns - time.monotonic_ns()) / 1e9))
        except TimeoutError:
            if not future.cancel():
                future.add_done_callback(_discard_late)
            raise RunnerUnavailable("the deadline passed while a sandbox was starting") from None

    def _dismiss(self, sandbox: ProcessSandbox) -> None:
        """End a chain that nobody has given leave.

        By itself, so that each shell has waited for the next when it is over and the groups are empty.
        """
        sandbox.shutdown()
        if sandbox.ended(_ABANDON_S) is None:
            self._abandon(sandbox)

    def _abandon(self, sandbox: ProcessSandbox) -> str:
        """End a sandbox that did not get ready; return what its commands said on stderr."""
        sandbox.shutdown()
        sandbox.kill()
        said = sandbox.said()
        if sandbox.ended(_ABANDON_S) is None:
            self._housekeeper.do(lambda: sandbox.ended(0) is not None)
        return said

    def _released(self, sandbox: ProcessSandbox, held: Held) -> bool:
        self._memory_watch.remove(sandbox)
        out_of_memory = held.group.ran_out_of_memory()
        self._holdings.give_back(held)
        return out_of_memory


def _pipe(ours: contextlib.ExitStack, theirs: contextlib.ExitStack) -> tuple[int, int]:
    """Return a pipe whose reading end, which is the host's, does not block."""
    reading, writing = os.pipe()
    ours.callback(os.close, reading)
    theirs.callback(os.close, writing)
    os.set_blocking(reading, False)
    return reading, writing


def _await_group(begun: Begun, pid: int, deadline_ns: int) -> None:
    """Wait until the process is bounded by its groups; usually it is by now.

    :raises NotReady: when that does not happen in time.
    """
    while begun.group is not None and not begun.group.holds(pid):
        if begun.sandbox.gone() or time.monotonic_ns() >= deadline_ns:
            raise NotReady("it did not enter its cgroups")
        time.sleep(_GROUP_POLL_S)


def _discard_late(future: Future[int]) -> None:
    if not future.cancelled() and future.exception() is None:
        discard(future.result())
