"""The service by HTTP, with both exchanges, in front of a real engine."""

from __future__ import annotations

import threading
import time
from datetime import datetime

import pytest

from tests.integration.test_executions import NAP, follow, started

GREET = """
export async function handler(input, context) {
  console.log('hello', input.name);
  console.error('careful');
  const message = `hello ${input.name}`;
  return { ok: true, data: { message, word: process.env.WORD, version: context.version } };
}
"""


@pytest.mark.parametrize("exchange", ["stream", "files"])
def test_a_function_is_deployed_and_invoked(serve, poll, exchange):
    service = serve(DOCKER_EXCHANGE=exchange)
    service.deploy("greet", GREET, env={"WORD": "so"})
    for start in ("prewarmed", "warm") if exchange == "stream" else ("cold", "cold"):
        status, result = service.invoke("greet", {"name": "you"})
        assert status == 200, result
        assert result["status"] == "succeeded", result
        data = {"message": "hello you", "word": "so", "version": 1}
        assert result["output"] == {"ok": True, "data": data}
        assert result["logs"] == {"lines": 2, "truncated": False}, result
        assert result["start"] in (start, "cold")
    for words in ("hello you", "careful"):
        poll("it was logged", lambda words=words: words in service.text())


@pytest.mark.parametrize("exchange", ["stream", "files"])
@pytest.mark.parametrize("remote", [False, True])
def test_a_follower_sees_lines_soon_after_they_are_printed(serve, exchange, remote):
    given = {"WORKERS": "2", "FUNCTION_LOGS_SINK": "none", "DOCKER_EXCHANGE": exchange}
    if remote:
        secret = {"WORKER_TOKEN": "secret"}
        worker = serve(role="worker", **given, **secret)
        service = serve(WORKERS="2", WORKER_URL=worker.url, **secret)
    else:
        service = serve(**given)
    service.deploy("nap", NAP)
    service.invoke("nap")
    body = {"input": {"ms": 3000, "lines": 30}, "execution_id": "followed-here"}
    running = threading.Thread(
        target=service.call, args=("POST", "/functions/nap/invoke", body), daemon=True
    )
    running.start()
    assert started(service, "followed-here") == 200
    began = time.time()
    seen = list(follow(service, "followed-here"))
    assert [data["message"] for _, kind, data in seen if kind == "message"] == [
        f"line {n}" for n in range(30)
    ]
    assert seen[-1][1:] == ("end", {"status": "succeeded"})
    # A container's clock is the host's
    delays = sorted(
        came - printed
        for came, kind, data in seen
        if kind == "message"
        and (printed := datetime.fromisoformat(data["ts"][:26] + "+00:00").timestamp())
        > began + 0.2
    )
    print(
        f"{len(delays)} lines: median {delays[len(delays) // 2]:.3f} s, longest {delays[-1]:.3f} s"
    )
    assert len(delays) > 10
    assert delays[int(len(delays) * 0.9)] < 0.2
