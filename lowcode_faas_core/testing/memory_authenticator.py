"""An authenticator whose callers are a dictionary, for tests."""

from __future__ import annotations

from lowcode_faas_core.callers import Caller
from lowcode_faas_core.errors import Unauthenticated
from lowcode_faas_core.interfaces.authenticator import Authenticator

__all__ = ["MemoryAuthenticator"]


class MemoryAuthenticator(Authenticator):
    """Knows :attr:`callers` by what follows the scheme ``Memory``, and refuses all others of it."""

    def __init__(self, callers: dict[str, Caller] | None = None) -> None:
        self.callers = {} if callers is None else callers
        #: Raised instead of any answer.
        self.failure: Exception | None = None

    def authenticate(self, authorization: str) -> Caller | None:
        """Return who is kept under what is shown."""
        if self.failure is not None:
            raise self.failure
        scheme, _, shown = authorization.partition(" ")
        if scheme != "Memory":
            return None
        try:
            return self.callers[shown]
        except KeyError:
            raise Unauthenticated("nobody is kept under this") from None

    def close(self) -> None:
        """Do nothing: there is nothing to release."""
