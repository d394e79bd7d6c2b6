"""Fixtures that folders of tests share and that are too dear to be made twice in a run."""

from __future__ import annotations

from tests.shipping.clone import clone
from tests.shipping.wheelhouse import installation, new_environment, wheelhouse

__all__ = ["clone", "installation", "new_environment", "wheelhouse"]
