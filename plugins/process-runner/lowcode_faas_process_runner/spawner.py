"""Starts processes from one thread that lives as long as the launcher.

The death signal of a process fires when the *thread* that forked it ends: a sandbox spawned by a
request's thread would die when the server retires that thread.
"""

from __future__ import annotations

import contextlib
import errno
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

__all__ = ["Order", "Spawner", "discard"]


@dataclass(frozen=True)
class Order:
    """One process to start, in a session of its own.

    Its descriptors are closed here once it has them, or never will; ``inherited`` ones keep their
    numbers.
    """

    command: Sequence[str]
    environ: Mapping[str, str]
    folder: str
    stdin: int
    stdout: int
    stderr: int
    inherited: Sequence[int]

    def close(self) -> None:
        """Close the descriptors on this side."""
        for descriptor in (self.stdin, self.stdout, self.stderr, *self.inherited):
            os.close(descriptor)


class Spawner:
    """A thread and the orders it carries out, one after the other (about 1 ms each)."""

    def __init__(self) -> None:
        self._orders: queue.SimpleQueue[tuple[Order, Future[int]] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False

    def spawn(self, order: Order) -> Future[int]:
        """Have it started; the answer is its pid, which the caller must reap.

        The thread starts on first use. Once closed, or where none can be had, the answer is an
        ``OSError``.
        """
        future: Future[int] = Future()
        with self._lock:
            if self._closed:
                order.close()
                future.set_exception(OSError("the launcher is closed"))
                return future
            if self._thread is None:
                thread = threading.Thread(
                    target=self._run, name="faas-process-spawner", daemon=True
                )
                try:
                    thread.start()
                except RuntimeError as error:
                    order.close()
                    future.set_exception(OSError(errno.EAGAIN, str(error)))
                    return future
                self._thread = thread
            self._orders.put((order, future))
        return future

    def close(self) -> None:
        """End the thread, and with it every process it started; may be called twice."""
        with self._lock:
            self._closed = True
            thread, self._thread = self._thread, None
            if thread is not None:
                self._orders.put(None)
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while (entry := self._orders.get()) is not None:
            order, future = entry
            # Nobody waits for an order whose deadline passed in the queue.
            if not future.set_running_or_notify_cancel():
                order.close()
                continue
            try:
                pid = _start(order)
            except BaseException as error:  # it belongs to the caller, not to this thread
                future.set_exception(error)
            else:
                future.set_result(pid)
            finally:
                order.close()


def discard(pid: int) -> None:
    """Kill and reap a process that was started too late for anyone to want it."""
    with contextlib.suppress(OSError):
        os.killpg(pid, signal.SIGKILL)
    # Members of its group too, where this process inherits them; ends with "no such child".
    with contextlib.suppress(OSError):
        while True:
            os.waitpid(-pid, 0)


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
