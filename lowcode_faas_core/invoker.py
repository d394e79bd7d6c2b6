"""The one way in: an InvokeRequest becomes a RunResult, whoever called and wherever it runs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from lowcode_faas_core.model import InvokeRequest, RunResult

__all__ = ["Invoker"]


class Invoker(ABC):
    """Runs functions. Every trigger ends in :meth:`invoke`."""

    @abstractmethod
    def invoke(self, request: InvokeRequest) -> RunResult:
        """Resolve, merge env, run, and answer with the verdict.

        :raises NotFound: the function, version or collection does not exist.
        :raises InvalidValue: the timeout is above the maximum.
        :raises CapacityError: nothing could take it in time; not executed.
        :raises PlatformError: see its ``outcome`` for whether user code may have run.
        """

    @abstractmethod
    def stats(self) -> Mapping[str, Any]:
        """Return counts for operators: the ``sandboxes`` block of ``/readyz``."""

    @abstractmethod
    def check(self) -> None:
        """Return when invocations can be taken now, else raise what stops them."""

    @abstractmethod
    def close(self) -> None:
        """End what runs and release everything; may be called twice."""
