"""What makes a deployment: a source that is sent, one that is fetched, or an older version."""

from __future__ import annotations

import hashlib
import re
from typing import Final

import msgspec
from flask import Blueprint, Response

from lowcode_faas_core.api.answers import json_answer
from lowcode_faas_core.api.bodies import Body
from lowcode_faas_core.api.context import services
from lowcode_faas_core.api.environments import check_level
from lowcode_faas_core.api.queries import collection_of, function_of, read_query, version_of
from lowcode_faas_core.api.routing import function_route
from lowcode_faas_core.callers import Verb, requires
from lowcode_faas_core.errors import InvalidValue, SourceInvalid, Superseded
from lowcode_faas_core.model import Deployment, Draft, FunctionRef, Language, Limits, Reuse
from lowcode_faas_core.names import check_function_name

__all__ = ["DeployBody", "PullBody", "RollbackBody", "blueprint"]

blueprint = Blueprint("deployments", __name__)

_SHA256: Final = re.compile("[0-9a-f]{64}")
_CODE: Final = "/source_code"
_URL: Final = "/source_url"
#: How often a source that was fetched is offered to a function that others deploy all the time.
TRIES: Final = 3


class DeployBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``POST /functions``: with one of ``source_code`` and ``source_url``."""

    name: str
    source_code: str | msgspec.UnsetType = msgspec.UNSET
    source_url: str | msgspec.UnsetType = msgspec.UNSET
    language: Language | None = None
    collection_path: str | None = None
    env: dict[str, str] | None = None
    reuse: Reuse | None = None
    limits: Limits | None = None


class PullBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``POST …/pull``."""

    source_url: str | None = None
    sha256: str | None = None
    collection_path: str | None = None


class RollbackBody(msgspec.Struct, forbid_unknown_fields=True):
    """Body of ``POST …/rollback``."""

    version: int | None = None
    collection_path: str | None = None


_deploy_body = Body(DeployBody)
_pull_body = Body(PullBody, required=False)
_rollback_body = Body(RollbackBody, required=False)


@function_route(blueprint, "/functions", "POST")
@requires(Verb.DEPLOY)
def deploy(collection_path: str | None = None) -> Response:
    """Create a function or add its next version."""
    query = read_query("collection_path")
    limits = services().limits
    body = _deploy_body.read(limits.settings.body_bytes)
    check_function_name(body.name)
    collection = collection_of(collection_path, query, body.collection_path)
    asked = body.limits or Limits()
    limits.check(asked)
    if body.env is not None:
        check_level(body.env, services().limits)
    language = body.language or Language.JAVASCRIPT
    url = body.source_url
    if url is msgspec.UNSET:
        if body.source_code is msgspec.UNSET:
            raise InvalidValue("this field or source_url is required", _CODE)
        source, pointer = body.source_code.encode(), _CODE
        limits.check_source(source)
    else:
        if body.source_code is not msgspec.UNSET:
            raise InvalidValue("there is a source_code already; send one of them", _URL)
        # What would be refused anyway is not worth a request to somebody else's server.
        services().storage.collection(collection)
        found = services().fetching.fetch(url)
        assert found is not None  # noqa: S101  # nothing was said to be kept
        source, pointer = found.source, _URL
    draft = Draft(
        source=source,
        language=language,
        reuse=body.reuse or services().default_reuse,
        limits=asked,
        env=body.env,
        source_url=None if url is msgspec.UNSET else url,
        checked=_check(source, language, pointer),
    )
    return _deployed(FunctionRef(collection, body.name), draft)


@function_route(blueprint, "/functions/<name>/pull", "POST")
@requires(Verb.DEPLOY)
def pull(name: str, collection_path: str | None = None) -> Response:
    """Fetch the source again; what else the current deployment has, the next one has."""
    query = read_query("collection_path")
    body = _pull_body.read(services().limits.settings.body_bytes)
    ref = function_of(name, collection_path, query, body.collection_path)
    if body.sha256 is not None and not _SHA256.fullmatch(body.sha256):
        raise InvalidValue("must be a sha256: 64 hexadecimal digits, lower case", "/sha256")
    current = services().storage.deployment(ref)
    url = current.source_url if body.source_url is None else body.source_url
    if url is None:
        raise InvalidValue("this function was not deployed from a URL; name one", _URL)
    found = services().fetching.fetch(url, pinned=body.sha256, kept=current.sha256)
    source = services().storage.source(current) if found is None else found.source
    left = TRIES
    while True:
        left -= 1
        draft = Draft(
            source=source,
            language=current.language,
            reuse=current.reuse,
            limits=current.limits,
            source_url=url,
            checked=_checked_anew(current, source),
            replaces=current.deployment_id,
        )
        try:
            return _deployed(ref, draft)
        except Superseded:
            # Others have deployed while it was fetched, which may have taken half a minute: what
            # they wanted beside the source counts.
            if left == 0:
                raise
            current = services().storage.deployment(ref)


def _checked_anew(current: Deployment, source: bytes) -> bool:
    if hashlib.sha256(source).hexdigest() == current.sha256:
        return current.checked
    return _check(source, current.language, _URL)


@function_route(blueprint, "/functions/<name>/rollback", "POST")
@requires(Verb.DEPLOY)
def rollback(name: str, collection_path: str | None = None) -> Response:
    """Make an older version current, as a new deployment."""
    query = read_query("collection_path", "version")
    body = _rollback_body.read(services().limits.settings.body_bytes)
    ref = function_of(name, collection_path, query, body.collection_path)
    version = version_of(query, body.version)
    if version is None:
        raise InvalidValue("this field is required", "/version")
    restored = services().meter.deployment(
        lambda: services().storage.rollback(ref, version), lambda _: "restored"
    )
    return json_answer(restored, 201)


def _deployed(ref: FunctionRef, draft: Draft) -> Response:
    outcome = services().meter.deployment(
        lambda: services().storage.deploy(ref, draft),
        lambda done: "created" if done.created else "unchanged",
    )
    return json_answer(outcome.deployment, 201 if outcome.created else 200)


def _check(source: bytes, language: Language, pointer: str) -> bool:
    """Return whether Node was seen to accept the source; it may be deployed either way.

    :raises SourceInvalid: Node refuses it.
    """
    found = services().invoker.check_source(source, language)
    if found.fault is not None:
        fault = found.fault
        raise SourceInvalid(str(fault), pointer, line=fault.line, column=fault.column)
    return found.checked
