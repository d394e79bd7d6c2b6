"""Starts Node sandboxes as hardened containers, and finds out by which way to speak to them."""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Iterator, Mapping
from typing import Final

from lowcode_faas_core.errors import RunnerUnavailable
from lowcode_faas_core.interfaces.launcher import Isolation, Launcher
from lowcode_faas_core.interfaces.metrics import OperationReport
from lowcode_faas_core.model import SandboxLimits
from lowcode_faas_core.sandbox.loader import bootstrap, loader_command
from lowcode_faas_core.sandbox.protocol import TOKEN_BYTES
from lowcode_faas_docker_runner import arguments
from lowcode_faas_docker_runner.arrival import Arrival
from lowcode_faas_docker_runner.engine import Absent, Refused
from lowcode_faas_docker_runner.host import DockerHost, NetworkGone, left
from lowcode_faas_docker_runner.meeting import Meeting, Meetings, prelude
from lowcode_faas_docker_runner.sandbox import DockerSandbox
from lowcode_faas_docker_runner.settings import DockerSettings
from lowcode_faas_docker_runner.stream import AttachStream
from lowcode_faas_docker_runner.usage import Usage

__all__ = ["DockerLauncher"]

#: Tries before the last: for want of the network, and because nothing may be mounted.
_ATTEMPTS: Final = 2


class _NotMounted(Exception):
    """Raised when the engine would not have a container with a folder of ours in it."""


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
        self.meetings = Meetings(environ, wanted=settings.direct)
        self._source = source or bootstrap()

    def start(self, limits: SandboxLimits, deadline_ns: int) -> DockerSandbox:
        """Create a container, attach to it, start it, and wait until its bootstrap is ready."""
        host = self.host
        host.begin()
        try:
            sandbox = self._start_or_again(limits, deadline_ns)
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
        self.meetings.close()

    def _start_or_again(self, limits: SandboxLimits, deadline_ns: int) -> DockerSandbox:
        # A failed start has ended the attach as well: all anew.
        for _ in range(_ATTEMPTS):
            with contextlib.suppress(NetworkGone, _NotMounted):
                return self._start(limits, deadline_ns)
        return self._start(limits, deadline_ns)

    def _start(self, limits: SandboxLimits, deadline_ns: int) -> DockerSandbox:
        host = self.host
        arrival = Arrival(host.settings.image, deadline_ns)
        with contextlib.ExitStack() as on_failure, self._meeting() as meeting:
            container = self._create(limits, deadline_ns, meeting)
            on_failure.callback(host.remove, container)
            stream = AttachStream(*host.engine.attach(container, left(deadline_ns)))
            on_failure.callback(stream.close)
            with self._mounting(meeting):
                host.start(container, deadline_ns)
            # While Node starts: the answer is there before Node is.
            info = host.engine.inspect(container, left(deadline_ns))
            if info is None:
                raise RunnerUnavailable("the container was removed while it started")
            usage = Usage()
            on_failure.callback(usage.close)
            if info["State"].get("Pid"):
                usage.find(container, int(info["State"]["Pid"]))
            line = None
            if meeting is not None:
                line = arrival.line(meeting, stream)
                # Before anything of the user's is in the container.
                meeting.over()
            if line is not None:
                on_failure.callback(line.close)
            elif meeting is not None:
                self.meetings.give_up("what is mounted into a container cannot be opened there")
            sandbox = DockerSandbox(
                host.engine,
                host.ends,
                container,
                name=f"container {container[:12]}",
                token=secrets.token_bytes(TOKEN_BYTES),
                stream=stream,
                line=line,
                usage=usage,
                on_end=lambda: host.remove(container),
            )
            sandbox.image = host.images.digest(info["Image"])
            arrival.ready(sandbox, self._source)
            on_failure.pop_all()
        return sandbox

    @contextlib.contextmanager
    def _meeting(self) -> Iterator[Meeting | None]:
        meeting = self.meetings.arrange()
        try:
            yield meeting
        finally:
            if meeting is not None:
                meeting.over()

    def _create(self, limits: SandboxLimits, deadline_ns: int, meeting: Meeting | None) -> str:
        command = loader_command(arguments.node_flags(limits), input_fd=0, output_fd=1)
        if meeting is None:
            return self.host.create(limits, command, deadline_ns)
        folder = str(meeting.folder)
        with self._mounting(meeting):
            return self.host.create(limits, prelude(command), deadline_ns, meeting=folder)

    @contextlib.contextmanager
    def _mounting(self, meeting: Meeting | None) -> Iterator[None]:
        """Tell from what the engine refuses whether that is our folder."""
        try:
            yield
        except (Absent, NetworkGone):
            raise
        except Refused as error:
            if meeting is None or "mount" not in error.detail.lower():
                raise
            self.meetings.give_up(error.detail)
            raise _NotMounted from error
