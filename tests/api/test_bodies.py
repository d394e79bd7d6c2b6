from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lowcode_faas_core.api.bodies import Body
from lowcode_faas_core.errors import MalformedRequest
from lowcode_faas_core.wire import CheckRequest, RunRequest

#: Bodies that are no JSON, or that JSON readers do not agree on.
MALFORMED = {
    "empty object cut short": b'{"input":',
    "no JSON": b"hello",
    "trailing text": b'{"input":{}} x',
    "a byte order mark": b'\xef\xbb\xbf{"input":{}}',
    "single quotes": b"{'input':{}}",
    "a comment": b'{"input":{} /* no */}',
    "raw control character": b'{"input":{"a":"\x01"}}',
    "not UTF-8 in input": b'{"input":{"a":"\xff"}}',
    "not UTF-8 in a key": b'{"\xff":1}',
    "overlong UTF-8": b'{"input":{"a":"\xc0\xaf"}}',
    "a surrogate in UTF-8": b'{"input":{"a":"\xed\xa0\x80"}}',
}
DEEP = {
    "arrays": b"[" * 100_000,
    "closed arrays": b'{"input":{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}}",
    "objects": b'{"input":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001,
}
NUMBERS = {
    "NaN": b'{"input":NaN}',
    "NaN inside": b'{"input":{"a":NaN}}',
    "Infinity": b'{"input":{"a":-Infinity}}',
    "1e400": b'{"input":{"a":1e400}}',
    "1e400 as a timeout": b'{"timeout_ms":1e400}',
    "5000 digits": b'{"input":{"a":' + b"9" * 5000 + b"}}",
    "5000 digits as a timeout": b'{"timeout_ms":' + b"9" * 5000 + b"}",
    "leading zero": b'{"input":{"a":01}}',
}
LONE_SURROGATES = {
    "high": b'{"input":{"a":"\\ud800"}}',
    "low": b'{"input":{"a":"\\udc00 and more text"}}',
    "two high": b'{"input":{"a":"\\ud83d\\ud83d and more"}}',
    "in a key": b'{"input":{"\\ud800 key":1}}',
    "in env": b'{"env":{"A":"\\ud800 and more text"}}',
}
EVERY_POST = [
    ("POST", "/functions"),
    ("POST", "/collections"),
    ("POST", "/functions/greet/invoke"),
    ("POST", "/functions/greet/rollback"),
    ("PUT", "/functions/greet/env"),
    ("PUT", "/collections/env"),
]


@pytest.mark.parametrize("content", MALFORMED.values(), ids=MALFORMED)
@pytest.mark.parametrize(("method", "target"), EVERY_POST)
def test_what_is_no_json_is_malformed(
    stub_api: Any, method: str, target: str, content: bytes
) -> None:
    stub_api.request(method, target, body=content).refused(400, "malformed_request")


@pytest.mark.fault(14)
@pytest.mark.parametrize("content", DEEP.values(), ids=DEEP)
@pytest.mark.parametrize(("method", "target"), EVERY_POST)
def test_endless_nesting_is_malformed(
    stub_api: Any, method: str, target: str, content: bytes
) -> None:
    stub_api.request(method, target, body=content).refused(400, "malformed_request")
    assert stub_api.get("/healthz").status == 200


@pytest.mark.fault(15)
@pytest.mark.parametrize("content", NUMBERS.values(), ids=NUMBERS)
def test_numbers_json_cannot_hold_are_malformed(api: Any, content: bytes) -> None:
    api.deploy()
    answer = api.post("/functions/greet/invoke", body=content)

    assert answer.refused(400, "malformed_request")["outcome"] == "not_executed"


@pytest.mark.fault(16)
def test_of_equal_keys_the_last_counts(api: Any) -> None:
    api.deploy()
    deployed = b'{"name":"a","name":"../b","source_code":"x"}'
    api.post("/functions", body=deployed).refused(422, "invalid_value", "/name")
    invoked = (
        b'{"input":{"a":1},"env":{"A":"1","A":"2"},"input":{"b":1,"b":2},"input":{"b":3,"b":4}}'
    )
    answer = api.post("/functions/greet/invoke", body=invoked)

    data = answer.json["output"]["data"]
    assert data["input"] == {"b": 4}
    assert data["env"]["A"] == "2"
    last_is_wrong = b'{"input":{},"input":[]}'
    api.post("/functions/greet/invoke", body=last_is_wrong).refused(422, pointer="/input")


