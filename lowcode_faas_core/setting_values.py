"""What the variables of the core may hold: their parsers beyond the plain ones of ``settings``."""

from __future__ import annotations

import ipaddress
import os
import re
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

from lowcode_faas_core.errors import InvalidValue
from lowcode_faas_core.model import Reuse
from lowcode_faas_core.names import check_collection_path
from lowcode_faas_core.settings import Parser, integer, path

__all__ = [
    "MAX_CAP",
    "UNIX",
    "collection_caps",
    "http_url",
    "is_loopback",
    "label_pairs",
    "optional_integer",
    "optional_path",
    "parse_address",
    "reuse_mode",
    "socket_path",
    "url_of_worker",
    "url_template",
    "worker_count",
]

#: What ``WORKER_URL`` begins with where it names a Unix socket, as in gunicorn's own settings.
UNIX = "unix:"
#: Bytes that the kernel takes of a Unix socket's path, its end not counted.
MAX_SOCKET_PATH = 107

#: Highest cap that is read; far above what a machine can do.
MAX_CAP = 1_000_000
#: More would be a stream of its own for each combination; Loki itself allows 15.
MAX_LABELS = 15
_label_name = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*", re.ASCII).fullmatch


def parse_address(value: str) -> tuple[str, int]:
    """Parse ``host:port``, ``:port`` (every interface) or ``[v6]:port`` into host and port."""
    host, colon, port = value.strip().rpartition(":")
    if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError("must be host:port or :port")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("must have an IPv6 address in brackets, like [::1]:8080")
    return host or "0.0.0.0", int(port)  # noqa: S104  # ":8080" says every interface, as in Go


@lru_cache(maxsize=256)  # asked of the Host of every request
def is_loopback(host: str) -> bool:
    """Tell whether only this machine can connect to ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def http_url(value: str) -> str:
    """Parse an http or https URL without slashes at its end; nothing stays nothing."""
    stripped = value.strip().rstrip("/")
    if stripped and not stripped.startswith(("http://", "https://")):
        raise ValueError("must be an http or https URL")
    return stripped


def socket_path(value: str) -> Path | None:
    """Parse the path of a Unix socket; nothing is ``None``."""
    stripped = value.strip()
    if not stripped:
        return None
    if not stripped.startswith("/"):
        raise ValueError("must be an absolute path")
    if len(os.fsencode(stripped)) > MAX_SOCKET_PATH:
        raise ValueError(f"must have at most {MAX_SOCKET_PATH} bytes: no socket has a longer path")
    return Path(stripped)


def url_of_worker(value: str) -> str:
    """Parse an http or https URL, or ``unix:`` and the path of a socket; nothing stays nothing."""
    stripped = value.strip()
    if not stripped.startswith(UNIX):
        try:
            return http_url(stripped)
        except ValueError:
            raise ValueError(f"must be an http or https URL, or {UNIX}/path") from None
    path = socket_path(stripped.removeprefix(UNIX))
    if path is None:
        raise ValueError(f"must name a socket after {UNIX}")
    return f"{UNIX}{path}"


def worker_count(value: str) -> int:
    """Parse how many gunicorn workers there are; nothing is the number of cores, at most 4."""
    if not value:
        return min(os.cpu_count() or 1, 4)
    number: int = integer(1, 256)(value)
    return number


def reuse_mode(value: str) -> Reuse:
    """Parse ``warm`` or ``fresh``."""
    try:
        return Reuse(value.strip().lower())
    except ValueError:
        raise ValueError("must be warm or fresh") from None


def optional_integer(low: int) -> Parser:
    """Make a parser of whole numbers of at least ``low``; nothing is ``None``."""
    parse = integer(low)
    return lambda value: parse(value) if value else None


def optional_path(value: str) -> Path | None:
    """Parse a path; nothing is ``None``."""
    found: Path | None = path(value) if value else None
    return found


def label_pairs(value: str) -> tuple[tuple[str, str], ...]:
    """Parse ``k=v,k=v`` into the labels of a stream, in the order given."""
    labels: dict[str, str] = {}
    for pair in filter(None, map(str.strip, value.split(","))):
        name, equals, content = (part.strip() for part in pair.partition("="))
        if not equals or not content or not _label_name(name) or name.startswith("__"):
            raise ValueError("must be k=v,k=v, each name of letters, digits and _")
        if name in labels:
            raise ValueError(f"must name each label once; {name} is there twice")
        labels[name] = content
    if not 1 <= len(labels) <= MAX_LABELS:
        raise ValueError(f"must have from 1 to {MAX_LABELS} labels")
    return tuple(labels.items())


def collection_caps(value: str) -> tuple[tuple[str, int], ...]:
    """Parse ``path=n,path=n`` into collections and their caps."""
    caps: dict[str, int] = {}
    for pair in filter(None, map(str.strip, value.split(","))):
        collection, equals, cap = (part.strip() for part in pair.partition("="))
        if not equals or not cap.isascii() or not cap.isdigit() or not 1 <= int(cap) <= MAX_CAP:
            raise ValueError(f"must be path=n,path=n, each n from 1 to {MAX_CAP}")
        try:
            check_collection_path(collection)
        except InvalidValue as error:
            raise ValueError(f"must name collections: {error.detail}") from None
        if not collection:
            raise ValueError("must not name the root: MAX_INFLIGHT is its cap")
        if collection in caps:
            raise ValueError(f"must name each collection once; {collection} is there twice")
        caps[collection] = int(cap)
    return tuple(caps.items())


def url_template(value: str) -> str:
    """Parse an http or https URL whose ``{{placeholders}}`` follow its host; nothing stays nothing."""
    template = value.strip()
    if not template:
        return ""
    if not template.isprintable() or " " in template:
        raise ValueError("must be a URL without spaces or control characters")
    try:
        parts = urlsplit(template)
        host = parts.hostname
    except ValueError:
        host = None
    if not host or parts.scheme not in ("http", "https"):
        raise ValueError("must be an http or https URL")
    if "{{" in parts.netloc:
        # A caller's value must not choose where people are sent.
        raise ValueError("must have its placeholders after the host")
    return template
