"""The answer to "can invocations be taken now", for probes and for people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Readiness"]


@dataclass(frozen=True)
class Readiness:
    """Whether invocations can be taken; ``reasons`` is what stops them, ``degraded`` what limps."""

    ok: bool
    reasons: list[str] = field(default_factory=list)
    degraded: list[str] = field(default_factory=list)
    sandboxes: Mapping[str, Any] = field(default_factory=dict)