@pytest.mark.fault(17)
@pytest.mark.parametrize(
    ("content", "pointer"),
    [
        ('{"input": []}', "/input"),
        ('{"input": "x"}', "/input"),
        ('{"input": 5}', "/input"),
        ('{"input": null}', "/input"),
        ('{"env": {"A": 1}}', "/env/A"),
        ('{"env": {"A": "x", "B": null}}', "/env/B"),
        ('{"env": {"a/b~c": {}}}', "/env/a~1b~0c"),
        ('{"env": []}', "/env"),
        ('{"timeout_ms": "5"}', "/timeout_ms"),
        ('{"timeout_ms": true}', "/timeout_ms"),
        ('{"timeout_ms": -1}', "/timeout_ms"),
        ('{"timeout_ms": 0}', "/timeout_ms"),
        ('{"timeout_ms": 1e12}', "/timeout_ms"),
        ('{"timeout_ms": 1000000000000}', "/timeout_ms"),
        ('{"timeout_ms": 99999999999999999999999}', "/timeout_ms"),
        ('{"timeout_ms": 1.5}', "/timeout_ms"),
        ('{"timeout_ms": 900001}', "/timeout_ms"),
        ('{"version": 0}', "/version"),
        ('{"version": "1"}', "/version"),
        ('{"version": 99999999999999999999999}', "/version"),
        ('{"run_id": ""}', "/run_id"),
        ('{"run_id": "a b"}', "/run_id"),
        ('{"run_id": 5}', "/run_id"),
        ('{"execution_id": "short"}', "/execution_id"),
        ('{"execution_id": "' + "a" * 65 + '"}', "/execution_id"),
        ('{"collection_path": "a//b"}', "/collection_path"),
        ("[]", ""),
        ("null", ""),
        ('"text"', ""),
    ],
)
def test_wrong_types_and_values_are_pointed_at(stub_api: Any, content: str, pointer: str) -> None:
    stub_api.deploy()
    answer = stub_api.post("/functions/greet/invoke", body=content.encode())

    problem = answer.refused(422, "invalid_value", pointer)
    assert problem["where"] == "body"
    assert problem["outcome"] == "not_executed"


@pytest.mark.fault(17)
@pytest.mark.parametrize(
    ("fields", "pointer"),
    [
        ({"name": None}, "/name"),
        ({"name": ["a"]}, "/name"),
        ({"source_code": 5}, "/source_code"),
        ({"source_code": ""}, "/source_code"),
        ({"source_code": " \n"}, "/source_code"),
        ({"language": "ruby"}, "/language"),
        ({"language": "JavaScript"}, "/language"),
        ({"reuse": "hot"}, "/reuse"),
        ({"env": {"A": []}}, "/env/A"),
        ({"limits": []}, "/limits"),
        ({"limits": {"memory": 64}}, "/limits/memory"),
        ({"limits": {"memory_mb": True}}, "/limits/memory_mb"),
        ({"limits": {"memory_mb": 1}}, "/limits/memory_mb"),
        ({"limits": {"memory_mb": 1 << 40}}, "/limits/memory_mb"),
        ({"limits": {"cpus": 0}}, "/limits/cpus"),
        ({"limits": {"cpus": "1"}}, "/limits/cpus"),
        ({"limits": {"pids": 1.5}}, "/limits/pids"),
        ({"limits": {"timeout_ms": 900_001}}, "/limits/timeout_ms"),
        ({"limits": {"timeout_ms": 0}}, "/limits/timeout_ms"),
        ({"limits": {"tmp_mb": -1}}, "/limits/tmp_mb"),
    ],
)
def test_illegal_deployments_are_pointed_at(api: Any, fields: dict[str, Any], pointer: str) -> None:
    body = {"name": "greet", "source_code": "x", **fields}

    api.post("/functions", body).refused(422, "invalid_value", pointer)
    assert api.get("/functions").json["items"] == []


def test_missing_fields_are_pointed_at(api: Any) -> None:
    api.post("/functions", {"name": "greet"}).refused(422, pointer="/source_code")
    api.post("/functions", {}).refused(422, pointer="/name")
    api.post("/collections", {}).refused(422, pointer="/path")
    api.put("/functions/greet/env", {}).refused(422, pointer="/env")
    api.deploy()
    api.post("/functions/greet/rollback", {}).refused(422, pointer="/version")
    api.post("/functions/greet/rollback").refused(422, pointer="/version")


