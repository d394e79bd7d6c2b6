"""Nobody's web page may use an API that asks for no credentials."""

from __future__ import annotations

import pytest

from lowcode_faas_core.authentication import Authentication, TokenAuthenticator
from lowcode_faas_core.callers import Verb
from lowcode_faas_core.tokens import TokenFile

BODY = {"name": "planted", "source_code": "export const handler = () => ({ ok: true });"}


@pytest.mark.parametrize(
    "host",
    ["localhost", "localhost:8080", "127.0.0.1", "127.9.9.9:80", "[::1]:8080", "LOCALHOST:1"],
)
def test_a_host_that_is_this_machine_is_served(stub_api, host):
    assert stub_api.request("GET", "/functions", headers={"Host": host}).status == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "10.0.0.1",
        "[::2]:1",
        "0x7f.1",
        "[",
        "evil.example:127.0.0.1",
    ],
)
@pytest.mark.parametrize(("method", "path"), [("GET", "/functions"), ("POST", "/functions")])
def test_a_name_that_was_made_to_point_here_is_refused(stub_api, method, path, host):
    body = BODY if method == "POST" else None
    answer = stub_api.request(method, path, json=body, headers={"Host": host})
    assert answer.status == 403
    assert answer.json["code"] == "forbidden"
    assert stub_api.request("GET", "/functions").json["items"] == []


@pytest.mark.fault(28)
@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_what_a_page_elsewhere_sends_changes_nothing(stub_api, headers):
    for method, path, body in (
        ("POST", "/functions", BODY),
        ("POST", "/functions/greet/invoke", None),
        ("DELETE", "/functions/greet", None),
        ("PUT", "/collections/env", {"env": {}}),
    ):
        answer = stub_api.request(method, path, json=body, headers=headers)
        assert (answer.status, answer.json["code"]) == (403, "forbidden")


def test_a_page_of_our_own_may_use_it(stub_api):
    headers = {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin", "Host": "localhost"}
    assert stub_api.request("POST", "/functions", json=BODY, headers=headers).status == 201


@pytest.mark.fault(28)
@pytest.mark.parametrize(
    "declared", ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data"]
)
def test_a_body_no_preflight_is_asked_for_is_refused(stub_api, declared):
    answer = stub_api.request("POST", "/functions", json=BODY, headers={"Content-Type": declared})
    assert answer.status == 415


@pytest.mark.fault(28)
@pytest.mark.parametrize("shown", [True, False])
def test_no_page_elsewhere_gets_leave_or_a_cookie(stub_api, tmp_path, shown):
    # Given an API behind tokens, and a page elsewhere, with or without somebody's token
    file = TokenFile(tmp_path / "tokens.json")
    token = file.create("ops", [Verb.ADMIN])
    stub_api.services.authentication = Authentication(TokenAuthenticator(file))
    headers = {"Origin": "https://evil.example", "Host": "faas.example"}
    if shown:
        headers["Authorization"] = f"Bearer {token}"
    preflight = {
        **headers,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type",
    }
    # When it asks for leave, reads and writes
    answers = [
        stub_api.request("OPTIONS", "/functions", headers=preflight),
        stub_api.request("GET", "/functions", headers=headers),
        stub_api.request("POST", "/functions", json=BODY, headers=headers),
        stub_api.request(
            "POST", "/functions", json=BODY, headers={**headers, "Content-Type": "text/plain"}
        ),
    ]
    # Then no answer lets a browser show it to the page, none sets a cookie, nothing was written
    for answer in answers:
        assert not [name for name, _ in answer.headers if name.startswith("Access-Control-")]
        assert "Set-Cookie" not in answer.headers
    assert [answer.status for answer in answers[2:]] == [403, 403]
    owner = {"Authorization": f"Bearer {token}"}
    assert stub_api.get("/functions", headers=owner).json["items"] == []
