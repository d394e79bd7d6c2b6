"""Which URLs may be asked for. They are taken apart here, once, and put together again.

What the HTTP library is given is made of parts that were checked, so that it can read nothing else
into them. Where a name leads is decided when it is connected to (``connecting.py``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urljoin

from lowcode_faas_core.errors import SourceBlocked
from lowcode_faas_http_source.settings import ANY_ALLOWED, HOST, HttpSourceSettings

__all__ = ["MAX_URL", "Target", "check_url", "follow"]

#: Characters of a URL, at most.
MAX_URL: Final = 2048
#: The characters of RFC 3986. No blank, backslash, control character or look-alike is one.
_LEGAL: Final = re.compile(r"[A-Za-z0-9\-._~:/?#\[\]@!$&'()*+,;=%]+")
_PARTS: Final = re.compile(r"(?P<scheme>[a-z]+)://(?P<authority>[^/?#]*)(?P<rest>[^#]*)", re.I)
_AUTHORITY: Final = re.compile(rf"(?P<host>{HOST.pattern})(?::(?P<port>[0-9]{{1,5}}))?", re.I)
_DEFAULT_PORTS: Final = {"https": 443, "http": 80}


@dataclass(frozen=True)
class Target:
    """A URL that may be asked for; ``trusted`` hosts are the operator's own, at any address."""

    scheme: str
    host: str
    port: int
    rest: str
    trusted: bool

    @property
    def url(self) -> str:
        """The URL, of its checked parts."""
        port = "" if self.port == _DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{self.host}{port}{self.rest}"


def check_url(url: str, settings: HttpSourceSettings) -> Target:
    """Take a URL apart.

    :raises SourceBlocked: it is none, or may not be asked for whatever it leads to.
    """
    parts = _PARTS.fullmatch(url) if len(url) <= MAX_URL and _LEGAL.fullmatch(url) else None
    if parts is None:
        raise _blocked(
            f"must be an absolute URL of at most {MAX_URL} characters, without a fragment; "
            "other characters than RFC 3986 knows are escaped"
        )
    scheme = parts["scheme"].lower()
    if scheme != "https" and not (scheme == "http" and settings.allow_http):
        allowed = "https or http" if settings.allow_http else "https"
        raise _blocked(f"must be an {allowed} URL")
    if "@" in parts["authority"]:
        raise _blocked("must not hold a user or password")
    authority = _AUTHORITY.fullmatch(parts["authority"])
    if authority is None:
        raise _blocked("has no legal host")
    host = authority["host"].lower()
    port = int(authority["port"] or _DEFAULT_PORTS[scheme])
    named = (host, port) in settings.allow_hosts
    if port not in settings.allow_ports and not named:
        allowed = ", ".join(map(str, sorted(settings.allow_ports)))
        raise _blocked(f"names port {port}; allowed is {allowed}")
    rest = parts["rest"]
    trusted = named or (host, ANY_ALLOWED) in settings.allow_hosts
    return Target(scheme, host, port, rest if rest.startswith("/") else f"/{rest}", trusted)


def follow(target: Target, location: str, settings: HttpSourceSettings) -> Target:
    """Return where a redirect leads, by the same rules.

    :raises SourceBlocked: it may not be asked for, or is less safe than what led there.
    """
    try:
        joined = urljoin(target.url, location).partition("#")[0]
        found = check_url(joined, settings)
    except (SourceBlocked, ValueError):
        raise _blocked("leads to a URL that is not allowed") from None
    if target.scheme == "https" and found.scheme != "https":
        raise _blocked("leads from https to http")
    return found


def _blocked(what: str) -> SourceBlocked:
    return SourceBlocked(f"the URL {what}", "/source_url")
