"""One way to speak to the API, whatever stands behind it; every answer is held to openapi.json.

A set-up is a context manager that yields an ``Api``; tests that use the fixture ``api`` run against
each of ``SETUPS``, so their functions are real modules. Those that use ``stub_api`` look behind the
API and run against the stubs only.
"""

from __future__ import annotations

import io
import json as jsonlib
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
from flask import Flask
from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012
from werkzeug.datastructures import Headers
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.test import run_wsgi_app

from lowcode_faas_core import dispatcher, worker
from lowcode_faas_core.admission import Admission
from lowcode_faas_core.api.application import create_api
from lowcode_faas_core.authentication import Authentication
from lowcode_faas_core.configuration import LimitSettings
from lowcode_faas_core.fetching import SourceFetching
from lowcode_faas_core.following import Following
from lowcode_faas_core.interfaces.source import FetchLimits
from lowcode_faas_core.limits import OperatorLimits
from lowcode_faas_core.logquery.queries import LogQueries
from lowcode_faas_core.meter import Meter
from lowcode_faas_core.model import Reuse
from lowcode_faas_core.readiness import Readiness
from lowcode_faas_core.services import SERVICES
from lowcode_faas_core.testing.memory_executions import MemoryExecutionStore
from lowcode_faas_core.testing.memory_metrics import MemoryMetrics
from lowcode_faas_core.testing.memory_storage import MemoryStorage
from lowcode_faas_core.testing.stub_invoker import StubCall, StubInvoker
from tests.api.sources import MemorySources, Sources
from tests.services.fixtures import db_s3_environ, one_loader, postgres_of, s3_of

__all__ = ["db_s3_environ", "one_loader", "postgres_of", "s3_of"]

#: Sources, and for the stubs what they do.
ECHO = "export const handler = (input) => ({ok: true, data: {input, env: {...process.env}}});\n"
REFUSE = 'export const handler = () => ({ok: false, error: "no", code: "refused"});\n'
THROW = 'export const handler = () => { throw new Error("thrown"); };\n'
NOTHING = "export const handler = () => 5;\n"
TRACE = "export const handler = (_, { traceparent }) => ({ ok: true, data: traceparent });"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Headers
    body: bytes

    @property
    def json(self) -> Any:
        return jsonlib.loads(self.body)

    def refused(self, status: int, code: str | None = None, pointer: str | None = None) -> Any:
        """Assert that this is a problem with this status, code and pointer; return it."""
        assert self.status == status, self.body[:500]
        assert self.headers["Content-Type"] == "application/problem+json"
        problem = self.json
        assert problem["status"] == status
        assert problem["request_id"] == self.headers["X-Request-Id"]
        if code is not None:
            assert problem["code"] == code
        if pointer is not None:
            assert problem["pointer"] == pointer
        return problem


Send = Callable[[str, str, Mapping[str, str], bytes], Answer]


class Description:
    """openapi.json, as something answers are held to."""

    def __init__(self) -> None:
        text = resources.files("lowcode_faas_core").joinpath("openapi.json").read_text()
        self.document: dict[str, Any] = jsonlib.loads(text)
        self._registry: Registry[Any] = Registry().with_resource(
            "urn:openapi", DRAFT202012.create_resource(self.document)
        )
        self._templates = [(self._pattern(path), path) for path in self.document["paths"]]
        #: Every (operationId, status) an answer was held to.
        self.seen: set[tuple[str, int]] = set()

    @staticmethod
    def _pattern(path: str) -> re.Pattern[str]:
        segment = r"(?!(?:functions|env)(?:/|$))[^/]+"
        kinds = {"name": r"[^/]+", "execution_id": r"[^/]+", "path": f"{segment}(?:/{segment})*"}
        kinds["collection_path"] = kinds["path"]
        return re.compile(re.sub(r"\{(\w+)\}", lambda found: kinds[found[1]], path))

    def resolve(self, node: dict[str, Any]) -> dict[str, Any]:
        while "$ref" in node:
            target: Any = self.document
            for key in node["$ref"].removeprefix("#/").split("/"):
                target = target[key]
            node = target
        return node

    def operation(self, method: str, path: str) -> dict[str, Any] | None:
        for pattern, template in self._templates:
            if pattern.fullmatch(path):
                found: dict[str, Any] | None = self.document["paths"][template].get(method.lower())
                return found
        return None

    def check(self, method: str, path: str, answer: Answer) -> None:
        """Assert that the answer is one the description promises."""
        operation = self.operation("GET" if method == "HEAD" else method, path)
        if method == "OPTIONS":
            return
        if operation is None or answer.status in (404, 405):
            assert answer.status in (400, 404, 405, 422), answer
            response = self.document["components"]["responses"]["NotFound"]
        else:
            responses = operation["responses"]
            assert str(answer.status) in responses, (operation["operationId"], answer)
            response = self.resolve(responses[str(answer.status)])
            self.seen.add((operation["operationId"], answer.status))
        for name, header in response.get("headers", {}).items():
            self.validate(answer.headers.get(name), self.resolve(header)["schema"], name)
        if method == "HEAD":
            assert answer.body == b""
            return
        media_type = answer.headers.get("Content-Type", "").partition(";")[0]
        content = response.get("content", {})
        if not content:
            assert answer.body == b""
            assert not media_type
            return
        assert media_type in content
        if media_type.endswith("json"):
            self.validate(answer.json, content[media_type]["schema"], f"{method} {path}")

    def validate(self, value: Any, schema: dict[str, Any], what: str) -> None:
        """Assert that ``value`` is what the schema describes."""
        if schema.get("type") == "integer" and isinstance(value, str):
            value = int(value)
        absolute = jsonlib.loads(jsonlib.dumps(schema).replace('"#/', '"urn:openapi#/'))
        validator = Draft202012Validator(absolute, registry=self._registry)
        errors = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(value)]
        assert not errors, (what, errors)


