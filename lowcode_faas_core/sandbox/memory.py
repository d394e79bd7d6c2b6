"""What gives way when all sandboxes together take more memory than they may."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from lowcode_faas_core.sandbox.instance import Instance

__all__ = ["MemoryBudget"]


class MemoryBudget:
    """A bound on the peak memory of everything alive; only what nobody uses is ended for it.

    What sandboxes share counts for none of them: their end would not give it back.
    """

    def __init__(self, size: int | None) -> None:
        self._size = size
        self._typical = 0
        #: Whether one more sandbox would be too much: then nothing is started for the stock.
        self.is_full = False

    def surplus(
        self, alive: Collection[Instance], idle: Iterable[Instance], stock: Iterable[Instance]
    ) -> list[Instance]:
        """Return what is to end: the longest idle of whichever function first, the stock last.

        A few microseconds for each sandbox, where its memory is known at all.
        """
        if self._size is None:
            return []
        sizes = {instance: instance.sandbox.own_memory() or 0 for instance in alive}
        used = sum(sizes.values())
        found = []
        for instance in (*sorted(idle, key=lambda i: i.idle_since_ns), *stock):
            if used <= self._size:
                break
            # What the hot path has taken meanwhile counts, but is not there to be ended.
            used -= sizes.get(instance, 0)
            found.append(instance)
        if sizes:
            # Kept when nothing is alive: what was ended for its size must not come back for that.
            self._typical = sum(sizes.values()) // len(sizes)
        self.is_full = used + self._typical > self._size
        return found
