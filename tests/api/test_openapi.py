from __future__ import annotations

import base64
import dataclasses
import hashlib
import html
import re
from typing import Any

import pytest
from openapi_spec_validator import validate

from lowcode_faas_core import errors
from lowcode_faas_core.api import collections, deployments, environments, invoke
from lowcode_faas_core.api.application import create_api
from lowcode_faas_core.configuration import LimitSettings
from lowcode_faas_core.limits import OperatorLimits
from lowcode_faas_core.model import (
    Collection,
    Deployment,
    ErrorCode,
    Function,
    Limits,
    Phase,
    RunResult,
    StartKind,
    Status,
)
from lowcode_faas_core.records import Record, RecordedLine, RecordStatus
from tests.api.conftest import Description, stub_setup_with

#: Codes that need no exception of their own.
OTHER_CODES = {"method_not_allowed", "not_ready"}
#: Errors of the start, and codes of what is not built yet or is never raised as itself.
UNSERVED_CODES = set("start_error configuration_error plugin_error conflict".split())


def test_the_description_is_valid(description: Any) -> None:
    validate(description.document)


def test_the_description_is_served(api: Any, description: Any) -> None:
    assert api.get("/openapi.json").json == description.document


def test_every_route_is_described_and_no_other(stub_api: Any, description: Any) -> None:
    app = create_api(stub_api.services)
    routed = {
        (method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    described = {
        (method.upper(), path)
        for path, item in description.document["paths"].items()
        for method in item
        if method != "parameters"
    }

    assert routed == described


def test_flat_and_nested_routes_answer_alike(description: Any) -> None:
    paths = description.document["paths"]
    flat = {path for path in paths if path.startswith("/functions")}
    nested = {path for path in paths if path.startswith("/collections/{collection_path}/")}

    assert {"/collections/{collection_path}" + path for path in flat} == nested
    for path in flat:
        for method, operation in paths[path].items():
            if method != "parameters":
                twin = paths["/collections/{collection_path}" + path][method]
                assert twin["responses"] == operation["responses"]
                assert twin.get("requestBody") == operation.get("requestBody")


def test_every_success_is_answered_as_described(
    api: Any, modules: dict[str, str], description: Any
) -> None:
    before = set(description.seen)
    description.seen.clear()
    post, put, get = api.post, api.put, api.get
    post("/collections", {"path": "org"})
    get("/collections")
    put("/collections/env", {"env": {}})
    get("/collections/env")
    get("/collections/org")
    put("/collections/org/env", {"env": {"A": "1"}})
    get("/collections/org/env")
    for base in ("", "/collections/org"):
        deploy = {"name": "greet", "source_code": modules["echo"]}
        post(f"{base}/functions", deploy)
        post(f"{base}/functions", deploy)
        get(f"{base}/functions")
        function = f"{base}/functions/greet"
        get(function)
        etag = get(f"{function}/source").headers["ETag"]
        get(f"{function}/source", headers={"If-None-Match": etag})
        put(f"{function}/env", {"env": {}})
        get(f"{function}/env")
        get(f"{function}/env/explain")
        get(f"{function}/versions")
        post(f"{function}/rollback", {"version": 1})
        pull = {"source_url": api.sources.publish(modules["echo"] + "// pulled\n")}
        post(f"{function}/pull", pull)
        post(f"{function}/pull", pull)
        execution = post(f"{function}/invoke", {"input": {}}).json["execution_id"]
        for rest in ("", "/logs"):
            get(f"/executions/{execution}{rest}")
        post(f"/executions/{execution}/replay")
        get(f"{function}/stats")
        api.delete(function)
    api.delete("/collections/org")
    for target in (
        "/executions",
        "/function-logs/query",
        "/healthz",
        "/readyz",
        "/limits",
        "/metrics",
        "/openapi.json",
        "/docs",
    ):
        get(target)

    promised = {
        (operation["operationId"], int(status))
        for item in description.document["paths"].values()
        for method, operation in item.items()
        if method != "parameters"
        for status in operation["responses"]
        if int(status) < 400
    }
    assert {seen for seen in description.seen if seen[1] < 400} == promised
    description.seen |= before


@pytest.mark.parametrize(
    ("schema", "struct"),
    [
        ("CollectionCreate", collections.CreateBody),
        ("EnvBody", collections.EnvBody),
        ("FunctionEnvBody", environments.FunctionEnvBody),
        ("DeployBody", deployments.DeployBody),
        ("PullBody", deployments.PullBody),
        ("RollbackBody", deployments.RollbackBody),
        ("InvokeBody", invoke.InvokeBody),
        ("Limits", Limits),
        ("Collection", Collection),
        ("Deployment", Deployment),
        ("Function", Function),
        ("RunResult", RunResult),
        ("Execution", Record),
        ("ExecutionLine", RecordedLine),
    ],
)
def test_shapes_have_the_described_fields(description: Any, schema: str, struct: Any) -> None:
    described = description.document["components"]["schemas"][schema]

    assert set(described["properties"]) == set(struct.__struct_fields__)
    assert described["additionalProperties"] is False


def test_every_code_and_word_is_described(description: Any) -> None:
    schemas = description.document["components"]["schemas"]
    codes = {
        kind.code
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.FaasError)
    }

    assert (
        set(schemas["Problem"]["properties"]["code"]["enum"])
        == (codes - UNSERVED_CODES) | OTHER_CODES
    )
    assert schemas["Status"]["enum"] == [status.value for status in Status]
    assert schemas["ExecutionStatus"]["enum"] == [status.value for status in RecordStatus]
    error = schemas["ExecutionError"]["properties"]
    assert error["code"]["enum"] == [code.value for code in ErrorCode]
    assert error["phase"]["enum"] == [phase.value for phase in Phase]
    assert schemas["RunResult"]["properties"]["start"]["enum"] == [kind.value for kind in StartKind]


def _contents(node: Any) -> Any:
    if isinstance(node, dict):
        if "schema" in node and ("examples" in node or "example" in node):
            yield node
        for value in node.values():
            yield from _contents(value)
    elif isinstance(node, list):
        for value in node:
            yield from _contents(value)


def test_examples_are_what_they_are_examples_of(description: Any) -> None:
    contents = list(_contents(description.document))
    assert len(contents) > 30
    for content in contents:
        for name, example in content["examples"].items():
            description.validate(example["value"], content["schema"], name)


def test_every_code_has_an_example_with_its_status(description: Any) -> None:
    statuses = {
        kind.code: kind.status
        for kind in vars(errors).values()
        if isinstance(kind, type) and issubclass(kind, errors.FaasError)
    } | {"method_not_allowed": 405, "not_ready": 503}
    seen = {
        example["value"]["code"]: example["value"]["status"]
        for content in _contents(description.document)
        for example in content["examples"].values()
        if "code" in example["value"] and "request_id" in example["value"]
    }
    codes = description.document["components"]["schemas"]["Problem"]["properties"]["code"]["enum"]
    assert seen == {code: statuses[code] for code in codes}


def test_every_operation_shows_what_is_sent_and_answered(description: Any) -> None:
    for item in description.document["paths"].values():
        for method, operation in item.items():
            if method == "parameters" or operation["operationId"] == "getOpenapi":
                continue
            for content in operation.get("requestBody", {}).get("content", {}).values():
                assert content["examples"], operation["operationId"]
            for status, response in operation["responses"].items():
                content = response.get("content", {})
                if status.startswith("2") and "application/json" in content:
                    assert content["application/json"]["examples"], operation["operationId"]


def test_every_operation_that_asks_who_calls_says_how_that_may_end(description: Any) -> None:
    asked = 0
    for item in description.document["paths"].values():
        for method, operation in item.items():
            if method != "parameters" and operation.get("security") != []:
                asked += 1
                assert {"401", "429"} <= set(operation["responses"]), operation["operationId"]
    assert asked > 20


def test_links_lead_to_operations_and_their_parameters(description: Any) -> None:
    operations: dict[str, set[str]] = {}
    links: list[dict[str, Any]] = []
    for item in description.document["paths"].values():
        for method, operation in item.items():
            if method != "parameters":
                given = [*item.get("parameters", ()), *operation.get("parameters", ())]
                operations[operation["operationId"]] = {
                    f"{each['in']}.{each['name']}" for each in map(description.resolve, given)
                }
                for response in operation["responses"].values():
                    links += response.get("links", {}).values()
    assert len(links) > 20
    for link in links:
        assert set(link["parameters"]) <= operations[link["operationId"]]


def test_the_served_bounds_are_the_operators() -> None:
    limits = OperatorLimits(
        dataclasses.replace(LimitSettings(), max_memory_mb=999, max_timeout_ms=200_000)
    )
    api = stub_setup_with(limits, Description())
    schemas = api.get("/openapi.json").json["components"]["schemas"]
    assert schemas["Limits"]["properties"]["memory_mb"]["maximum"] == 999
    assert schemas["InvokeBody"]["properties"]["timeout_ms"]["maximum"] == 200_000


def test_the_page_is_whole_and_asks_for_nothing(stub_api: Any, description: Any) -> None:
    answer = stub_api.get("/docs")
    page = answer.body.decode()
    assert answer.headers["Content-Type"] == "text/html; charset=utf-8"
    policy = answer.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"'sha256-{digest}'" in policy
    assert not re.search(r"<script|<link|<img|<iframe|@import|url\(|src=|style=", page)
    assert re.findall(r'href="([^"]*)"', page) == ["openapi.json"]
    for path, item in description.document["paths"].items():
        for method, operation in item.items():
            if method != "parameters":
                assert f"{method.upper()} {path}" in page
                assert (
                    html.escape(operation["summary"], quote=True).replace("&#x27;", "&#39;") in page
                )
    for code in description.document["components"]["schemas"]["Problem"]["properties"]["code"][
        "enum"
    ]:
        assert code in page
