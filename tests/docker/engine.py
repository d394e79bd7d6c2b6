"""Runs a command beside a Docker Engine: ``python tests/docker/engine.py make test``.

Uses the engine that answers. When none does, root gets a private one, installed with apt where it
is missing, which ends with the command; others get none, and the command says what that means.
Exits with the command's own code. Needs nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

READY_S = 60.0
#: Kills the daemon when this process is killed: nothing else would stop it.
WITH_ME = ["setpriv", "--pdeathsig", "KILL"]


def answers(path: str) -> bool:
    """Tell whether an engine answers at a socket."""
    connection = http.client.HTTPConnection("localhost", timeout=5)
    try:
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(5)
        connection.sock.connect(path)
        connection.request("GET", "/_ping")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def is_there() -> bool:
    """Tell whether this environment has an engine; one named in it is taken on trust."""
    return bool(os.environ.get("DOCKER_HOST")) or answers("/var/run/docker.sock")


def install() -> None:
    """Install Debian's engine; what apt says goes to stderr, and only when it fails."""
    if shutil.which("dockerd"):
        return
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    # The package starts a service where there is an init; ours is to be the only engine.
    for command in (
        ["apt-get", "update"],
        ["apt-get", "install", "--yes", "--no-install-recommends", "docker.io", "iptables"],
    ):
        done = subprocess.run(command, env=environ, check=False, **quiet)
        if done.returncode:
            print(f"{' '.join(command)}:\n{done.stdout}", file=sys.stderr)
    if not shutil.which("dockerd"):
        raise SystemExit("no Docker Engine could be installed")


class Private:
    """An engine of our own, in a folder of its own; its containers end with it."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.address = f"unix://{folder / 'docker.sock'}"
        self.folder = folder
        self._command = [
            *WITH_ME,
            "dockerd",
            *("--data-root", str(folder / "data"), "--exec-root", str(folder / "exec")),
            *("--pidfile", str(folder / "pid"), "--host", self.address, "--bridge", "none"),
            *arguments,
        ]
        self._daemon: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The daemon's process, for tests that stop it."""
        assert self._daemon is not None
        return self._daemon.pid

    def client(self) -> Any:
        """Return the SDK's client of this engine."""
        import docker  # this script must run where there is no SDK

        return docker.DockerClient(base_url=self.address, timeout=60)

    def start(self) -> None:
        """Start it and return when it answers."""
        with (self.folder / "log").open("a") as log:
            # A group of its own: Ctrl-C is for the command, and the engine ends after it.
            self._daemon = subprocess.Popen(
                self._command, stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + READY_S
        while not answers(self.address.removeprefix("unix://")):
            if self._daemon.poll() is not None or time.monotonic() > deadline:
                said = (self.folder / "log").read_text()
                raise SystemExit(f"dockerd does not start:\n{said[-5000:]}")
            time.sleep(0.1)

    def stop(self) -> None:
        """Stop it in order: its containers end, too."""
        daemon, self._daemon = self._daemon, None
        if daemon is None:
            return
        daemon.send_signal(signal.SIGCONT)
        daemon.terminate()
        try:
            daemon.wait(60)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()


@contextlib.contextmanager
def private(*arguments: str, disk: str = "") -> Iterator[Private]:
    """Run an engine of our own, on a disk of that size; nothing of it is left afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="lowcode-faas-docker-"))
    if disk:
        (folder / "data").mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={disk}", "tmpfs", str(folder / "data")]
        subprocess.run(mount, check=True)
    own = Private(folder, *arguments)
    try:
        own.start()
        yield own
    finally:
        own.stop()
        _clear(folder)


def _clear(folder: Path) -> None:
    # What is mounted below it would be emptied, not unmounted.
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in sorted((each for each in mounts if each.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", "--lazy", mount], check=False)
    shutil.rmtree(folder, ignore_errors=True)


def main(command: list[str]) -> int:
    """Run the command, beside an engine where there is one or can be."""
    if is_there() or os.geteuid() != 0:
        return subprocess.run(command, check=False).returncode
    install()
    with private() as own:
        environ = {**os.environ, "DOCKER_HOST": own.address}
        return subprocess.run(command, env=environ, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
