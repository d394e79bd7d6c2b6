from __future__ import annotations

from typing import Any
from urllib.parse import quote

import pytest

from lowcode_faas_core.logquery.queries import LogQueries

PATH = "/function-logs/query"


def test_one_query_a_language(api: Any) -> None:
    answer = api.get(f"{PATH}?run_id=r-1&function=greet&collection_path=org%2Fteam")
    assert answer.status == 200
    assert answer.json["loki_logql_json"] == (
        '{job="lowcode-faas"} | json | __error__="" | run_id="r-1" | function_name="greet" '
        '| collection_path="org/team"'
    )
    assert "grafana_explore_url" not in answer.json
    assert answer.json["start"] is None


def test_nothing_given_finds_every_event(stub_api: Any) -> None:
    answer = stub_api.get(PATH).json
    assert answer["elasticsearch_query_string"] == "execution_id:*"


def test_the_root_is_a_collection_and_none_is_any(stub_api: Any) -> None:
    assert "collection_path" not in stub_api.get(PATH).json["elasticsearch_query_string"]
    root = stub_api.get(f"{PATH}?collection_path=").json["elasticsearch_query_string"]
    assert root == 'collection_path:""'


@pytest.mark.fault(83)
@pytest.mark.parametrize("run_id", ['x"} or {job=~".+', "`", "\\", "${}", "{{logql}}"])
def test_any_id_is_quoted(stub_api: Any, run_id: str) -> None:
    answer = stub_api.get(f"{PATH}?run_id={quote(run_id, safe='')}")
    escaped = run_id.replace("\\", "\\\\").replace('"', '\\"')
    assert answer.json["loki_logql_json"].endswith(f' | run_id="{escaped}"')


def test_the_explore_url_is_there_with_a_template(stub_api: Any) -> None:
    stub_api.services.log_queries = LogQueries({"job": "x"}, "http://g/?q={{logql}}&r={{run_id}}")
    answer = stub_api.get(f"{PATH}?run_id=a%26b")
    url = answer.json["grafana_explore_url"]
    assert url == f"http://g/?q={quote(answer.json['loki_logql_json'], safe='')}&r=a%26b"


@pytest.mark.parametrize(
    ("given", "start"),
    [
        ("2026-11-22T09:00:00Z", "2026-11-22T09:00:00.000000000Z"),
        ("2026-11-22t10:30:00.123456789%2B01:30", "2026-11-22T09:00:00.123456789Z"),
        ("2026-11-22T08:59:59.9-00:00", "2026-11-22T08:59:59.900000000Z"),
    ],
)
def test_times_are_answered_in_utc(stub_api: Any, given: str, start: str) -> None:
    answer = stub_api.get(f"{PATH}?since={given}").json
    assert answer["start"] == start
    assert answer["google_cloud_logging"] == f'timestamp>="{start}"'


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ("since=yesterday", "/since"),
        ("since=2026-11-22T09:00:00", "/since"),
        ("until=2026-13-22T09:00:00Z", "/until"),
        ("until=0001-01-01T00:00:00%2B23:00", "/until"),
        ("since=2026-11-22T09:00:00Z&until=2026-11-22T09:00:00Z", "/since"),
        ("run_id=", "/run_id"),
        ("run_id=" + "a" * 257, "/run_id"),
        ("function=..", "/function"),
        ("collection_path=a%2F..%2Fb", "/collection_path"),
        ("runid=x", "/runid"),
    ],
)
def test_illegal_values_are_named(stub_api: Any, query: str, pointer: str) -> None:
    stub_api.get(f"{PATH}?{query}").refused(422, "invalid_value", pointer)


def test_what_cannot_be_decoded_or_is_said_twice_is_malformed(stub_api: Any) -> None:
    for query in ("run_id=%00", "run_id=%ff", "run_id=a&run_id=b"):
        stub_api.get(f"{PATH}?{query}").refused(400)
