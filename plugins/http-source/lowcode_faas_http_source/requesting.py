"""One source from one URL: the request, its redirects, and what an answer may be."""

from __future__ import annotations

import hashlib
import logging
import re
import socket
import time
from dataclasses import dataclass, field
from typing import Any, Final

import requests
from requests_hardened.ip_filter import InvalidIPAddress
from urllib3.exceptions import HTTPError

from lowcode_faas_core import __version__
from lowcode_faas_core.errors import SourceBlocked, SourceInvalid, SourceUnavailable
from lowcode_faas_core.interfaces.source import FetchedSource, FetchLimits
from lowcode_faas_http_source.connecting import Abort, open_session
from lowcode_faas_http_source.settings import HttpSourceSettings
from lowcode_faas_http_source.urls import Target, follow

__all__ = ["MAX_REDIRECTS", "Request", "request"]

#: Redirects followed, at most.
MAX_REDIRECTS: Final = 3

_PIECE_BYTES: Final = 64 << 10
_REDIRECTS: Final = frozenset((301, 302, 303, 307, 308))
#: Answers that say the server cannot now, rather than that the URL is wrong.
_FAILURES: Final = frozenset((408, 425, 429))
#: What is certainly no JavaScript: pages of logins and errors, data, pictures.
_NO_MODULE: Final = re.compile(
    r"text/(?:html|css|csv|xml)|application/(?:json|xml|pdf|zip|gzip)|[^/]*/[^/]*\+(?:json|xml)"
    r"|(?:image|audio|font|multipart)/.*"
)
#: What may be repeated to the caller: a server can put anything there, for a terminal to obey.
_MEDIA_TYPE: Final = re.compile(r"[a-z0-9!#$&^_.+-]{1,100}/[a-z0-9!#$&^_.+-]{1,100}")
_MAX_ETAG: Final = 1024
_HEADERS: Final = {
    "Accept": "text/javascript, text/typescript, text/plain;q=0.9, */*;q=0.5",
    # The cap on a source is one on bytes that come by the wire: nothing is ever unpacked.
    "Accept-Encoding": "identity",
    "User-Agent": f"lowcode-faas/{__version__}",
}
#: One text for every address that is refused and every name that leads nowhere: who asks learns
#: nothing about the network this runs in.
_BLOCKED: Final = "the URL leads to no address that may be fetched from"

_log = logging.getLogger(__name__)


@dataclass
class Request:
    """What is asked for, and how far it may go."""

    target: Target
    settings: HttpSourceSettings
    limits: FetchLimits
    etag: str | None
    abort: Abort
    began: float = field(default_factory=time.monotonic)

    def left(self) -> float:
        """Return the seconds until the deadline.

        :raises SourceUnavailable: there are none.
        """
        left = self.began + self.limits.timeout_s - time.monotonic()
        if left <= 0:
            raise self.unavailable()
        return left

    def unavailable(self) -> SourceUnavailable:
        """Return the error for whatever a server did not do: closed and silent ports look alike."""
        return SourceUnavailable(
            f"no source came from the URL's server within {self.limits.timeout_s:g} s, or its "
            "connection failed"
        )


def request(asked: Request) -> FetchedSource | None:
    """Return what is there, or ``None`` when it still is what the tag named.

    :raises SourceBlocked: the URL, or one it redirects to, may not be asked for.
    :raises SourceInvalid: what is there is no source.
    :raises SourceUnavailable: the server failed.
    """
    target = asked.target
    for _ in range(MAX_REDIRECTS + 1):
        found = _request_once(asked, target)
        if not isinstance(found, str):
            return found
        target = follow(target, found, asked.settings)
    raise SourceBlocked(f"the URL redirects more than {MAX_REDIRECTS} times", "/source_url")


def _request_once(asked: Request, target: Target) -> FetchedSource | str | None:
    """Return the source, ``None`` when it is the same, or where else to ask."""
    headers = dict(_HEADERS)
    if asked.etag is not None:
        headers["If-None-Match"] = asked.etag
    # A session for each hop: no cookie and no connection of one server is of use to another.
    session = open_session(asked.abort, trusted=target.trusted, authorities=asked.settings.ca_file)
    try:
        with (
            session,
            session.get(
                target.url,
                headers=headers,
                allow_redirects=False,
                stream=True,
                timeout=asked.left(),
            ) as answer,
        ):
            return _read(asked, answer)
    except InvalidIPAddress:
        raise SourceBlocked(_BLOCKED, "/source_url") from None
    except (requests.RequestException, HTTPError, OSError, ValueError) as error:
        if not target.trusted and _never_resolved(error):
            raise SourceBlocked(_BLOCKED, "/source_url") from None
        _log.info("%s could not be fetched: %s", target.host, type(error).__name__)
        raise asked.unavailable() from None


def _never_resolved(error: BaseException) -> bool:
    """Tell whether a name has no address, or is none that a resolver takes."""
    illegal = isinstance(error, UnicodeError | requests.exceptions.InvalidURL)
    return illegal or isinstance(error.__cause__, socket.gaierror)


def _read(asked: Request, answer: requests.Response) -> FetchedSource | str | None:
    status = answer.status_code
    if status in _REDIRECTS and "Location" in answer.headers:
        return str(answer.headers["Location"])
    if status == 304 and asked.etag is not None:
        return None
    if status >= 500 or status in _FAILURES or status < 200:
        raise SourceUnavailable(f"the URL's server answered {status}")
    if status != 200:
        raise _invalid(f"the URL's server answered {status}, not a source")
    media_type = answer.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if _NO_MODULE.fullmatch(media_type):
        named = media_type if _MEDIA_TYPE.fullmatch(media_type) else "another media type"
        raise _invalid(f"the URL's server answered with {named}, which is no module")
    if answer.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
        raise _invalid("the URL's server answered with a compressed body, which was not asked for")
    source = _body(asked, answer)
    etag = answer.headers.get("ETag", "")
    legal = 0 < len(etag) <= _MAX_ETAG and etag.isascii() and etag.isprintable()
    digest = hashlib.sha256(source).hexdigest()
    return FetchedSource(source, digest, etag if legal else None)


def _body(asked: Request, answer: requests.Response) -> bytes:
    top = asked.limits.max_bytes
    too_large = f"the source has more than {top} bytes"
    declared = answer.headers.get("Content-Length", "")
    if declared.isdigit() and (len(declared) > 18 or int(declared) > top):
        raise _invalid(too_large)
    raw: Any = answer.raw
    pieces: list[bytes] = []
    size = 0
    while piece := raw.read(min(_PIECE_BYTES, top + 1 - size), decode_content=False):
        asked.left()
        pieces.append(piece)
        size += len(piece)
        if size > top:
            raise _invalid(too_large)
    # A body without a declared length looks whole when its connection ends, by whomever.
    if asked.abort.aborted:
        raise asked.unavailable()
    return b"".join(pieces)


def _invalid(what: str) -> SourceInvalid:
    return SourceInvalid(what, "/source_url")
