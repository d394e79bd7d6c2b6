"""Starts Node sandboxes as hardened containers and speaks to them over one attach each."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Mapping
from typing import Final

import msgspec

from lowcode_faas_core.errors import RunnerUnavailable
from lowcode_faas_core.interfaces.launcher import Isolation, Launcher, Stream
from lowcode_faas_core.interfaces.metrics import OperationReport
from lowcode_faas_core.model import SandboxLimits
from lowcode_faas_core.sandbox.channel import Channel, ChannelClosed, DeadlinePassed
from lowcode_faas_core.sandbox.loader import bootstrap, loader_command
from lowcode_faas_core.sandbox.protocol import TOKEN_BYTES, Frame, Kind, ProtocolError, greeting
from lowcode_faas_docker_runner import arguments
from lowcode_faas_docker_runner.host import DockerHost, NetworkGone, left
from lowcode_faas_docker_runner.sandbox import DockerSandbox
from lowcode_faas_docker_runner.settings import DockerSettings
from lowcode_faas_docker_runner.stream import AttachStream

__all__ = ["DockerLauncher"]

#: The oldest Node whose ``require`` takes ES modules and whose types are stripped by default.
OLDEST_NODE: Final = (22, 18)
_READY_BYTES: Final = 4096
_SAID_BYTES: Final = 2000


class _Ready(msgspec.Struct):
    node: str


class DockerLauncher(Launcher):
    """See :class:`Launcher`."""

    def __init__(
        self,
        settings: DockerSettings,
        environ: Mapping[str, str],
        *,
        source: bytes | None = None,
    ) -> None:
        """Take what was given; ``source`` stands in for the core's bootstrap."""
        self.host = DockerHost(settings, environ)
        self._source = source or bootstrap()

    def start(self, limits: SandboxLimits, deadline_ns: int) -> DockerSandbox:
        """Create a container, attach to it, start it, and wait until its bootstrap is ready."""
        host = self.host
        host.begin()
        try:
            try:
                sandbox = self._start(limits, deadline_ns)
            except NetworkGone:
                # The failed start has ended the attach as well: all anew.
                sandbox = self._start(limits, deadline_ns)
        except RunnerUnavailable as error:
            # A deadline says more about the invocation than about the engine.
            if time.monotonic_ns() < deadline_ns:
                host.note(error)
            raise
        host.note(None)
        return sandbox

    def report_operations_to(self, report: OperationReport) -> None:
        """Have every call to the engine told."""
        self.host.engine.report_to(report)

    def adopt_orphans(self) -> int:
        """Remove the containers of earlier lives and of serving processes that were killed."""
        return self.host.reaper.adopt()

    def isolation(self) -> Isolation:
        """Say what separates user code from the host."""
        return self.host.isolation()

    def check(self) -> None:
        """Ask the engine, and for the image."""
        self.host.check()

    def close(self) -> None:
        """Remove what is left and drop the connections."""
        self.host.close()

    def _start(self, limits: SandboxLimits, deadline_ns: int) -> DockerSandbox:
        host = self.host
        command = loader_command(arguments.node_flags(limits), input_fd=0, output_fd=1)
        container = host.create(limits, command, deadline_ns)
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(host.remove, container)
            stream = AttachStream(*host.engine.attach(container, left(deadline_ns)))
            on_failure.callback(stream.close)
            host.start(container, deadline_ns)
            sandbox = DockerSandbox(
                host.engine,
                host.ends,
                container,
                name=f"container {container[:12]}",
                token=secrets.token_bytes(TOKEN_BYTES),
                stream=stream,
                on_end=lambda: host.remove(container),
            )
            on_failure.callback(sandbox.usage.close)
            self._identify(sandbox, deadline_ns)
            self._await_ready(sandbox, deadline_ns)
            on_failure.pop_all()
        return sandbox

    def _identify(self, sandbox: DockerSandbox, deadline_ns: int) -> None:
        # While Node starts: the answer is there before Node is.
        info = self.host.engine.inspect(sandbox.container, left(deadline_ns))
        if info is None:
            raise RunnerUnavailable("the container was removed while it started")
        sandbox.image = self.host.images.digest(info["Image"])
        if info["State"].get("Pid"):
            sandbox.usage.find(sandbox.container, int(info["State"]["Pid"]))

    def _await_ready(self, sandbox: DockerSandbox, deadline_ns: int) -> None:
        said = bytearray()

        def keep(_stream: Stream, data: bytes) -> None:
            said.extend(data[: _SAID_BYTES - len(said)])

        channel = Channel(sandbox, _READY_BYTES, lambda _frame: None, keep)
        try:
            frame = channel.exchange(greeting(sandbox.token, self._source), deadline_ns)
            version = _version(frame)
        except DeadlinePassed:
            left(deadline_ns)
            raise RunnerUnavailable("the deadline passed while a sandbox was starting") from None
        except (ChannelClosed, ProtocolError, msgspec.DecodeError, OSError) as error:
            words = said.decode("utf-8", "replace").strip()
            raise RunnerUnavailable(
                f"a sandbox did not get ready: {words or error}; the image is "
                f"{self.host.settings.image}"
            ) from error
        if tuple(map(int, version.split(".")[:2])) < OLDEST_NODE:
            raise RunnerUnavailable(
                f"the image {self.host.settings.image} has Node {version}, which is too old; "
                f"name one with at least {'.'.join(map(str, OLDEST_NODE))} in "
                "LOWCODE_FAAS_NODE_DOCKER_IMAGE"
            )


def _version(frame: Frame) -> str:
    if frame.kind != Kind.READY:
        raise ProtocolError("its first frame is not ready")
    return msgspec.json.decode(frame.payload, type=_Ready).node
