"""One sandbox from its first frame to its confirmed end: load once, run one at a time."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

import msgspec

from lowcode_faas_core.errors import CapacityError, RunnerUnavailable, UnconfirmedEnd
from lowcode_faas_core.interfaces.launcher import End, Sandbox
from lowcode_faas_core.interfaces.runner import LogCallback
from lowcode_faas_core.lanes import elsewhere
from lowcode_faas_core.model import Invocation, Language, Phase, SourceCheck, SourceFault
from lowcode_faas_core.sandbox.capture import Capture
from lowcode_faas_core.sandbox.channel import (
    Channel,
    ChannelClosed,
    DeadlinePassed,
    NothingDelivered,
    NothingSent,
)
from lowcode_faas_core.sandbox.protocol import (
    Frame,
    FrameTooLarge,
    Kind,
    ProtocolError,
    encode,
)
from lowcode_faas_core.sandbox.verdict import (
    Cause,
    Verdict,
    of_answer,
    of_end,
    of_protocol_error,
    of_timeout,
    of_too_large,
)

if TYPE_CHECKING:
    from lowcode_faas_core.sandbox.shelves import Group, Shelf

__all__ = ["Bounds", "Instance"]

#: How long after the deadline the end of user code may stay unconfirmed, in nanoseconds.
CONFIRM_NS: Final = 2_000_000_000
#: CPU time an idle sandbox may use before it is ended, in nanoseconds: V8 tidies up for a moment.
IDLE_CPU_NS: Final = 100_000_000
#: Characters kept of what Node says about a source.
MESSAGE_CHARS: Final = 500


class Bounds(msgspec.Struct, frozen=True):
    """What an instance accepts from user code, in bytes."""

    output_bytes: int
    log_line_bytes: int


class _Context(msgspec.Struct, rename="camel", gc=False):
    execution_id: str
    run_id: str
    function_name: str
    collection_path: str
    version: int
    deadline: int
    traceparent: str | None


class _Run(msgspec.Struct, gc=False):
    context: _Context
    input: msgspec.Raw


class _Load(msgspec.Struct):
    source: str
    file: str
    env: dict[str, str]
    timeout_ms: int


class _Check(msgspec.Struct):
    source: str
    file: str


class _Checked(msgspec.Struct):
    ok: bool
    message: str = ""
    line: int | None = None
    column: int | None = None


_encode = msgspec.json.Encoder().encode
_decode_checked = msgspec.json.Decoder(_Checked).decode


class Instance:
    """A sandbox and, once loaded, the one deployment it runs. One thread at a time."""

    def __init__(self, sandbox: Sandbox, bounds: Bounds) -> None:
        self.sandbox = sandbox
        self.loaded = False
        #: The pool's books: which function it belongs to, and which shelf it goes back to.
        self.group: Group | None = None
        self.shelf: Shelf | None = None
        #: ``time.monotonic_ns`` of the moment it was last given back, and its CPU clock then.
        self.idle_since_ns = 0
        self.idle_cpu_ns: int | None = None
        #: CPU time and peak memory when it was killed by its own run: nobody can ask it afterwards.
        self.final_usage: tuple[int | None, int | None] = (None, None)
        #: Set by whoever ends it from outside while it runs.
        self.cause = Cause.OWN
        #: The execution user code was loaded on behalf of.
        self._loaded_for = ""
        self._bounds = bounds
        self._capture = Capture(bounds.log_line_bytes)
        self._channel = Channel(
            sandbox, bounds.output_bytes, self._capture.frame, self._capture.raw
        )

    def load(
        self, invocation: Invocation, source: Callable[[], bytes], on_log: LogCallback
    ) -> Verdict | None:
        """Give it code and env on behalf of an invocation; ``None`` means that it is loaded.

        :raises RunnerUnavailable: the deadline passed before the request could be sent.
        :raises NothingDelivered: the sandbox was gone before the request reached it.
        :raises UnconfirmedEnd: the deadline passed and the end of user code is not certain.
        """
        deployment = invocation.deployment
        frame = _Load(
            source=source().decode("utf-8"),
            file=deployment.function_name + deployment.language.suffix,
            env=invocation.env,
            timeout_ms=_milliseconds(invocation),
        )
        request = encode(self.sandbox.token, Kind.LOAD, _encode(frame))
        self._capture.begin(invocation.execution_id, on_log)
        verdict = self._exchange(request, invocation, Phase.LOAD)
        self.loaded = verdict is None
        self._loaded_for = invocation.execution_id
        return verdict

    def run(self, invocation: Invocation, on_log: LogCallback) -> Verdict:
        """Run the handler once.

        :raises CapacityError: the deadline passed before the request could be sent.
        :raises NothingDelivered: the sandbox was gone before the request reached it.
        :raises UnconfirmedEnd: the deadline passed and the end of user code is not certain.
        """
        deployment = invocation.deployment
        left_ms = (invocation.deadline_ns - time.monotonic_ns()) // 1_000_000
        frame = _Run(
            context=_Context(
                execution_id=invocation.execution_id,
                run_id=invocation.run_id,
                function_name=deployment.function_name,
                collection_path=deployment.collection_path,
                version=deployment.version,
                deadline=time.time_ns() // 1_000_000 + left_ms,
                traceparent=invocation.traceparent,
            ),
            input=invocation.input,
        )
        request = encode(self.sandbox.token, Kind.RUN, _encode(frame))
        self._capture.begin(invocation.execution_id, on_log)
        verdict = self._exchange(request, invocation, Phase.RUN)
        assert verdict is not None  # noqa: S101  # only LOADED answers without one
        return verdict

    def check(self, source: bytes, language: Language, deadline_ns: int) -> SourceCheck:
        """Say what is wrong with the syntax of a source, if anything is.

        The sandbox is to be ended afterwards, whatever comes of this.

        :raises DeadlinePassed: at ``deadline_ns``.
        :raises ChannelClosed: the sandbox ended.
        :raises ProtocolError: what came is no answer to this.
        """
        frame = _Check(source.decode("utf-8"), f"source{language.suffix}")
        request = encode(self.sandbox.token, Kind.CHECK, _encode(frame))
        answer = self._channel.exchange(request, deadline_ns)
        if answer.kind != Kind.CHECKED:
            raise ProtocolError(f"a frame of type {answer.kind!r} where a check was due")
        try:
            checked = _decode_checked(answer.payload)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise ProtocolError("an answer to a check that cannot be read") from error
        if checked.ok:
            return SourceCheck(checked=True)
        message = " ".join(checked.message[:MESSAGE_CHARS].split()) or "it does not compile"
        fault = SourceFault(message, checked.line, checked.column)
        return SourceCheck(checked=True, fault=fault)

    def warm_up(self) -> None:
        """Have it make ready for code, which costs what nobody waits for now; returns at once.

        The first module that Node loads costs it ten times what any later one does. A sandbox that
        has ended by now is found out by whoever takes it.
        """
        with contextlib.suppress(OSError):
            self.sandbox.write(encode(self.sandbox.token, Kind.WARM, b"{}"))

    def worked_while_idle(self, now_ns: int | None) -> bool:
        """Tell from its CPU clock whether it worked although no run was on.

        The event loop stands still between runs, but what user code left to Node's thread pool
        (a key derivation, say) goes on, and whoever forged a result goes on with the rest.
        """
        if now_ns is None or self.idle_cpu_ns is None:
            return False
        return now_ns - self.idle_cpu_ns > IDLE_CPU_NS

    def kill(self, cause: Cause) -> None:
        """End it from any thread; whoever waits for its answer learns why."""
        if self.cause is Cause.OWN:
            self.cause = cause
        self.sandbox.kill()

    def ended(self, timeout_s: float) -> End | None:
        """Return how it ended once that is certain."""
        return self.sandbox.ended(timeout_s)

    def _exchange(self, request: bytes, invocation: Invocation, phase: Phase) -> Verdict | None:
        try:
            if self.sandbox.gone():
                raise NothingDelivered("it ended while nobody used it")  # noqa: TRY301
            answer = self._channel.exchange(request, invocation.deadline_ns)
            verdict = self._judge(answer, phase)
        except DeadlinePassed as passed:
            loaded_before = self._loaded_for != invocation.execution_id
            if isinstance(passed, NothingSent) and loaded_before:
                self._capture.finish()
                if phase is Phase.LOAD:
                    message = "the deadline passed while a sandbox was made ready"
                    raise RunnerUnavailable(message, phase="start") from None
                message = "the deadline passed before a sandbox could be given the input"
                raise CapacityError(message, phase="queue") from None
            elsewhere(lambda: self._end(invocation, Cause.DEADLINE, phase))
            if self.cause is Cause.CANCELLED:
                verdict = of_end(End(), self.cause, phase, b"")
            else:
                verdict = of_timeout(_milliseconds(invocation), phase)
        except FrameTooLarge:
            elsewhere(lambda: self._end(invocation, Cause.OWN, phase))
            verdict = of_too_large(self._bounds.output_bytes)
        except ProtocolError as error:
            elsewhere(lambda: self._end(invocation, Cause.OWN, phase))
            verdict = of_protocol_error(error, phase)
        except NothingDelivered:
            if self._loaded_for != invocation.execution_id:
                raise
            # Its module was evaluated for this very invocation: another try would start it twice.
            verdict = elsewhere(lambda: self._judge_end(invocation, phase))
        except ChannelClosed:
            verdict = elsewhere(lambda: self._judge_end(invocation, phase))
        self._capture.finish()
        return verdict

    def _judge(self, answer: Frame, phase: Phase) -> Verdict | None:
        if (
            phase is Phase.LOAD
            and answer.kind == Kind.LOADED
            and answer.payload.startswith(b'{"ok":true')
        ):
            return None
        return of_answer(answer, phase)

    def _judge_end(self, invocation: Invocation, phase: Phase) -> Verdict:
        # The stream ended: the process did, or user code closed the descriptor and lives on. Its
        # last words are taken first: a confirmed end closes the pipes, and the next sandbox of
        # another thread may have their numbers by then.
        self._channel.drain_to_end(time.monotonic_ns() + 100_000_000)
        # Only until the deadline: whoever closed the stream and goes on has no more CPU than others.
        left_s = max(0.0, (invocation.deadline_ns - time.monotonic_ns()) / 1e9)
        end = self.sandbox.ended(min(self.sandbox.confirmed_within_s, left_s))
        if end is None:
            late = time.monotonic_ns() >= invocation.deadline_ns
            self.sandbox.kill()
            end = self._confirmed(invocation, phase)
            # Ended by anything but our kill, it was only slow to be confirmed.
            by_us = end.signal in (signal.SIGKILL, None) and end.exit_code in (137, None)
            if self.cause is Cause.OWN and by_us and not (end.out_of_memory or end.vanished):
                if late:
                    return of_timeout(_milliseconds(invocation), phase)
                closed = ProtocolError("the end of its stream, and went on")
                return of_protocol_error(closed, phase)
        return of_end(end, self.cause, phase, self._capture.stderr_tail)

    def _end(self, invocation: Invocation, cause: Cause, phase: Phase) -> None:
        """Kill it, take what it still had printed, and wait until it is certainly dead."""
        self._channel.salvage()
        self.final_usage = (self.sandbox.cpu_ns(), self.sandbox.peak_rss())
        self.kill(cause)
        self._confirmed(invocation, phase)

    def _confirmed(self, invocation: Invocation, phase: Phase) -> End:
        last_ns = max(invocation.deadline_ns, time.monotonic_ns()) + CONFIRM_NS
        end = self.sandbox.ended((last_ns - time.monotonic_ns()) / 1e9)
        if end is None:
            raise UnconfirmedEnd(
                f"user code of execution {invocation.execution_id} was killed, but its end could "
                "not be confirmed within 2 s; it may still run",
                phase=phase.value,
            )
        return end


def _milliseconds(invocation: Invocation) -> int:
    return round((invocation.deadline_ns - invocation.accepted_ns) / 1e6)
