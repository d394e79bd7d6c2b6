"""``/healthz``, ``/readyz``, ``/limits`` and ``/metrics``: for operators and their tools.

Query parameters are ignored here: probes add their own to get past caches.
"""

from __future__ import annotations

from flask import Blueprint, Response

from lowcode_faas_core.api.answers import json_answer
from lowcode_faas_core.api.context import current_request, services
from lowcode_faas_core.api.problems import problem
from lowcode_faas_core.callers import Verb, public, requires
from lowcode_faas_core.errors import NotFound

__all__ = ["blueprint"]

blueprint = Blueprint("operations", __name__)


@blueprint.get("/healthz")
@public
def healthz() -> Response:
    """Say that the process answers; touches nothing else."""
    return json_answer({"status": "ok"})


@blueprint.get("/readyz")
@public
def readyz() -> Response:
    """Say whether invocations can be taken now, and if not, every reason."""
    readiness = services().ready()
    members = {
        "reasons": readiness.reasons,
        "degraded": readiness.degraded,
        "sandboxes": readiness.sandboxes,
    }
    if readiness.ok:
        return json_answer({"status": "ready", **members})
    detail = "; ".join(readiness.reasons) or "no reason was given"
    return problem(503, "not_ready", "Not ready for invocations", detail, members=members)


@blueprint.get("/metrics")
@requires(Verb.ADMIN, whole_tree=True)
def get_metrics() -> Response:
    """Show what happened in all processes of the service since it started."""
    served = services()
    served.meter.pool(served.invoker.stats)
    exposition = served.meter.show(current_request().headers.get("Accept", ""))
    if exposition is None:
        raise NotFound("nothing is counted here; LOWCODE_FAAS_METRICS=prometheus counts")
    return Response(exposition.body, content_type=exposition.content_type)


@blueprint.get("/limits")
@public
def get_limits() -> Response:
    """Show the bounds that are enforced."""
    return json_answer(services().limits.document())
