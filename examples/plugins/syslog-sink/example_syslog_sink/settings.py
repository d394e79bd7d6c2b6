"""The variables of this plugin."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from lowcode_faas_core.settings import integer, setting

__all__ = ["Address", "SyslogSettings"]

#: The path of a socket, or host and port.
Address = str | tuple[str, int]
_FACILITIES = (
    "kern user mail daemon auth syslog lpr news uucp cron authpriv ftp ntp audit alert clock "
    "local0 local1 local2 local3 local4 local5 local6 local7"
).split()


def _address(value: str) -> Address:
    wrong = ValueError("must be unix:///path or udp://host:port")
    try:
        url = urlsplit(value.strip())
        port = url.port or 514
    except ValueError:
        raise wrong from None
    if url.scheme == "unix" and not url.netloc and url.path.startswith("/"):
        return url.path
    if url.scheme == "udp" and url.hostname and url.path in ("", "/") and "@" not in url.netloc:
        return url.hostname, port
    raise wrong


def _facility(value: str) -> int:
    try:
        return _FACILITIES.index(value.strip().lower())
    except ValueError:
        raise ValueError(f"must be one of {', '.join(_FACILITIES)}") from None


@dataclass(frozen=True)
class SyslogSettings:
    """Where syslog listens, and what it is told."""

    address: Address = setting(
        "EXAMPLE_SYSLOG_ADDRESS", _address, "unix:///dev/log", "unix:///path or udp://host:port."
    )
    facility: int = setting("EXAMPLE_SYSLOG_FACILITY", _facility, "user", "Facility of all events.")
    max_bytes: int = setting(
        "EXAMPLE_SYSLOG_MAX_BYTES",
        integer(1024, 65000),
        "8192",
        "Longest message that the receiver takes; longer events are sent in parts.",
    )
