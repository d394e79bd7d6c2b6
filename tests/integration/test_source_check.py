"""A deploy waits 2 s for a sandbox that checks it, at most, and never fails for the want of one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

Serve = Callable[..., Any]

NAP = """export const handler = async ({ ms }) => {
  await new Promise((resolve) => setTimeout(resolve, ms));
  return { ok: true };
};"""
GOOD = "export const handler = () => ({ ok: true });"
BROKEN = "export const handler = () => {\n  const 5 = 6;\n};"
TOKEN = "s3cret"


def deploy(service: Any, name: str, source: str) -> tuple[int, Any, float]:
    """Return status, answer and how long it took, in seconds."""
    began = time.monotonic()
    status, answer = service.call("POST", "/functions", {"name": name, "source_code": source})
    return status, answer, time.monotonic() - began


def test_while_every_sandbox_is_busy_a_deploy_is_accepted_unchecked(
    serve: Serve, poll: Callable[..., Any]
) -> None:
    service = serve(WORKERS="1", STOCK="0", MAX_INSTANCES="1")
    service.deploy("nap", NAP)
    answers = service.in_background("nap", {"ms": 6000})
    poll("it naps", lambda: service.sandboxes()["in_flight"])
    status, answer, took = deploy(service, "broken", BROKEN)
    assert (status, answer["checked"]) == (201, False)
    assert took < 4
    # Once there is a sandbox, the same source is refused.
    poll("it woke", lambda: answers)
    status, answer, _ = deploy(service, "other", BROKEN)
    assert (status, answer["code"]) == (422, "source_invalid")
    assert (answer["line"], answer["column"]) == (2, 9)
    # And the function that could not be checked says so when it is invoked.
    status, answer = service.invoke("broken")
    assert (status, answer["error"]["code"]) == (200, "syntax_error")


def test_a_check_leaves_no_process_behind(serve: Serve, poll: Callable[..., Any]) -> None:
    service = serve(WORKERS="1", STOCK="0")
    for number in range(5):
        assert deploy(service, f"f{number}", BROKEN if number % 2 else GOOD)[0] in (201, 422)
    poll("every sandbox ended", lambda: service.nodes() == 0)
    assert service.sandboxes()["in_flight"] == 0


class TestWithAWorker:
    @pytest.fixture
    def worker(self, serve: Serve) -> Any:
        return serve("worker", WORKERS="1", STOCK="1", WORKER_TOKEN=TOKEN)

    @pytest.fixture
    def service(self, serve: Serve, worker: Any) -> Any:
        return serve(WORKERS="1", WORKER_URL=worker.url, WORKER_TOKEN=TOKEN)

    def test_its_sandboxes_check(self, service: Any) -> None:
        assert deploy(service, "good", GOOD)[1]["checked"] is True
        status, answer, _ = deploy(service, "broken", BROKEN)
        assert (status, answer["line"], answer["column"]) == (422, 2, 9)

    def test_without_it_a_deploy_is_accepted_unchecked(self, service: Any, worker: Any) -> None:
        worker.process.kill()
        worker.process.wait()
        status, answer, took = deploy(service, "broken", BROKEN)
        assert (status, answer["checked"]) == (201, False)
        assert took < 4

    @pytest.mark.parametrize(
        ("body", "status", "code"),
        [
            ({"source": "let x = ;", "language": "javascript"}, 200, None),
            ({"source": " ", "language": "javascript"}, 422, "invalid_value"),
            ({"source": "x" * (1 << 21), "language": "javascript"}, 413, "payload_too_large"),
            ({"source": "x", "language": "ruby"}, 422, "invalid_value"),
            ({"language": "javascript"}, 422, "invalid_value"),
        ],
    )
    def test_what_the_worker_answers(
        self, worker: Any, body: dict[str, str], status: int, code: str | None
    ) -> None:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        found, answer = worker.call("POST", "/v1/check", body, headers)
        assert found == status, answer
        if code is not None:
            assert answer["code"] == code
            return
        fault = {"message": "Unexpected token ';'", "line": 1, "column": 9}
        assert answer == {"checked": True, "fault": fault}

    def test_a_source_that_ends_too_early_is_told_so(self, worker: Any) -> None:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        for source, message, line in (
            ("export const handler = (", "Unexpected end of input", 1),
            ("#!/bin/node\nconst a = {\n  b: 1,\n", "Unexpected end of input", 3),
            ("let a;\nconst b = `never", "Unexpected end of input", 2),
        ):
            body = {"source": source, "language": "javascript"}
            fault = worker.call("POST", "/v1/check", body, headers)[1]["fault"]
            assert (fault["message"], fault["line"]) == (message, line), source
        good = {"source": "#!/bin/node\nexport const handler = 1;", "language": "javascript"}
        assert worker.call("POST", "/v1/check", good, headers)[1] == {
            "checked": True,
            "fault": None,
        }
