"""What containers are created with: the one place where labels and hardening are put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from lowcode_faas_core.model import SandboxLimits
from lowcode_faas_docker_runner.meeting import MEETING_POINT
from lowcode_faas_docker_runner.settings import DockerSettings

__all__ = ["FOLDER", "OPEN_FILES", "WORKSPACE", "container", "node_flags"]

#: Node itself holds about 20; more than this is EMFILE in user code.
OPEN_FILES: Final = 512
#: What the container's init takes of the limit on processes.
OWN_PROCESSES: Final = 1
#: Inodes of /tmp per MiB: an inode costs kernel memory that no size limit counts.
INODES_PER_MB: Final = 256
#: The smallest heap Node's own start fits in, in MiB.
_SMALLEST_HEAP_MB: Final = 16
#: Below this V8 aborts before the memory limit of the container is reached, with its own message.
_HEAP_SHARE: Final = 0.75
_PERIOD_US: Final = 100_000
#: Where the files exchange keeps its files: an anonymous volume, the only place that can be
#: copied to and from while the rest of the file system is read-only. No image has this folder: the
#: engine would give the volume its mode, and one that is open to all would be a disk to fill.
WORKSPACE: Final = "/lowcode-faas"
#: The folder in it. The engine makes the volume's own folder, perhaps open to all, from the image.
FOLDER: Final = "run"


def node_flags(limits: SandboxLimits) -> list[str]:
    """Return Node's flags."""
    return [
        f"--max-old-space-size={max(_SMALLEST_HEAP_MB, int(limits.memory_mb * _HEAP_SHARE))}",
        # Type stripping announces itself in every TypeScript function's log otherwise.
        "--disable-warning=ExperimentalWarning",
    ]


def container(
    settings: DockerSettings,
    limits: SandboxLimits,
    command: Sequence[str],
    *,
    labels: Mapping[str, str],
    network: str,
    kept_log_bytes: int = 0,
    meeting: str = "",
) -> dict[str, Any]:
    """Return the configuration of one container, as the Engine's API takes it.

    No variable of the user is in it, for ``docker inspect`` would show it: env travels with the
    code. ``kept_log_bytes`` is for the files exchange: it adds the workspace, and the engine keeps
    a log whose first and last so many bytes are there to be read; without it nothing of the
    streams is written to the engine's disk. ``meeting`` is a folder of this host to be mounted.
    """
    memory = limits.memory_mb << 20
    tmp = limits.tmp_mb << 20
    # More than /tmp holds, so that a file that fills it meets its end, not the limit.
    file_bytes = tmp + (1 << 20)
    host: dict[str, Any] = {
        "ReadonlyRootfs": True,
        "CapDrop": ["ALL"],
        "SecurityOpt": ["no-new-privileges:true"],
        "Privileged": False,
        # As pid 1 Node would ignore signals from itself and leave zombies.
        "Init": True,
        "Memory": memory,
        "MemorySwap": memory,
        # A quota and not NanoCpus, which the engine refuses above the cores it has.
        "CpuPeriod": _PERIOD_US,
        "CpuQuota": int(limits.cpus * _PERIOD_US),
        "PidsLimit": limits.pids + OWN_PROCESSES,
        "Ulimits": [
            {"Name": "nofile", "Soft": OPEN_FILES, "Hard": OPEN_FILES},
            {"Name": "fsize", "Soft": file_bytes, "Hard": file_bytes},
            {"Name": "core", "Soft": 0, "Hard": 0},
        ],
        "Tmpfs": {
            "/tmp": f"rw,noexec,nosuid,nodev,mode=1777,size={tmp},"  # noqa: S108  # its own
            f"nr_inodes={max(1024, limits.tmp_mb * INODES_PER_MB)}"
        },
        # No /dev/shm: it would be a second place to fill.
        "IpcMode": "none",
        "NetworkMode": network,
        "RestartPolicy": {"Name": "no"},
        "LogConfig": {"Type": "none"},
    }
    if meeting:
        # In this form the engine makes no folder of that name where there is none.
        host["Mounts"] = [
            {"Type": "bind", "Source": meeting, "Target": MEETING_POINT, "ReadOnly": True}
        ]
    if settings.runtime:
        host["Runtime"] = settings.runtime
    config: dict[str, Any] = {
        "Image": settings.image,
        "Entrypoint": ["node"],
        "Cmd": list(command),
        "User": f"{settings.uid}:{settings.uid}",
        "Labels": dict(labels),
        "Env": ["HOME=/tmp", "TMPDIR=/tmp"],
        "Hostname": "sandbox",
        "WorkingDir": "/tmp",  # noqa: S108  # its own
        "StopSignal": "SIGKILL",
        "StopTimeout": 0,
        "Tty": False,
        "OpenStdin": not kept_log_bytes,
        # With StdinOnce a detach would end the sandbox.
        "StdinOnce": False,
        "AttachStdin": False,
        "AttachStdout": False,
        "AttachStderr": False,
        "HostConfig": host,
    }
    if kept_log_bytes:
        config["Volumes"] = {WORKSPACE: {}}
        host["LogConfig"] = {
            "Type": "json-file",
            "Config": {"max-size": str(kept_log_bytes), "max-file": "2"},
        }
    return config
