"""The part of the launchers' contract about the end of a sandbox."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from lowcode_faas_core.interfaces.launcher import End, Launcher, Sandbox
from lowcode_faas_core.model import SandboxLimits
from lowcode_faas_core.testing.launcher_speaker import PATIENCE_S, Speaker, deadline

__all__ = ["LauncherEndsContract"]


class LauncherEndsContract:
    """How sandboxes end, and how that is told."""

    @pytest.fixture
    def launcher(self) -> Iterator[Launcher]:
        """Override: build the launcher, yield it, close it."""
        raise NotImplementedError

    @pytest.fixture
    def limits(self) -> SandboxLimits:
        """Override when the launcher cannot give these."""
        return SandboxLimits(memory_mb=256, cpus=1.0, pids=64, tmp_mb=16)

    @pytest.fixture
    def started(self, launcher: Launcher, limits: SandboxLimits) -> Iterator[Callable[[], Speaker]]:
        """Start sandboxes; what the test leaves is ended after it."""
        sandboxes: list[Sandbox] = []

        def start() -> Speaker:
            sandbox = launcher.start(limits, deadline())
            sandboxes.append(sandbox)
            return Speaker(sandbox)

        yield start
        for sandbox in sandboxes:
            sandbox.kill()
        assert all(sandbox.ended(PATIENCE_S) for sandbox in sandboxes)

    def test_the_end_shows_on_the_stream(self, started: Callable[[], Speaker]) -> None:
        """Once the sandbox is gone ``read`` gives the end, ``write`` a ``ConnectionError``."""
        sandbox = started().sandbox
        sandbox.receive_timeout(PATIENCE_S)
        sandbox.kill()
        while sandbox.read(65536)[1]:
            pass
        with pytest.raises(ConnectionError):  # noqa: PT012  # the first may still fit a buffer
            for _ in range(1000):
                sandbox.write(b"x" * 65536)

    @pytest.mark.fault(42)
    @pytest.mark.parametrize("body", ["for (;;);", "/(a+)+$/.test('a'.repeat(64) + '!');"])
    def test_code_that_spins_is_killed(self, started: Callable[[], Speaker], body: str) -> None:
        """``kill`` ends code that never yields, and ``ended`` confirms it soon."""
        speaker = started()
        speaker.load(f"export const handler = () => {{ {body} return {{ ok: true }}; }};")
        speaker.send_run()
        assert speaker.sandbox.ended(0.1) is None
        speaker.sandbox.kill()
        end = speaker.sandbox.ended(2.0)
        assert end is not None
        assert end.signal == signal.SIGKILL or end.exit_code == 137
        assert not end.out_of_memory

    @pytest.mark.fault(43)
    def test_ignored_signals_do_not_save_it(self, started: Callable[[], Speaker]) -> None:
        """Listeners for every signal there is do not hold up the kill."""
        speaker = started()
        speaker.load(
            "for (const s of ['SIGTERM', 'SIGINT', 'SIGHUP']) process.on(s, () => {});"
            "export const handler = () => new Promise((r) => setTimeout(r, 60_000));"
        )
        speaker.send_run()
        speaker.sandbox.kill()
        assert speaker.sandbox.ended(2.0) is not None

    @pytest.mark.parametrize("code", [0, 1, 7, 255])
    def test_an_exit_code_is_told(self, started: Callable[[], Speaker], code: int) -> None:
        """``End.exit_code`` is what the process gave, and there is no signal."""
        assert self._end_of(started(), f"process.exit({code})") == End(exit_code=code)

    @pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGABRT", "SIGSEGV"])
    def test_a_signal_is_told(self, started: Callable[[], Speaker], name: str) -> None:
        """``End.signal`` is what ended the process; an engine may only know 128 + its number."""
        end = self._end_of(started(), f"process.kill(process.pid, '{name}'); for (;;);")
        number = int(getattr(signal, name))
        assert end in (End(signal=number), End(exit_code=128 + number))

    def test_the_end_is_told_again_and_again(self, started: Callable[[], Speaker]) -> None:
        """After the first answer ``ended`` says the same, and ``kill`` and ``shutdown`` do nothing."""
        sandbox = started().sandbox
        assert sandbox.ended(0) is None
        sandbox.kill()
        sandbox.kill()
        end = sandbox.ended(2.0)
        assert end is not None
        sandbox.shutdown()
        sandbox.kill()
        assert sandbox.ended(0) == end
        assert sandbox.ended(1) == end
        sandbox.cpu_ns()
        sandbox.peak_rss()
        sandbox.own_memory()

    def test_the_end_may_be_asked_for_by_many(self, started: Callable[[], Speaker]) -> None:
        """Threads that wait for one end at the same time all get it."""
        sandbox = started().sandbox
        with ThreadPoolExecutor(8) as threads:
            waiting = [threads.submit(sandbox.ended, PATIENCE_S) for _ in range(8)]
            sandbox.kill()
            ends = {future.result() for future in waiting}
        assert len(ends) == 1
        assert None not in ends

    def test_a_full_pipe_does_not_hold_up_the_kill(self, started: Callable[[], Speaker]) -> None:
        """Code blocked in a write that nobody reads ends like any other."""
        speaker = started()
        speaker.load(
            "import fs from 'node:fs'; export const handler = () => {"
            " for (;;) fs.writeSync(1, 'x'.repeat(65536)); };"
        )
        speaker.send_run()
        assert speaker.sandbox.ended(0.2) is None
        speaker.sandbox.shutdown()
        speaker.sandbox.kill()
        assert speaker.sandbox.ended(2.0) is not None

    def _end_of(self, speaker: Speaker, body: str) -> End:
        speaker.load(f"export const handler = () => {{ {body} }};")
        speaker.send_run()
        end = speaker.sandbox.ended(PATIENCE_S)
        assert end is not None
        return end
