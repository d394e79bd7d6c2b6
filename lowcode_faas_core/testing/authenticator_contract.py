"""What every authenticator holds: subclass :class:`AuthenticatorContract`, give it three fixtures."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest

from lowcode_faas_core.callers import Caller, Verb
from lowcode_faas_core.errors import Unauthenticated
from lowcode_faas_core.interfaces.authenticator import Authenticator
from lowcode_faas_core.names import check_collection_path

__all__ = ["AuthenticatorContract"]

#: What somebody else issues, or nobody: not to be claimed.
FOREIGN = (
    "Basic dXNlcjpwYXNzd29yZA==",
    "Bearer",
    "Bearer ",
    "Bearer somebody-elses",
    "Digest username=a",
    " ",
    "\u00e4\u00ff",
    "x" * 8000,
)


class AuthenticatorContract:
    """Give ``authenticator``, ``known`` and ``rejected``.

    ``known`` is a header it accepts and the caller it stands for; ``rejected`` are headers that it
    recognises as its own kind and refuses: expired, revoked, forged.
    """

    @pytest.fixture
    def authenticator(self) -> Authenticator:
        """Return an authenticator; overridden by the subclass."""
        raise NotImplementedError("a subclass of AuthenticatorContract gives `authenticator`")

    @pytest.fixture
    def known(self) -> tuple[str, Caller]:
        """Return a header and its caller; overridden by the subclass."""
        raise NotImplementedError("a subclass of AuthenticatorContract gives `known`")

    @pytest.fixture
    def rejected(self) -> Sequence[str]:
        """Return headers that are refused; overridden by the subclass."""
        raise NotImplementedError("a subclass of AuthenticatorContract gives `rejected`")

    def test_a_known_caller_is_told(
        self, authenticator: Authenticator, known: tuple[str, Caller]
    ) -> None:
        """The same header is the same caller, each time, with legal verbs and a legal collection."""
        header, caller = known
        found = authenticator.authenticate(header)
        assert found == caller
        assert authenticator.authenticate(header) == caller
        assert found is not None
        assert found.id
        assert all(isinstance(verb, Verb) for verb in found.verbs)
        check_collection_path(found.collection)

    @pytest.mark.parametrize("header", FOREIGN)
    def test_what_is_not_its_own_is_left_to_others(
        self, authenticator: Authenticator, header: str
    ) -> None:
        """It returns ``None`` for what it cannot have issued, and raises nothing."""
        assert authenticator.authenticate(header) is None

    def test_what_is_refused_is_raised_and_not_repeated(
        self, authenticator: Authenticator, rejected: Sequence[str]
    ) -> None:
        """Its own, but not valid: ``Unauthenticated``, whose text holds nothing of the header."""
        assert rejected
        for header in rejected:
            with pytest.raises(Unauthenticated) as caught:
                authenticator.authenticate(header)
            secret = header.rpartition(" ")[2]
            assert secret not in str(caught.value)
            assert secret not in caught.value.detail

    @pytest.mark.fault(26)
    def test_a_near_miss_is_nobody(
        self, authenticator: Authenticator, known: tuple[str, Caller]
    ) -> None:
        """With one character more, less or changed the header is no caller's."""
        header, _ = known
        last = "a" if header[-1] != "a" else "b"
        for miss in (header + "a", header[:-1], header[:-1] + last):
            try:
                found = authenticator.authenticate(miss)
            except Unauthenticated:
                continue
            assert found is None

    def test_it_serves_many_threads(
        self, authenticator: Authenticator, known: tuple[str, Caller], rejected: Sequence[str]
    ) -> None:
        """Callers are never mixed up, whoever asks at the same time."""
        header, caller = known

        def ask(number: int) -> Caller | None:
            try:
                return authenticator.authenticate(header if number % 2 else rejected[0])
            except Unauthenticated:
                return None

        with ThreadPoolExecutor(8) as threads:
            found = list(threads.map(ask, range(200)))
        assert found == [caller if number % 2 else None for number in range(200)]

    def test_close_may_be_called_twice(self, authenticator: Authenticator) -> None:
        """The second ``close`` does nothing."""
        authenticator.close()
        authenticator.close()
