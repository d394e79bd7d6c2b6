"""The variables of the http plugin: where sources may be fetched from."""

from __future__ import annotations

import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lowcode_faas_core.settings import boolean, path, setting

__all__ = ["HOST", "HttpSourceSettings"]

#: A host as it stands in a URL, lower case: a name, an IPv4 address or an IPv6 one in brackets.
HOST: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,252})|\[[0-9a-f:.]{2,45}\]")
#: The ports of hosts named without one: those of ``SOURCE_ALLOW_PORTS``.
ANY_ALLOWED: Final = None

_HOST_AND_PORT: Final = re.compile(rf"({HOST.pattern})(?::([0-9]{{1,5}}))?")


def _ports(value: str) -> frozenset[int]:
    given = [part.strip() for part in value.split(",") if part.strip()]
    if not given or not all(re.fullmatch("[0-9]{1,5}", part) for part in given):
        raise ValueError("must be ports, like 443,8443")
    ports = frozenset(map(int, given))
    if not all(1 <= port <= 65535 for port in ports):
        raise ValueError("must be ports from 1 to 65535")
    return ports


def _hosts(value: str) -> frozenset[tuple[str, int | None]]:
    found: set[tuple[str, int | None]] = set()
    for part in value.split(","):
        if not part.strip():
            continue
        match = _HOST_AND_PORT.fullmatch(part.strip().lower())
        if match is None or not 1 <= int(match[2] or 1) <= 65535:
            raise ValueError("must be hosts, like git.internal or mirror.internal:8443")
        found.add((match[1], int(match[2]) if match[2] else ANY_ALLOWED))
    return frozenset(found)


def _authorities(value: str) -> Path | None:
    if not value:
        return None
    file = path(value)
    try:
        ssl.create_default_context(cafile=file)
    except (OSError, ssl.SSLError):
        raise ValueError("must be a readable file of certificates in PEM") from None
    return file


@dataclass(frozen=True)
class HttpSourceSettings:
    """Where sources may be fetched from."""

    allow_http: bool = setting(
        "SOURCE_ALLOW_HTTP",
        boolean,
        "false",
        "Fetch from http URLs, too: whoever is on the way can change the code.",
    )
    allow_ports: frozenset[int] = setting(
        "SOURCE_ALLOW_PORTS", _ports, "443", "Ports that URLs may name."
    )
    allow_hosts: frozenset[tuple[str, int | None]] = setting(
        "SOURCE_ALLOW_HOSTS",
        _hosts,
        "",
        "Hosts, host or host:port, that may have private addresses: mirrors of your own.",
    )
    ca_file: Path | None = setting(
        "SOURCE_CA_FILE",
        _authorities,
        "",
        "PEM file of the authorities that servers are checked by, instead of the well-known ones.",
    )
