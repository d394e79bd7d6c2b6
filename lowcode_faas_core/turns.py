"""How the places of one process are shared between functions, so that a slow one leaves room.

The main loop and the admission behind it decide by the same rule. Imports nothing: gunicorn's
master has this module, too.
"""

from __future__ import annotations

from typing import Final

__all__ = ["FOLLOW", "RESERVED_THREADS", "invocation_threads", "may_have", "plenty", "seats_of"]

#: Threads of a gunicorn worker that no invocation gets: health and administration stay served.
RESERVED_THREADS: Final = 2
#: The target of a request that follows an execution, which has a thread as long as an invocation has;
#: one that is written otherwise is refused, since the main loop would not know it.
FOLLOW: Final = r"/executions/[^/ ?]{1,192}/logs\?(?:[^ ]{0,2000}&)?follow=1(?:&[^ ]*)?"
#: A function may have so many places for each one that is left free: of 14 places one slow function
#: gets 12, two get 6 or 7 each, and another one still finds a place at once.
PLACES_PER_FREE: Final = 4


def invocation_threads(threads: int) -> int:
    """Return how many invocations may occupy a process with so many threads."""
    return max(1, threads - RESERVED_THREADS)


def seats_of(threads: int) -> int:
    """Return how many invocations can be taken in at once by a process with so many threads."""
    # With a place taken ahead of one that was turned away, it may be one for each thread.
    return invocation_threads(threads) + RESERVED_THREADS


def may_have(places: int, free: int) -> bool:
    """Tell whether a function may have ``places`` in all, where ``free`` are free before it comes."""
    return places <= PLACES_PER_FREE * free


def plenty(places: int) -> int:
    """Return of how many free ones on anybody may have one more, of so many places in all."""
    return next(free for free in range(places + 1) if may_have(places, free))
