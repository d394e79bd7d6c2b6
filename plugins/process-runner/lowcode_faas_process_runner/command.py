"""Puts together the chain of commands that ends in Node, and Node's own flags."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from typing import Final

from lowcode_faas_core.model import SandboxLimits
from lowcode_faas_process_runner.layers import Layers
from lowcode_faas_process_runner.node import Node

__all__ = ["CHANNEL_FD", "LEAVE", "OPEN_FILES", "allocation", "command", "heap_mb"]

#: Where the bootstrap finds its channel.
CHANNEL_FD: Final = 3
#: What a shell in Node's place waits for on the channel, and then becomes Node. It reads what is no
#: file byte by byte: what follows the line is left to Node.
LEAVE: Final = b"\n"
_ON_LEAVE: Final = f'read -r leave <&{CHANNEL_FD} || exit 0; exec "$0" "$@"'
#: Node itself holds about 20; more than this is EMFILE in user code.
OPEN_FILES: Final = 512
#: What the chain's own processes (init, and one before exec) take of a limit on processes.
OWN_PROCESSES: Final = 2
#: The smallest heap Node's own start fits in, in MiB.
_SMALLEST_HEAP_MB: Final = 16
#: Below this V8 aborts before the memory limit of the sandbox is reached, with its own message.
_HEAP_SHARE: Final = 0.75
#: What V8 starts beside the main thread where nobody says otherwise.
_V8_THREADS: Final = 4


def heap_mb(memory_mb: int) -> int:
    """Return V8's share of a sandbox's memory; buffers, code and threads need the rest."""
    return max(_SMALLEST_HEAP_MB, int(memory_mb * _HEAP_SHARE))


def allocation(limits: SandboxLimits) -> dict[str, str]:
    """Return variables by which glibc keeps less memory: 0.2 MiB of each sandbox; others ignore them.

    Node has them until user code gets variables of its own.
    """
    return {
        # Each thread that allocates would begin an arena of its own.
        "MALLOC_ARENA_MAX": str(_threads(limits)),
        # Bytes taken at a time. Named at all, glibc keeps none of the large blocks that were freed.
        "MALLOC_TOP_PAD_": "16384",
    }


def _threads(limits: SandboxLimits) -> int:
    """Return how many threads of V8 there is CPU for; each takes memory, and time at the start."""
    return min(_V8_THREADS, math.ceil(limits.cpus))


def node_flags(node: Node, limits: SandboxLimits, folder: str) -> list[str]:
    """Return Node's flags: what user code may read and write, and how much heap it has.

    Worker threads stay denied: a worker started with ``execArgv`` of its own gets whatever file
    permissions it names there [Node 24.19], which would void ``--permission`` as a whole.
    """
    flags = [
        "--permission",
        f"--allow-fs-read={folder}/*",
        f"--allow-fs-write={folder}/*",
        f"--max-old-space-size={heap_mb(limits.memory_mb)}",
        f"--v8-pool-size={_threads(limits)}",
        # Type stripping announces itself in every TypeScript function's log otherwise.
        "--disable-warning=ExperimentalWarning",
        # SQLite opens whatever file a statement names: --permission does not see it [Node 24.19].
        "--no-experimental-sqlite",
    ]
    if node.version >= (25, 0, 0):
        # From Node 25 on --permission denies the network too.
        flags.append("--allow-net")
    return flags


def command(
    layers: Layers,
    node: Node,
    executable: str,
    limits: SandboxLimits,
    loader: str,
    *,
    folder: str,
    uid: int | None,
    groups: Sequence[str] = (),
    limit_processes: bool = False,
    on_leave: bool = False,
) -> list[str]:
    """Return the whole command; its stdin is the channel, which Node gets as descriptor 3.

    ``groups`` are cgroups for the sandbox to enter, ``folder`` is the one user code may use. With
    ``on_leave`` all is there but Node, which starts when :data:`LEAVE` comes on the channel.
    """
    drop = layers.drop_command(uid)
    waiting = (layers.tools.shell, "-c", _ON_LEAVE) if on_leave else ()
    return [
        *(layers.tools.setpriv, "--pdeathsig", "KILL"),
        *layers.namespace_command(),
        *(layers.tools.shell, "-c", _script(layers, limits, groups, limit_processes), "sh"),
        *drop,
        *waiting,
        executable,
        *node_flags(node, limits, folder),
        *("-e", loader, str(CHANNEL_FD), str(CHANNEL_FD), "-"),
    ]


def _script(
    layers: Layers, limits: SandboxLimits, groups: Sequence[str], limit_processes: bool
) -> str:
    lines = [
        "ulimit -c 0",
        f"ulimit -n {OPEN_FILES}",
        # The shell counts blocks of 512 bytes.
        f"ulimit -f {limits.tmp_mb * 2048}",
    ]
    if limit_processes:
        # dash and busybox say -p, other shells -u.
        processes = limits.pids + OWN_PROCESSES
        lines.append(f"ulimit -p {processes} 2>/dev/null || ulimit -u {processes}")
    if not layers.pid_namespace:
        lines += [f"echo 0 >{shlex.quote(group)}/cgroup.procs || exit 125" for group in groups]
        return "\n".join([*lines, f'exec "$@" {CHANNEL_FD}<&0 0</dev/null'])
    lines.append(f"{layers.mount_line(limits.tmp_mb)}cd /tmp || exit 125")
    # The shell stays as the namespace's init: as pid 1 Node would ignore signals from itself. It
    # reports children that were killed on its stderr, which must not look like the function's.
    lines.append(f"exec {CHANNEL_FD}<&0 0</dev/null 4>&2 2>/dev/null")
    lines.append('"$@" 2>&4 4>&- &')
    lines.append(f"exec {CHANNEL_FD}<&-")
    # Entering a group takes 5 to 15 ms, in which the kernel waits for all CPUs: beside Node's own
    # start they cost nothing. The launcher makes sure of it before any user code arrives.
    lines += [
        f"{{ echo $! >{shlex.quote(group)}/cgroup.procs || kill -9 $!; }} 2>&4" for group in groups
    ]
    lines.append("wait $!")
    lines.append("exit $?")
    return "\n".join(lines)
