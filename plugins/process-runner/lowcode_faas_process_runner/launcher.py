"""Starts Node sandboxes as local processes, as far apart from the host as this machine allows."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import select
import shutil
import socket
import struct
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from lowcode_faas_core.errors import RunnerUnavailable
from lowcode_faas_core.interfaces.launcher import Isolation, Launcher
from lowcode_faas_core.model import SandboxLimits
from lowcode_faas_core.sandbox.loader import LOADER, bootstrap
from lowcode_faas_core.sandbox.protocol import (
    TOKEN_BYTES,
    FrameDecoder,
    Kind,
    ProtocolError,
    greeting,
)
from lowcode_faas_process_runner.command import command
from lowcode_faas_process_runner.layers import Layers, detect
from lowcode_faas_process_runner.node import NodeFinder
from lowcode_faas_process_runner.sandbox import ProcessSandbox
from lowcode_faas_process_runner.settings import ProcessSettings
from lowcode_faas_process_runner.spawner import Order, Spawner

__all__ = ["ProcessLauncher"]

#: User ids of one serving process: base + its pid times this + a number that is free.
_UIDS: Final = 256
_CREDENTIALS: Final = struct.Struct("@iii")
#: How long a start that failed waits for what it had begun to end.
_ABANDON_S: Final = 2.0
#: The chain's shell gives the numbers below to the channel and to its own redirections.
_FIRST_INHERITED: Final = 20
_READY_BYTES: Final = 4096


class ProcessLauncher(Launcher):
    """See :class:`Launcher`. Opens nothing and starts no thread before its first start."""

    def __init__(
        self,
        settings: ProcessSettings,
        environ: Mapping[str, str],
        *,
        bootstrap: bytes | None = None,
        loader: str | None = None,
        layers: Layers | None = None,
    ) -> None:
        self._settings = settings
        self._nodes = NodeFinder(settings.node_bin, environ)
        # User code gets its own variables later; of the service's only the time zone passes.
        self._environ = {"TZ": environ["TZ"]} if environ.get("TZ") else {}
        self._bootstrap = bootstrap
        self._loader = loader
        self._layers = layers
        self._spawner = Spawner()
        self._lock = threading.Lock()
        self._free_uids = list(range(_UIDS - 1, -1, -1))
        self._started = 0
        self._held: dict[str, tuple[int | None, str | None]] = {}
        self._node_fds: dict[str, int] = {}

    def start(self, limits: SandboxLimits, deadline_ns: int) -> ProcessSandbox:
        """Start a sandbox; its own thread spawns it, the caller's waits for ``ready``."""
        node = self._nodes.find()
        layers = self._known_layers()
        source, loader = self._sources()
        token = secrets.token_bytes(TOKEN_BYTES)
        uid = self._take_uid(layers)
        folder: str | None = None
        try:
            folder = None if layers.private_tmp else self._make_folder(uid)
            place = folder or "/tmp"  # noqa: S108  # the sandbox's own, mounted for it alone
            node_fd = self._node_descriptor(node.path)
            argv = command(
                layers,
                node,
                f"/proc/self/fd/{node_fd}",
                limits,
                loader,
                folder=place,
                uid=uid,
                limit_processes=layers.own_uid,
            )
            environ = {**self._environ, "HOME": place, "TMPDIR": place}
            sandbox = self._spawn(argv, environ, folder or "/", node_fd, token, uid, folder)
        except BaseException:
            self._give_back(uid, folder)
            raise
        try:
            self._await_ready(sandbox, greeting(token, source), deadline_ns, layers)
        except BaseException:
            sandbox.shutdown()
            sandbox.kill()
            sandbox.ended(_ABANDON_S)
            raise
        return sandbox

    def adopt_orphans(self) -> int:
        """Return 0: the kernel ends every sandbox with its serving process."""
        return 0

    def isolation(self) -> Isolation:
        """Say which layers hold here."""
        layers = self._known_layers()
        features = {"node-permission", "heap-limit", "no-new-privileges"}
        if layers.pid_namespace:
            features.add("pid-namespace")
        if layers.own_uid:
            features.add("own-uid")
        if layers.private_tmp:
            features.add("private-tmp")
        return Isolation(
            "processes of this machine, for trusted code: " + ", ".join(sorted(features)),
            frozenset(features),
        )

    def check(self) -> None:
        """Find Node and the tools; both are remembered."""
        self._nodes.find()
        self._known_layers()
        self._sources()

    def close(self) -> None:
        """End the spawner's thread."""
        self._spawner.close()
        with self._lock:
            descriptors = list(self._node_fds.values())
            self._node_fds.clear()
        for descriptor in descriptors:
            os.close(descriptor)

    def _known_layers(self) -> Layers:
        with self._lock:
            if self._layers is None:
                self._layers = detect(self._settings.uid_base)
            return self._layers

    def _sources(self) -> tuple[bytes, str]:
        if self._bootstrap is None:
            self._bootstrap = bootstrap()
        if self._loader is None:
            self._loader = LOADER
        return self._bootstrap, self._loader

    def _node_descriptor(self, path: str) -> int:
        with self._lock:
            descriptor = self._node_fds.get(path)
            if descriptor is None:
                with Path(path).open("rb") as file:
                    descriptor = fcntl.fcntl(file, fcntl.F_DUPFD_CLOEXEC, _FIRST_INHERITED)
                self._node_fds[path] = descriptor
            return descriptor

    def _take_uid(self, layers: Layers) -> int | None:
        if not layers.own_uid:
            return None
        with self._lock:
            if not self._free_uids:
                raise RunnerUnavailable(f"a serving process has {_UIDS} sandboxes at most")
            # Distinct over all serving processes without a lock: pids are, below 2^22.
            return self._settings.uid_base + (os.getpid() * _UIDS + self._free_uids.pop())

    def _make_folder(self, uid: int | None) -> str:
        folder = os.path.realpath(tempfile.mkdtemp(prefix="lowcode-faas-"))
        if uid is not None:
            os.chown(folder, uid, uid)
        return folder

    def _give_back(self, uid: int | None, folder: str | None) -> None:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        if uid is not None:
            with self._lock:
                self._free_uids.append((uid - self._settings.uid_base) % _UIDS)

    def _spawn(
        self,
        argv: list[str],
        environ: dict[str, str],
        cwd: str,
        node_fd: int,
        token: bytes,
        uid: int | None,
        folder: str | None,
    ) -> ProcessSandbox:
        with contextlib.ExitStack() as on_failure:
            host, theirs = socket.socketpair()
            with theirs:
                on_failure.callback(host.close)
                host.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
                out_read, out_write = os.pipe()
                err_read, err_write = os.pipe()
                on_failure.callback(os.close, out_read)
                on_failure.callback(os.close, err_read)
                os.set_blocking(out_read, False)
                os.set_blocking(err_read, False)
                try:
                    pid = self._spawner.spawn(
                        Order(argv, environ, cwd, theirs.fileno(), out_write, err_write, (node_fd,))
                    )
                except OSError as error:
                    raise RunnerUnavailable(f"a sandbox cannot be started: {error}") from error
                finally:
                    os.close(out_write)
                    os.close(err_write)
            on_failure.pop_all()
        with self._lock:
            self._started += 1
            name = f"process-{pid}-{self._started}"
            self._held[name] = (uid, folder)
        return ProcessSandbox(
            name=name,
            token=token,
            pid=pid,
            channel=host,
            stdout=out_read,
            stderr=err_read,
            release=self._released,
        )

    def _released(self, sandbox: ProcessSandbox) -> bool:
        with self._lock:
            uid, folder = self._held.pop(sandbox.name)
        self._give_back(uid, folder)
        return False

    def _await_ready(
        self, sandbox: ProcessSandbox, hello: bytes, deadline_ns: int, layers: Layers
    ) -> None:
        decoder = FrameDecoder(sandbox.token, _READY_BYTES)
        unsent = memoryview(hello)
        channel = socket.socket(fileno=os.dup(sandbox.fileno()))
        with channel:
            channel.setblocking(False)
            poll = select.poll()
            while True:
                poll.register(channel, select.POLLIN | (select.POLLOUT if unsent else 0))
                left_ms = (deadline_ns - time.monotonic_ns()) / 1e6
                if left_ms <= 0:
                    raise RunnerUnavailable("the deadline passed while a sandbox was starting")
                try:
                    events = poll.poll(left_ms)
                    if unsent and any(happened & select.POLLOUT for _, happened in events):
                        unsent = unsent[channel.send(unsent) :]
                    if not any(happened & ~select.POLLOUT for _, happened in events):
                        continue
                    data, ancillary, _, _ = channel.recvmsg(
                        _READY_BYTES, socket.CMSG_SPACE(_CREDENTIALS.size)
                    )
                    frames = decoder.feed(data) if data else None
                except (OSError, ProtocolError) as error:
                    raise RunnerUnavailable(self._failure(sandbox, str(error))) from error
                if frames is None:
                    raise RunnerUnavailable(self._failure(sandbox, "it ended"))
                if frames:
                    break
            channel.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 0)
        if frames[0].kind != Kind.READY:
            raise RunnerUnavailable(self._failure(sandbox, "its first frame is not ready"))
        node_pid = next(
            _CREDENTIALS.unpack(value)[0]
            for level, kind, value in ancillary
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS)
        )
        try:
            sandbox.identify(node_pid, behind_init=layers.pid_namespace)
        except OSError as error:
            raise RunnerUnavailable(self._failure(sandbox, str(error))) from error

    def _failure(self, sandbox: ProcessSandbox, reason: str) -> str:
        """Return one sentence with what the chain of commands said on stderr, if anything."""
        said = b""
        with contextlib.suppress(BlockingIOError):
            said = os.read(sandbox.outputs()[1][0], 4096)
        text = said.decode("utf-8", "replace").strip()
        return f"a sandbox did not get ready: {reason}" + (f" ({text})" if text else "")
