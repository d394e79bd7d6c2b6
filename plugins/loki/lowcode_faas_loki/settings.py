"""The variables of the loki plugin; the labels are the core's, since queries select by them."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

from lowcode_faas_core.errors import ConfigurationError
from lowcode_faas_core.settings import PREFIX, boolean, setting, text

__all__ = ["PUSH_PATH", "LokiSettings"]

PUSH_PATH = "/loki/api/v1/push"


def _url(value: str) -> str:
    stripped = value.strip().rstrip("/")
    if not stripped:
        return ""
    try:
        parts = urlsplit(stripped)
        host, userinfo = parts.hostname, parts.username
    except ValueError:
        host, userinfo = None, None
    if not host or parts.scheme not in ("http", "https") or parts.query or parts.fragment:
        raise ValueError("must be an http or https URL, like http://loki:3100")
    if userinfo is not None:
        # It would show up wherever the URL is printed.
        raise ValueError("must not hold a user or password; they have variables of their own")
    return stripped if parts.path.endswith("/push") else stripped + PUSH_PATH


def _header(value: str) -> str:
    if not value.isprintable() or not value.isascii():
        raise ValueError("must be printable ASCII")
    return value.strip()


@dataclass(frozen=True)
class LokiSettings:
    """Where Loki is, and who pushes."""

    url: str = setting(
        "LOG_LOKI_URL", _url, "", "Base URL of Loki, like http://loki:3100, or its whole push URL."
    )
    tenant: str = setting(
        "LOG_LOKI_TENANT", _header, "", "Tenant, sent as X-Scope-OrgID; empty: no such header."
    )
    username: str = setting("LOG_LOKI_USERNAME", text, "", "User of basic authentication.")
    password: str = setting(
        "LOG_LOKI_PASSWORD", text, "", "Password of basic authentication.", secret=True
    )
    structured_metadata: bool = setting(
        "LOG_LOKI_STRUCTURED_METADATA",
        boolean,
        "true",
        "Send ids as structured metadata too; false for Loki older than 2.9.",
    )

    def __post_init__(self) -> None:
        """Refuse a password nobody would send."""
        if self.password and not self.username:
            raise ConfigurationError(
                [f"{PREFIX}LOG_LOKI_PASSWORD is set without {PREFIX}LOG_LOKI_USERNAME"]
            )

    @property
    def host(self) -> str:
        """The host and port, for messages."""
        return urlsplit(self.url).netloc
