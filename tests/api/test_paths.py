from __future__ import annotations

from typing import Any

import pytest

#: (target, expected status): names that are no names, wherever a path holds them.
TRAVERSAL_NAMES = ["..", "../x", "..%2f..%2fetc%2fpasswd", ".", "a%2Fb", "a%5Cb", "%2e%2e"]
LOOK_ALIKES = ["gre%65%CC%81t", "gr%C3%A9et", "%EF%BD%87reet", "gr%E2%80%8Feet"]
RESERVED = ["functions", "env", "__root__", "versions", "invoke", "pull", "rollback", "source"]
FORMS = ["/functions/{}", "/functions/{}/source", "/functions/{}/env", "/functions/{}/versions"]


@pytest.mark.fault(1)
@pytest.mark.parametrize("name", TRAVERSAL_NAMES)
@pytest.mark.parametrize("form", FORMS)
def test_traversal_in_a_function_name_is_refused(stub_api: Any, name: str, form: str) -> None:
    answer = stub_api.get(form.format(name))

    assert answer.refused(422)["where"] == "path"


@pytest.mark.fault(1)
@pytest.mark.parametrize("name", ["..", "../x", ".", "a/b", "a\\b", "/etc/passwd", ""])
def test_traversal_in_a_deployed_name_is_refused(api: Any, name: str) -> None:
    answer = api.post("/functions", {"name": name, "source_code": "x"})

    answer.refused(422, "invalid_value", "/name")
    assert api.get("/functions").json["items"] == []


@pytest.mark.fault(2)
@pytest.mark.parametrize(
    "target",
    [
        "/collections/..%2f..%2fetc/functions",
        "/collections/a/../../x/functions",
        "/collections/../functions",
        "/collections/..",
        "/collections/org/../env",
        "/collections/.%2fenv",
        "/functions?collection_path=org%2F..%2F..%2Fx",
        "/functions?collection_path=..",
        "/functions?collection_path=%2Fetc",
        "/functions?collection_path=org%2F",
        "/collections?prefix=..%2F..",
    ],
)
def test_traversal_in_a_collection_path_is_refused(api: Any, target: str) -> None:
    api.get(target).refused(422)


@pytest.mark.fault(2)
def test_traversal_in_a_collection_path_of_a_body_is_refused(api: Any) -> None:
    for path in ("..", "org/../../x", "/org", "org//team", "org/"):
        deployed = {"name": "greet", "source_code": "x", "collection_path": path}
        api.post("/functions", deployed).refused(422, "invalid_value", "/collection_path")
        api.post("/collections", {"path": path}).refused(422, "invalid_value", "/path")


@pytest.mark.fault(3)
def test_a_path_is_decoded_once(api: Any) -> None:
    api.get("/functions/..%252f..%252fetc").refused(422, pointer="/name")
    api.get("/collections/..%252f..%252fetc").refused(422, pointer="/path")
    api.get("/functions?collection_path=..%252f..%252fetc").refused(422)


@pytest.mark.fault(4)
@pytest.mark.parametrize(
    "name", ["a%00b", "a%0ab", "a%0D%0Ab", "%ff", "%c3%28", "%7f", "%ed%a0%80"]
)
def test_bytes_that_are_no_text_are_refused(stub_api: Any, name: str) -> None:
    for target in (
        f"/functions/{name}",
        f"/collections/{name}",
        f"/collections/org/{name}/functions",
        f"/functions?collection_path={name}",
        f"/functions?{name}=1",
    ):
        stub_api.get(target).refused(400, "malformed_request")


@pytest.mark.fault(4)
@pytest.mark.parametrize("name", ["a\0b", "a\nb", "greet\n"])
def test_control_characters_in_a_body_are_refused(api: Any, name: str) -> None:
    api.post("/functions", {"name": name, "source_code": "x"}).refused(422, pointer="/name")
    api.post("/collections", {"path": name}).refused(422, pointer="/path")


@pytest.mark.fault(5)
@pytest.mark.parametrize("name", LOOK_ALIKES)
def test_names_are_ascii(api: Any, name: str) -> None:
    api.get(f"/functions/{name}").refused(422, pointer="/name")
    api.get(f"/collections/{name}").refused(422, pointer="/path")


@pytest.mark.fault(5)
@pytest.mark.parametrize("name", ["gre\u0065\u0301t", "\uff47reet", "gr\u200feet", "\u0661"])
def test_deployed_names_are_ascii(api: Any, name: str) -> None:
    api.post("/functions", {"name": name, "source_code": "x"}).refused(422, pointer="/name")