@pytest.mark.parametrize("content", [None, b""])
def test_a_missing_body_is_malformed_where_one_is_needed(api: Any, content: bytes | None) -> None:
    for method, target in EVERY_POST[:2] + EVERY_POST[4:]:
        api.request(method, target, body=content).refused(400, "malformed_request")


@pytest.mark.fault(18)
@pytest.mark.parametrize(
    ("method", "target", "body", "pointer"),
    [
        ("POST", "/functions/greet/invoke", {"timout_ms": 5}, "/timout_ms"),
        ("POST", "/functions/greet/invoke", {"a/b": 5, "input": []}, "/a~1b"),
        ("POST", "/functions/greet/invoke", {"x` - at `$.input": 5}, "/x` - at `$.input"),
        ("POST", "/functions", {"name": "a", "source_code": "x", "envs": {}}, "/envs"),
        ("POST", "/collections", {"path": "org", "name": "x"}, "/name"),
        ("PUT", "/functions/greet/env", {"env": {}, "merge": True}, "/merge"),
        ("PUT", "/collections/env", {"A": "1"}, "/A"),
        ("POST", "/functions/greet/rollback", {"version": 1, "to": 2}, "/to"),
    ],
)
def test_unknown_fields_are_refused(
    stub_api: Any, method: str, target: str, body: dict[str, Any], pointer: str
) -> None:
    stub_api.deploy()

    stub_api.request(method, target, body).refused(422, "invalid_value", pointer)


def test_undecodable_comes_before_illegal(api: Any) -> None:
    api.post("/functions/greet/invoke", body=b'{"timeout_ms":"5","input":{"a":NaN}}').refused(400)
    api.post("/functions/greet/invoke", body=b'{"x":1,"input":{"a":1e400}}').refused(400)


@pytest.mark.fault(19)
@pytest.mark.parametrize(
    "declared",
    [
        "application/json; charset=utf-16",
        "application/json; charset=latin-1",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=x",
        "text/plain",
        "text/json",
        "nonsense",
    ],
)
def test_other_media_types_are_refused(stub_api: Any, declared: str) -> None:
    for method, target in EVERY_POST:
        answer = stub_api.request(method, target, body=b"{}", headers={"Content-Type": declared})
        answer.refused(415, "unsupported_media_type")


@pytest.mark.fault(19)
@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "gzip, identity"])
def test_compressed_bodies_are_refused(stub_api: Any, encoding: str) -> None:
    headers = {"Content-Encoding": encoding}
    answer = stub_api.post("/functions", body=b"\x1f\x8b\x08\x00", headers=headers)

    answer.refused(415, "unsupported_media_type")


@pytest.mark.fault(19)
def test_utf_16_is_malformed(api: Any) -> None:
    content = json.dumps({"input": {}}).encode("utf-16")

    api.post("/functions/greet/invoke", body=content).refused(400, "malformed_request")


@pytest.mark.parametrize(
    "declared",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        'application/json;charset="UTF-8"',
        "application/vnd.example+json",
    ],
)
def test_json_is_taken_however_it_is_declared(api: Any, declared: str) -> None:
    api.deploy()
    headers = {"Content-Type": declared, "Content-Encoding": "identity"}
    answer = api.post("/functions/greet/invoke", body=b'{"input":{"a":1}}', headers=headers)

    assert answer.json["output"]["data"]["input"] == {"a": 1}


def test_a_body_of_a_get_is_ignored(api: Any) -> None:
    headers = {"Content-Type": "text/plain", "Content-Encoding": "gzip"}

    assert api.get("/functions", body=b"\xff[", headers=headers).status == 200


@pytest.mark.fault(20)
@pytest.mark.parametrize("content", LONE_SURROGATES.values(), ids=LONE_SURROGATES)
def test_lone_surrogates_are_malformed(api: Any, content: bytes) -> None:
    api.deploy()
    api.post("/functions/greet/invoke", body=content).refused(400, "malformed_request")
    deployed = b'{"name":"greet","source_code":"// \\ud800 and more text"}'
    api.post("/functions", body=deployed).refused(400, "malformed_request")


