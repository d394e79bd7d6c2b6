"""The shortcut answers as the view does, to the byte, and sees to nothing that is not plain."""

from __future__ import annotations

import io
import itertools
import json
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote_to_bytes

import pytest
from flask import Response
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from lowcode_faas_core import ids
from lowcode_faas_core.api.application import create_api
from lowcode_faas_core.authentication import Authentication
from lowcode_faas_core.callers import Caller, Verb
from lowcode_faas_core.configuration import LimitSettings
from lowcode_faas_core.errors import CapacityError, StorageUnavailable, WorkerLost
from lowcode_faas_core.limits import OperatorLimits
from lowcode_faas_core.model import InvokeRequest
from lowcode_faas_core.testing import stub_invoker
from lowcode_faas_core.testing.memory_authenticator import MemoryAuthenticator
from tests.api.conftest import ECHO, NOTHING, REFUSE, THROW, _StubServices, _throw
from tests.api.sources import MemorySources

MOMENT = 1_764_000_000_123_456_789
TOKENS = {
    "all": Caller("all", "all", frozenset((Verb.ADMIN,))),
    "team": Caller("team", "team", frozenset((Verb.INVOKE,)), "org/team"),
    "reader": Caller("reader", "reader", frozenset((Verb.READ,))),
}


@dataclass(frozen=True)
class Case:
    path: str = "/functions/greet/invoke"
    query: str = ""
    body: bytes = b'{"input":{"name":"x"}}'
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Seen:
    status: str
    headers: list[tuple[str, str]]
    body: bytes
    requests: list[InvokeRequest]
    asked: list[str]


class _Authenticator(MemoryAuthenticator):
    def __init__(self) -> None:
        super().__init__(TOKENS)
        self.asked: list[str] = []

    def authenticate(self, authorization: str) -> Caller | None:
        self.asked.append(authorization)
        return super().authenticate(authorization)


class Way:
    """One application over services of its own."""

    def __init__(self, *, shortcut: bool) -> None:
        limits = OperatorLimits(LimitSettings(body_bytes=2000, input_bytes=1000))
        services = _StubServices(limits, MemorySources())
        self.authenticator = _Authenticator()
        self.turns = itertools.count(1)
        services.authentication = Authentication(None, (self.authenticator,))
        services.invoker.script(REFUSE, lambda _: {"ok": False, "error": "no", "code": "refused"})
        services.invoker.script(THROW, _throw)
        services.invoker.script(NOTHING, lambda _: 5)
        self.services = services
        self.app = create_api(services, shortcut=shortcut)
        for path in ("org/team", "other"):
            self._make("/collections", {"path": path})
        for name, source in (("greet", ECHO), ("no", REFUSE), ("throw", THROW), ("five", NOTHING)):
            self._make("/functions", {"name": name, "source_code": source})
        team = {"name": "greet", "source_code": ECHO, "collection_path": "org/team"}
        self._make("/functions", team)
        self._make("/functions", {**team, "source_code": f"{ECHO}\n"})

    def ask(self, case: Case) -> Seen:
        environ: dict[str, Any] = {
            "REQUEST_METHOD": "POST",
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote_to_bytes(case.path).decode("latin-1"),
            "QUERY_STRING": case.query,
            "RAW_URI": case.path + (f"?{case.query}" if case.query else ""),
            "SERVER_NAME": "localhost",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "HTTP_HOST": "localhost:8080",
            "HTTP_AUTHORIZATION": "Memory all",
            "CONTENT_TYPE": "application/json",
            "CONTENT_LENGTH": str(len(case.body)),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(case.body),
            "wsgi.input_terminated": True,
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": True,
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
            **case.headers,
        }
        before = len(self.services.invoker.requests), len(self.authenticator.asked)
        begun: list[tuple[str, list[tuple[str, str]]]] = []
        with pytest.MonkeyPatch.context() as patch:
            still(patch, next(self.turns) << 16)
            answer = self.app(
                environ, lambda status, headers, _=None: begun.append((status, headers))
            )
            body = b"".join(answer)
        (status, headers) = begun[0]
        requests = self.services.invoker.requests[before[0] :]
        return Seen(status, headers, body, requests, self.authenticator.asked[before[1] :])

    def _make(self, path: str, body: object) -> None:
        made = self.ask(Case(path, body=json.dumps(body).encode()))
        assert made.status.startswith("201"), made


