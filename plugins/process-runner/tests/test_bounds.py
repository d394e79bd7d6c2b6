"""What user code cannot take or touch, tried from inside with real Node."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest
from lowcode_faas_process_runner import procfs
from lowcode_faas_process_runner.sandbox import decode_exit

from lowcode_faas_core.interfaces.launcher import Stream
from lowcode_faas_core.model import SandboxLimits
from lowcode_faas_core.testing.launcher_contract import Speaker

KINDS = ["best", "no_tmp", "no_namespace"]


@pytest.fixture
def speakers(launchers, limits, deadline):
    started = []

    def start(kind="best", wanted=None, **more):
        launcher = launchers(kind, **more)
        sandbox = launcher.start(wanted or limits, deadline())
        started.append(sandbox)
        return Speaker(sandbox)

    yield start
    for sandbox in started:
        sandbox.kill()
        assert sandbox.ended(20)


def attempt(speaker, body):
    """Run ``body`` in a handler and return its value, or the error's code or name."""
    speaker.load(
        "import fs from 'node:fs'; import os from 'node:os'; import { createRequire } from 'node:module';"
        "const require = createRequire(import.meta.url);"
        "export const handler = async () => { try { const data = await (async () => {"
        + body
        + "})();"
        " return { ok: true, data }; }"
        " catch (e) { return { ok: true, data: e.code ?? e.name }; } };"
    )
    return speaker.run()


def end_of(speaker, body):
    speaker.load("export const handler = async () => { " + body + " };")
    speaker.send_run()
    end = speaker.sandbox.ended(20)
    assert end is not None
    return end


@pytest.mark.fault(57)
@pytest.mark.parametrize("cgroups", [True, False], ids=["cgroup", "watch"])
def test_buffers_above_the_limit_are_out_of_memory(speakers, cgroups):
    wanted = SandboxLimits(memory_mb=96, cpus=1.0, pids=64, tmp_mb=16)
    end = end_of(
        speakers(wanted=wanted, cgroups=cgroups),
        "const all = []; for (;;) { all.push(Buffer.alloc(4 << 20, 1));"
        " await new Promise((r) => setTimeout(r, 5)); }",
    )
    assert end.out_of_memory
    assert end.signal == signal.SIGKILL


@pytest.mark.fault(57)
def test_a_heap_above_its_share_aborts_with_v8s_words(speakers):
    wanted = SandboxLimits(memory_mb=128, cpus=1.0, pids=64, tmp_mb=16)
    speaker = speakers(wanted=wanted)
    speaker.load("const all = []; export const handler = () => { for (;;) all.push({ a: [1] }); };")
    speaker.send_run()
    # The words are in the pipe until the end is confirmed, which closes it.
    until = time.monotonic() + 20
    while procfs.state(speaker.sandbox.node_pid) not in (None, "Z"):
        assert time.monotonic() < until
        speaker.drain()
        time.sleep(0.01)
    speaker.drain()
    end = speaker.sandbox.ended(20)
    # Fragmentation may carry it past the whole limit before V8 gives up.
    if not end.out_of_memory:
        assert b"heap out of memory" in speaker.raw[Stream.STDERR]
        assert end.signal in (signal.SIGABRT, signal.SIGTRAP)


@pytest.mark.fault(56)
@pytest.mark.parametrize("kind", KINDS)
def test_no_process_can_be_started(speakers, kind):
    body = (
        "require('node:child_process').spawnSync(process.execPath, ['-e', '0']); return 'started';"
    )
    assert attempt(speakers(kind), body) == "ERR_ACCESS_DENIED"


@pytest.mark.fault(58)
def test_worker_threads_are_denied(speakers):
    body = "new (require('node:worker_threads').Worker)('', { eval: true }); return 'started';"
    assert attempt(speakers(), body) == "ERR_ACCESS_DENIED"


@pytest.mark.fault(58)
@pytest.mark.parametrize("cgroups", [True, False], ids=["cgroup", "watch"])
def test_wasm_memory_is_bounded(speakers, cgroups):
    wanted = SandboxLimits(memory_mb=96, cpus=1.0, pids=64, tmp_mb=16)
    end = end_of(
        speakers(wanted=wanted, cgroups=cgroups),
        "const all = []; for (;;) { const m = new WebAssembly.Memory({ initial: 64 });"
        " new Uint8Array(m.buffer).fill(1); all.push(m); await new Promise((r) => setTimeout(r, 5)); }",
    )
    assert end.out_of_memory


