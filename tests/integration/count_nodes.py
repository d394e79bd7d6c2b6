"""Counts the Node processes of a process tree every 20 ms until its stdin closes, then reports.

A process of its own: a thread among busy clients would look when they let it, not every 20 ms.
"""

from __future__ import annotations

import json
import os
import select
import sys
import time

#: In seconds.
PERIOD_S = 0.02


def stats() -> dict[int, tuple[int, str]]:
    """Return parent and state letter of every process."""
    found = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                fields = file.read().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        found[int(name)] = (int(fields[1]), fields[0])
    return found


def is_node(pid: int) -> bool:
    """Tell from the program: names of processes are theirs to choose."""
    try:
        return "node" in os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return False


def count(root: int) -> int:
    """Return how many descendants are Node and no zombies."""
    seen = stats()
    children: dict[int, list[int]] = {}
    for pid, (parent, _) in seen.items():
        children.setdefault(parent, []).append(pid)
    waiting, nodes = [root], 0
    while waiting:
        for pid in children.get(waiting.pop(), ()):
            waiting.append(pid)
            nodes += seen[pid][1] not in "ZX" and is_node(pid)
    return nodes


def main(root: int) -> None:
    """Print the highest count, how often was counted, and the longest time between two."""
    most = samples = 0
    longest = 0.0
    last = time.monotonic()
    while not select.select([sys.stdin], [], [], PERIOD_S)[0]:
        most = max(most, count(root))
        samples += 1
        longest, last = max(longest, time.monotonic() - last), time.monotonic()
    print(json.dumps({"most": most, "samples": samples, "longest_gap_ms": round(longest * 1e3)}))


if __name__ == "__main__":
    main(int(sys.argv[1]))
