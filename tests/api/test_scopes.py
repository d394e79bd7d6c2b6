"""Every operation with every verb and every subtree: allowed or refused as declared, nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from lowcode_faas_core.api.application import create_api
from lowcode_faas_core.authentication import Authentication, TokenAuthenticator
from lowcode_faas_core.callers import Scope, Verb, requires, scope_of
from lowcode_faas_core.model import FunctionRef
from lowcode_faas_core.testing.samples import sample_record
from lowcode_faas_core.tokens import TokenFile
from tests.api.conftest import ECHO, Answer, Api, wsgi_sender

READ, DEPLOY, INVOKE, ADMIN = Verb

OWN = "org/team"
#: What the stub's fetcher has.
PULLED = "memory:pulled"
#: What requests name, and whether a token for ``OWN`` reaches it.
COLLECTIONS = {
    "org/team": True,
    "org/team/sub": True,
    "": False,
    "org": False,
    "org/other": False,
    "org/teamX": False,
}


@dataclass(frozen=True)
class Row:
    """One operation: what it needs, and how a request names a collection (``{}``) in each way."""

    verb: Verb
    method: str
    targets: tuple[str, ...]
    body: dict[str, Any] | None = None
    #: The member of the body that can name the collection, and where that is sent.
    member: str | None = None
    plain: str = ""

    def requests(self, collection: str) -> Iterator[tuple[str, str, Any]]:
        quoted = quote(collection, safe="")
        for target in self.targets:
            if collection or not target.startswith("/collections/{}"):
                yield self.method, target.format(quoted), self.body
            elif target == "/collections/{}/env":
                yield self.method, "/collections/env", self.body
        if self.member is not None:
            yield self.method, self.plain, {**(self.body or {}), self.member: collection}
        if not collection and self.plain.startswith("/functions"):
            yield self.method, self.plain, self.body  # the root, unsaid


def of_function(verb: Verb, method: str, rest: str, body: dict[str, Any] | None = None) -> Row:
    flat, nested = f"/functions{rest}", f"/collections/{{}}/functions{rest}"
    member = "collection_path" if method in ("POST", "PUT") else None
    return Row(verb, method, (f"{flat}?collection_path={{}}", nested), body, member, flat)


TABLE = {
    "createCollection": Row(DEPLOY, "POST", (), {}, "path", "/collections"),
    "getCollection": Row(READ, "GET", ("/collections/{}",)),
    "deleteCollection": Row(DEPLOY, "DELETE", ("/collections/{}",)),
    "getCollectionEnv": Row(DEPLOY, "GET", ("/collections/{}/env",)),
    "putCollectionEnv": Row(DEPLOY, "PUT", ("/collections/{}/env",), {"env": {}}),
    "deploy": of_function(DEPLOY, "POST", "", {"name": "greet", "source_code": ECHO}),
    "listFunctions": of_function(READ, "GET", ""),
    "getFunction": of_function(READ, "GET", "/greet"),
    "deleteFunction": of_function(DEPLOY, "DELETE", "/greet"),
    "getSource": of_function(READ, "GET", "/greet/source"),
    "getFunctionEnv": of_function(DEPLOY, "GET", "/greet/env"),
    "putFunctionEnv": of_function(DEPLOY, "PUT", "/greet/env", {"env": {}}),
    "explainEnv": of_function(DEPLOY, "GET", "/greet/env/explain"),
    "getFunctionStats": of_function(READ, "GET", "/greet/stats"),
    "listVersions": of_function(READ, "GET", "/greet/versions"),
    "rollback": of_function(DEPLOY, "POST", "/greet/rollback", {"version": 1}),
    "pull": of_function(DEPLOY, "POST", "/greet/pull", {"source_url": PULLED}),
    "invoke": of_function(INVOKE, "POST", "/greet/invoke", {"input": {}}),
    "queryFunctionLogs": Row(READ, "GET", ("/function-logs/query?collection_path={}",)),
}
#: The same views under the path of the root.
TWINS = {"getRootEnv": "getCollectionEnv", "putRootEnv": "putCollectionEnv"}
#: About no collection in particular: for administrators of the whole tree.
WHOLE_TREE = {"getMetrics": ADMIN}
#: Held by tests of its own: it lists what the caller reaches, whatever it names.
LISTS = {"listCollections": READ, "listExecutions": READ}
#: Held by a test of their own: whose an execution is stands in its record.
BY_ID = {
    "getExecution": (READ, "GET", "/executions/{}"),
    "getExecutionLogs": (READ, "GET", "/executions/{}/logs"),
    "replay": (INVOKE, "POST", "/executions/{}/replay"),
}
PUBLIC = {
    "/healthz": "healthz",
    "/readyz": "readyz",
    "/limits": "getLimits",
    "/openapi.json": "getOpenapi",
    "/docs": "getDocs",
}


@dataclass
class Guarded:
    """The API behind tokens, and one header for each verb on each subtree."""

    api: Api
    file: TokenFile
    admin: dict[str, str]

    def token(self, *verbs: Verb, collection: str = "") -> dict[str, str]:
        """Return the header of a new token."""
        made = self.file.create("test", verbs, collection)
        self.api.services.authentication = Authentication(TokenAuthenticator(self.file))
        return {"Authorization": f"Bearer {made}"}

    def fill(self) -> None:
        """Bring back what a request needs, or what one before took away."""
        for path in COLLECTIONS:
            if path:
                self.api.post("/collections", {"path": path}, headers=self.admin)
            fields = {"name": "greet", "source_code": ECHO, "collection_path": path}
            self.api.post("/functions", fields, headers=self.admin)

    def empty(self, collection: str) -> None:
        """Take away what stops a collection from being deleted or created."""
        for path in sorted(COLLECTIONS, reverse=True):
            if path and (path == collection or path.startswith(f"{collection}/")):
                nested = f"/collections/{path}"
                self.api.delete(f"{nested}/functions/greet", headers=self.admin)
                if path != collection:
                    self.api.delete(nested, headers=self.admin)


@pytest.fixture
def guarded(stub_api: Api, tmp_path: Path) -> Guarded:
    found = Guarded(stub_api, TokenFile(tmp_path / "tokens.json"), {})
    found.admin = found.token(ADMIN)
    return found


def prepare(guarded: Guarded, operation: str, collection: str) -> None:
    guarded.fill()
    if operation in ("deleteCollection", "createCollection") and collection:
        guarded.empty(collection)
    if operation == "createCollection" and collection:
        guarded.api.delete(f"/collections/{collection}", headers=guarded.admin)


def allowed(answer: Answer) -> bool:
    """Tell whether it was done; the root is no collection that can be made or shown."""
    if answer.status == 403:
        answer.refused(403, "forbidden")
        return False
    assert answer.status < 300 or answer.status == 422, answer
    return True


@pytest.mark.parametrize("operation", TABLE)
@pytest.mark.fault(27)
def test_each_verb_on_each_subtree_is_allowed_or_refused_as_declared(
    guarded: Guarded, operation: str
) -> None:
    row = TABLE[operation]
    callers = [
        (verb, own, guarded.token(verb, collection=own)) for verb in Verb for own in ("", OWN)
    ]
    for collection, inside in COLLECTIONS.items():
        for request in row.requests(collection):
            method, target, body = request
            assert guarded.api.request(method, target, body).refused(401, "unauthenticated")
            for verb, own, header in callers:
                prepare(guarded, operation, collection)
                answer = guarded.api.request(method, target, body, headers=header)
                right = verb in (row.verb, ADMIN) and (inside or not own)
                if operation == "createCollection" and not collection:
                    # No legal path: found out before it is anybody's.
                    right = verb in (row.verb, ADMIN)
                assert allowed(answer) is right, (request, verb, own, answer)


@pytest.mark.parametrize("operation", TABLE)
@pytest.mark.parametrize("escape", ["org/team/../other", "org/team/", "/org/team", "org/team%2e"])
@pytest.mark.fault(27)
def test_no_spelling_leads_out(guarded: Guarded, operation: str, escape: str) -> None:
    guarded.fill()
    header = guarded.token(ADMIN, collection=OWN)
    for method, target, body in TABLE[operation].requests(escape):
        answer = guarded.api.request(method, target, body, headers=header)
        assert answer.status in (403, 404, 422), (target, answer)


def test_two_places_cannot_name_an_own_and_another(guarded: Guarded) -> None:
    guarded.fill()
    header = guarded.token(ADMIN, collection=OWN)
    body = {"name": "x", "source_code": ECHO, "collection_path": "org/other"}
    for target in (
        "/functions?collection_path=org%2Fteam",
        "/collections/org/team/functions",
        "/collections/org/team/functions?collection_path=org%2Fother",
    ):
        answer = guarded.api.post(target, body, headers=header)
        answer.refused(400, "conflicting_values")


@pytest.mark.parametrize(
    ("prefix", "seen"),
    [
        ("", ["org/team", "org/team/sub"]),
        ("org", ["org/team", "org/team/sub"]),
        ("org/team", ["org/team", "org/team/sub"]),
        ("org/team/sub", ["org/team/sub"]),
        ("org/other", None),
        ("org/teamX", None),
        ("or", None),
    ],
)
@pytest.mark.fault(27)
def test_the_list_of_collections_is_the_callers(
    guarded: Guarded, prefix: str, seen: list[str] | None
) -> None:
    guarded.fill()
    target = f"/collections?prefix={quote(prefix, safe='')}"
    guarded.api.get(target).refused(401, "unauthenticated")
    for verb in Verb:
        answer = guarded.api.get(target, headers=guarded.token(verb, collection=OWN))
        if seen is None or verb not in (READ, ADMIN):
            answer.refused(403, "forbidden")
        else:
            assert [each["path"] for each in answer.json["items"]] == seen
    everything = guarded.api.get("/collections", headers=guarded.token(READ)).json["items"]
    assert {each["path"] for each in everything} == set(COLLECTIONS) - {""}


@pytest.mark.fault(27)
def test_pages_of_the_list_never_leave_the_subtree(guarded: Guarded) -> None:
    guarded.fill()
    header = guarded.token(READ, collection=OWN)
    first = guarded.api.get("/collections?limit=1", headers=header).json
    second = guarded.api.get(
        f"/collections?limit=1&cursor={quote(first['next_cursor'])}", headers=header
    ).json
    assert [each["path"] for each in first["items"] + second["items"]] == [OWN, f"{OWN}/sub"]
    assert second["next_cursor"] is None
    # A cursor of somebody who sees more shows no more either.
    more = guarded.api.get("/collections?limit=1", headers=guarded.admin).json["next_cursor"]
    stolen = guarded.api.get(f"/collections?cursor={quote(more)}", headers=header)
    assert {each["path"] for each in stolen.json["items"]} <= {OWN, f"{OWN}/sub"}


def recorded(guarded: Guarded) -> dict[str, str]:
    """Record an execution in each collection; return their ids."""
    guarded.fill()
    records = {
        path: sample_record(collection_path=path, deployment_version=1, input="{}")
        for path in COLLECTIONS
    }
    for path, record in records.items():
        deployment = guarded.api.storage.deployment(FunctionRef(path, "greet"))
        records[path] = msgspec.structs.replace(record, deployment_id=deployment.deployment_id)
    guarded.api.services.executions.record(list(records.values()), [])
    return {path: record.execution_id for path, record in records.items()}


@pytest.mark.parametrize("operation", BY_ID)
@pytest.mark.parametrize("query", ["", "?follow=1"])
@pytest.mark.fault(27)
def test_an_execution_is_its_collections(guarded: Guarded, operation: str, query: str) -> None:
    verb, method, target = BY_ID[operation]
    if query and operation != "getExecutionLogs":
        return
    ids = recorded(guarded)
    callers = [
        (each, own, guarded.token(each, collection=own)) for each in Verb for own in ("", OWN)
    ]
    for collection, inside in COLLECTIONS.items():
        path = target.format(ids[collection]) + query
        guarded.api.request(method, path).refused(401, "unauthenticated")
        for held, own, header in callers:
            answer = guarded.api.request(method, path, headers=header)
            right = held in (verb, ADMIN) and (inside or not own)
            assert allowed(answer) is right, (path, collection, held, own, answer)


@pytest.mark.fault(27)
def test_a_replay_shows_what_was_kept_to_readers_alone(guarded: Guarded) -> None:
    guarded.fill()
    deployment = guarded.api.storage.deployment(FunctionRef("", "greet"))
    record = sample_record(
        collection_path="",
        deployment_version=1,
        deployment_id=deployment.deployment_id,
        input='{"card":"4111"}',
        output='{"ok":true}',
    )
    guarded.api.services.executions.record([record], [])
    target = f"/executions/{record.execution_id}/replay"
    for verbs, kept in [
        ([INVOKE], (None, None)),
        ([INVOKE, READ], ({"card": "4111"}, {"ok": True})),
        ([ADMIN], ({"card": "4111"}, {"ok": True})),
    ]:
        shown = guarded.api.post(target, headers=guarded.token(*verbs)).json["original"]
        assert (shown["input"], shown["output"]) == kept
        assert shown["execution_id"] == record.execution_id


@pytest.mark.parametrize(
    ("subtree", "seen"),
    [
        ("", [OWN, f"{OWN}/sub"]),
        ("org", [OWN, f"{OWN}/sub"]),
        (OWN, [OWN, f"{OWN}/sub"]),
        (f"{OWN}/sub", [f"{OWN}/sub"]),
        ("org/other", None),
        ("org/teamX", None),
    ],
)
@pytest.mark.fault(27)
def test_the_list_of_executions_is_the_callers(
    guarded: Guarded, subtree: str, seen: list[str] | None
) -> None:
    recorded(guarded)
    for query in ("", "&status=succeeded", "&function=greet", "&run_id=no-such-run"):
        target = f"/executions?collection_path={quote(subtree, safe='')}{query}"
        guarded.api.get(target).refused(401, "unauthenticated")
        for verb in Verb:
            answer = guarded.api.get(target, headers=guarded.token(verb, collection=OWN))
            if seen is None or verb not in (READ, ADMIN):
                answer.refused(403, "forbidden")
            else:
                found = sorted(each["collection_path"] for each in answer.json["items"])
                assert found == ([] if "no-such-run" in query else seen)
    everything = guarded.api.get("/executions", headers=guarded.token(READ)).json["items"]
    assert {each["collection_path"] for each in everything} == set(COLLECTIONS)


def test_an_explanation_masks_what_the_caller_does_not_reach(guarded: Guarded) -> None:
    guarded.fill()
    for target, value in (("/collections/env", "root"), ("/collections/org/team/env", "team")):
        body = {"env": {"HOST_" + value: value}}
        assert guarded.api.put(target, body, headers=guarded.admin).status == 200
    target = "/collections/org/team/functions/greet/env/explain"
    own = guarded.api.get(target, headers=guarded.token(DEPLOY, collection=OWN)).json["env"]
    assert (own["HOST_root"]["value"], own["HOST_root"]["masked"]) == ("****", True)
    assert (own["HOST_team"]["value"], own["HOST_team"]["masked"]) == ("team", False)
    all_ = guarded.api.get(target, headers=guarded.token(DEPLOY)).json["env"]
    assert all_["HOST_root"]["value"] == "root"


@pytest.mark.fault(27)
@pytest.mark.parametrize("target", ["/metrics"])
def test_what_is_about_everything_is_for_administrators_of_everything(
    guarded: Guarded, target: str
) -> None:
    guarded.api.get(target).refused(401, "unauthenticated")
    for verb in Verb:
        for own in ("", OWN):
            answer = guarded.api.get(target, headers=guarded.token(verb, collection=own))
            if verb is ADMIN and not own:
                assert answer.status == 200
            else:
                answer.refused(403, "forbidden")


@pytest.mark.parametrize("target", PUBLIC)
def test_what_is_public_asks_nobody(guarded: Guarded, target: str) -> None:
    assert guarded.api.get(target).status == 200
    assert guarded.api.get(target, headers={"Authorization": "Bearer lcf_x_y"}).status == 200


def test_the_table_is_the_description_and_the_code(stub_api: Api, description: Any) -> None:
    verbs = {**{name: row.verb for name, row in TABLE.items()}, **LISTS, **WHOLE_TREE}
    verbs |= {name: verb for name, (verb, _, _) in BY_ID.items()}
    verbs |= {twin: verbs[name] for twin, name in TWINS.items()}
    described = {
        operation["operationId"]: (path, operation["security"])
        for path, item in description.document["paths"].items()
        for method, operation in item.items()
        if method != "parameters"
    }
    flat = {name.removesuffix("InCollection") for name in described}
    assert flat == set(verbs) | set(PUBLIC.values())
    for name, (path, security) in described.items():
        verb = verbs.get(name.removesuffix("InCollection"))
        assert security == ([] if verb is None else [{"token": [verb]}]), path
    app = create_api(stub_api.services)
    for rule in app.url_map.iter_rules():
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            path = rule.rule.replace("<collection:", "{").replace("<", "{").replace(">", "}")
            operation = description.document["paths"][path][method.lower()]["operationId"]
            verb = verbs.get(operation.removesuffix("InCollection"))
            assert scope_of(app.view_functions[rule.endpoint]) == Scope(
                verb, whole_tree=operation in WHOLE_TREE
            ), (method, path)


class TestForgetfulRoutes:
    def send(self, guarded: Guarded, view: Callable[..., Any]) -> Callable[..., Answer]:
        app = create_api(guarded.api.services)
        app.add_url_rule("/new", "new", view)
        send = wsgi_sender(app)
        return lambda headers: send("GET", "/new", headers, b"")

    def test_one_without_a_scope_is_for_administrators_of_everything(
        self, guarded: Guarded
    ) -> None:
        weaker = [guarded.token(verb) for verb in (READ, DEPLOY, INVOKE)]
        weaker.append(guarded.token(ADMIN, collection=OWN))
        send = self.send(guarded, lambda: "shown")
        assert send({}).status == 401
        assert {send(header).status for header in weaker} == {403}
        assert send(guarded.admin).body == b"shown"

    def test_the_answer_of_one_that_names_no_collection_is_held_back(
        self, guarded: Guarded
    ) -> None:
        send = self.send(guarded, requires(READ)(lambda: "not to be shown"))
        answer = send(guarded.admin)
        assert answer.status == 500
        assert b"not to be shown" not in answer.body
