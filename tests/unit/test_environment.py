from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowcode_faas_core.environment import MASK, EnvOrigin, explain, is_secret, merge
from lowcode_faas_core.model import EnvLevel

ENVS = st.dictionaries(st.sampled_from("A B C D E API_KEY __proto__".split()), st.text(max_size=5))
LEVELS = st.lists(ENVS, max_size=9).map(
    lambda envs: [EnvLevel("collection", str(depth), env) for depth, env in enumerate(envs)]
)


@pytest.mark.fault(75)
@given(levels=LEVELS, request_env=ENVS)
def test_merge_is_a_plain_fold(levels: list[EnvLevel], request_env: dict[str, str]) -> None:
    before = [dict(level.env) for level in levels]
    expected: dict[str, str] = {}
    for env in [*before, request_env]:
        for key, value in env.items():
            expected[key] = value

    assert merge(levels, request_env) == expected
    assert [level.env for level in levels] == before


@pytest.mark.fault(75)
@given(levels=LEVELS)
def test_explain_agrees_with_merge(levels: list[EnvLevel]) -> None:
    merged = merge(levels, {})
    explained = explain(levels)

    assert list(explained) == sorted(merged)
    for key, found in explained.items():
        assert found.value == (MASK if found.masked else merged[key])
        setters = [level.path for level in levels if key in level.env]
        assert [found.path, *(hidden.path for hidden in found.hides)] == setters[::-1]


def test_explain_names_the_levels() -> None:
    levels = [
        EnvLevel("collection", "", {"A": "root"}),
        EnvLevel("collection", "org", {}),
        EnvLevel("function", "org/greet", {"A": "own"}),
    ]
    found = explain(levels)["A"]

    assert (found.value, found.level, found.path) == ("own", "function", "org/greet")
    assert found.hides == (EnvOrigin("collection", ""),)


@pytest.mark.parametrize(
    "key",
    "PASSWORD db_password CLIENT_SECRET GITHUB_TOKEN API_KEY apiKey AWS_CREDENTIALS PG_DSN "
    "Authorization DATABASE_URL".split(),
)
def test_secrets_are_known_by_their_key(key: str) -> None:
    assert is_secret(key, "x")


def test_secrets_are_known_by_credentials_in_a_url() -> None:
    assert is_secret("UPSTREAM", "amqp://user:pw@host/vhost")
    assert not is_secret("UPSTREAM", "https://host:8080/path@x")
    assert not is_secret("GREETING", "hello")


@pytest.mark.fault(71)
@pytest.mark.parametrize("value", ["://" + ":" * 200_000, "://a:" * 50_000, "://" + "a" * 200_000])
def test_looking_for_credentials_takes_time_in_proportion(value: str) -> None:
    begin = time.process_time()
    is_secret("A", value)

    # Quadratic would be minutes: this is no stopwatch.
    assert time.process_time() - begin < 5
