"""A log sink written for version 1 of its interface."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lowcode_faas_core.interfaces.log_sink import LogSink, event_json
from lowcode_faas_core.model import LogEvent

__all__ = ["FrozenSink"]


class FrozenSink(LogSink):
    """Opens the file for each batch, so that it may be rotated; what it raises is a loss."""

    interface_version = 1

    def __init__(self, file: Path) -> None:
        self._file = file

    def emit(self, batch: Sequence[LogEvent]) -> None:
        """Append a batch at once: other processes append to the same file."""
        lines = "".join(f"{event_json(event)}\n" for event in batch)
        with self._file.open("ab") as file:
            file.write(lines.encode())

    def flush(self, deadline_ns: int) -> int:
        """Nothing is held back."""
        return 0

    def close(self) -> None:
        """Nothing is open."""
