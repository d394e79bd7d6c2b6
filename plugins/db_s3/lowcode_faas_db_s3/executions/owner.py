"""That this process lives, for those who must know what nobody runs any more.

Processes on several hosts share nothing but the database: each says there, every few seconds and
by the server's clock, that it lives, and is taken for dead when it has not said so for a while.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Final

from lowcode_faas_core.errors import StorageUnavailable
from lowcode_faas_core.ids import new_id
from lowcode_faas_db_s3.executions import statements
from lowcode_faas_db_s3.executions.link import Link

__all__ = ["LEASE_S", "Owner"]

#: Seconds of silence after which a process is taken for dead. The core's upkeep comes every 5 s,
#: later when the database is slow.
LEASE_S: Final = 20.0


class Owner:
    """The name under which one store owns what it runs, and what is known of its being heard."""

    def __init__(self, link: Link, lease_s: float) -> None:
        self.name: Final = new_id()
        self.lease_s: Final = lease_s
        self._link = link
        self._guard = threading.Lock()
        self._seen: float | None = None
        self._heard_since: float | None = None

    def is_fresh(self) -> bool:
        """Tell whether the database has heard of it in the last quarter of its lease."""
        seen = self._seen
        return seen is not None and _now() - seen < self.lease_s / 4

    def was_seen(self) -> None:
        """Note that the database has just heard of it."""
        now = _now()
        with self._guard:
            if self._seen is None or now - self._seen > self.lease_s / 2:
                self._heard_since = now
            self._seen = now

    def may_judge(self) -> bool:
        """Tell whether silence of others tells anything: for a whole lease it was heard itself.

        After an outage of the database all have been silent, and the first to come back must not
        take the others for dead.
        """
        with self._guard:
            seen, since = self._seen, self._heard_since
        if seen is None or since is None:
            return False
        return _now() - seen <= self.lease_s / 2 and _now() - since > self.lease_s

    def close(self) -> None:
        """Say goodbye, if the database hears it: else its lease ends by itself."""
        if self.is_fresh():
            with contextlib.suppress(StorageUnavailable):
                self._link.rows(statements.CLOSE_OWNER, {"owner": self.name}, silence_s=1.0)
        self._seen = None


def _now() -> float:
    # Goes on while the machine sleeps, as the server's clock does.
    return time.clock_gettime(time.CLOCK_BOOTTIME)
