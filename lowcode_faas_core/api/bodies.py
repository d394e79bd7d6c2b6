"""Reading and decoding request bodies, by one rule.

What is not JSON in UTF-8, or holds what JSON cannot (NaN, numbers beyond its readers, lone
surrogates, endless nesting), is a 400. JSON of the wrong shape, unknown fields included, is a 422
that points at the value. 16.0 is a whole number, as for JSON Schema. Of equal keys the
last counts, here as in Node.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import msgspec
from flask import request
from werkzeug.http import parse_options_header
from werkzeug.sansio.utils import get_content_length as content_length

from lowcode_faas_core.api.refusals import refusal
from lowcode_faas_core.errors import (
    InvalidValue,
    MalformedRequest,
    PayloadTooLarge,
    UnsupportedMedia,
)

__all__ = ["Body", "decode_object"]

T = TypeVar("T", bound=msgspec.Struct)

_log = logging.getLogger("lowcode_faas_core.api")

_CHUNK_BYTES = 64 << 10
#: Spellings of the ordinary case, answered without parsing.
_PLAIN_JSON = frozenset(("application/json", "application/json; charset=utf-8"))
_not_in_json = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Body(Generic[T]):
    """Reads bodies of one shape. The struct must forbid unknown fields."""

    def __init__(self, shape: type[T], *, required: bool = True) -> None:
        self._shape = shape
        self._decoder = msgspec.json.Decoder(shape)
        self._lenient = msgspec.json.Decoder(shape, strict=False)
        self._required = required

    def read(self, limit: int) -> T:
        """Read and decode the body of the present request: see :meth:`read_from`."""
        return self.read_from(request.environ, limit)

    def read_from(self, environ: Mapping[str, Any], limit: int) -> T:
        """Read and decode the body of a request, of at most ``limit`` bytes.

        :raises MalformedRequest: it is not JSON, or absent where one is needed.
        :raises InvalidValue: it is JSON of another shape.
        :raises UnsupportedMedia: it is declared as something else than JSON in UTF-8.
        :raises PayloadTooLarge: it is larger than ``limit``; the rest is not read.
        """
        content = _read(environ, limit)
        if not content:
            if self._required:
                raise MalformedRequest("this needs a JSON body")
            content = b"{}"
        try:
            return self._decoder.decode(content)
        except _not_in_json as error:
            lenient = self._with_whole_numbers(content)
            if lenient is not None:
                return lenient
            # Whatever stopped it, an undecodable byte further on comes first.
            raise refusal(self._shape, decode_any(content), error) from None

    def _with_whole_numbers(self, content: bytes) -> T | None:
        """Decode what is of the right shape but for 16.0 in place of 16; ``None`` when it is not.

        Clients write it whose language has one kind of number.
        """
        try:
            found = self._lenient.decode(content)
            return found if _is_alike(found, msgspec.json.decode(content)) else None
        except (*_not_in_json, msgspec.ValidationError):
            return None


def _is_alike(made: Any, given: Any) -> bool:
    """Tell whether lenient decoding took nothing for a number, or null, that was given as text."""
    if isinstance(made, msgspec.Raw):
        return True
    if isinstance(made, msgspec.Struct):
        return all(_is_alike(getattr(made, name), value) for name, value in given.items())
    if isinstance(made, int | float):
        return isinstance(given, int | float) and isinstance(given, bool) is isinstance(made, bool)
    return bool(made == given)


def decode_any(content: bytes | msgspec.Raw) -> Any:
    """Decode any JSON, or raise :class:`MalformedRequest`."""
    try:
        return msgspec.json.decode(content)
    except RecursionError:
        raise MalformedRequest("the JSON is nested too deeply") from None
    except UnicodeDecodeError:
        raise MalformedRequest("the body is not UTF-8") from None
    except msgspec.ValidationError:
        raise MalformedRequest("a number is beyond what JSON readers agree on") from None
    except msgspec.DecodeError as error:
        raise MalformedRequest(str(error)) from None


_object = msgspec.json.Decoder(dict[str, Any])


def decode_object(raw: msgspec.Raw, pointer: str) -> dict[str, Any]:
    """Decode a part kept as it came, which nothing has checked inside yet; it must be an object."""
    try:
        return _object.decode(raw)
    except _not_in_json:
        decode_any(raw)
        raise InvalidValue("must be an object", pointer) from None


def _read(environ: Mapping[str, Any], limit: int) -> bytes:
    coding = environ.get("HTTP_CONTENT_ENCODING")
    if coding and coding.strip().lower() not in ("", "identity"):
        raise UnsupportedMedia("a compressed body is not accepted")
    declared = environ.get("CONTENT_LENGTH")
    length: int | None
    if (
        declared
        and declared.isdecimal()
        and declared.isascii()
        and len(declared) < 16
        and "HTTP_TRANSFER_ENCODING" not in environ
    ):
        length = int(declared)
    else:
        length = content_length(declared, environ.get("HTTP_TRANSFER_ENCODING"))
    if length is not None and length > limit:
        raise _too_large(limit)
    if length is None and not environ.get("wsgi.input_terminated"):
        return b""
    stream = environ["wsgi.input"]
    # One byte more than is allowed tells a chunked body that is too large from one that fits.
    wanted = limit + 1 if length is None else length
    parts: list[bytes] = []
    while wanted > 0:
        try:
            part = stream.read(min(wanted, _CHUNK_BYTES) if length is None else wanted)
        except Exception as error:
            # Chunks that are none, an end in the middle, a client that stalls: each server has
            # exceptions of its own for what only the other side can have caused.
            _log.info("a body could not be read: %s: %s", type(error).__name__, error)
            raise MalformedRequest("the body ended early, or its chunks are malformed") from error
        if not part:
            break
        parts.append(part)
        wanted -= len(part)
    content = parts[0] if len(parts) == 1 else b"".join(parts)
    if length is not None and len(content) < length:
        raise MalformedRequest("the body ended early")
    if len(content) > limit:
        raise _too_large(limit)
    if content:
        _check_content_type(environ.get("CONTENT_TYPE", ""))
    return content


def _too_large(limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(f"a request body has at most {limit} bytes")


def _check_content_type(declared: str) -> None:
    if declared in _PLAIN_JSON:
        return
    media_type, options = parse_options_header(declared)
    media_type = media_type.lower()
    is_json = media_type == "application/json" or (
        media_type.startswith("application/") and media_type.endswith("+json")
    )
    if not is_json:
        raise UnsupportedMedia(
            f"the body is declared as {media_type or 'nothing'}; send Content-Type: application/json"
        )
    if options.get("charset", "utf-8").lower() not in ("utf-8", "utf8", "us-ascii"):
        raise UnsupportedMedia("JSON is sent in UTF-8")
