"""API tokens, and the file that keeps their hashes.

A token is ``lcf_<id>_<secret>``. The file never holds a secret: 256 random bits cannot be guessed
from their hash, so that a plain sha256 keeps them, and costs a request next to nothing.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import stat
import string
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import msgspec

from lowcode_faas_core.callers import Caller, Verb
from lowcode_faas_core.errors import ConfigurationError, InvalidValue
from lowcode_faas_core.names import check_collection_path
from lowcode_faas_core.settings import PREFIX

__all__ = ["PREFIX_OF_TOKENS", "Token", "TokenFile", "hash_of", "split"]

PREFIX_OF_TOKENS: Final = "lcf_"
_ALPHABET = string.ascii_letters + string.digits
#: 43 of 62 characters are 256 bits.
_SECRET_CHARACTERS = 43
_ID_CHARACTERS = 10
#: Only the owner: whoever may write the file may call everything.
_MODE = 0o600
_LOCK_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
_WRITABLE_BY_OTHERS = 0o022
_MAX_NAME = 100

Signature = tuple[int, int, int, int]


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept of a token. Times are RFC 3339 in UTC."""

    id: str
    name: str
    sha256: str
    verbs: tuple[Verb, ...]
    collection: str
    created_at: str
    expires_at: str | None = None

    @property
    def caller(self) -> Caller:
        """Who shows it."""
        return Caller(self.id, self.name, frozenset(self.verbs), self.collection)

    @property
    def expires(self) -> float | None:
        """When it ends, in seconds since the epoch."""
        return (
            None if self.expires_at is None else datetime.fromisoformat(self.expires_at).timestamp()
        )


class _Content(msgspec.Struct):
    tokens: list[Token]


def hash_of(secret: str) -> bytes:
    """Return the hash of whatever text was shown as a secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()


def split(token: str) -> tuple[str, str]:
    """Return id and secret of what begins like a token of ours; both may be anything."""
    identity, _, secret = token.removeprefix(PREFIX_OF_TOKENS).partition("_")
    return identity, secret


class TokenFile:
    """The file of ``LOWCODE_FAAS_API_TOKENS_FILE``. Changes are atomic, and one at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def signature(self) -> Signature | None:
        """Return what changes whenever the file does, ``None`` when there is none.

        :raises OSError: it cannot be looked at.
        """
        try:
            found = self.path.stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_ctime_ns, found.st_size

    def read(self) -> list[Token] | None:
        """Return what is kept, ``None`` when there is no file.

        :raises ConfigurationError: it cannot be read, or is not what this class writes.
        """
        try:
            with self.path.open("rb") as file:
                if os.fstat(file.fileno()).st_mode & _WRITABLE_BY_OTHERS:
                    raise self._problem("may be written by others than its owner: chmod 600")
                content = msgspec.json.decode(file.read(), type=_Content)
            for token in content.tokens:
                bytes.fromhex(token.sha256)
                check_collection_path(token.collection)
                _ = token.expires
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._problem(f"cannot be read: {error.strerror}") from error
        except (ValueError, msgspec.MsgspecError, InvalidValue) as error:
            raise self._problem(f"is not a file of tokens: {error}") from error
        return content.tokens

    def create(
        self,
        name: str,
        verbs: Sequence[Verb],
        collection: str = "",
        lifetime: timedelta | None = None,
    ) -> str:
        """Add a token and return it, the only time it is known.

        :raises InvalidValue: for an illegal name or collection.
        :raises ConfigurationError: the file cannot be used.
        """
        with self._changing() as tokens:
            return _add(tokens, name, verbs, collection, lifetime)

    def create_first(self) -> str | None:
        """Add one administrator's token if there is none at all, and return it.

        :raises ConfigurationError: the file cannot be used.
        """
        if self.read():
            return None
        with self._changing() as tokens:
            return None if tokens else _add(tokens, "first", [Verb.ADMIN], "", None)

    def revoke(self, identity: str) -> Token | None:
        """Remove a token and return what was kept of it, ``None`` when there is no such token.

        :raises ConfigurationError: the file cannot be used.
        """
        with self._changing() as tokens:
            found = next((token for token in tokens if token.id == identity), None)
            if found is not None:
                tokens.remove(found)
            return found

    @contextlib.contextmanager
    def _changing(self) -> Iterator[list[Token]]:
        """Yield what is kept, changed by nobody else meanwhile, and write what becomes of it."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            lock = os.open(f"{self.path}.lock", _LOCK_FLAGS, _MODE)
        except OSError as error:
            raise self._problem(f"cannot be written: {self._why(error)}") from error
        try:
            self._check_lock(lock)
            self._leave_to_the_owner(lock)
            fcntl.flock(lock, fcntl.LOCK_EX)
            tokens = self.read() or []
            before = list(tokens)
            yield tokens
            if tokens != before:
                self._write(tokens)
        except OSError as error:
            raise self._problem(f"cannot be written: {error.strerror}") from error
        finally:
            os.close(lock)

    def _write(self, tokens: list[Token]) -> None:
        content = msgspec.json.format(msgspec.json.encode(_Content(tokens)), indent=2)
        new = self.path.with_name(f"{self.path.name}.{secrets.token_hex(4)}.new")
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content + b"\n")
                file.flush()
                self._leave_to_the_owner(file.fileno())
                os.fsync(file.fileno())
            new.rename(self.path)
        except BaseException:
            new.unlink(missing_ok=True)
            raise
        folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _why(self, error: OSError) -> str | None:
        if error.errno == errno.ELOOP:
            return f"{self.path}.lock is a symbolic link; remove it"
        return error.strerror

    def _check_lock(self, lock: int) -> None:
        """Raise unless the lock is a file that has no other name.

        Whoever the service runs as can put anything there, and root is about to give it to them.
        """
        found = os.fstat(lock)
        if not stat.S_ISREG(found.st_mode) or found.st_nlink != 1:
            raise self._problem(
                f"cannot be written: {self.path}.lock is no file of its own; remove it"
            )

    def _leave_to_the_owner(self, descriptor: int) -> None:
        """Give what root makes to whom the service runs as: the file's owner, else the folder's."""
        if os.geteuid() == 0:
            place = self.path if self.path.exists() else self.path.parent
            owner = place.stat()
            os.fchown(descriptor, owner.st_uid, owner.st_gid)

    def _problem(self, what: str) -> ConfigurationError:
        return ConfigurationError([f"{PREFIX}API_TOKENS_FILE: {self.path} {what}"])


def _add(
    tokens: list[Token],
    name: str,
    verbs: Sequence[Verb],
    collection: str,
    lifetime: timedelta | None,
) -> str:
    if not name.isprintable() or not 1 <= len(name) <= _MAX_NAME:
        raise InvalidValue(f"a name has from 1 to {_MAX_NAME} printable characters", "/name")
    check_collection_path(collection, "/collection")
    taken = {token.id for token in tokens}
    identity = next(new for new in iter(_new_id, None) if new not in taken)
    secret = "".join(secrets.choice(_ALPHABET) for _ in range(_SECRET_CHARACTERS))
    now = datetime.now(UTC)
    tokens.append(
        Token(
            id=identity,
            name=name,
            sha256=hash_of(secret).hex(),
            verbs=tuple(dict.fromkeys(verbs)),
            collection=collection,
            created_at=now.isoformat(timespec="seconds"),
            expires_at=None if lifetime is None else (now + lifetime).isoformat(timespec="seconds"),
        )
    )
    return f"{PREFIX_OF_TOKENS}{identity}_{secret}"


def _new_id() -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(_ID_CHARACTERS))
