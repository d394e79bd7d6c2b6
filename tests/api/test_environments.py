from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

LOADERS = [
    "NODE_OPTIONS",
    "NODE_PATH",
    "NODE_EXTRA_CA_CERTS",
    "NODE_V8_COVERAGE",
    "NODE_REPL_EXTERNAL_MODULE",
    "LD_PRELOAD",
    "LD_LIBRARY_PATH",
    "PATH",
    "HOME",
    "LOWCODE_FAAS_POSTGRES_DSN",
    "LOWCODE_FAAS_",
    "node_options",
    "Ld_Preload",
    "lowcode_faas_listen",
]
BAD_KEYS = ["", "A=B", "A\0", "1A", "A B", "A-B", "\u00c4", "A\n", "a.b", "A" * 257]


def every_place(api: Any, env: dict[str, Any]) -> list[Any]:
    """Give ``env`` wherever the API takes one."""
    api.collection("org")
    api.deploy()
    return [
        api.post("/functions/greet/invoke", {"env": env}),
        api.put("/functions/greet/env", {"env": env}),
        api.put("/collections/env", {"env": env}),
        api.put("/collections/org/env", {"env": env}),
        api.post("/collections", {"path": "other", "env": env}),
        api.post("/functions", {"name": "other", "source_code": "x", "env": env}),
    ]


@pytest.mark.fault(73)
@pytest.mark.parametrize("key", LOADERS)
def test_variables_that_act_before_the_handler_are_refused(stub_api: Any, key: str) -> None:
    for answer in every_place(stub_api, {"FINE": "1", key: "--import=data:text/javascript,0"}):
        answer.refused(422, "invalid_value", f"/env/{key}")
    assert stub_api.get("/functions/greet/env").json == {"env": {}}
    assert stub_api.get("/collections/env").json == {"env": {}}


@pytest.mark.fault(74)
@pytest.mark.parametrize("key", BAD_KEYS)
def test_illegal_keys_are_refused(stub_api: Any, key: str) -> None:
    for answer in every_place(stub_api, {key: "1"}):
        answer.refused(422, "invalid_value", f"/env/{key}")


@pytest.mark.fault(74)
@pytest.mark.parametrize("value", [1, None, True, [], {}, "a\0b"])
def test_illegal_values_are_refused(api: Any, value: Any) -> None:
    for answer in every_place(api, {"FINE": "1", "A": value}):
        answer.refused(422, "invalid_value", "/env/A")


@pytest.mark.fault(74)
@pytest.mark.parametrize(
    "env",
    [{"A": "x" * (1 << 20)}, {f"K{number}": "" for number in range(10_000)}],
    ids=["a megabyte", "ten thousand keys"],
)
def test_a_too_large_env_is_refused(api: Any, env: dict[str, str]) -> None:
    for answer in every_place(api, env):
        answer.refused(422, "invalid_value", "/env")


def test_env_values_are_read_through_env_routes_only(api: Any) -> None:
    api.collection("org", env={"OUTER": "do-not-tell-1"})
    api.deploy(collection_path="org", env={"INNER": "do-not-tell-2"})
    answers = [
        api.get("/collections"),
        api.get("/collections/org"),
        api.get("/collections/org/functions"),
        api.get("/collections/org/functions/greet"),
        api.get("/collections/org/functions/greet/versions"),
        api.put("/collections/org/functions/greet/env", {"env": {"A B": "do-not-tell-3"}}),
    ]

    assert all(b"do-not-tell" not in answer.body for answer in answers)


def test_explain_names_winners_and_the_hidden(api: Any) -> None:
    # Given one key on every level, and one on each alone
    api.put("/collections/env", {"env": {"ALL": "root", "ROOT": "r"}})
    api.collection("org", env={"ALL": "org", "ORG": "o"})
    api.collection("org/team", env={"ALL": "team"})
    api.deploy(collection_path="org/team", env={"ALL": "function", "OWN": "f"})

    # When it is explained
    env = api.get("/functions/greet/env/explain?collection_path=org%2Fteam").json["env"]

    # Then the nearest level wins, and hides the others nearest first
    assert env["ALL"] == {
        "value": "function",
        "masked": False,
        "level": "function",
        "path": "org/team/greet",
        "hides": [
            {"level": "collection", "path": "org/team"},
            {"level": "collection", "path": "org"},
            {"level": "collection", "path": ""},
        ],
    }
    assert env["ROOT"]["path"] == ""
    assert env["ORG"] == {
        "value": "o",
        "masked": False,
        "level": "collection",
        "path": "org",
        "hides": [],
    }
    assert list(env) == ["ALL", "ORG", "OWN", "ROOT"]


def test_explain_masks_secrets(api: Any) -> None:
    values = {
        "DB_PASSWORD": "hunter2",
        "API_KEY": "hunter2",
        "github_token": "hunter2",
        "POSTGRES_DSN": "hunter2",
        "UPSTREAM": "https://user:hunter2@example.org/",
        "PLAIN": "shown",
    }
    api.deploy(env=values)

    answer = api.get("/functions/greet/env/explain")
    assert b"hunter2" not in answer.body
    shown = {key: (entry["value"], entry["masked"]) for key, entry in answer.json["env"].items()}
    assert shown == {key: ("shown", False) if key == "PLAIN" else ("****", True) for key in values}


KEYS = st.sampled_from("A B C D constructor __proto__".split())
VALUES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=5)
LEVEL = st.dictionaries(KEYS, VALUES, max_size=4)


@pytest.mark.fault(75)
@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(levels=st.lists(LEVEL, min_size=4, max_size=4), request_env=LEVEL)
def test_the_last_level_wins(
    stub_api: Any, levels: list[dict[str, str]], request_env: dict[str, str]
) -> None:
    root, org, team, function = levels
    if stub_api.get("/collections/org/team").status == 404:
        stub_api.collection("org/team")
    stub_api.deploy(collection_path="org/team")
    base = "/collections/org/team/functions/greet"
    stub_api.put("/collections/env", {"env": root})
    stub_api.put("/collections/org/env", {"env": org})
    stub_api.put("/collections/org/team/env", {"env": team})
    stub_api.put(f"{base}/env", {"env": function})
    expected: dict[str, str] = {}
    for level in (root, org, team, function):
        for key, value in level.items():
            expected[key] = value
    explained = stub_api.get(f"{base}/env/explain").json["env"]
    assert {key: entry["value"] for key, entry in explained.items()} == expected

    expected |= request_env
    ran = stub_api.post(f"{base}/invoke", {"env": request_env}).json
    assert ran["output"]["data"]["env"] == expected


@pytest.mark.fault(75)
def test_concurrent_puts_leave_one_of_them_whole(api: Any) -> None:
    api.deploy()
    candidates = [{"A": str(number), "B": str(number)} for number in range(16)]

    with ThreadPoolExecutor(8) as threads:
        answers = list(
            threads.map(lambda env: api.put("/functions/greet/env", {"env": env}), candidates)
        )

    assert all(answer.status == 200 for answer in answers)
    assert api.get("/functions/greet/env").json["env"] in candidates


@pytest.mark.fault(75)
def test_an_empty_value_hides_and_nothing_removes(api: Any) -> None:
    api.put("/collections/env", {"env": {"A": "root", "B": "root"}})
    api.deploy(env={"A": ""})

    env = api.invoke()["output"]["data"]["env"]
    assert (env["A"], env["B"]) == ("", "root")
    refused = api.post("/functions/greet/invoke", {"env": {"B": None}})
    refused.refused(422, "invalid_value", "/env/B")
