"""The worker's application: runs what dispatchers resolved, and answers with the verdict."""

from __future__ import annotations

import hmac
import os
import time
from collections.abc import Mapping
from functools import partial
from typing import cast

from flask import Blueprint, Flask, Response, current_app

from lowcode_faas_core import __version__
from lowcode_faas_core.api import operations, problems
from lowcode_faas_core.api.answers import STATUS_HEADER, json_answer
from lowcode_faas_core.api.bodies import Body
from lowcode_faas_core.api.context import EXTENSION, RAISED, ApiRequest, current_request
from lowcode_faas_core.api.origin import check_origin
from lowcode_faas_core.callers import PUBLIC, scope_of
from lowcode_faas_core.errors import (
    Forbidden,
    InvalidValue,
    MalformedRequest,
    Unauthenticated,
    WorkerSkew,
)
from lowcode_faas_core.invoker import LocalInvoker
from lowcode_faas_core.lanes import LANES
from lowcode_faas_core.model import FunctionRef, Invocation, RunResult
from lowcode_faas_core.names import (
    check_collection_path,
    check_env,
    check_execution_id,
    check_function_name,
    check_run_id,
)
from lowcode_faas_core.services import SERVICES, Services
from lowcode_faas_core.setting_values import is_loopback
from lowcode_faas_core.startup import ProcessRole
from lowcode_faas_core.trace_context import traceparent
from lowcode_faas_core.wire import API_VERSION, VERSION_HEADER, CheckRequest, RunRequest
from lowcode_faas_core.worker_shortcut import Shortcut

__all__ = ["create_app"]

#: Room for ids, names and JSON's own characters beside input and env, in bytes.
ENVELOPE_BYTES = 64 << 10
#: Bytes that JSON may take for one byte of text: ``\u0001`` for a control character.
MAX_ESCAPED = 6
#: Levels of env that a dispatcher merges: the root, eight collections, the function, the request.
ENV_LEVELS = 11

blueprint = Blueprint("worker", __name__)
_body = Body(RunRequest)
_check_body = Body(CheckRequest)


def create_app(environ: Mapping[str, str] = os.environ, *, processes: int = 1) -> Flask:
    """Build the application and everything it stands on.

    The caller closes ``app.extensions["lowcode_faas_services"]``.

    :raises StartError: with everything that is wrong in the environment.
    """
    services = Services.build(dict(environ), ProcessRole.WORKER, processes=processes)
    try:
        app = Flask("lowcode_faas_core.worker", static_folder=None, template_folder=None)
        app.request_class = ApiRequest
        app.extensions[EXTENSION] = app.extensions[SERVICES] = services
        app.url_map.merge_slashes = False
        app.before_request(_authenticate)
        app.after_request(_sign)
        problems.install(app)
        app.register_blueprint(blueprint)
        app.add_url_rule("/healthz", "healthz", operations.healthz)
        app.add_url_rule("/readyz", "readyz", operations.readyz)
        app.add_url_rule("/metrics", "metrics", operations.get_metrics)
        services.startup.registry.app_created(app)
        _take_shortcut(app, services)
    except BaseException:
        services.close()
        raise
    return app


def _take_shortcut(app: Flask, services: Services) -> None:
    """Answer runs without Flask, unless a plugin wants to see every request."""
    hooks = (app.before_request_funcs, app.after_request_funcs, app.teardown_request_funcs)
    token = services.startup.server.worker_token
    others = "wsgi_app" in vars(app) or app.teardown_appcontext_funcs or app.url_value_preprocessors
    if token and not others and sum(len(each) for found in hooks for each in found.values()) == 2:
        shortcut = Shortcut(app, token, _largest(services), partial(_run, services))
        app.wsgi_app = shortcut  # type: ignore[method-assign]
        app.extensions[LANES] = shortcut.takes


def _largest(services: Services) -> int:
    bounds = services.limits.settings
    return bounds.input_bytes + ENV_LEVELS * bounds.env_bytes + ENVELOPE_BYTES


def _run(services: Services, body: RunRequest) -> RunResult:
    # Of this role it always is one; ``cast`` would be a call for each run.
    invoker: LocalInvoker = services.invoker  # type: ignore[assignment]
    return invoker.run(_invocation(services, invoker, body))


def _services() -> Services:
    return cast(Services, current_app.extensions[SERVICES])


def _sign(answer: Response) -> Response:
    answer.headers[VERSION_HEADER] = str(API_VERSION)
    answer.headers["X-Request-Id"] = current_request().request_id
    return answer


