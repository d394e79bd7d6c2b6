"""Who a caller is, by what they show."""

from __future__ import annotations

from abc import ABC, abstractmethod

from lowcode_faas_core.callers import Caller
from lowcode_faas_core.interfaces.versioned import Versioned

__all__ = ["Authenticator"]


class Authenticator(Versioned, ABC):
    """Recognises callers by the ``Authorization`` header. Used by many threads at once.

    Several form a chain: the first that knows the caller counts. ``AuthenticatorContract`` in
    ``lowcode_faas_core.testing`` checks it.
    """

    @abstractmethod
    def authenticate(self, authorization: str) -> Caller | None:
        """**Required.** Return who shows this, or ``None`` when it is nothing this one issues.

        Called for every request before anything else: what it looks up elsewhere it keeps for a
        while. ``authorization`` is the header as it came, any text, never empty.

        :raises Unauthenticated: it is one of its own, but unknown, expired or revoked; nobody
            further down the chain is asked. The text is shown to the caller and holds no part
            of what was shown.
        :raises PlatformError: it cannot be told now, because the other side is away.
        """

    def degraded(self) -> list[str]:
        """Return what limps without stopping anybody. **Optional** (default: nothing)."""
        return []

    @abstractmethod
    def close(self) -> None:
        """**Required.** Release everything; may be called twice."""
