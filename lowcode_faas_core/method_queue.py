"""What threads tell gunicorn's main loop, until that has ended.

gunicorn's master has this module, too: it imports nothing of ours.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from gunicorn.workers.gthread import PollableMethodQueue

__all__ = ["MethodQueue"]


class MethodQueue(PollableMethodQueue):  # type: ignore[misc]  # gunicorn has no types
    """Takes nothing more once it is closed.

    A thread may outlive the main loop. It would wake it by a byte in a pipe whose number is another
    file's by then.
    """

    def __init__(self) -> None:
        super().__init__()
        # A signal's handler may come upon it in the middle of either.
        self._closing = threading.RLock()
        self._closed = False

    def close(self) -> None:
        """Close the pipe."""
        with self._closing:
            self._closed = True
            super().close()

    def defer(self, callback: Callable[..., Any], *args: Any) -> None:
        """Have the main loop call something, if it goes on; from any thread."""
        with self._closing:
            if not self._closed:
                super().defer(callback, *args)