@dataclass
class Api:
    """Requests by target, exactly as it would stand in the request line."""

    send: Send
    description: Description
    #: Where sources can be fetched from that it may fetch.
    sources: Any
    #: What stands behind it, where that is a stub in this process.
    services: Any = None

    @property
    def storage(self) -> MemoryStorage:
        found: MemoryStorage = self.services.storage
        return found

    @property
    def invoker(self) -> StubInvoker:
        found: StubInvoker = self.services.invoker
        return found

    def request(
        self,
        method: str,
        target: str,
        json: Any = None,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        given = dict(headers or {})
        if json is not None:
            body = jsonlib.dumps(json).encode()
        if body is not None:
            given.setdefault("Content-Type", "application/json")
        answer = self.send(method, target, given, body or b"")
        path = unquote_to_bytes(target.partition("?")[0]).decode("utf-8", "replace")
        self.description.check(method, path, answer)
        return answer

    def get(self, target: str, **options: Any) -> Answer:
        return self.request("GET", target, **options)

    def post(self, target: str, json: Any = None, **options: Any) -> Answer:
        return self.request("POST", target, json, **options)

    def put(self, target: str, json: Any = None, **options: Any) -> Answer:
        return self.request("PUT", target, json, **options)

    def delete(self, target: str, **options: Any) -> Answer:
        return self.request("DELETE", target, **options)

    def collection(self, path: str, **fields: Any) -> None:
        assert self.post("/collections", {"path": path, **fields}).status == 201

    def deploy(self, name: str = "greet", source: str = ECHO, **fields: Any) -> Any:
        answer = self.post("/functions", {"name": name, "source_code": source, **fields})
        assert answer.status in (200, 201), answer.body
        return answer.json

    def invoke(self, name: str = "greet", **fields: Any) -> Any:
        answer = self.post(f"/functions/{name}/invoke", fields)
        assert answer.status == 200, answer.body
        return answer.json


def wsgi_sender(app: Any) -> Send:
    """Speak WSGI to an application as gunicorn does: the path decoded once, the target beside it."""

    def send(method: str, target: str, headers: Mapping[str, str], body: bytes) -> Answer:
        path, _, query = target.partition("?")
        environ: dict[str, Any] = {
            "REQUEST_METHOD": method,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
            "QUERY_STRING": query,
            "RAW_URI": target,
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "HTTP_HOST": "localhost",
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body),
            "wsgi.input_terminated": True,
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": True,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
        }
        for name, value in headers.items():
            key = name.upper().replace("-", "_")
            environ[key if key in ("CONTENT_TYPE", "CONTENT_LENGTH") else f"HTTP_{key}"] = value
        if headers.get("Transfer-Encoding") != "chunked" and body:
            environ.setdefault("CONTENT_LENGTH", str(len(body)))
        chunks, status, answered = run_wsgi_app(app, environ, buffered=True)
        return Answer(int(status[:3]), Headers(answered), b"".join(chunks))

    return send


class _StubServices:
    def __init__(self, limits: OperatorLimits, sources: MemorySources) -> None:
        bounds = FetchLimits(limits.settings.source_bytes, 5.0)
        self.fetching = SourceFetching([sources.fetcher], bounds, Admission(16))
        self.storage = MemoryStorage()
        self.executions = MemoryExecutionStore()
        self.following: Following | None = Following(self.executions, Admission(16))
        self.invoker = StubInvoker(self.storage, limits=limits, executions=self.executions)
        self.limits = limits
        self.default_reuse = Reuse.WARM
        self.log_queries = LogQueries({"job": "lowcode-faas"})
        self.meter = Meter(MemoryMetrics())
        self.authentication = Authentication(None, loopback=True)
        #: What ready() answers next; empty: ready.
        self.readiness: list[Readiness] = []

    def ready(self) -> Readiness:
        if self.readiness:
            return self.readiness[-1]
        return Readiness(ok=True, sandboxes=dict(self.invoker.stats()))


