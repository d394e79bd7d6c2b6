"""Fixtures that folders of tests share and that are too dear to be made twice in a run."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

from tests.shipping.clone import clone
from tests.shipping.wheelhouse import installation, new_environment, wheelhouse

__all__ = ["clone", "installation", "new_environment", "wheelhouse"]

# How long an example takes is a matter of what else the machine does, and never of what is tested.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")
