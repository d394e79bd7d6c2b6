"""What is written beside a source: the current row, and the row of each kept version."""

from __future__ import annotations

import hashlib

import msgspec

from lowcode_faas_core.errors import EnvCorrupt, InvalidValue, SourceCorrupt
from lowcode_faas_core.model import Deployment, FunctionRef, Language, Limits, Reuse
from lowcode_faas_core.names import check_env
from lowcode_faas_files.layout import stem

__all__ = [
    "CollectionMeta",
    "Meta",
    "Row",
    "decode_env",
    "decode_meta",
    "decode_row",
    "encode",
    "sha256",
]


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A deployment without its place: a folder moved by hand keeps its history."""

    version: int
    deployment_id: str
    language: Language
    sha256: str
    size: int
    source_url: str | None
    reuse: Reuse
    limits: Limits
    created_at: str
    checked: bool
    restored_from: int | None

    @property
    def stem(self) -> str:
        """How the names of its files begin."""
        return stem(self.version, self.deployment_id)

    @property
    def archive(self) -> str:
        """The file that keeps its bytes."""
        return self.stem + self.language.suffix

    def deployment(self, ref: FunctionRef, *, current: bool) -> Deployment:
        """Return it as the rest of the platform knows it."""
        return Deployment(
            deployment_id=self.deployment_id,
            function_name=ref.name,
            collection_path=ref.collection_path,
            version=self.version,
            language=self.language,
            sha256=self.sha256,
            size=self.size,
            source_url=self.source_url,
            reuse=self.reuse,
            limits=self.limits,
            created_at=self.created_at,
            current=current,
            checked=self.checked,
            restored_from=self.restored_from,
        )


class Meta(msgspec.Struct, frozen=True, kw_only=True):
    """The content of ``{name}.meta.json``; its rename is the commit.

    ``replaces`` is the hash of the source file the commit was about to overwrite: after a crash
    it tells a file not yet overwritten from one edited by hand since.
    """

    created_at: str
    current: Row
    replaces: str | None = None
    format: int = 1


class CollectionMeta(msgspec.Struct, frozen=True):
    """The content of ``collection.meta.json``."""

    created_at: str


_meta = msgspec.json.Decoder(Meta)
_row = msgspec.json.Decoder(Row)
_env = msgspec.json.Decoder(dict[str, str])


def sha256(data: bytes) -> str:
    """Return the hash sources are known by."""
    return hashlib.sha256(data).hexdigest()


def encode(value: Meta | Row | CollectionMeta | dict[str, str]) -> bytes:
    """Return JSON that people can read."""
    return msgspec.json.format(msgspec.json.encode(value), indent=2) + b"\n"


def decode_meta(data: bytes, where: str) -> Meta:
    """Return the content of a meta file or raise :class:`SourceCorrupt` naming it."""
    try:
        return _meta.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise SourceCorrupt(f"{where} is damaged: {error}") from error


def decode_row(data: bytes) -> Row | None:
    """Return the row of a kept version, ``None`` when it is damaged."""
    try:
        return _row.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def decode_env(data: bytes, where: str) -> dict[str, str]:
    """Return the content of an env file or raise :class:`EnvCorrupt` naming it."""
    try:
        env = _env.decode(data.removeprefix(b"\xef\xbb\xbf"))  # editors on Windows write one
        check_env(env, "")
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise EnvCorrupt(f"{where} is not a JSON object of strings: {error}") from error
    except InvalidValue as error:
        raise EnvCorrupt(f"{where} is refused at {error.pointer}: {error.detail}") from error
    return env
