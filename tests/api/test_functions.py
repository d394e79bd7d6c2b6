from __future__ import annotations

import hashlib
from typing import Any

import pytest

from lowcode_faas_core.errors import NameClash

ONE = "export const handler = () => ({ok: true, data: 1});\n"
TWO = "export const handler = () => ({ok: true, data: 2});\n"


def test_a_first_deploy_answers_the_deployment(api: Any) -> None:
    answer = api.post("/functions", {"name": "greet", "source_code": ONE})

    assert answer.status == 201
    deployment = answer.json
    assert deployment["deployment_id"]
    assert deployment["created_at"]
    del deployment["deployment_id"], deployment["created_at"]
    # Whether Node was asked about the source is the platform's choice.
    del deployment["checked"]
    assert deployment == {
        "function_name": "greet",
        "collection_path": "",
        "version": 1,
        "language": "javascript",
        "sha256": hashlib.sha256(ONE.encode()).hexdigest(),
        "size": len(ONE),
        "source_url": None,
        "reuse": "warm",
        "limits": {},
        "current": True,
        "restored_from": None,
    }


def test_only_a_change_makes_a_version(api: Any) -> None:
    body = {"name": "greet", "source_code": ONE}
    first = api.post("/functions", body)

    # When nothing changes, the current deployment is answered
    again = api.post("/functions", body)
    assert (first.status, again.status) == (201, 200)
    assert again.json == first.json

    # When bytes, reuse or limits change, a version is made
    for version, change in enumerate(
        ({"source_code": TWO}, {"reuse": "fresh"}, {"limits": {"memory_mb": 128}}), start=2
    ):
        body |= change
        changed = api.post("/functions", body)
        assert changed.status == 201
        assert changed.json["version"] == version
        assert api.post("/functions", body).status == 200


def test_env_is_replaced_when_given_and_makes_no_version(api: Any) -> None:
    api.deploy(source=ONE, env={"A": "1"})

    # When env is absent or null, it stays
    api.deploy(source=ONE)
    api.deploy(source=TWO, env=None)
    assert api.get("/functions/greet/env").json == {"env": {"A": "1"}}

    # When it is given, it is replaced
    answer = api.post("/functions", {"name": "greet", "source_code": TWO, "env": {"B": "2"}})
    assert answer.status == 200
    assert api.get("/functions/greet/env").json == {"env": {"B": "2"}}
    assert api.get("/functions/greet").json["env_keys"] == ["B"]


def test_limits_and_reuse_are_answered_as_they_were_asked(api: Any) -> None:
    limits = {"memory_mb": 64, "cpus": 0.5, "pids": 32, "tmp_mb": 8, "timeout_ms": 5000}
    deployment = api.deploy(source=ONE, reuse="fresh", limits=limits)

    assert deployment["limits"] == limits
    assert deployment["reuse"] == "fresh"
    assert api.get("/functions/greet").json["current"] == deployment


def test_typescript_is_served_as_typescript(api: Any) -> None:
    api.deploy(source=ONE, language="typescript")

    source = api.get("/functions/greet/source")
    assert source.headers["Content-Type"] == "text/typescript; charset=utf-8"
    body = {"name": "greet", "source_code": ONE}
    api.post("/functions", body).refused(409, "language_conflict")


def test_the_source_is_answered_byte_for_byte(api: Any) -> None:
    deployment = api.deploy(source="// \u00e9\r\n\t// \U0001f600\n" + ONE)

    answer = api.get("/functions/greet/source")
    assert answer.body.decode() == "// \u00e9\r\n\t// \U0001f600\n" + ONE
    assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    etag = answer.headers["ETag"]
    assert etag == f'"{deployment["sha256"]}"'
    for given in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        headers = {"If-None-Match": given}
        assert api.get("/functions/greet/source", headers=headers).status == 304
    headers = {"If-None-Match": '"other"'}
    assert api.get("/functions/greet/source", headers=headers).status == 200


def test_older_versions_can_be_read_and_restored(api: Any) -> None:
    api.deploy(source=ONE)
    api.deploy(source=TWO)
    assert api.get("/functions/greet/source?version=1").body == ONE.encode()
    assert api.get("/functions/greet/source").body == TWO.encode()

    # When an older version is restored
    answer = api.post("/functions/greet/rollback", {"version": 1})

    # Then it is current again, as a new version that says where it came from
    assert answer.status == 201
    assert (answer.json["version"], answer.json["restored_from"]) == (3, 1)
    assert api.get("/functions/greet").json["current"] == answer.json
    assert api.get("/functions/greet/source").body == ONE.encode()
    versions = api.get("/functions/greet/versions").json["items"]
    assert [(row["version"], row["current"]) for row in versions] == [
        (3, True),
        (2, False),
        (1, False),
    ]


def test_a_version_may_be_named_in_body_or_query_but_not_differently(api: Any) -> None:
    api.deploy(source=ONE)
    assert api.post("/functions/greet/rollback?version=1").json["version"] == 2
    assert api.post("/functions/greet/rollback?version=1", {"version": 1}).json["version"] == 3
    for target in ("/functions/greet/rollback?version=1", "/functions/greet/invoke?version=1"):
        api.post(target, {"version": 2}).refused(400, "conflicting_values")
    api.get("/functions/greet/source?version=1&version=2").refused(400, "conflicting_values")


