"""Starts processes from one thread that lives as long as the launcher.

The death signal of a process fires when the *thread* that forked it ends: a sandbox spawned by a
request's thread would die when the server retires that thread.
"""

from __future__ import annotations

import os
import queue
import subprocess
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

__all__ = ["Order", "Spawner"]


@dataclass(frozen=True)
class Order:
    """One process to start, in a session of its own; ``inherited`` keep their numbers."""

    command: Sequence[str]
    environ: Mapping[str, str]
    folder: str
    stdin: int
    stdout: int
    stderr: int
    inherited: Sequence[int]


class Spawner:
    """A thread and the orders it carries out, one after the other (about 1 ms each)."""

    def __init__(self) -> None:
        self._orders: queue.SimpleQueue[tuple[Order, Future[int]] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False

    def spawn(self, order: Order) -> int:
        """Start it and return its pid, which the caller must reap; the thread starts on first use.

        :raises OSError: when it cannot be started, or the spawner is closed.
        """
        future: Future[int] = Future()
        with self._lock:
            if self._closed:
                raise OSError("the launcher is closed")
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="faas-process-spawner", daemon=True
                )
                self._thread.start()
            self._orders.put((order, future))
        return future.result()

    def close(self) -> None:
        """End the thread, and with it every process it started; may be called twice."""
        with self._lock:
            self._closed = True
            thread, self._thread = self._thread, None
        if thread is not None:
            self._orders.put(None)
            thread.join()

    def _run(self) -> None:
        while (entry := self._orders.get()) is not None:
            order, future = entry
            try:
                future.set_result(_start(order))
            except BaseException as error:  # it belongs to the caller, not to here
                future.set_exception(error)


def _start(order: Order) -> int:
    process = subprocess.Popen(
        list(order.command),
        stdin=order.stdin,
        stdout=order.stdout,
        stderr=order.stderr,
        cwd=order.folder,
        env=dict(order.environ),
        close_fds=True,
        pass_fds=order.inherited,
        start_new_session=True,
    )
    pid = process.pid
    # The sandbox reaps by pidfd. A Popen without a return code would be kept and polled by the
    # subprocess module, which could then take the exit status away.
    process.returncode = os.EX_OK
    return pid
