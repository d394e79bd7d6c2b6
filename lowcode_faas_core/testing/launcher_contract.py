"""What every launcher of Node sandboxes must hold, with the core's real bootstrap and frames.

Subclass :class:`LauncherContract` and give a fixture ``launcher``::

    class TestMyLauncher(LauncherContract):
        @pytest.fixture
        def launcher(self):
            launcher = MyLauncher(...)
            yield launcher
            launcher.close()
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lowcode_faas_core.errors import RunnerUnavailable
from lowcode_faas_core.interfaces.launcher import Launcher, Stream
from lowcode_faas_core.model import SandboxLimits
from lowcode_faas_core.testing.launcher_ends import LauncherEndsContract
from lowcode_faas_core.testing.launcher_speaker import PATIENCE_S, Speaker, deadline

__all__ = ["LauncherContract", "Speaker"]

_ECHO = "export const handler = (input) => ({ ok: true, data: input });"


def _eventually(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def _descendants() -> set[int]:
    """Return the living processes below this one; zombies count, for nobody reaped them."""
    parents: dict[int, int] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError):
                line = Path(f"/proc/{name}/stat").read_bytes()
                parents[int(name)] = int(line[line.rindex(b")") + 2 :].split()[1])
    found = {os.getpid()}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {os.getpid()}


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


class LauncherContract(LauncherEndsContract):
    """The promises of :class:`~lowcode_faas_core.interfaces.launcher.Launcher`, checked."""

    def test_a_started_sandbox_loads_and_runs(self, started: Callable[[], Speaker]) -> None:
        """``start`` returns when code can be loaded; frames go both ways, of any size."""
        speaker = started()
        speaker.load(_ECHO)
        assert speaker.run({"n": 1}) == {"n": 1}
        long = {"text": "x" * 500_000}
        assert speaker.run(long) == long

    def test_each_sandbox_has_a_token_and_a_name(self, started: Callable[[], Speaker]) -> None:
        """Tokens are secrets of one sandbox; names tell sandboxes apart in logs."""
        one, two = started().sandbox, started().sandbox
        assert len(one.token) == len(two.token) == 16
        assert one.token != two.token
        assert one.name != two.name

    def test_sandboxes_share_no_files(self, started: Callable[[], Speaker]) -> None:
        """What one writes to its temporary folder, another does not find."""
        source = """
            import fs from 'node:fs'; import os from 'node:os'; import path from 'node:path';
            const file = path.join(os.tmpdir(), 'left-behind');
            export const handler = ({ write }) => {
              // A launcher may refuse the folder altogether; then nothing is shared either.
              try {
                if (write) fs.writeFileSync(file, 'here');
                return { ok: true, data: fs.existsSync(file) };
              } catch { return { ok: true, data: false }; }
            };"""
        one, two = started(), started()
        env = {"TMPDIR": "/tmp"}  # noqa: S108  # what user code finds when it names no folder
        one.load(source, env)
        two.load(source, env)
        one.run({"write": True})
        assert two.run({}) is False

    @pytest.mark.fault(76)
    def test_the_environment_of_the_service_is_not_seen(
        self, started: Callable[[], Speaker], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """User code finds its own variables and nothing of the service's."""
        monkeypatch.setenv("LOWCODE_FAAS_WORKER_TOKEN", "secret-of-the-service")
        monkeypatch.setenv("SOME_SECRET", "another")
        speaker = started()
        speaker.load(
            "export const handler = () => ({ ok: true, data: { ...process.env } });", {"A": "1"}
        )
        assert speaker.run() == {"A": "1"}

    def test_time_and_memory_are_counted(self, started: Callable[[], Speaker]) -> None:
        """``cpu_ns`` grows with the work done and ``peak_rss`` is Node's; both may be unknown."""
        speaker = started()
        speaker.load(
            "export const handler = () => {"
            # Counted in CPU time: on a busy machine a while may be spent without any.
            " const used = () => process.cpuUsage().user + process.cpuUsage().system;"
            " const end = used() + 50_000; while (used() < end); return { ok: true }; };"
        )
        before = speaker.sandbox.cpu_ns()
        speaker.run()
        after = speaker.sandbox.cpu_ns()
        if before is not None:
            assert after is not None
            assert after - before > 20_000_000
        peak = speaker.sandbox.peak_rss()
        assert peak is None or 10 << 20 < peak < 512 << 20
        own = speaker.sandbox.own_memory()
        assert own is None or (peak is not None and 1 << 20 < own <= peak)

    def test_reads_wait_as_long_as_they_were_told(self, started: Callable[[], Speaker]) -> None:
        """``receive_timeout`` bounds ``read``; 0 is not at all."""
        sandbox = started().sandbox
        sandbox.receive_timeout(0.05)
        began = time.monotonic()
        with pytest.raises(BlockingIOError):
            sandbox.read(1000)
        assert time.monotonic() - began > 0.03
        sandbox.receive_timeout(0)
        with pytest.raises(BlockingIOError):
            sandbox.read(1000)

    def test_raw_output_arrives(self, started: Callable[[], Speaker]) -> None:
        """Bytes written past the bootstrap come out, on the right stream where those are told."""
        speaker = started()
        speaker.load(
            "import fs from 'node:fs'; export const handler = () => {"
            " fs.writeSync(1, 'to stdout'); fs.writeSync(2, 'to stderr');"
            " return { ok: true, data: 1 }; };"
        )
        assert speaker.run() == 1

        def both_came() -> bool:
            # An engine brings the streams one by one: raw output may come after the result.
            speaker.drain()
            everything = b"".join(bytes(data) for data in speaker.raw.values())
            return b"to stdout" in everything and b"to stderr" in everything

        _eventually(both_came, f"{speaker.raw} lacks some")
        if not speaker.sandbox.mixed:
            assert speaker.raw[Stream.STDOUT] == b"to stdout"
            assert speaker.raw[Stream.STDERR] == b"to stderr"

    def test_outputs_never_block(self, started: Callable[[], Speaker]) -> None:
        """Reading a descriptor of ``outputs`` that has nothing raises ``BlockingIOError``."""
        for descriptor, stream in started().sandbox.outputs():
            assert stream is not Stream.CHANNEL
            with pytest.raises(BlockingIOError):
                os.read(descriptor, 1)

    def test_the_channel_can_be_polled(self, started: Callable[[], Speaker]) -> None:
        """``fileno`` turns readable with the answer."""
        speaker = started()
        speaker.load(_ECHO)
        poll = select.poll()
        poll.register(speaker.sandbox.fileno(), select.POLLIN)
        assert poll.poll(0) == []
        speaker.send_run()
        assert poll.poll(PATIENCE_S * 1000)

    def test_a_start_ends_at_its_deadline(
        self, launcher: Launcher, limits: SandboxLimits, started: Callable[[], Speaker]
    ) -> None:
        """A start that cannot be finished in time raises, and leaves nothing behind."""
        started().sandbox.kill()  # whatever is opened once is open by now
        processes = _descendants()
        for budget in (-1.0, 0.0001, 0.002, 0.005, 0.01):
            began = time.monotonic()
            with pytest.raises(RunnerUnavailable):
                launcher.start(limits, deadline(budget))
            assert time.monotonic() - began < 5
        _eventually(lambda: _descendants() <= processes, "a process of a failed start lives")

    def test_a_sandbox_outlives_the_thread_that_asked_for_it(
        self, started: Callable[[], Speaker]
    ) -> None:
        """Servers retire threads; a sandbox lives as long as the process, not as the thread."""
        speakers: list[Speaker] = []
        thread = threading.Thread(target=lambda: speakers.append(started()))
        thread.start()
        thread.join()
        (speaker,) = speakers
        assert speaker.sandbox.ended(0.2) is None
        speaker.load(_ECHO)
        assert speaker.run({"n": 2}) == {"n": 2}

    def test_starts_run_in_parallel(self, launcher: Launcher, limits: SandboxLimits) -> None:
        """Several threads start sandboxes at once; each gets one of its own that works."""

        def use(number: int) -> int:
            sandbox = launcher.start(limits, deadline())
            try:
                speaker = Speaker(sandbox)
                speaker.load(_ECHO)
                return int(speaker.run({"n": number})["n"])
            finally:
                sandbox.kill()
                assert sandbox.ended(PATIENCE_S)

        with ThreadPoolExecutor(6) as threads:
            assert list(threads.map(use, range(12))) == list(range(12))

    @pytest.mark.fault(69)
    def test_nothing_piles_up(self, launcher: Launcher, limits: SandboxLimits) -> None:
        """Descriptors, threads and processes are back at their base after 30 sandboxes."""

        def once(*, orderly: bool) -> None:
            sandbox = launcher.start(limits, deadline())
            if orderly:
                sandbox.shutdown()
            else:
                sandbox.kill()
            assert sandbox.ended(PATIENCE_S)

        for orderly in (True, False):
            once(orderly=orderly)

        def counts() -> tuple[int, int, int]:
            return _descriptors(), threading.active_count(), len(_descendants())

        base = counts()
        for number in range(30):
            once(orderly=number % 2 == 0)
        _eventually(lambda: counts() <= base, f"{counts()} is above {base}")

    def test_adopting_orphans_spares_the_living(
        self, launcher: Launcher, started: Callable[[], Speaker]
    ) -> None:
        """``adopt_orphans`` takes nothing whose owner lives, and says how many it took."""
        speaker = started()
        speaker.load(_ECHO)
        assert launcher.adopt_orphans() >= 0
        assert speaker.run({"still": "here"}) == {"still": "here"}

    def test_check_and_isolation_answer(self, launcher: Launcher) -> None:
        """``check`` passes where sandboxes start, and ``isolation`` says something."""
        launcher.check()
        isolation = launcher.isolation()
        assert isolation.summary
        assert all(isolation.features)

    def test_close_may_be_called_twice(self, launcher: Launcher, limits: SandboxLimits) -> None:
        """After ``close`` a start is refused; a second ``close`` does nothing."""
        sandbox = launcher.start(limits, deadline())
        sandbox.kill()
        assert sandbox.ended(PATIENCE_S)
        launcher.close()
        launcher.close()
        with pytest.raises(RunnerUnavailable):
            launcher.start(limits, deadline())
