"""The end of a serving process, in phases: notice, refusal of what is new, cancelling, release."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

from gunicorn.glogging import Logger

from lowcode_faas_core.configuration import ServerSettings
from lowcode_faas_core.lane_worker import LaneWorker
from lowcode_faas_core.lanes import lane
from lowcode_faas_core.shared_counts import OFFERED, SharedCounts
from lowcode_faas_core.shared_map import SharedRow
from lowcode_faas_core.successors import Successors

__all__ = ["CLOSING_S", "SERVICES", "FaasWorker", "graceful_timeout_s"]

#: As in ``services.py``, which the master does not import.
SERVICES: Final = "lowcode_faas_services"
#: As gunicorn writes its lines, with the module where gunicorn has nothing.
LOG_FORMAT: Final = "%(asctime)s [%(process)d] [%(levelname)s] %(name)s: %(message)s"
#: Longest wait of a process that a reload ends for its successors to serve, and the time between
#: two looks at them, in seconds.
SUCCESSION_S: Final = 30.0
SUCCESSION_LOOK_S: Final = 0.05
#: Shortest time between two looks at the pool for the other processes, in seconds.
PUBLISH_S: Final = 1.0
#: Seconds in which cancelled runs are answered: an end may take 2 s to be confirmed.
ANSWER_S: Final = 3.0
#: Seconds a client that does not take its answer then still has.
LINGER_S: Final = 1.0
#: Seconds after the drain timeout at which gunicorn's master would send SIGKILL: answers, a client
#: that lingers, 4 s for logs, and a margin. SIGKILL loses logs, and what is on disk stays.
CLOSING_S: Final = 10.0


def graceful_timeout_s(server: ServerSettings) -> int:
    """Return gunicorn's graceful timeout: it ends a drain only if that hangs."""
    return math.ceil(server.drain_notice_s + server.drain_timeout_s + CLOSING_S)


