"""What the interfaces of all roles have in common: whoever implements one says which version of it."""

from __future__ import annotations

from typing import ClassVar

__all__ = ["Versioned"]


class Versioned:
    """An interface with a version; ``interface_versions`` says which of them this release has."""

    #: **Optional (default: 1).** The version of the interface an implementation was written for.
    interface_version: ClassVar[int] = 1
