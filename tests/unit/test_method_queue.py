"""What threads tell the main loop once that has ended."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from lowcode_faas_core.method_queue import MethodQueue


def test_it_writes_nothing_once_it_is_closed(tmp_path: Path) -> None:
    """The number of its pipe is another file's by then."""
    queue = MethodQueue()
    queue.init()
    told: list[str] = []
    queue.defer(told.append, "before")
    queue.run_callbacks(None)
    queue.close()
    queue.close()
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context((tmp_path / str(n)).open("wb")) for n in range(8)]
        queue.defer(told.append, "after")
        assert [os.fstat(file.fileno()).st_size for file in files] == [0] * 8
    assert told == ["before"]