@pytest.mark.fault(20)
@pytest.mark.parametrize(
    "text", ["\u2028\u2029", "\U0001f600", "\u00e9", "\ufeff", "\uffff", "\x7f"]
)
def test_text_makes_the_round_trip(api: Any, modules: dict[str, str], text: str) -> None:
    source = f"// {text}\n{modules['echo']}"
    api.deploy(source=source, env={"A": text})

    assert api.get("/functions/greet/source").body == source.encode()
    assert api.get("/functions/greet/env").json == {"env": {"A": text}}
    for ascii_only in (True, False):
        body = json.dumps({"input": {text: text}}, ensure_ascii=ascii_only).encode()
        data = api.post("/functions/greet/invoke", body=body).json["output"]["data"]
        assert data["input"] == {text: text}
        assert data["env"]["A"] == text


@pytest.mark.fault(13)
def test_a_body_above_the_limit_is_refused_unread(limited_api: Callable[..., Any]) -> None:
    api = limited_api(body_bytes=2048)
    declared = {"Content-Length": str(1 << 30)}

    # The body itself is not there: reading it would end in a 400.
    api.post("/functions", body=b"", headers=declared).refused(413, "payload_too_large")
    api.post("/functions", body=b"{" + b" " * 2048).refused(413, "payload_too_large")
    exact = b'{"path":"org"' + b" " * (2048 - 14) + b"}"
    assert len(exact) == 2048
    assert api.post("/collections", body=exact).status == 201


@pytest.mark.fault(13)
def test_a_chunked_body_above_the_limit_is_refused(limited_api: Callable[..., Any]) -> None:
    api = limited_api(body_bytes=2048)
    chunked = {"Transfer-Encoding": "chunked"}
    body = json.dumps({"path": "org"}).encode()

    assert api.post("/collections", body=body, headers=chunked).status == 201
    padded = b" " * (10 << 20) + body
    api.post("/collections", body=padded, headers=chunked).refused(413, "payload_too_large")


class Stalled:
    """A connection whose other side fell silent in the middle of a body."""

    def read(self, size: int) -> bytes:
        raise TimeoutError("timed out")


@pytest.mark.parametrize("declared", [{"CONTENT_LENGTH": "100"}, {"wsgi.input_terminated": True}])
def test_a_body_that_stalls_is_malformed(declared: dict[str, Any]) -> None:
    environ = {"wsgi.input": Stalled(), "CONTENT_TYPE": "application/json", **declared}
    with (
        Flask("stalled").test_request_context(method="POST", environ_overrides=environ),
        pytest.raises(MalformedRequest),
    ):
        Body(RunRequest).read(1000)


@pytest.mark.parametrize("more", [{}, {"HTTP_TRANSFER_ENCODING": "Chunked"}])
def test_a_body_whose_server_knows_its_end_needs_no_length(more: dict[str, str]) -> None:
    """As of HTTP/2, or of chunks that a server took apart without saying so."""
    environ = {
        "wsgi.input": io.BytesIO(b'{"source": "", "language": "javascript"}'),
        "wsgi.input_terminated": True,
        "CONTENT_TYPE": "application/json",
        **more,
    }
    assert Body(CheckRequest).read_from(environ, 1000).source == ""


def test_a_body_that_ends_early_is_malformed(stub_api: Any) -> None:
    headers = {"Content-Length": "100"}

    stub_api.post("/functions", body=b"{}", headers=headers).refused(400, "malformed_request")


