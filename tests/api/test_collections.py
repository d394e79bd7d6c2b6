from __future__ import annotations

from typing import Any

import pytest


def test_registering_a_path_registers_its_parents(api: Any) -> None:
    answer = api.post("/collections", {"path": "org/team/squad", "env": {"B": "2", "A": "1"}})

    assert answer.status == 201
    assert answer.json["path"] == "org/team/squad"
    assert answer.json["env_keys"] == ["A", "B"]
    for target in ("/collections/org/team/squad", "/collections/org%2Fteam%2Fsquad"):
        assert api.get(target).json == answer.json
    assert api.get("/collections/org/team").json["env_keys"] == []
    assert api.get("/collections/org").status == 200


def test_registering_twice_is_a_conflict(api: Any) -> None:
    api.collection("org/team")

    api.post("/collections", {"path": "org/team"}).refused(409, "collection_exists")
    api.post("/collections", {"path": "org"}).refused(409, "collection_exists")
    api.post("/collections", {"path": ""}).refused(422, "invalid_value", "/path")


def test_collections_are_listed_by_subtree_and_page(api: Any) -> None:
    for path in ("org/b", "org/a", "orgX", "a_b", "aXb/c"):
        api.collection(path)

    def listed(query: str) -> list[str]:
        return [item["path"] for item in api.get(f"/collections{query}").json["items"]]

    assert listed("") == ["aXb", "aXb/c", "a_b", "org", "org/a", "org/b", "orgX"]
    assert listed("?prefix=org") == ["org", "org/a", "org/b"]
    assert listed("?prefix=org%2Fa") == ["org/a"]
    assert listed("?prefix=a_b") == ["a_b"]
    assert listed("?prefix=absent") == []
    page = api.get("/collections?prefix=org&limit=2").json
    assert [item["path"] for item in page["items"]] == ["org", "org/a"]
    assert listed(f"?prefix=org&limit=2&cursor={page['next_cursor']}") == ["org/b"]


def test_only_an_empty_collection_is_deleted(api: Any) -> None:
    api.collection("org/team")
    api.deploy(collection_path="org/team")
    api.delete("/collections/org").refused(409, "collection_not_empty")
    api.delete("/collections/org/team").refused(409, "collection_not_empty")

    api.delete("/collections/org/team/functions/greet")
    answer = api.delete("/collections/org/team")
    assert (answer.status, answer.body) == (204, b"")
    api.get("/collections/org/team").refused(404, "collection_not_found")
    api.delete("/collections/org/team").refused(404, "collection_not_found")
    assert api.delete("/collections/org").status == 204


def test_env_is_kept_for_each_level(api: Any) -> None:
    api.collection("org/team", env={"A": "1"})

    assert api.get("/collections/org/team/env").json == {"env": {"A": "1"}}
    assert api.put("/collections/org/env", {"env": {"B": "2"}}).json == {"env": {"B": "2"}}
    assert api.put("/collections/env", {"env": {"C": ""}}).json == {"env": {"C": ""}}
    assert api.get("/collections/org%2Fteam/env").json == {"env": {"A": "1"}}
    assert api.get("/collections/org/env").json == {"env": {"B": "2"}}
    assert api.get("/collections/env").json == {"env": {"C": ""}}

    # When an env is put, it replaces all of its level
    api.put("/collections/org/team/env", {"env": {"D": "4"}})
    assert api.get("/collections/org/team").json["env_keys"] == ["D"]


@pytest.mark.parametrize("method", ["GET", "PUT"])
def test_env_of_an_absent_collection_is_not_found(api: Any, method: str) -> None:
    body = {"env": {}} if method == "PUT" else None

    api.request(method, "/collections/org/env", body).refused(404, "collection_not_found")