def _throw(_call: StubCall) -> Any:
    raise RuntimeError("thrown")


def stub_setup_with(limits: OperatorLimits, description: Description) -> Api:
    sources = MemorySources()
    services = _StubServices(limits, sources)
    services.invoker.script(REFUSE, lambda _: {"ok": False, "error": "no", "code": "refused"})
    services.invoker.script(THROW, _throw)
    services.invoker.script(NOTHING, lambda _: 5)
    services.invoker.script(TRACE, lambda call: {"ok": True, "data": call.invocation.traceparent})
    send = wsgi_sender(create_api(services))
    return Api(send, description, sources, services)


@contextmanager
def stub_setup(tmp_path: Path, description: Description) -> Iterator[Api]:
    yield stub_setup_with(OperatorLimits(LimitSettings()), description)


def _environ(tmp_path: Path) -> dict[str, str]:
    return {
        "LOWCODE_FAAS_LISTEN": "127.0.0.1:0",
        "LOWCODE_FAAS_STORAGE": "files",
        "LOWCODE_FAAS_DATA_DIR": str(tmp_path / "data"),
        "LOWCODE_FAAS_FILES_KEEP_VERSIONS": "20",
        "LOWCODE_FAAS_RUNNER": "process",
        "LOWCODE_FAAS_STOCK": "0",
        "LOWCODE_FAAS_METRICS": "prometheus",
        "LOWCODE_FAAS_FUNCTION_LOGS_SINK": "none",
        "LOWCODE_FAAS_EXECUTIONS_KEEP_IO": "true",
    }


@contextmanager
def _closing(app: Flask) -> Iterator[Flask]:
    try:
        yield app
    finally:
        app.extensions[SERVICES].close()


@contextmanager
def process_setup(tmp_path: Path, description: Description) -> Iterator[Api]:
    """Yield what `make run` hosts: files, and Node processes started by this one."""
    with closing(Sources()) as sources:
        environ = {**_environ(tmp_path), **sources.environ}
        with _closing(dispatcher.create_app(environ)) as app:
            yield Api(wsgi_sender(app), description, sources)


@contextmanager
def db_s3_setup(environ: Mapping[str, str], description: Description) -> Iterator[Api]:
    """Yield the same over PostgreSQL and S3."""
    with (
        closing(Sources()) as sources,
        _closing(dispatcher.create_app({**environ, **sources.environ})) as app,
    ):
        yield Api(wsgi_sender(app), description, sources)


@contextmanager
def worker_setup(tmp_path: Path, description: Description) -> Iterator[Api]:
    """Yield a dispatcher that sends every invocation to a worker by HTTP."""
    environ = {**_environ(tmp_path), "LOWCODE_FAAS_WORKER_TOKEN": "a-secret-of-the-roles"}
    with _closing(worker.create_app(environ)) as worker_app:
        server = make_server("127.0.0.1", 0, worker_app, threaded=True, request_handler=_Quiet)
        # The default poll is half a second, which every test would wait for at its end.
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        environ["LOWCODE_FAAS_WORKER_URL"] = f"http://127.0.0.1:{server.server_port}"
        try:
            with (
                closing(Sources()) as sources,
                _closing(dispatcher.create_app({**environ, **sources.environ})) as app,
            ):
                yield Api(wsgi_sender(app), description, sources)
        finally:
            server.shutdown()
            serving.join()
            server.server_close()


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: Any) -> None:  # noqa: A002  # Werkzeug's name
        """Say nothing: a line a request would drown the report of a failure."""


Setup = Callable[[Path, Description], AbstractContextManager[Api]]

#: What the tests of the API run against. Another set-up joins by a line here.
SETUPS: dict[str, Setup] = {"stub": stub_setup, "process": process_setup, "worker": worker_setup}


@pytest.fixture(scope="session")
def description() -> Description:
    return Description()


@pytest.fixture(params=[*SETUPS, "db_s3"])
def api(request: pytest.FixtureRequest, tmp_path: Path, description: Description) -> Iterator[Api]:
    if request.param == "db_s3":
        given = request.getfixturevalue("db_s3_environ")
        with db_s3_setup({**_environ(tmp_path), **given}, description) as built:
            yield built
        return
    with SETUPS[request.param](tmp_path, description) as built:
        yield built


@pytest.fixture
def stub_api(tmp_path: Path, description: Description) -> Iterator[Api]:
    with stub_setup(tmp_path, description) as built:
        yield built


@pytest.fixture
def limited_api(description: Description) -> Callable[..., Api]:
    """Build an API over stubs with other limits: ``limited_api(body_bytes=1024)``."""

    def build(**settings: Any) -> Api:
        return stub_setup_with(OperatorLimits(LimitSettings(**settings)), description)

    return build


@pytest.fixture
def modules() -> dict[str, str]:
    """Return the sources every set-up can run, by what they do."""
    return {"echo": ECHO, "refuse": REFUSE, "throw": THROW, "nothing": NOTHING, "trace": TRACE}
