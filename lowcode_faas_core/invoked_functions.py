"""Which function a request invokes, told from its first bytes.

gunicorn's master has this module, too: it imports nothing else of ours than the rule of turns.
"""

from __future__ import annotations

import re

from lowcode_faas_core.turns import FOLLOW

__all__ = ["function_of", "invokes"]

_invocation = re.compile(
    rb"(?:POST ([^ ?]{0,4096})/(?:invoke|replay|v1/run)(?:\?[^ ]*)?|GET %b) HTTP/1"
    % FOLLOW.encode()
).match
#: Under which name followers share the threads with functions.
_FOLLOWERS = b"(followers)"
_deployment = re.compile(rb"\r\nx-lowcode-faas-deployment:[ \t]*([^\r\n]{1,255})", re.I).search


def invokes(function: bytes | None) -> bool:
    """Tell an invocation from what only has a place like one."""
    return function is not None and function != _FOLLOWERS


def function_of(seen: bytes) -> bytes | None:
    """Return what tells the function of an invocation from others; ``None``: it is none."""
    invocation = _invocation(seen)
    if invocation is None:
        return None
    function: bytes | None = invocation.group(1)
    if function is None:
        return _FOLLOWERS
    if not function and (deployment := _deployment(seen)) is not None:
        function = deployment.group(1)
    return function
