"""Who a caller is: API tokens and what plugins recognise, in one chain. Knows nothing of Flask.

A request costs a dictionary look-up, one sha256 and one comparison, and now and then a ``stat`` of
the file of tokens, so that what changes in it is in effect within :data:`LOOK_S`.
"""

from __future__ import annotations

import hmac
import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from lowcode_faas_core.callers import ANYONE, Caller
from lowcode_faas_core.errors import ConfigurationError, Unauthenticated
from lowcode_faas_core.interfaces.authenticator import Authenticator
from lowcode_faas_core.lanes import elsewhere
from lowcode_faas_core.rates import Rates
from lowcode_faas_core.tokens import PREFIX_OF_TOKENS, Signature, TokenFile, hash_of, split

__all__ = ["LOOK_S", "Authentication", "TokenAuthenticator"]

#: Seconds between two looks at the file of tokens.
LOOK_S: Final = 2.0
#: Headers that are remembered with the token they show.
MOST_SHOWN: Final = 256
#: Compared with where there is no such id, so that both take the same time; the hash of nothing
#: that can be shown.
_NOBODY = bytes(32)

_log = logging.getLogger("lowcode_faas_core.authentication")


@dataclass(frozen=True)
class _Known:
    caller: Caller
    digest: bytes = field(repr=False)
    expires: float | None


class TokenAuthenticator(Authenticator):
    """Recognises the tokens of one file.

    A file that can no longer be read changes nothing: what was in it counts on, and ``degraded``
    says so. One that is gone holds no tokens, and authentication stays on.
    """

    def __init__(self, file: TokenFile, clock: Callable[[], float] = time.monotonic) -> None:
        """Read the file.

        :raises ConfigurationError: it is there and cannot be used.
        """
        self._file = file
        self._clock = clock
        self._looking = threading.Lock()
        self._problem: str | None = None
        #: By id; ``None`` as long as there never was a file.
        self._known: dict[str, _Known] | None = None
        #: By what was shown: a header that repeats is not hashed again.
        self._shown: dict[str, _Known] = {}
        self._signature: Signature | None = None
        self._look_at = 0.0
        self._read(file.signature())
        self._look_at = clock() + LOOK_S

    @property
    def present(self) -> bool:
        """Whether there is a file of tokens, or was one."""
        self._look()
        return self._known is not None

    def authenticate(self, authorization: str) -> Caller | None:
        """Look the token up; ``None`` for what is no token of this service."""
        self._look()
        # Taken before the tokens are looked at: with new ones goes a new memory.
        shown = self._shown
        found = shown.get(authorization)
        if found is None:
            found = self._find(authorization)
            if found is None:
                return None
            if len(shown) >= MOST_SHOWN:
                shown.clear()
            shown[authorization] = found
        if found.expires is not None and time.time() >= found.expires:
            raise Unauthenticated("the token has expired")
        return found.caller

    def _find(self, authorization: str) -> _Known | None:
        scheme, _, shown = authorization.partition(" ")
        shown = shown.strip()
        if (
            self._known is None
            or scheme.lower() != "bearer"
            or not shown.startswith(PREFIX_OF_TOKENS)
        ):
            return None
        identity, secret = split(shown)
        found = self._known.get(identity)
        same = hmac.compare_digest(hash_of(secret), _NOBODY if found is None else found.digest)
        if found is None or not same:
            raise Unauthenticated("the token is not known here, or was revoked")
        return found

    def degraded(self) -> list[str]:
        """Return why the file cannot be read now."""
        return [] if self._problem is None else [self._problem]

    def close(self) -> None:
        """Do nothing: nothing is kept open."""

    def _look(self) -> None:
        now = self._clock()
        # Whoever comes while another one looks goes on with what was known.
        if now < self._look_at or not self._looking.acquire(blocking=False):
            return
        try:
            self._look_at = now + LOOK_S
            signature = self._file.signature()
            if signature != self._signature:
                self._read(signature)
            self._problem = None
        except (ConfigurationError, OSError) as error:
            # Without the path and reason of an OSError this one would say nothing.
            problem = error.detail if isinstance(error, ConfigurationError) else str(error)
            if problem != self._problem:
                _log.error("%s; the tokens known before count on", problem)
            self._problem = problem
        finally:
            self._looking.release()

    def _read(self, signature: Signature | None) -> None:
        tokens = self._file.read()
        if tokens is not None or self._known is not None:
            self._known = {
                token.id: _Known(token.caller, bytes.fromhex(token.sha256), token.expires)
                for token in tokens or ()
            }
            self._shown = {}
        self._signature = signature


class Authentication:
    """The chain of one process: tokens first, then each plugin's, in the order they are named."""

    def __init__(
        self,
        tokens: TokenAuthenticator | None,
        others: Iterable[Authenticator] = (),
        *,
        anonymous: bool = False,
        loopback: bool = False,
        rates: Rates | None = None,
    ) -> None:
        """Make the chain.

        :param tokens: the API's own; ``None`` where there cannot be any.
        :param others: what plugins brought.
        :param anonymous: whoever shows nothing may do everything.
        :param loopback: the same, as long as nothing above could tell who calls.
        :param rates: how often each of those who are known may call.
        """
        self._tokens = tokens
        self._others = tuple(others)
        self._chain: tuple[Authenticator, ...] = (
            *(() if tokens is None else (tokens,)),
            *self._others,
        )
        self._anonymous = anonymous
        self._loopback = loopback and not self._others
        self._rates = rates or Rates(0)

    def authenticate(self, authorization: str) -> Caller:
        """Return who shows this ``Authorization`` header, ``""`` when there is none.

        :raises Unauthenticated: nobody knows the caller.
        :raises PlatformError: a plugin cannot tell now.
        :raises RateLimited: the caller is known, and called too often.
        """
        if authorization:
            for each in self._chain:
                # A plugin may ask somebody far away.
                own = each is self._tokens
                caller = (
                    each.authenticate(authorization)
                    if own
                    else elsewhere(partial(each.authenticate, authorization))
                )
                if caller is not None:
                    self._rates.spend(caller.id)
                    return caller
        if self._anonymous or self.loopback_only:
            return ANYONE
        if authorization:
            raise Unauthenticated("what the Authorization header shows is not known here")
        raise Unauthenticated("this needs a token: Authorization: Bearer lcf_…")

    @property
    def loopback_only(self) -> bool:
        """Whether callers need no credentials because only this machine can connect."""
        if not self._loopback or self._anonymous:
            return False
        return self._tokens is None or not self._tokens.present

    def degraded(self) -> list[str]:
        """Return what limps."""
        return [reason for each in self._chain for reason in each.degraded()]

    def close(self) -> None:
        """Close what plugins brought; may be called twice."""
        for each in self._chain:
            each.close()
