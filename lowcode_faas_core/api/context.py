"""What the API needs from the process it runs in, and how a view reaches it."""

from __future__ import annotations

from functools import cached_property
from typing import Any, Protocol, cast

from flask import Request, current_app
from flask import request as flask_request

from lowcode_faas_core.authentication import Authentication
from lowcode_faas_core.callers import ANYONE, PUBLIC, Caller, Scope
from lowcode_faas_core.fetching import SourceFetching
from lowcode_faas_core.following import Following
from lowcode_faas_core.ids import new_id
from lowcode_faas_core.interfaces.storage import Storage
from lowcode_faas_core.invoker import Invoker
from lowcode_faas_core.limits import OperatorLimits
from lowcode_faas_core.logquery.queries import LogQueries
from lowcode_faas_core.meter import Meter
from lowcode_faas_core.model import Reuse
from lowcode_faas_core.names import is_request_id
from lowcode_faas_core.readiness import Readiness

__all__ = [
    "EXTENSION",
    "RAISED",
    "ApiRequest",
    "ApiServices",
    "Readiness",
    "current_request",
    "request_id_of",
    "services",
]

#: Key of ``app.extensions`` under which the services are found.
EXTENSION = "lowcode_faas"
#: Where in the WSGI environment an error is that a shortcut met and the application is to answer.
RAISED = "lowcode_faas.raised"
_REQUEST_ID = "lowcode_faas.request_id"


class ApiServices(Protocol):
    """The objects of one process that the API stands on; all are used by many threads at once."""

    @property
    def storage(self) -> Storage:
        """Where functions live."""

    @property
    def invoker(self) -> Invoker:
        """What runs them."""

    @property
    def fetching(self) -> SourceFetching:
        """How sources are fetched that callers name by a URL."""

    @property
    def limits(self) -> OperatorLimits:
        """The operator's bounds."""

    @property
    def default_reuse(self) -> Reuse:
        """What a deployment gets that does not say."""

    @property
    def log_queries(self) -> LogQueries:
        """How what functions print is found again."""

    @property
    def following(self) -> Following | None:
        """What ran, and what is under way; ``None`` where nothing keeps it."""

    @property
    def meter(self) -> Meter:
        """What counts."""

    @property
    def authentication(self) -> Authentication:
        """Who callers are."""

    def ready(self) -> Readiness:
        """Tell whether invocations can be taken now; never raises."""


class ApiRequest(Request):
    """A request with an id (the caller's when it is legal, else a new one) and a caller."""

    #: Who calls; stays as it is here where the route is public, and nobody was asked.
    caller: Caller = ANYONE
    #: What the route asks for.
    scope: Scope = PUBLIC
    #: Whether the caller was found to reach what the request names.
    entered: bool = False

    @cached_property
    def request_id(self) -> str:
        """The id every answer, log line and RunResult of this request carries."""
        return request_id_of(self.environ)


def request_id_of(environ: dict[str, Any]) -> str:
    """Return the id of a request: the same one whoever asks, before Flask has seen it or after."""
    found: str | None = environ.get(_REQUEST_ID)
    if found is None:
        given: str = environ.get("HTTP_X_REQUEST_ID", "")
        found = environ[_REQUEST_ID] = given if is_request_id(given) else new_id()
    return found


def current_request() -> ApiRequest:
    """Return the request being answered."""
    return cast(ApiRequest, flask_request)


def services() -> ApiServices:
    """Return what the application was built with."""
    return cast(ApiServices, current_app.extensions[EXTENSION])