@pytest.mark.fault(59)
def test_the_cpu_quota_holds(speakers, launchers):
    if "cpu-quota" not in launchers("best").isolation().features:
        pytest.skip("this user may not make cpu groups")
    speaker = speakers(wanted=SandboxLimits(memory_mb=256, cpus=0.2, pids=64, tmp_mb=16))
    speaker.load("export const handler = () => { for (;;); };")
    before, began = speaker.sandbox.cpu_ns(), time.monotonic_ns()
    speaker.send_run()
    assert speaker.sandbox.ended(1.0) is None
    used = speaker.sandbox.cpu_ns() - before
    # A fifth, and at most one more period's share at the edges.
    assert used < (time.monotonic_ns() - began) * 0.2 + 60_000_000


@pytest.mark.fault(60)
@pytest.mark.parametrize("kind", KINDS)
def test_the_disk_cannot_be_filled(speakers, kind):
    body = (
        "const place = import.meta.dirname; const file = fs.openSync(place + '/big', 'w');"
        "for (let i = 0; i < 64; i++) fs.writeSync(file, Buffer.alloc(1 << 20)); return 'written';"
    )
    assert attempt(speakers(kind), body) in ("ENOSPC", "EFBIG")


@pytest.mark.fault(60)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("place", ["/", "/var/tmp", "/dev/shm", "/root"])
def test_nothing_is_written_elsewhere(speakers, kind, place):
    body = f"fs.writeFileSync('{place}/lowcode-faas-test', 'x'); return 'written';"
    assert attempt(speakers(kind), body) == "ERR_ACCESS_DENIED"


@pytest.mark.fault(61)
def test_the_inodes_are_bounded_in_a_private_tmp(speakers, launchers):
    if "private-tmp" not in launchers("best").isolation().features:
        pytest.skip("this machine gives no private file system")
    wanted = SandboxLimits(memory_mb=256, cpus=1.0, pids=64, tmp_mb=1)
    body = "for (let i = 0; i < 1000; i++) fs.writeFileSync('/tmp/n' + i, ''); return 'written';"
    assert attempt(speakers(wanted=wanted), body) == "ENOSPC"


@pytest.mark.fault(62)
@pytest.mark.parametrize("kind", KINDS)
def test_descriptors_are_bounded(speakers, kind):
    body = "for (;;) fs.openSync(new URL(import.meta.url).pathname);"
    assert attempt(speakers(kind), body) == "EMFILE"


@pytest.mark.fault(67)
@pytest.mark.parametrize("kind", KINDS)
def test_no_privilege_is_left(speakers, kind):
    speaker = speakers(kind)
    status = dict(
        line.split(":\t", 1)
        for line in Path(f"/proc/{speaker.sandbox.node_pid}/status").read_text().splitlines()
        if ":\t" in line
    )
    assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
    assert status["NoNewPrivs"] == "1"
    uids = set(map(int, status["Uid"].split()))
    if os.geteuid() == 0:
        assert int(status["CapBnd"], 16) == 0
        assert status["Groups"].strip() == ""
        assert not uids & {0, 65534}
    for path in ("/proc/sysrq-trigger", "/dev/sda", "/proc/1/environ", "/dev/mem"):
        code = attempt_more(speaker, f"return fs.readFileSync('{path}');")
        assert code == "ERR_ACCESS_DENIED"


def attempt_more(speaker, body):
    """Run ``body`` in a sandbox that may have been loaded for it before."""
    if not getattr(speaker, "generic", False):
        speaker.load(
            "import fs from 'node:fs'; const AsyncFunction = (async () => {}).constructor;"
            "export const handler = async ({ body }) => {"
            " try { return { ok: true, data: await new AsyncFunction('fs', body)(fs) }; }"
            " catch (e) { return { ok: true, data: e.code ?? e.name }; } };"
        )
        speaker.generic = True
    return speaker.run({"body": body})


@pytest.mark.fault(68)
@pytest.mark.parametrize("kind", KINDS)
def test_the_host_is_out_of_sight(speakers, kind):
    speaker = speakers(kind)
    for path in ("/var/run/docker.sock", "/etc/passwd", "/proc/self/mountinfo", __file__):
        # A private /tmp hides what lies below it before the permission model is asked.
        denied = attempt_more(speaker, f"return fs.statSync('{path}').size;")
        assert denied in ("ERR_ACCESS_DENIED", "ENOENT")


@pytest.mark.parametrize("kind", ["best", "no_tmp"])
def test_other_processes_cannot_be_signalled(speakers, kind):
    # Only with a pid namespace: without one, code of an ordinary user could hit its host.
    victim, speaker = speakers(kind), speakers(kind)
    if os.geteuid() != 0 and speaker.sandbox._init_fd is None:
        pytest.skip("this machine gives no pid namespace")
    for pid in (victim.sandbox.node_pid, os.getpid()):
        assert attempt_more(speaker, f"process.kill({pid}, 'SIGKILL');") in ("ESRCH", "EPERM")
    attempt_more(speaker, "process.kill(process.ppid, 'SIGKILL');")
    assert attempt_more(speaker, "return 1;") == 1
    assert victim.sandbox.ended(0) is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_kill_prints_nothing_on_the_functions_stderr(speakers, kind):
    speaker = speakers(kind)
    speaker.load("export const handler = () => { for (;;); };")
    speaker.send_run()
    reading = os.dup(speaker.sandbox.outputs()[1][0])
    try:
        speaker.sandbox.kill()
        assert speaker.sandbox.ended(20)
        assert os.read(reading, 4096) == b""
    finally:
        os.close(reading)