class FaasWorker(LaneWorker):
    """A gthread worker that drains on SIGTERM, and whose end is prompt: one quit is enough.

    While it drains it goes on accepting, so that a client with no balancer before us is told that
    nothing ran, instead of seeing its connection reset.
    """

    alive: bool
    quitting = False
    draining = False
    #: What it counts together with the other workers, and where: the master decides before the fork.
    row: int | None = None
    shared: SharedRow | None = None
    counts: SharedCounts | None = None
    #: Who else began to serve; the same for all processes of a master.
    successors: Successors | None = None
    #: How many must have begun before this process, which a reload ends, accepts no more.
    succeeded_at: int | None = None
    #: When the other processes were last shown how many sandboxes there are here.
    published_at = -PUBLISH_S
    #: New invocations are refused, and the process ends when the last one is done.
    refusing = False

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        #: What the drain does next, and when (``time.monotonic``).
        self.phases: deque[tuple[float, Callable[[], None]]] = deque()
        #: When the process is gone at the latest, but for what it releases.
        self.end = math.inf

    def waiting_invocations(self) -> int:
        """Ask the invoker."""
        services = self.wsgi.extensions.get(SERVICES)
        return 0 if services is None else int(services.invoker.waiting())

    def notify(self) -> None:
        """Tell the master that this worker lives, and the others how many sandboxes it has."""
        super().notify()
        now = time.monotonic()
        if now - self.published_at >= PUBLISH_S and hasattr(self, "wsgi"):
            self.published_at = now
            services = self.wsgi.extensions.get(SERVICES)
            if services is not None:
                services.publish()

    def init_process(self) -> None:
        """Give the service's own log the form of gunicorn's, then serve."""
        logging.basicConfig(level=logging.INFO, format=LOG_FORMAT, datefmt=Logger.datefmt)
        super().init_process()

    def load_wsgi(self) -> None:
        """Build the application, and have it count with those of the other workers."""
        offered = OFFERED.set(self.counts)
        try:
            super().load_wsgi()
        finally:
            OFFERED.reset(offered)
        services = self.wsgi.extensions.get(SERVICES)
        if self.shared is not None and services is not None:
            try:
                services.share(self.shared)
            except ValueError as error:  # a reload of a release whose rows look different
                self.log.warning("this worker counts for itself alone: %s", error)

    def run(self) -> None:
        """Say that this process serves, and do."""
        if self.successors is not None:
            self.successors.note()
        super().run()

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Have the main loop begin the drain: a signal may come in the middle of anything."""
        if not hasattr(self, "wsgi"):
            super().handle_exit(sig, frame)
        elif self.alive and not self.draining:
            self.draining = True
            self.method_queue.defer(self.begin_drain)

    def begin_drain(self) -> None:
        """Turn ``/readyz`` red, go on serving until balancers know, then finish what runs."""
        services = self.wsgi.extensions[SERVICES]
        server: ServerSettings = services.startup.server
        now = time.monotonic()
        reload = self.master_listens()
        last = now + server.drain_timeout_s + (0 if reload else server.drain_notice_s)
        cancel = threading.Thread(target=services.invoker.close, name="cancel runs", daemon=True)
        self.phases.extend([(last, cancel.start), (last + ANSWER_S, self.leave)])
        self.end = last + ANSWER_S + LINGER_S
        if reload:
            self.await_successors()
            return
        services.draining = True
        # Each answer now ends its connection: the client's next one goes elsewhere, or is refused.
        self.cfg.set("keepalive", 0)
        self.keeps = False
        self.phases.appendleft((now + server.drain_notice_s, self.refuse))

    def await_successors(self) -> None:
        """Go on serving until the new processes do: nobody else accepts while they import."""
        if self.successors is None:
            self.leave()
            return
        self.succeeded_at = self.successors.count() + self.cfg.workers
        self.phases.appendleft((time.monotonic() + SUCCESSION_S, self.leave))

    def refuse(self) -> None:
        """Refuse new invocations; the process leaves when the last one is done."""
        services = self.wsgi.extensions[SERVICES]
        services.invoker.drain()
        services.dismiss()
        self.refusing = True

    def leave(self) -> None:
        """Accept no more, and end when every connection is done, or time is up."""
        if self.alive:
            self.wsgi.extensions[SERVICES].dismiss()
            # After a reload they are also those of the processes that go on.
            if self.refusing:
                self.stop_listening()
            self.alive = False
            self.cfg.set("graceful_timeout", math.ceil(max(LINGER_S, self.end - time.monotonic())))

    def wait_for_and_dispatch_events(self, timeout: float) -> None:
        """Dispatch events, and do what the drain has due."""
        if self.phases:
            timeout = max(0.0, min(timeout, self.phases[0][0] - time.monotonic()))
        if self.succeeded_at is not None and self.alive:
            timeout = min(timeout, SUCCESSION_LOOK_S)
        super().wait_for_and_dispatch_events(timeout)
        while self.phases and self.phases[0][0] <= time.monotonic():
            self.phases.popleft()[1]()
        others = self.successors
        if others and self.succeeded_at is not None and others.count() >= self.succeeded_at:
            self.leave()
        if self.refusing and not self.invocations and not self.held:
            self.leave()

    def stop_listening(self) -> None:
        """Accept who has connected by now, and have whoever comes later be refused.

        The listeners would otherwise be open, and nobody accept, until the last client has left. At
        the end the kernel then resets who is in its queue, who cannot tell that nothing was read.
        """
        self.set_accept_enabled(False)
        for listener in self.sockets:
            before = -1
            while before != self.nr_conns < self.worker_connections:
                before = self.nr_conns
                self.accept(listener)
            listener.close()

    def master_listens(self) -> bool:
        """Tell a reload, after which others serve, from the end of the service.

        The master closes its listeners before it tells its workers to stop, and keeps them open
        over a reload.
        """
        ours = {f"socket:[{os.fstat(listener.fileno()).st_ino}]" for listener in self.sockets}
        try:
            for link in Path(f"/proc/{self.ppid}/fd").iterdir():
                with contextlib.suppress(FileNotFoundError):
                    if str(link.readlink()) in ours:
                        return True
        except OSError:
            return True  # the master is gone or not ours to look at: nobody waits for a notice
        return False

    def handle_quit(self, sig: int, frame: Any) -> None:
        """Stop now. Ctrl-C arrives here twice, from the terminal and from the master.

        The second must not raise ``SystemExit`` in the middle of what the first one closes.
        """
        if self.quitting:
            return
        self.quitting = True
        # A lane would take the exit for its own: it is the main loop's.
        if lane() is None:
            super().handle_quit(sig, frame)
        else:
            self.lanes.soon(partial(super().handle_quit, sig, frame))
