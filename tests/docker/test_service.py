"""The service by HTTP, with both exchanges, in front of a real engine."""

from __future__ import annotations

import pytest

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
