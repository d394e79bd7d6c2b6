"""How long dispatcher and worker wait for each other; gunicorn's master reads it, too: no imports."""

from __future__ import annotations

from typing import Final

__all__ = ["CHECK_GRACE_S", "CONNECT_S", "GRACE_S", "IDLE_S", "PAUSE_S", "RETRIES"]

#: Longest wait for a connection to the worker, TLS included, in seconds.
CONNECT_S: Final = 3.0
#: Idle time after which a connection to the worker is not used again, in seconds.
IDLE_S: Final = 30.0
#: What the worker gets beyond the deadline: 2 s to confirm an end, and the way back, in seconds.
GRACE_S: Final = 10.0
#: What it gets beyond the time of a check for the way there and back, in seconds.
CHECK_GRACE_S: Final = 0.5
#: Times an invocation is offered again when it certainly did not start.
RETRIES: Final = 2
#: Pause before each of them, in seconds: a worker that restarts is back within moments, or another
#: one behind the balancer is.
PAUSE_S: Final = (0.05, 0.25)
