"""The files exchange: one container an invocation, its input copied in and its output copied out."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from lowcode_faas_core.configuration import PoolSettings
from lowcode_faas_core.errors import Draining, RunnerUnavailable, UnconfirmedEnd
from lowcode_faas_core.interfaces.launcher import End, Stream
from lowcode_faas_core.interfaces.metrics import OperationReport
from lowcode_faas_core.interfaces.runner import LogCallback, Runner, SourceReader
from lowcode_faas_core.limits import OperatorLimits
from lowcode_faas_core.model import Execution, Invocation, Phase, StartKind
from lowcode_faas_core.sandbox.capture import Capture
from lowcode_faas_core.sandbox.protocol import Frame, ProtocolError
from lowcode_faas_core.sandbox.verdict import (
    Cause,
    Verdict,
    of_answer,
    of_end,
    of_protocol_error,
    of_timeout,
    of_too_large,
)
from lowcode_faas_docker_runner.arguments import FOLDER, WORKSPACE, node_flags
from lowcode_faas_docker_runner.ending import Ending
from lowcode_faas_docker_runner.engine import QUICK_S, Unreachable
from lowcode_faas_docker_runner.host import DockerHost, NetworkGone, left
from lowcode_faas_docker_runner.loglines import LogStream
from lowcode_faas_docker_runner.places import Places
from lowcode_faas_docker_runner.workspace import (
    Answer,
    BadOutput,
    OutputTooLarge,
    copy_in,
    copy_out,
)

__all__ = ["FilesRunner"]

#: How long after the deadline the end of user code may stay unconfirmed, in seconds.
CONFIRM_S: Final = 2.0
#: Longest wait for the last lines of a log once its container has ended, in seconds.
LAST_LINES_S: Final = 5.0
#: The engine's log of a run holds this much for each byte the run may log: it is JSON with a time
#: in every line, and what is rotated away before it was read is lost.
LOG_OVERHEAD: Final = 8
LEAST_LOG_BYTES: Final = 4 << 20
#: Lines of a killed container are taken no longer than this, in seconds.
SALVAGE_S: Final = 0.05
#: Lines of stderr that are looked at for the reason of an abort; V8 prints some forty.
LAST_ERRORS: Final = 100
#: Between two looks whether the container is over, while its log is silent, in seconds.
LOOK_S: Final = 0.2
#: Longest wait for what is cancelled at close, in seconds.
CLOSE_S: Final = 5.0
_KIND_RUNNING: Final = "r"
_KIND_LOADED: Final = "l"


class _Run:
    """One container that runs or is about to, and why the host ended it, if it did."""

    def __init__(self) -> None:
        self.cause = Cause.OWN
        self.ending: Ending | None = None
        self.log: LogStream | None = None
        self.lock = threading.Lock()

    def end(self, cause: Cause) -> None:
        """Kill it now, or as soon as it is started."""
        with self.lock:
            if self.cause is Cause.OWN:
                self.cause = cause
            ending = self.ending
        if ending is not None:
            ending.kill()

    def close_log(self) -> None:
        """Stop following what it prints."""
        if self.log is not None:
            self.log.close()


class FilesRunner(Runner):
    """See :class:`Runner`. Every run is ``cold`` and shares nothing with any other."""

    def __init__(self, host: DockerHost, pool: PoolSettings, limits: OperatorLimits) -> None:
        self._host = host
        self._limits = limits
        self._kept_log_bytes = max(LEAST_LOG_BYTES, LOG_OVERHEAD * limits.settings.log_run_bytes)
        self._places = Places(pool)
        self._runs: set[_Run] = set()
        self._ended = threading.Condition()

    def run(self, invocation: Invocation, source: SourceReader, on_log: LogCallback) -> Execution:
        """Wait for a place, then run it in a container of its own."""
        queued_ns = time.monotonic_ns()
        # Given back once the container's end is certain: until then it counts under the cap.
        give_place = self._places.take(invocation.deadline_ns)
        run = _Run()
        with self._ended:
            self._runs.add(run)
        try:
            return self._run(run, invocation, source, on_log, queued_ns, give_place)
        finally:
            with self._ended:
                self._runs.discard(run)
                self._ended.notify_all()

    def report_operations_to(self, report: OperationReport) -> None:
        """Have every call to the engine told."""
        self._host.engine.report_to(report)

    def stats(self) -> Mapping[str, Any]:
        """Return the places under the cap, as the pool names them."""
        places, leased = self._places, len(self._runs)
        return {
            "cap": places.cap,
            "leased": leased,
            "idle": 0,
            "stock": 0,
            "starting": 0,
            "ending": max(0, places.cap - places.free - leased),
            "waiting": places.waiting,
            "functions": {},
        }

    def check(self) -> None:
        """Ask the engine, and for the image."""
        self._host.check()

    def close(self, *, drain_deadline_ns: int = 0) -> None:
        """Let what runs finish until the deadline, cancel the rest, and drop the connections."""
        self._places.close()
        with self._ended:
            while self._runs and (left_ns := drain_deadline_ns - time.monotonic_ns()) > 0:
                self._ended.wait(left_ns / 1e9)
            remaining = list(self._runs)
        for run in remaining:
            run.end(Cause.CANCELLED)
        deadline = time.monotonic() + CLOSE_S
        with self._ended:
            while self._runs and (left_s := deadline - time.monotonic()) > 0:
                self._ended.wait(left_s)
        self._host.close()

    def _run(
        self,
        run: _Run,
        invocation: Invocation,
        source: SourceReader,
        on_log: LogCallback,
        queued_ns: int,
        give_place: Callable[[], None],
    ) -> Execution:
        host, deadline_ns = self._host, invocation.deadline_ns
        begun_ns = time.monotonic_ns()
        try:
            container, image = self._prepare(invocation, source)
        except BaseException:
            give_place()
            raise

        # The output is copied out first: only what nobody reads any more is removed.
        is_read = threading.Event()

        def over() -> None:
            give_place()
            if is_read.is_set():
                host.remove(container)

        ending = Ending(host.engine, host.ends, container, run.close_log, over)
        try:
            self._start(run, ending, container, deadline_ns)
            started_ns = time.monotonic_ns()
            verdict = self._follow(run, ending, invocation, on_log, container)
            host.note(None)
        finally:
            run.close_log()
            is_read.set()
            if ending.end is None:
                ending.kill()
            else:
                host.remove(container)
        ended_ns = time.monotonic_ns()
        return Execution(
            status=verdict.status,
            start=StartKind.COLD,
            output=verdict.output,
            error=verdict.error,
            queue_ns=begun_ns - queued_ns,
            start_ns=started_ns - begun_ns,
            run_ns=ended_ns - started_ns,
            image=image,
        )

    def _prepare(self, invocation: Invocation, source: SourceReader) -> tuple[str, str]:
        """Create the container and copy in; nothing is left of it when this raises."""
        host, deadline_ns = self._host, invocation.deadline_ns
        limits = self._limits.resolve(invocation.deployment.limits)
        bootstrap = f"{WORKSPACE}/{FOLDER}/bootstrap.mjs"
        try:
            host.begin()
            command = [*node_flags(limits), bootstrap]
            container = host.create(
                limits, command, deadline_ns, kept_log_bytes=self._kept_log_bytes
            )
            try:
                return container, self._fill(container, invocation, source())
            except BaseException:
                host.remove(container)
                raise
        except RunnerUnavailable as error:
            if time.monotonic_ns() < deadline_ns:
                host.note(error)
            raise

    def _fill(self, container: str, invocation: Invocation, source: bytes) -> str:
        """Copy in, and return the digest of the image."""
        host, deadline_ns = self._host, invocation.deadline_ns
        copy_in(host.engine, container, invocation, source, host.settings.uid, left(deadline_ns))
        info = host.engine.inspect(container, left(deadline_ns))
        if info is None:
            raise RunnerUnavailable("the container was removed before it started")
        return host.images.digest(info["Image"])

    def _start(self, run: _Run, ending: Ending, container: str, deadline_ns: int) -> None:
        with run.lock:
            cancelled = run.cause is not Cause.OWN
        if cancelled:
            raise Draining("the service is shutting down")
        try:
            try:
                self._host.start(container, deadline_ns)
            except NetworkGone:
                self._host.start(container, deadline_ns)
        except Unreachable as error:
            self._find_started(run, ending, container, deadline_ns, error)
        except RunnerUnavailable as error:
            self._host.note(error)
            raise
        # Not before the start: the log of what has not started ends at once.
        run.log = LogStream(self._host.engine, container)
        with run.lock:
            run.ending = ending
            cancelled = run.cause is not Cause.OWN
        ending.ask(it_ended=False)
        if cancelled:
            ending.kill()

    def _find_started(
        self, run: _Run, ending: Ending, container: str, deadline_ns: int, lost: Unreachable
    ) -> None:
        """Return when it was started though the engine's answer was lost: its verdict stands.

        :raises Unreachable: ``lost``, when it never started and never will.
        :raises UnconfirmedEnd: when user code may have run and nothing tells how that went.
        """
        with contextlib.suppress(RunnerUnavailable):
            limit_s = min(QUICK_S, left(deadline_ns))
            state = (self._host.engine.inspect(container, limit_s) or {}).get("State", {})
            if state.get("Running") or state.get("Status") == "exited":
                return
        late = time.monotonic_ns() >= deadline_ns
        if late:
            run.end(Cause.DEADLINE)
        ending.kill()
        end = ending.wait(CONFIRM_S)
        if end is None:
            raise UnconfirmedEnd(
                "the engine did not say whether user code was started; it may run", phase="start"
            ) from lost
        if ending.never_started:
            raise lost
        if not end.vanished and (late or end.exit_code is not None):
            return
        # Ended by the kill above, or taken away by somebody: nobody knows how far it came.
        raise UnconfirmedEnd(
            "the engine did not say that user code was started; it has ended, and may have run",
            phase="start",
        ) from lost

    def _follow(
        self,
        run: _Run,
        ending: Ending,
        invocation: Invocation,
        on_log: LogCallback,
        container: str,
    ) -> Verdict:
        capture = Capture(self._limits.settings.log_line_bytes)
        capture.begin(invocation.execution_id, on_log)
        assert run.log is not None  # noqa: S101  # there from the start on
        end = self._await_end(run, ending, run.log, capture.raw, invocation.deadline_ns)
        capture.finish()
        answer: Answer | None = None
        problem: Verdict | None = None
        try:
            if not end.vanished:
                answer = copy_out(self._host.engine, container, self._limits.settings.output_bytes)
        except OutputTooLarge:
            problem = of_too_large(self._limits.settings.output_bytes)
        except BadOutput as error:
            problem = of_protocol_error(ProtocolError(str(error)), Phase.RUN)
        except RunnerUnavailable:
            # It ran, and what it left cannot be read: the sandbox's word is lost, not the run.
            problem = of_end(End(vanished=True), Cause.OWN, Phase.RUN, b"")
        reached_run = answer is None or answer.kind not in ("s", _KIND_LOADED)
        phase = Phase.RUN if reached_run else Phase.LOAD
        if run.cause is Cause.DEADLINE:
            timeout_ms = round((invocation.deadline_ns - invocation.accepted_ns) / 1e6)
            return of_timeout(timeout_ms, phase)
        if run.cause is Cause.CANCELLED or end != End(exit_code=0):
            return of_end(end, run.cause, phase, self._last_words(container, end, capture))
        if problem is not None:
            return problem
        if answer is None or answer.kind in ("s", _KIND_RUNNING):
            return of_end(end, Cause.OWN, phase, b"")
        return _judge(answer, phase)

    def _last_words(self, container: str, end: End, capture: Capture) -> bytes:
        """Return the end of stderr, which tells an empty heap from another abort.

        What was followed may lack it: the engine drops lines of a flood before they are read.
        """
        if end.signal is None or end.vanished:
            return capture.stderr_tail
        with contextlib.suppress(RunnerUnavailable):
            return capture.stderr_tail + self._host.engine.last_errors(container, LAST_ERRORS)
        return capture.stderr_tail

    def _await_end(
        self,
        run: _Run,
        ending: Ending,
        log: LogStream,
        take: Callable[[Stream, bytes], None],
        deadline_ns: int,
    ) -> End:
        last_lines_until = 0.0
        silent = False
        while True:
            now_ns = time.monotonic_ns()
            if ending.end is not None:
                last_lines_until = last_lines_until or time.monotonic() + LAST_LINES_S
                if silent or time.monotonic() > last_lines_until:
                    return ending.end
            elif now_ns >= deadline_ns:
                return self._killed(run, ending, log, take)
            wait_s = min(LOOK_S, max(0.001, (deadline_ns - now_ns) / 1e9))
            if silent:
                ending.wait(wait_s)
                continue
            with contextlib.suppress(queue.Empty):
                piece = log.take(LOOK_S if ending.end else wait_s)
                if piece is None:
                    silent = True
                    ending.ask(it_ended=True)
                else:
                    take(*piece)

    def _killed(
        self,
        run: _Run,
        ending: Ending,
        log: LogStream,
        take: Callable[[Stream, bytes], None],
    ) -> End:
        until = time.monotonic() + SALVAGE_S
        with contextlib.suppress(queue.Empty):
            while time.monotonic() < until and (piece := log.take(0)) is not None:
                take(*piece)
        run.end(Cause.DEADLINE)
        end = ending.wait(CONFIRM_S)
        if end is None:
            raise UnconfirmedEnd(
                "user code was killed at its deadline, but its end could not be confirmed within "
                "2 s; it may still run",
                phase="run",
            )
        return end


def _judge(answer: Answer, phase: Phase) -> Verdict:
    try:
        return of_answer(Frame(answer.kind.encode(), bytes(answer.payload)), phase)
    except ProtocolError as error:
        return of_protocol_error(error, phase)