def test_parts_above_their_limits_are_refused(limited_api: Callable[..., Any]) -> None:
    api = limited_api(source_bytes=1024, input_bytes=1024, env_bytes=1024)
    api.deploy("fits", "x" * 1024)
    too_large = {"name": "large", "source_code": "\u00e9" * 513}
    api.post("/functions", too_large).refused(413, "payload_too_large")
    problem = api.post("/functions/fits/invoke", {"input": {"a": "x" * 1024}}).refused(413)

    assert problem["outcome"] == "not_executed"
    env = {"env": {"A": "x" * 1022}}
    for answer in (
        api.post("/functions/fits/invoke", env),
        api.put("/functions/fits/env", env),
        api.put("/collections/env", env),
        api.post("/functions", {"name": "other", "source_code": "x", **env}),
    ):
        answer.refused(422, "invalid_value", "/env")


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    content=st.binary(max_size=200) | st.text(max_size=100).map(str.encode), which=st.integers(0, 5)
)
def test_no_bytes_are_a_fault_of_ours(stub_api: Any, content: bytes, which: int) -> None:
    method, target = EVERY_POST[which]

    assert stub_api.request(method, target, body=content).status < 500


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    "name source_code language collection_path env reuse limits path input timeout_ms version run_id "
    "execution_id memory_mb cpus".split()
)


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    body=st.dictionaries(
        FIELDS, JSON_VALUES | st.dictionaries(FIELDS, JSON_VALUES, max_size=2), max_size=4
    ),
    which=st.integers(0, 5),
)
def test_no_values_are_a_fault_of_ours(stub_api: Any, body: dict[str, Any], which: int) -> None:
    method, target = EVERY_POST[which]

    assert stub_api.request(method, target, body).status < 500


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    path=st.lists(
        st.sampled_from(
            ["functions", "collections", "env", "invoke", "a", "..", "%2f", "%ff", "%00", ""]
        )
        | st.text(st.characters(max_codepoint=255, exclude_characters="?"), max_size=4),
        max_size=8,
    ),
    query=st.text(st.characters(max_codepoint=255), max_size=20),
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "OPTIONS"]),
)
def test_no_target_is_a_fault_of_ours(
    stub_api: Any, path: list[str], query: str, method: str
) -> None:
    target = f"/{'/'.join(path)}?{query}"

    assert stub_api.send(method, target, {}, b"").status < 500


@pytest.mark.parametrize(
    ("target", "body", "detail"),
    [
        ("/functions", {"name": "a", "source_code": 5}, "must be a string, not a number"),
        ("/functions", {"name": "a", "source_code": "x", "reuse": "hot"}, "must be warm or fresh"),
        ("/functions", {"name": "a", "source_code": "x", "reuse": 5}, "must be warm or fresh"),
        (
            "/functions",
            {"name": "a", "source_code": "x", "language": "python"},
            "must be javascript or typescript",
        ),
        ("/functions", {"name": "a", "source_code": "x", "limits": []}, "must be an object, not"),
        (
            "/functions",
            {"name": "a", "source_code": "x", "limits": {"cpus": True}},
            "must be a number, not a boolean",
        ),
        (
            "/functions",
            {"name": "a", "source_code": "x", "limits": {"memory": 5}},
            "known are memory_mb, cpus, pids, tmp_mb, timeout_ms",
        ),
        ("/functions", {"name": "a", "source_code": "x", "env": {"A": 1}}, "must be a string, not"),
        ("/functions/greet/invoke", {"timeout_ms": 1.5}, "must be a whole number"),
        ("/functions/greet/invoke", {"version": "1"}, "must be a whole number, not a string"),
        (
            "/functions/greet/invoke",
            {"name": "world"},
            "known are input, timeout_ms, env, version, run_id, execution_id, collection_path; "
            "what the function is to be given goes inside input",
        ),
        ("/collections", {"name": "org"}, "known are path, env"),
    ],
)
def test_a_refusal_says_what_would_be_legal(
    stub_api: Any, target: str, body: dict[str, Any], detail: str
) -> None:
    said = stub_api.post(target, body).refused(422, "invalid_value")["detail"]
    assert detail in said
    assert "Expected" not in said
    assert "enum" not in said


@pytest.mark.parametrize("text", ["2", "2.0", "2e0", "20.0e-1"])
def test_a_whole_number_may_be_written_in_any_way(stub_api, text):
    stub_api.deploy()
    stub_api.deploy(source="export const handler = () => 2;")
    body = f'{{"version": {text}, "timeout_ms": {text}e3}}'.replace("e0e3", "e3").replace(
        "e-1e3", "e2"
    )
    answer = stub_api.post("/functions/greet/invoke", body=body.encode())
    assert (answer.status, answer.json["deployment_version"]) == (200, 2)


@pytest.mark.parametrize("text", ["2.5", '"2"', "true", "[2]", "1e400", '"null"'])
def test_what_is_none_is_no_whole_number(stub_api, text):
    stub_api.deploy()
    body = f'{{"limits": {{"pids": {text}}}, "name": "x", "source_code": "y"}}'
    assert stub_api.post("/functions", body=body.encode()).status in (400, 422)
    answer = stub_api.post("/functions/greet/invoke", body=f'{{"version": {text}}}'.encode())
    assert answer.status in (400, 422)
