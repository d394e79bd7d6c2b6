"""Tries the start in a child process, so that what is wrong is said once and before any fork."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable

__all__ = ["preflight"]

#: Exit code of a process that refuses its configuration; service managers do not restart on it.
REFUSED = 2


def preflight(attempt: Callable[[], None]) -> int:
    """Run ``attempt`` in a forked child and return its exit code, 0 when it succeeded.

    What the attempt opens (threads, sockets, sandboxes) ends with the child, so that nothing open
    crosses the later forks of the server. The caller must have a single thread.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _run(attempt)
    _, status = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(status)


def _run(attempt: Callable[[], None]) -> None:
    # os._exit: the child must run neither the caller's exit handlers nor join what still runs.
    code = 1
    try:
        attempt()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    except KeyboardInterrupt:
        code = 130
    except BaseException:  # a bug of ours: the only case with a traceback
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
