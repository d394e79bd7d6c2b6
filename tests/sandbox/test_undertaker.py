"""The one thread that ends sandboxes: no trouble of one of them is the end of it."""

from __future__ import annotations

import errno
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from lowcode_faas_core.interfaces.launcher import End
from lowcode_faas_core.sandbox.undertaker import Undertaker


class Dying:
    """An instance whose first steps fail for want of descriptors."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.sandbox = SimpleNamespace(name="dying", shutdown=self.fail, kill=lambda: None)

    def fail(self) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    def ended(self, _timeout_s: float) -> End | None:
        if self.failures:
            self.failures -= 1
            self.fail()
        return End(signal=9)


def test_it_goes_on_when_an_end_cannot_be_looked_at(until: Callable[..., None]) -> None:
    ended: list[str] = []

    def on_end() -> None:
        ended.append("one")
        raise RuntimeError("whoever was served next could not be")

    undertaker = Undertaker(on_end)
    try:
        for failures in (3, 0, 1):
            dying: Any = Dying(failures)
            undertaker.take(dying)
        until(lambda: len(ended) == 3)
    finally:
        undertaker.close()
    assert ended == ["one"] * 3