def _authenticate() -> None:
    """Hold every route to the shared secret, a plugin's too, but for what declares itself public."""
    server = _services().startup.server
    request = current_request()
    view = None if request.endpoint is None else current_app.view_functions[request.endpoint]
    if scope_of(view) is PUBLIC:
        return
    if server.worker_token:
        scheme, _, shown = request.headers.get("Authorization", "").partition(" ")
        expected = server.worker_token.encode()
        given = shown.strip().encode("utf-8", "surrogateescape")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given, expected):
            raise Unauthenticated("this worker answers those who show LOWCODE_FAAS_WORKER_TOKEN")
    elif not server.allow_anonymous:
        # Without an address it came over the Unix socket, whose permissions let the caller in.
        if request.remote_addr and not is_loopback(request.remote_addr):
            raise Forbidden(
                "without LOWCODE_FAAS_WORKER_TOKEN this worker answers its own host only"
            )
        check_origin(current_request().environ, loopback_only=True)
    theirs = request.headers.get(VERSION_HEADER)
    if theirs is not None and theirs != str(API_VERSION):
        raise WorkerSkew(
            f"the caller speaks version {theirs} of the internal API, this worker {API_VERSION}"
        )


@blueprint.get("/v1/info")
def info() -> Response:
    """Say what this worker is."""
    startup = _services().startup
    return json_answer(
        {
            "name": "lowcode-faas",
            "role": startup.role.value,
            "version": __version__,
            "api": API_VERSION,
            "storage": startup.backends.storage,
            "runner": startup.backends.runner,
            "max_timeout_ms": startup.limits.max_timeout_ms,
        }
    )


@blueprint.post("/v1/run")
def invoke() -> Response:
    """Run a resolved invocation and answer with the verdict."""
    raised = current_request().environ.pop(RAISED, None)
    if raised is not None:
        raise raised
    services = _services()
    result = _run(services, _body.read(_largest(services)))
    return json_answer(result, headers={STATUS_HEADER: result.status.value})


@blueprint.post("/v1/check")
def check() -> Response:
    """Say whether Node accepts a source, as far as that can be told in time."""
    services = _services()
    size = services.limits.settings.source_bytes
    body = _check_body.read(MAX_ESCAPED * size + ENVELOPE_BYTES)
    source = body.source.encode()
    services.limits.check_source(source, "/source")
    return json_answer(services.invoker.check_source(source, body.language))


def _invocation(services: Services, invoker: LocalInvoker, body: RunRequest) -> Invocation:
    arrived_ns = time.monotonic_ns()
    ref = FunctionRef(body.collection_path, body.function_name)
    deployment = invoker.known_deployment(body.deployment_id, ref)
    if deployment is None:
        check_collection_path(body.collection_path)
        check_function_name(body.function_name, "/function_name")
    # Most runs are a chain's only one, under an id that is checked once then.
    check_execution_id(body.execution_id)
    if body.replay_of is not None:
        check_execution_id(body.replay_of, "/replay_of")
    if body.run_id != body.execution_id:
        check_run_id(body.run_id)
    check_run_id(body.request_id, "/request_id")
    if body.env:
        check_env(body.env)
    top_ms = services.limits.settings.max_timeout_ms
    if not body.remaining_ms > 0:
        raise InvalidValue("remaining_ms must be above 0", "/remaining_ms")
    if body.timeout_ms is not None and body.timeout_ms <= 0:
        raise InvalidValue("timeout_ms must be above 0", "/timeout_ms")
    if body.remaining_ms > top_ms or (body.timeout_ms is not None and body.timeout_ms > top_ms):
        # The caller kept to the dispatcher's maximum: it is for the operator to mend.
        raise WorkerSkew(
            f"the worker allows {top_ms} ms at most, the dispatcher more: "
            "LOWCODE_FAAS_INVOKE_MAX_TIMEOUT_MS differs"
        )
    deadline_ns = arrived_ns + int(body.remaining_ms * 1e6)
    accepted_ns = arrived_ns
    if body.timeout_ms is not None:
        # When the dispatcher accepted it, on this host's clock: never after it came here.
        accepted_ns = min(arrived_ns, deadline_ns - body.timeout_ms * 1_000_000)
    content = bytes(body.input)
    if not content.startswith(b"{"):
        raise InvalidValue("input must be an object", "/input")
    try:
        content.decode()
    except UnicodeDecodeError as error:
        raise MalformedRequest("input is not UTF-8") from error
    return Invocation(
        execution_id=body.execution_id,
        run_id=body.run_id,
        request_id=body.request_id,
        deployment=deployment or invoker.deployment(body.deployment_id, ref),
        env=body.env,
        request_env=body.request_env,
        input=body.input,
        accepted_ns=accepted_ns,
        deadline_ns=deadline_ns,
        traceparent=traceparent(body.traceparent),
        chosen=body.chosen,
        replay_of=body.replay_of,
    )