def test_versions_that_never_were_are_not_found(api: Any) -> None:
    api.deploy(source=ONE)
    for answer in (
        api.get("/functions/greet/source?version=2"),
        api.post("/functions/greet/rollback", {"version": 2}),
        api.post("/functions/greet/invoke", {"version": 2**31 - 1}),
    ):
        answer.refused(404, "version_not_found")


def test_versions_that_were_not_kept_are_a_conflict(stub_api: Any) -> None:
    stub_api.storage.keep_versions = 1
    stub_api.deploy(source=ONE)
    stub_api.deploy(source=TWO)

    stub_api.get("/functions/greet/source?version=1").refused(409, "version_not_kept")
    stub_api.post("/functions/greet/rollback", {"version": 1}).refused(409, "version_not_kept")
    pinned = stub_api.post("/functions/greet/invoke", {"version": 1})
    assert pinned.refused(409, "version_not_kept")["outcome"] == "not_executed"


def test_functions_are_listed_in_pages_by_name(api: Any) -> None:
    api.collection("org")
    api.deploy("elsewhere", collection_path="org")
    for name in ("c", "a", "B", "d", "e"):
        api.deploy(name, ONE)

    found: list[str] = []
    target = "/functions?limit=2"
    for _ in range(3):
        page = api.get(target).json
        found += [item["name"] for item in page["items"]]
        target = f"/functions?limit=2&cursor={page['next_cursor']}"
    assert page["next_cursor"] is None
    assert found == ["B", "a", "c", "d", "e"]
    names = [item["name"] for item in api.get("/functions?collection_path=org").json["items"]]
    assert names == ["elsewhere"]


def test_versions_are_listed_in_pages_newest_first(api: Any) -> None:
    for number in range(3):
        api.deploy(source=f"// {number}\n{ONE}")

    page = api.get("/functions/greet/versions?limit=2").json
    assert [row["version"] for row in page["items"]] == [3, 2]
    rest = api.get(f"/functions/greet/versions?limit=2&cursor={page['next_cursor']}").json
    assert [row["version"] for row in rest["items"]] == [1]
    assert rest["next_cursor"] is None


def test_a_deleted_function_is_gone_and_starts_anew(api: Any) -> None:
    first = api.deploy(source=ONE, env={"A": "1"})
    api.deploy(source=TWO)

    answer = api.delete("/functions/greet")
    assert (answer.status, answer.body) == (204, b"")
    api.get("/functions/greet").refused(404, "function_not_found")
    api.delete("/functions/greet").refused(404, "function_not_found")

    again = api.deploy(source=ONE)
    assert again["version"] == 1
    assert again["deployment_id"] != first["deployment_id"]
    assert api.get("/functions/greet/env").json == {"env": {}}


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "", None),
        ("DELETE", "", None),
        ("GET", "/source", None),
        ("GET", "/env", None),
        ("PUT", "/env", {"env": {}}),
        ("GET", "/env/explain", None),
        ("GET", "/versions", None),
        ("POST", "/rollback", {"version": 1}),
        ("POST", "/invoke", {}),
    ],
)
@pytest.mark.parametrize("form", ["/functions/absent{}", "/collections/org/functions/absent{}"])
def test_absent_functions_are_not_found(
    api: Any, method: str, path: str, body: dict[str, Any] | None, form: str
) -> None:
    api.collection("org")

    api.request(method, form.format(path), body).refused(404, "function_not_found")


def test_functions_live_in_registered_collections_only(api: Any) -> None:
    body = {"name": "greet", "source_code": ONE, "collection_path": "org"}
    api.post("/functions", body).refused(404, "collection_not_found")
    api.get("/collections/org/functions").refused(404, "collection_not_found")

    api.collection("org")
    assert api.post("/functions", body).status == 201


def test_every_action_works_in_its_nested_form(api: Any) -> None:
    api.collection("org/team", env={"LEVEL": "team"})
    base = "/collections/org/team/functions"
    assert api.post(base, {"name": "greet", "source_code": ONE}).status == 201
    assert api.post(base, {"name": "greet", "source_code": TWO}).status == 201
    assert [item["name"] for item in api.get(base).json["items"]] == ["greet"]
    assert api.get(f"{base}/greet").json["collection_path"] == "org/team"
    assert api.get(f"{base}/greet/source?version=1").body == ONE.encode()
    assert api.put(f"{base}/greet/env", {"env": {"A": "1"}}).json == {"env": {"A": "1"}}
    assert api.get(f"{base}/greet/env").json == {"env": {"A": "1"}}
    assert set(api.get(f"{base}/greet/env/explain").json["env"]) == {"A", "LEVEL"}
    assert len(api.get(f"{base}/greet/versions").json["items"]) == 2
    assert api.post(f"{base}/greet/rollback", {"version": 1}).json["version"] == 3
    assert api.post(f"{base}/greet/invoke").json["collection_path"] == "org/team"
    assert api.delete(f"{base}/greet").status == 204


@pytest.mark.fault(8)
def test_a_clash_on_the_file_system_is_a_conflict(
    stub_api: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def clash(*_: object) -> None:
        raise NameClash("greet clashes with Greet")

    monkeypatch.setattr(stub_api.storage, "deploy", clash)

    body = {"name": "greet", "source_code": ONE}
    stub_api.post("/functions", body).refused(409, "name_clash")
