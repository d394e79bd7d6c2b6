"""Containers that are spoken to past the engine: what they see of it, and what happens where they cannot."""

from __future__ import annotations

import os
import shutil

import pytest

from lowcode_faas_core.testing.launcher_contract import Speaker

ECHO = "export const handler = (input) => ({ ok: true, data: input });"
#: What is in the mounted folder, what is open besides the channel, and who answers at the socket.
LOOK = """
import fs from 'node:fs';
import net from 'node:net';
const attempt = (work) => { try { return work(); } catch ({ code }) { return code; } };
const knock = (path) => new Promise((done) =>
  net.connect(path).on('connect', () => done('connected')).on('error', ({ code }) => done(code)));
export async function handler() {
  const data = {
    handles: process._getActiveHandles().length,
    folder: attempt(() => fs.readdirSync('/lowcode-faas')),
    made: attempt(() => fs.writeFileSync('/lowcode-faas/new', '')),
    stdin: attempt(() => fs.readFileSync(0, 'utf8')),
    knocked: await knock('/lowcode-faas/channel'),
    kinds: [1, 2].map((fd) => fs.fstatSync(fd).isFIFO()),
  };
  fs.writeFileSync('/dev/stdout', 'raw output\\n');
  fs.writeFileSync('/dev/stderr', 'raw error\\n');
  return { ok: true, data };
}
"""


@pytest.fixture
def started(limits, deadline):
    sandboxes = []

    def start(launcher):
        sandboxes.append(launcher.start(limits, deadline()))
        return Speaker(sandboxes[-1])

    yield start
    for sandbox in sandboxes:
        sandbox.kill()
    assert all(sandbox.ended(20) for sandbox in sandboxes)


@pytest.mark.fault(68)
def test_nothing_is_left_for_user_code_where_the_container_met_us(launchers, started):
    speaker = started(launchers())
    assert not speaker.sandbox.mixed
    speaker.load(LOOK)
    found = speaker.run()
    speaker.drain()
    assert found == {
        "handles": 0,
        "folder": [],
        "made": "ENOENT",
        "stdin": "",
        "knocked": "ENOENT",
        "kinds": [True, True],
    }
    raw = {stream.name: bytes(data) for stream, data in speaker.raw.items() if data}
    assert raw == {"STDOUT": b"raw output\n", "STDERR": b"raw error\n"}


def _without(folder, name):
    (folder / name).unlink()


def _elsewhere(folder, _name):
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("spoil", "name"),
    [(_without, "channel"), (_without, "stdout"), (_without, "stderr"), (_elsewhere, "")],
)
def test_where_containers_cannot_come_the_engine_is_in_between(
    launchers, started, monkeypatch, spoil, name
):
    # Given an engine that does not see the folder, or a container that cannot open what is in it
    launcher = launchers()
    arrange = launcher.meetings.arrange

    def spoilt():
        meeting = arrange()
        if meeting is not None:
            spoil(meeting.folder, name)
        return meeting

    monkeypatch.setattr(launcher.meetings, "arrange", spoilt)
    # Then the first start works all the same, and no later one tries
    for _ in range(2):
        speaker = started(launcher)
        assert speaker.sandbox.mixed
        assert not launcher.meetings.possible
        speaker.load(ECHO)
        assert speaker.run({"n": 1}) == {"n": 1}


def test_the_folders_go_with_the_launcher(launchers, started, tmp_path):
    launcher = launchers(environ={**os.environ, "LOWCODE_FAAS_DATA_DIR": str(tmp_path)})
    sandbox = started(launcher).sandbox
    (own,) = (tmp_path / "meetings").iterdir()
    assert list(own.iterdir()) == []
    sandbox.kill()
    assert sandbox.ended(20)
    launcher.close()
    assert list((tmp_path / "meetings").iterdir()) == []
