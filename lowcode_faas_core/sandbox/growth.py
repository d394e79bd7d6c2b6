"""When a function gets one more instance, and when it has one too many."""

from __future__ import annotations

from typing import Final

from lowcode_faas_core.sandbox.shelves import Shelf, Waiter

__all__ = ["GROW_AFTER_NS", "Growth", "is_surplus"]

#: An invocation that has waited this long for an instance of its own function is the sign that
#: its handlers wait for something else, and that one more instance will help, in nanoseconds.
GROW_AFTER_NS: Final = 5_000_000
#: Of handlers shorter than this, in nanoseconds, two instances a serving process keep the cores
#: busy; who waits for them waits for a core, and more processes would only take turns on it.
SHORT_RUN_NS: Final = 3_000_000
SHORT_RUN_INSTANCES: Final = 2
#: So long must an invocation of such a function wait before it gets a third, in nanoseconds.
SHORT_GROW_AFTER_NS: Final = 100_000_000
#: So long a third stays idle before it is ended, in nanoseconds.
SURPLUS_NS: Final = 10_000_000_000
#: What a start is taken to take before one was seen, and at most, in nanoseconds. Long: the first
#: one tells, and until then only one that hangs is not waited for.
START_GUESS_NS: Final = 1_000_000_000
START_AT_MOST_NS: Final = 2_000_000_000
#: So long after a start that failed none is begun beside what a function has, in nanoseconds.
FAILED_NS: Final = 1_000_000_000


class Growth:
    """Weighs waiting against starts, which take the machine from the runs that are waited for."""

    def __init__(self) -> None:
        #: What a start takes of late, at the longest, in nanoseconds. A hint: a lost update does no
        #: harm.
        self.start_ns = START_GUESS_NS
        self._seen = False
        self._resume_ns = 0

    def note_start(self, took_ns: int) -> None:
        """Learn from a start that succeeded: up at once, down by an eighth."""
        took_ns = min(took_ns, START_AT_MOST_NS)
        above_ns = took_ns - self.start_ns
        self.start_ns += above_ns if above_ns > 0 or not self._seen else above_ns >> 3
        self._seen = True

    def note_failure(self, now_ns: int) -> None:
        """Begin none for a while: an engine that is down refuses each at once."""
        self._resume_ns = now_ns + FAILED_NS

    def is_due(self, waiter: Waiter, now_ns: int) -> bool:
        """Tell whether who still waits may have one more instance."""
        return now_ns >= self.due_ns(waiter)

    def due_ns(self, waiter: Waiter) -> int:
        """Return from when on that is so, if nothing changes until then.

        Waiting counts anew once a start has ended: that may have been all that was missing. No more
        starts are under way than there are instances, unless they take half as long again as
        starts do.
        """
        group = waiter.group
        patience_ns = GROW_AFTER_NS
        if group.count >= SHORT_RUN_INSTANCES and group.typical_run_ns < SHORT_RUN_NS:
            patience_ns = max(SHORT_GROW_AFTER_NS, self.start_ns)
        if group.starting >= max(1, group.count - group.starting):
            patience_ns = max(patience_ns, self.start_ns * 3 // 2)
        return max(max(waiter.since_ns, group.grown_ns) + patience_ns, self._resume_ns)


def is_surplus(shelf: Shelf, now_ns: int) -> bool:
    """Tell whether short handlers do without the longest idle instance of a shelf.

    More than they need came while nobody knew yet that they are short.
    """
    group = shelf.group
    if group.count <= SHORT_RUN_INSTANCES or group.typical_run_ns >= SHORT_RUN_NS:
        return False
    return 0 < shelf.idle_since() < now_ns - SURPLUS_NS
