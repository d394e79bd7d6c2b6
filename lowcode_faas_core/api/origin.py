"""Refuses what a web page elsewhere makes a browser send: an open API must not be a page's to use.

A page of any site can have a browser on this machine post to a loopback address, without asking
(no preflight where the media type is a form's or none); and a site whose name suddenly resolves to
127.0.0.1 ("DNS rebinding") is even the same origin. Browsers say where a request comes from.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lowcode_faas_core.errors import Forbidden
from lowcode_faas_core.setting_values import is_loopback

__all__ = ["check_origin"]

_SAFE_METHODS = frozenset(("GET", "HEAD", "OPTIONS"))
_OWN_SITES = frozenset(("", "same-origin", "none"))


def check_origin(environ: Mapping[str, Any], *, loopback_only: bool) -> None:
    """Raise :class:`Forbidden` for a request that a foreign page has caused.

    With ``loopback_only`` (no credentials are asked for, and only this machine can connect) the
    Host must name this machine, too.
    """
    host: str = environ.get("HTTP_HOST", "")
    if loopback_only and host and not is_loopback(_name_of(host)):
        raise Forbidden(
            "Host must be localhost or a loopback address: without authentication this service "
            "answers its own machine only (LOWCODE_FAAS_ALLOW_ANONYMOUS=true lifts that)"
        )
    if environ["REQUEST_METHOD"] in _SAFE_METHODS:
        return
    origin: str = environ.get("HTTP_ORIGIN", "")
    if origin and (not host or origin.partition("://")[2].lower() != host.lower()):
        raise Forbidden("Origin names another site: a page of it may not use this service")
    if environ.get("HTTP_SEC_FETCH_SITE", "") not in _OWN_SITES:
        raise Forbidden("Sec-Fetch-Site says that a page of another site sent this")


def _name_of(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower()