def test_node_ends_by_the_signal_it_sends_itself(speakers):
    assert (
        end_of(speakers(), "process.kill(process.pid, 'SIGTERM'); for (;;);").signal
        == signal.SIGTERM
    )


def test_an_exit_code_above_128_is_no_signal_where_the_kernel_tells(speakers):
    speaker = speakers()
    release = tuple(int(part) for part in os.uname().release.split(".")[:2])
    end = end_of(speaker, "process.exit(137);")
    if release >= (6, 15):
        assert (end.exit_code, end.signal) == (137, None)
    else:
        assert (end.exit_code, end.signal) == (None, 9)


@pytest.mark.parametrize(
    ("outer", "exact", "shell", "expected"),
    [
        (0, None, True, (0, None)),
        (7 << 8, None, True, (7, None)),
        (137 << 8, None, True, (None, 9)),
        (134 << 8, None, True, (None, 6)),
        (137 << 8, None, False, (137, None)),
        (137 << 8, 137 << 8, True, (137, None)),
        (137 << 8, 9, True, (None, 9)),
        (255 << 8, None, True, (255, None)),
        (9, None, True, (None, 9)),
        (128 << 8, None, True, (128, None)),
        (None, None, True, (None, None)),
        (None, 3 << 8, True, (3, None)),
    ],
)
def test_how_an_exit_status_is_read(outer, exact, shell, expected):
    assert decode_exit(outer=outer, exact=exact, behind_shell=shell) == expected


@pytest.mark.fault(72)
@pytest.mark.parametrize("kind", KINDS)
def test_the_time_zone_passes_and_nothing_else(speakers, kind):
    # The variables before any code arrives, as the kernel shows them.
    speaker = speakers(kind, environ={"TZ": "Asia/Tokyo", "HTTP_PROXY": "x", "PATH": "/bin"})
    raw = Path(f"/proc/{speaker.sandbox.node_pid}/environ").read_bytes()
    names = {entry.split(b"=")[0] for entry in raw.split(b"\0") if entry}
    assert b"TZ" in names
    of_the_shell = {b"PWD", b"OLDPWD", b"SHLVL", b"_"}
    of_glibc = {b"MALLOC_ARENA_MAX", b"MALLOC_TOP_PAD_"}
    assert names <= {b"TZ", b"HOME", b"TMPDIR"} | of_the_shell | of_glibc


@pytest.mark.parametrize("kind", KINDS)
def test_modules_and_files_of_the_own_folder_work(speakers, kind):
    speaker = speakers(kind)
    body = (
        "const place = import.meta.dirname; fs.writeFileSync(place + '/a.mjs', 'export default 5');"
        "fs.writeFileSync(place + '/b.cjs', 'module.exports = 6');"
        "const a = (await import(place + '/a.mjs')).default; return [a, require(place + '/b.cjs'),"
        " fs.readFileSync(place + '/a.mjs', 'utf8')];"
    )
    assert attempt(speaker, body) == [5, 6, "export default 5"]


def test_the_inspector_stays_shut(speakers):
    body = "require('node:inspector').open(0); return 'open';"
    assert attempt(speakers(), body) == "ERR_ACCESS_DENIED"


def test_the_pid_is_the_hosts(speakers):
    # It is the kernel's word: the sandbox's own idea of it differs in its namespace.
    speaker = speakers()
    inside = attempt(speaker, "return process.pid;")
    line = Path(f"/proc/{speaker.sandbox.node_pid}/status").read_text()
    assert json.dumps(inside) in line.split("NSpid:")[1].splitlines()[0]


@pytest.mark.fault(67)
@pytest.mark.parametrize("kind", KINDS)
def test_sqlite_opens_no_file_past_the_permission_model(speakers, kind):
    speaker = speakers(kind)
    body = (
        "const { DatabaseSync } = await import('node:sqlite');"
        " new DatabaseSync(':memory:').exec(\"ATTACH '/dev/shm/bounds.db' AS x\"); return 'opened';"
    )
    assert attempt_more(speaker, body) == "ERR_UNKNOWN_BUILTIN_MODULE"
    assert not Path("/dev/shm/bounds.db").exists()