def still(patch: pytest.MonkeyPatch, first: int) -> None:
    """Stop the clocks, and count ids from ``first`` on."""
    count = itertools.count(first)
    clock = SimpleNamespace(time_ns=lambda: MOMENT, monotonic_ns=lambda: MOMENT)

    class Still(ids.datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return cls.fromtimestamp(MOMENT // 1_000_000_000, tz)

    patch.setattr(ids, "time", clock)
    patch.setattr(ids, "_drawn", SimpleNamespace(pop=lambda: next(count)))
    patch.setattr(ids, "datetime", Still)
    patch.setattr(stub_invoker, "time", clock)


@pytest.fixture(scope="module")
def ways() -> tuple[Way, Way]:
    """Both ways; ids that are taken in one are taken in the other."""
    return Way(shortcut=True), Way(shortcut=False)


PATHS = st.sampled_from(
    [
        *(f"/functions/{name}/invoke" for name in ("greet", "no", "throw", "five", "absent")),
        *(
            f"/functions/{name}/invoke"
            for name in ("n" * 64, "n" * 65, "a.b", "a%00", "%C3%A9", "invoke")
        ),
        *(
            f"/collections/{at}/functions/greet/invoke"
            for at in ("org/team", "other", "absent", "org")
        ),
        *(
            f"/collections/{at}/functions/greet/invoke"
            for at in ("a/b/c/d/e/f/g/h/i", "versions", "env")
        ),
        *(
            f"/collections/{at}/functions/greet/invoke"
            for at in ("a/env", "functions", "org//team", "A")
        ),
        "/collections/org/functions/team/functions/greet/invoke",
        "/functions/greet/invoke/",
        "//functions/greet/invoke",
        "/collections/functions/greet/invoke",
    ]
)
QUERIES = st.sampled_from(
    ["", "", "", "version=1", "version=x", "collection_path=org%2Fteam", "a=1"]
)
HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "HTTP_HOST": st.sampled_from(["localhost", "[::1]:80", "a..b", "x" * 64, "", "a/b", "é"]),
        "HTTP_AUTHORIZATION": st.sampled_from(
            ["", *(f"Memory {t}" for t in ("team", "reader", "who"))]
        ),
        "HTTP_ORIGIN": st.sampled_from(["", "http://localhost:8080", "https://evil.example"]),
        "HTTP_SEC_FETCH_SITE": st.sampled_from(["same-origin", "cross-site"]),
        "HTTP_X_REQUEST_ID": st.sampled_from(["mine", "", "not legal", "x" * 129]),
        "HTTP_TRACEPARENT": st.sampled_from(["broken", f"00-{'4b' * 16}-{'0f' * 8}-01"]),
        "HTTP_CONTENT_ENCODING": st.sampled_from(["identity", "gzip"]),
        "CONTENT_TYPE": st.sampled_from(
            [
                "application/json; charset=utf-8",
                "application/x+json",
                "text/plain",
                "",
                "a/b; charset=x",
            ]
        ),
        "CONTENT_LENGTH": st.sampled_from(["", "0", "5", "99999", "nonsense"]),
    },
)
VALUES: dict[str, st.SearchStrategy[Any]] = {
    "input": st.one_of(
        st.dictionaries(
            st.text(max_size=3), st.none() | st.integers() | st.text(max_size=4), max_size=3
        ),
        st.sampled_from([[], None, "x", {"long": "x" * 1100}, {"n": 1e300}]),
    ),
    "timeout_ms": st.sampled_from([1000, 0, -1, 10**9, 5.0, 5.5, "5", None]),
    "env": st.sampled_from([{}, {"A": "1"}, {"PATH": "x"}, {"1": "x"}, {"A": 1}, None]),
    "version": st.sampled_from([1, 2, 3, 0, None, "1"]),
    "run_id": st.sampled_from(["run:1", "not legal", "", None]),
    "execution_id": st.sampled_from(["execution-1", "short", "execution-2", None]),
    "collection_path": st.sampled_from(["", "org/team", "other", "env", None]),
    "unknown": st.just(1),
}
BODIES = st.one_of(
    st.fixed_dictionaries({}, optional=VALUES).map(lambda body: json.dumps(body).encode()),
    st.sampled_from(
        [
            *(b"", b"[]", b"{", b"\xff", b"[" * 1900),
            *(b'{"input":{"a":NaN}}', b'{"input":{"a":"\xff"}}', b'{"input":{"a":1,"a":2}}'),
            *(b'{"input":{},"input":[]}', b'{"input":{"a":1e999}}'),
            b'{"input":{"a":"' + b"x" * 2000,
            b'{"input":' + b"[" * 900 + b"]" * 900 + b"}",
        ]
    ),
)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    case=st.builds(Case, path=PATHS, query=QUERIES, body=BODIES, headers=HEADERS)
    | st.builds(Case, path=PATHS)
    | st.builds(Case, body=BODIES)
    | st.builds(Case, headers=HEADERS)
)
@example(Case())
@example(Case("/collections/org/team/functions/greet/invoke"))
@example(Case(headers={"HTTP_AUTHORIZATION": "Memory reader"}))
@example(Case(headers={"HTTP_AUTHORIZATION": "Memory team"}))
def test_both_ways_give_the_same_bytes(ways: tuple[Way, Way], case: Case) -> None:
    short, view = ways
    assert short.ask(case) == view.ask(case)


@pytest.mark.parametrize(
    "error",
    [CapacityError("full"), StorageUnavailable("down"), WorkerLost("gone"), KeyError("bug")],
)
def test_both_ways_fail_alike_and_ask_once(ways: tuple[Way, Way], error: Any) -> None:
    for way in ways:
        way.services.invoker.fail_with = error
    try:
        short, view = (way.ask(Case()) for way in ways)
    finally:
        for way in ways:
            way.services.invoker.fail_with = None

    assert short == view
    assert not short.status.startswith("200")
    assert len(short.requests) == 1
    assert short.asked == ["Memory all"]


def test_a_plain_invocation_does_not_reach_flask(
    ways: tuple[Way, Way], monkeypatch: pytest.MonkeyPatch
) -> None:
    for way in ways:
        monkeypatch.setattr(way.app, "full_dispatch_request", lambda: Response("Flask"))
    short, view = (way.ask(Case()) for way in ways)

    assert json.loads(short.body)["status"] == "succeeded"
    assert view.body == b"Flask"


def test_a_plugin_that_hooks_requests_sees_every_one() -> None:
    def sign(answer: Response) -> Response:
        answer.headers["X-Signed"] = "yes"
        return answer

    way = Way(shortcut=True)
    way.app = create_api(way.services)
    way.app.after_request(sign)
    assert ("X-Signed", "yes") in way.ask(Case()).headers