@pytest.mark.fault(6)
@pytest.mark.parametrize("word", [*RESERVED, "explain"])
def test_reserved_words_are_no_segments(api: Any, word: str) -> None:
    for path in (word, f"org/{word}", f"{word}/team"):
        api.post("/collections", {"path": path}).refused(422, "invalid_value", "/path")
        api.get(f"/functions?collection_path={path}").refused(422, pointer="/collection_path")
    api.get(f"/collections/{word}/functions").refused(422)
    api.get(f"/collections/{word}/functions/greet/env/explain").refused(422)
    if word != "env":
        api.get(f"/collections/{word}").refused(422)


@pytest.mark.fault(6)
@pytest.mark.parametrize("name", ["collection.env", "greet.env", "x.mjs", "x.env.json"])
@pytest.mark.fault(7)
def test_names_have_no_dots(api: Any, name: str) -> None:
    api.post("/functions", {"name": name, "source_code": "x"}).refused(422, pointer="/name")
    api.post("/collections", {"path": name}).refused(422, pointer="/path")
    api.get(f"/functions/{name}").refused(422, pointer="/name")


def test_reserved_words_may_name_functions(api: Any) -> None:
    api.collection("org")
    for name in ("env", "functions", "invoke", "explain"):
        assert api.deploy(name, collection_path="org")["function_name"] == name
        assert api.get(f"/collections/org/functions/{name}").json["name"] == name
        assert api.get(f"/collections/org/functions/{name}/env").json == {"env": {}}


@pytest.mark.fault(8)
def test_names_that_differ_in_case_are_two_functions(api: Any) -> None:
    api.deploy("Greet", "export const handler = () => ({ok: true, data: 1});\n")
    second = api.post("/functions", {"name": "greet", "source_code": "// other\n"})

    assert second.status in (201, 409)
    first = api.get("/functions/Greet/source").body
    assert first == b"export const handler = () => ({ok: true, data: 1});\n"


@pytest.mark.fault(9)
def test_overlong_names_are_refused(api: Any) -> None:
    assert api.deploy("a" * 64)["version"] == 1
    for length in (65, 255, 4096):
        name = "a" * length
        api.post("/functions", {"name": name, "source_code": "x"}).refused(422, pointer="/name")
        api.get(f"/functions/{name}").refused(422, pointer="/name")
        api.post("/collections", {"path": name}).refused(422, pointer="/path")


@pytest.mark.fault(9)
def test_overlong_collection_paths_are_refused(stub_api: Any) -> None:
    deepest = "/".join("abcdefgh")
    stub_api.collection(deepest)
    assert stub_api.get(f"/collections/{deepest}").status == 200
    long = "/".join(["a" * 60] * 5)
    for path in (f"{deepest}/i", "/".join(["a"] * 1000), long, "a/" * 500_000 + "a"):
        stub_api.post("/collections", {"path": path}).refused(422, pointer="/path")
        stub_api.get(f"/collections/{path}").refused(422, pointer="/path")
        stub_api.get(f"/collections/{path}/functions").refused(422, pointer="/collection_path")
        stub_api.get(f"/functions?collection_path={path}").refused(422, pointer="/collection_path")


@pytest.mark.fault(11)
def test_names_of_object_members_are_ordinary(api: Any, modules: dict[str, str]) -> None:
    for name in ("constructor", "toString", "hasOwnProperty"):
        api.deploy(name, modules["echo"], env={"__proto__": "polluted", "constructor": "c"})

        assert api.get(f"/functions/{name}").json["env_keys"] == ["__proto__", "constructor"]
        explained = api.get(f"/functions/{name}/env/explain").json["env"]
        assert explained["__proto__"]["value"] == "polluted"
        data = api.invoke(name)["output"]["data"]
        assert data["env"]["constructor"] == "c"


@pytest.mark.fault(22)
@pytest.mark.parametrize(
    "target",
    [
        "/",
        "/nothing",
        "//functions",
        "/functions/",
        "/functions//invoke",
        "/functions/greet/",
        "/functions/greet/nothing",
        "/functions/greet/env/",
        "/collections/",
        "/collections/org/",
        "/collections//functions",
        "/collections/org//functions",
        "/collections/org/functions/",
        "/healthz/",
        "/Functions",
        "/functions;x=1",
        "/static/x",
    ],
)
def test_unknown_paths_are_problems_and_never_redirects(stub_api: Any, target: str) -> None:
    stub_api.get(target).refused(404, "not_found")


