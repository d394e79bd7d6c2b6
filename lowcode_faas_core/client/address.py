"""Where the service is and which token it is shown: the environment, then a file of the user's."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from lowcode_faas_core.configuration import ClientSettings
from lowcode_faas_core.errors import ConfigurationError
from lowcode_faas_core.settings import PREFIX, read

__all__ = ["DEFAULT_URL", "Address", "configuration_file", "find"]

DEFAULT_URL: Final = "http://127.0.0.1:8080"


@dataclass(frozen=True)
class Address:
    """A base URL without a slash at its end, and a token or ``""``."""

    url: str
    token: str

    def __repr__(self) -> str:
        return f"Address({self.url!r})"  # a token is nothing for a traceback


def configuration_file(environ: Mapping[str, str]) -> Path:
    """Return where the user's own file would be; it need not exist."""
    home = environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME") or "/") / ".config"
    return Path(home) / "lowcode-faas" / "config.toml"


def find(environ: Mapping[str, str], url: str = "", token: str = "") -> Address:
    """Return the address that is given, that the environment names, or the file (``url``, ``token``).

    The environment's token goes to the environment's own URL only, and the file's to the file's:
    a URL from elsewhere must not be shown it.

    :raises ConfigurationError: the file cannot be read, or a URL is none.
    """
    named = read(environ, ClientSettings)
    path = configuration_file(environ)
    kept = _read_file(path)
    kept_url = _checked(kept.get("url", DEFAULT_URL), f"url in {path}")
    named_url = _checked(named.url, f"{PREFIX}URL") if named.url else kept_url
    found = _checked(url, "--server") if url else named_url
    if not token and found == named_url:
        token = named.token
    if not token and found == kept_url:
        token = kept.get("token", "")
    return Address(found, token)


def _read_file(path: Path) -> dict[str, str]:
    try:
        document: dict[str, Any] = tomllib.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise ConfigurationError([f"{path} cannot be read: {error}"]) from error
    for key, value in document.items():
        if key not in ("url", "token"):
            raise ConfigurationError([f"{path}: there is no {key!r}; it may hold url and token"])
        if not isinstance(value, str):
            raise ConfigurationError([f"{path}: {key} must be a string"])
    return document


def _checked(url: str, where: str) -> str:
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        fine = False
    if not fine or parts.query or parts.fragment:
        raise ConfigurationError([f"{where}: {url!r} is not an http or https URL of a service"])
    return url.rstrip("/")
