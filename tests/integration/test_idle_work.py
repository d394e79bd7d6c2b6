"""A sandbox that works on although no run is on is ended, whatever its timers and threads intend."""

from __future__ import annotations

# Node's thread pool goes on while the event loop stands still: about ten seconds of one core.
LEFT_BEHIND = """
import crypto from 'node:crypto';
let runs = 0;
export function handler(input) {
  if (input.work) crypto.pbkdf2('a', 'b', 20_000_000, 64, 'sha512', () => {});
  return { ok: true, data: ++runs };
}
"""


def test_work_left_to_other_threads_ends_the_sandbox_and_fails_nobody(serve, poll):
    service = serve(WORKERS="1", STOCK="0")
    service.deploy("left", LEFT_BEHIND)
    service.deploy("calm", LEFT_BEHIND)
    assert service.invoke("calm")[1]["output"]["data"] == 1

    # Ended by the keeper when nobody calls
    assert service.invoke("left", {"work": True})[1]["output"]["data"] == 1
    poll("it is gone", lambda: "left" not in service.sandboxes()["functions"], 10)

    # Passed over when somebody does: the next run begins in a new one, and no run fails
    for _ in range(6):
        status, answer = service.invoke("left", {"work": True})
        assert (status, answer["status"]) == (200, "succeeded")
    poll("it is gone", lambda: "left" not in service.sandboxes()["functions"], 10)

    # One that stays still stays warm
    assert service.invoke("calm")[1]["output"]["data"] == 2
    assert len(service.node_processes()) == 1