@pytest.mark.fault(22)
@pytest.mark.parametrize(
    ("method", "target", "allowed"),
    [
        ("PATCH", "/functions", "GET, HEAD, OPTIONS, POST"),
        ("PUT", "/functions/greet", "DELETE, GET, HEAD, OPTIONS"),
        ("GET", "/functions/greet/invoke", "OPTIONS, POST"),
        ("DELETE", "/collections/org/team/env", "GET, HEAD, OPTIONS, PUT"),
        ("POST", "/healthz", "GET, HEAD, OPTIONS"),
        ("BREW", "/functions", "GET, HEAD, OPTIONS, POST"),
    ],
)
def test_wrong_methods_name_the_right_ones(
    stub_api: Any, method: str, target: str, allowed: str
) -> None:
    answer = stub_api.request(method, target)

    answer.refused(405, "method_not_allowed")
    assert answer.headers["Allow"] == allowed


def test_options_and_head_are_answered(api: Any) -> None:
    api.deploy()

    options = api.request("OPTIONS", "/functions/greet")
    assert options.status == 200
    assert set(options.headers["Allow"].split(", ")) == {"DELETE", "GET", "HEAD", "OPTIONS"}
    head = api.request("HEAD", "/functions/greet")
    assert head.status == 200
    assert int(head.headers["Content-Length"]) == len(api.get("/functions/greet").body)


def test_a_collection_is_the_same_in_every_spelling(api: Any) -> None:
    api.collection("org/team")
    api.deploy(collection_path="org/team")
    spellings = [
        "/collections/org/team/functions/greet",
        "/collections/org%2Fteam/functions/greet",
        "/collections/org%2fteam/functions/greet?collection_path=org/team",
        "/functions/greet?collection_path=org%2Fteam",
        "/functions/greet?collection_path=org/team&collection_path=org%2Fteam",
    ]
    answers = [api.get(target).json for target in spellings]

    assert all(answer == answers[0] for answer in answers)
    assert answers[0]["collection_path"] == "org/team"
    api.get("/functions/greet").refused(404, "function_not_found")


def test_a_collection_given_twice_differently_is_refused(api: Any) -> None:
    api.collection("org/team")
    body = {"name": "greet", "source_code": "x", "collection_path": "org"}
    for answer in (
        api.get("/functions?collection_path=org&collection_path=org%2Fteam"),
        api.get("/collections/org/team/functions?collection_path=org"),
        api.get("/collections/org/functions?collection_path="),
        api.post("/collections/org/team/functions", body),
        api.post("/functions?collection_path=org%2Fteam", body),
        api.put(
            "/functions/greet/env?collection_path=org%2Fteam", {"env": {}, "collection_path": "org"}
        ),
    ):
        answer.refused(400, "conflicting_values")


@pytest.mark.parametrize(
    ("target", "parameter"),
    [
        ("/functions?colection_path=org", "/colection_path"),
        ("/functions?version=3", "/version"),
        ("/collections?limit=5&page=2", "/page"),
        ("/collections/env?x", "/x"),
        ("/functions?limit=0", "/limit"),
        ("/functions?limit=1001", "/limit"),
        ("/functions?limit=-1", "/limit"),
        ("/functions?limit=+5", "/limit"),
        ("/functions?limit=1e2", "/limit"),
        ("/functions?limit=%D9%A1", "/limit"),
        ("/functions?limit=" + "9" * 10_000, "/limit"),
        ("/functions?limit=", "/limit"),
        ("/functions?cursor=", "/cursor"),
        ("/functions?cursor=no%20cursor", "/cursor"),
        ("/functions/greet/source?version=0", "/version"),
        ("/functions/greet/source?version=x", "/version"),
    ],
)
def test_illegal_query_parameters_are_named(stub_api: Any, target: str, parameter: str) -> None:
    problem = stub_api.get(target).refused(422, "invalid_value", parameter)

    assert problem["where"] == "query"


def test_options_holds_nothing_and_declares_nothing(stub_api: Any) -> None:
    answer = stub_api.request("OPTIONS", "/functions")
    assert (answer.status, answer.body) == (200, b"")
    assert "Content-Type" not in answer.headers
    assert "POST" in answer.headers["Allow"]


def test_what_is_not_there_comes_with_what_to_do(stub_api: Any) -> None:
    body = {"name": "a", "source_code": "x", "collection_path": "org"}
    problem = stub_api.post("/functions", body).refused(404, "collection_not_found")
    assert problem["detail"].endswith("; POST /collections registers one")

    stub_api.deploy("a")
    body = {"name": "a", "source_code": "x", "language": "typescript"}
    problem = stub_api.post("/functions", body).refused(409, "language_conflict")
    assert problem["detail"].endswith("deploy it in that language, or delete the function first")
