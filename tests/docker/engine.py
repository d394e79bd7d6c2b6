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


@contextlib.contextmanager
def private(*arguments: str) -> Iterator[tuple[str, int]]:
    """Run an engine of our own and yield its address and pid; it and its containers end with this."""
    folder = Path(tempfile.mkdtemp(prefix="lowcode-faas-docker-"))
    path = folder / "docker.sock"
    command = [
        *WITH_ME,
        "dockerd",
        *("--data-root", folder / "data", "--exec-root", folder / "exec"),
        *("--pidfile", folder / "pid", "--host", f"unix://{path}", "--bridge", "none"),
        *arguments,
    ]
    with (folder / "log").open("w") as log:
        # A group of its own: Ctrl-C is for the command, and the engine ends after it.
        daemon = subprocess.Popen(
            [str(part) for part in command], stdout=log, stderr=log, start_new_session=True
        )
        try:
            deadline = time.monotonic() + READY_S
            while not answers(str(path)):
                if daemon.poll() is not None or time.monotonic() > deadline:
                    raise SystemExit(f"dockerd does not start:\n{(folder / 'log').read_text()}")
                time.sleep(0.1)
            yield f"unix://{path}", daemon.pid
        finally:
            daemon.send_signal(signal.SIGCONT)
            daemon.terminate()
            try:
                daemon.wait(60)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
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
    with private() as (address, _):
        return subprocess.run(
            command, env={**os.environ, "DOCKER_HOST": address}, check=False
        ).returncode


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
