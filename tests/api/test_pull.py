"""Sources named by a URL: deployed, and fetched again."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest

from lowcode_faas_core.fetching import SourceFetching
from lowcode_faas_core.model import FunctionRef, SourceCheck, SourceFault

ONE = "export const handler = () => ({ok: true, data: 1});\n"
TWO = "export const handler = () => ({ok: true, data: 2});\n"
TYPED = "export const handler = (n: number) => ({ok: true, data: n as unknown});\n"

#: What is no module, and what is said of it; nothing: what Node says, with line and column.
NO_MODULES = {
    b" \n\t": "empty",
    b"\xef\xbb\xbf" + ONE.encode(): "byte order mark",
    ONE.encode("utf-16"): "UTF-8",
    b"// caf\xe9\n" + ONE.encode(): "UTF-8",
    b"<!DOCTYPE html><html>export log in</html>": "page",
    b"\n  <?xml version='1.0'?><export/>": "page",
    b"OK": "exports nothing",
    b"module.exports = { handler() {} };": "exports nothing",
    b"export // " + b"x" * (1 << 20): "more than",
    b"export const handler = 1;\nlet x = ;": "",
}


def sha256(source: str) -> str:
    return hashlib.sha256(source.encode()).hexdigest()


def pull(api: Any, **body: Any) -> Any:
    return api.post("/functions/greet/pull", body)


def deployed(api: Any, source: str = ONE, **fields: Any) -> Any:
    """Deploy a function from a URL, and return the answer."""
    body = {"name": "greet", "source_url": api.sources.publish(source), **fields}
    answer = api.post("/functions", body)
    assert answer.status == 201, answer.body
    return answer.json


class TestDeploy:
    def test_what_is_there_is_deployed_as_it_is(self, api: Any) -> None:
        source = "// \u00e9\r\n" + ONE
        found = deployed(api, source, env={"A": "1"}, reuse="fresh")
        assert found["source_url"] == api.sources.publish(source)
        assert (found["sha256"], found["size"]) == (sha256(source), len(source.encode()))
        assert (found["version"], found["reuse"]) == (1, "fresh")
        assert api.get("/functions/greet/source").body == source.encode()
        assert api.get("/functions/greet/env").json == {"env": {"A": "1"}}
        assert api.invoke()["status"] == "succeeded"

    def test_it_is_typescript_where_that_is_said(self, api: Any) -> None:
        assert deployed(api, TYPED, language="typescript")["language"] == "typescript"

    def test_one_source_is_given(self, api: Any) -> None:
        api.post("/functions", {"name": "greet"}).refused(422, "invalid_value", "/source_code")
        both = {"name": "greet", "source_code": ONE, "source_url": api.sources.publish(ONE)}
        api.post("/functions", both).refused(422, "invalid_value", "/source_url")
        for field in ("source_code", "source_url"):
            null = {"name": "greet", field: None}
            api.post("/functions", null).refused(422, "invalid_value", f"/{field}")

    def test_the_collection_is_looked_for_first(self, api: Any) -> None:
        url = api.sources.publish(ONE)
        body = {"name": "greet", "source_url": url, "collection_path": "no/such"}
        api.post("/functions", body).refused(404, "collection_not_found")
        assert not getattr(api.sources, "asked", None)
        api.collection("org")
        assert (
            api.post("/collections/org/functions", {"name": "greet", "source_url": url}).status
            == 201
        )


class TestPull:
    def test_what_is_new_there_is_the_next_version(self, api: Any) -> None:
        first = deployed(api, ONE, env={"A": "1"}, reuse="fresh", limits={"memory_mb": 128})
        api.sources.publish(TWO)
        answer = pull(api)
        assert answer.status == 201
        second = answer.json
        assert (second["version"], second["sha256"]) == (2, sha256(TWO))
        for kept in ("source_url", "language", "reuse", "limits"):
            assert second[kept] == first[kept]
        assert api.get("/functions/greet/env").json == {"env": {"A": "1"}}

    def test_the_same_bytes_make_no_version(self, api: Any) -> None:
        first = deployed(api)
        for _ in range(2):
            answer = pull(api)
            assert (answer.status, answer.json) == (200, first)
        # Nor do those that came another way.
        sent = api.deploy(source=TWO)
        answer = pull(api, source_url=api.sources.publish(TWO, "other.mjs"))
        assert (answer.status, answer.json) == (200, sent)

    def test_a_url_may_be_named(self, api: Any) -> None:
        api.deploy(source=ONE)
        pull(api).refused(422, "invalid_value", "/source_url")
        api.post("/functions/greet/pull").refused(422, "invalid_value", "/source_url")
        url = api.sources.publish(TWO, "other.mjs")
        found = pull(api, source_url=url).json
        assert (found["version"], found["source_url"]) == (2, url)
        # It is the function's own from now on, and goes with a source that is sent.
        assert pull(api).status == 200
        assert api.deploy(source=ONE)["source_url"] is None
        pull(api).refused(422, "invalid_value", "/source_url")

    def test_a_version_brought_back_brings_its_url(self, api: Any) -> None:
        url = deployed(api)["source_url"]
        api.deploy(source=TWO)
        api.post("/functions/greet/rollback", {"version": 1})
        answer = pull(api)
        assert (answer.status, answer.json["source_url"]) == (200, url)

    def test_what_is_pinned_has_to_be_there(self, api: Any) -> None:
        deployed(api)
        api.sources.publish(TWO)
        pull(api, sha256=sha256(ONE)).refused(422, "source_invalid", "/sha256")
        assert api.get("/functions/greet").json["current"]["version"] == 1
        assert pull(api, sha256=sha256(TWO)).json["version"] == 2
        pull(api, sha256=sha256(ONE)).refused(422, "source_invalid", "/sha256")
        assert pull(api, sha256=sha256(TWO)).status == 200
        for wrong in ("", "x" * 64, sha256(TWO).upper(), sha256(TWO) + "\n"):
            pull(api, sha256=wrong).refused(422, "invalid_value", "/sha256")

    def test_a_function_has_to_be_there(self, api: Any) -> None:
        url = api.sources.publish(ONE)
        pull(api, source_url=url).refused(404, "function_not_found")
        nested = api.post("/collections/no/such/functions/greet/pull", {"source_url": url})
        nested.refused(404)

    @pytest.mark.fault(37)
    def test_what_is_no_module_leaves_the_old_version(self, api: Any) -> None:
        first = deployed(api)
        for source, words in NO_MODULES.items():
            url = api.sources.publish(source, "other.mjs")
            if api.services is not None and not words:
                fault = SourceFault("Unexpected token", 2, 9)
                api.invoker.checks[source.decode()] = SourceCheck(checked=True, fault=fault)
            answer = pull(api, source_url=url)
            problem = answer.refused(422, "source_invalid", "/source_url")
            assert words in problem["detail"]
            assert "log in" not in problem["detail"]
            assert words or (problem["line"], problem["column"]) == (2, 9)
            new = {"name": "new", "source_url": url}
            api.post("/functions", new).refused(422, "source_invalid", "/source_url")
        assert api.get("/functions/greet").json["current"] == first
        assert api.get("/functions/new").status == 404

    def test_what_is_not_there_is_refused(self, api: Any) -> None:
        url = deployed(api)["source_url"]
        answer = pull(api, source_url=f"{url}-not-there")
        assert answer.status in (422, 502)
        assert api.get("/functions/greet").json["current"]["version"] == 1

    @pytest.mark.fault(35)
    def test_other_urls_are_refused(self, api: Any) -> None:
        first = deployed(api)
        for url in ("ftp://x/y.mjs", "file:///etc/passwd", "x", "javascript:1", " ", ""):
            pull(api, source_url=url).refused(422, "source_blocked", "/source_url")
            body = {"name": "new", "source_url": url}
            api.post("/functions", body).refused(422, "source_blocked", "/source_url")
        long = pull(api, source_url="memory:" + "a" * 2048)
        long.refused(422, "invalid_value", "/source_url")
        assert api.get("/functions/greet").json["current"] == first


@pytest.mark.parametrize("api", ["process", "worker", "db_s3"], indirect=True)
class TestOverHttp:
    def test_a_tag_saves_the_way(self, api: Any) -> None:
        deployed(api)
        pull(api)
        api.sources.publish(TWO)
        pull(api)
        api.deploy(source=ONE)
        api.post("/functions/greet/pull", {"source_url": api.sources.publish(TWO)})
        tags = [tag for _, tag in api.sources.asked]
        # The third asks for what is new; the last has something else, and must get it all.
        assert tags == [None, f'"{sha256(ONE)}"', f'"{sha256(ONE)}"', None]
        assert api.get("/functions/greet").json["current"]["sha256"] == sha256(TWO)

    @pytest.mark.fault(30, 39)
    def test_nothing_inside_is_asked(self, api: Any) -> None:
        deployed(api)
        details = set()
        for host in ("127.0.0.1", "localhost", "169.254.169.254", "[::1]", "0x7f.1", "10.0.0.1"):
            problem = pull(api, source_url=f"https://{host}/").refused(422, "source_blocked")
            details.add(problem["detail"])
        assert len(details) == 1

    @pytest.mark.fault(37)
    def test_other_answers_leave_the_old_version(self, api: Any) -> None:
        first = deployed(api)
        url = api.sources.publish(TWO)
        for status, headers, code in (
            (200, {"Content-Type": "text/html"}, "source_invalid"),
            (404, {}, "source_invalid"),
            (302, {"Location": "http://127.0.0.1:1/"}, "source_blocked"),
            (503, {}, "source_unavailable"),
        ):
            api.sources.instead["/greet.mjs"] = (status, headers)
            refused = pull(api, source_url=url)
            refused.refused(502 if code == "source_unavailable" else 422, code)
        assert api.get("/functions/greet").json["current"] == first


class TestOvertaken:
    """Others deploy or delete while the source is fetched, which may take half a minute."""

    @pytest.fixture
    def meanwhile(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        """Have something happen once the source is there."""
        fetch = SourceFetching.fetch

        def do(action: Any) -> None:
            def fetched(*args: Any, **kwargs: Any) -> Any:
                found = fetch(*args, **kwargs)
                action()
                return found

            monkeypatch.setattr(SourceFetching, "fetch", fetched)

        return do

    def test_what_was_deleted_stays_so(self, api: Any, meanwhile: Any) -> None:
        deployed(api)
        meanwhile(lambda: api.delete("/functions/greet"))
        pull(api, source_url=api.sources.publish(TWO)).refused(404, "function_not_found")
        api.get("/functions/greet").refused(404, "function_not_found")

    def test_limits_of_others_stay(self, api: Any, meanwhile: Any) -> None:
        deployed(api)
        limits = {"memory_mb": 96}
        given = {"name": "greet", "source_code": ONE, "reuse": "fresh", "limits": limits}
        meanwhile(lambda: api.post("/functions", given))
        answer = pull(api, source_url=api.sources.publish(TWO))
        assert answer.status == 201
        assert (answer.json["version"], answer.json["sha256"]) == (3, sha256(TWO))
        assert (answer.json["reuse"], answer.json["limits"]["memory_mb"]) == ("fresh", 96)

    def test_whoever_is_overtaken_every_time_is_told(
        self, stub_api: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        deployed(stub_api)
        storage = stub_api.storage
        deploy, count = storage.deploy, iter(range(9))

        def overtaken(ref: Any, draft: Any) -> Any:
            if draft.replaces is not None:
                other = f"export const handler = {next(count)};".encode()
                deploy(ref, msgspec.structs.replace(draft, source=other, replaces=None))
            return deploy(ref, draft)

        monkeypatch.setattr(storage, "deploy", overtaken)
        two = stub_api.sources.publish(TWO)
        pull(stub_api, source_url=two).refused(409, "superseded")
        assert storage.deployment(FunctionRef("", "greet")).version == 4
