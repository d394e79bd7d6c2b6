"""The values of the domain: immutable, compared by value, the same on every side of every seam.

They are ``msgspec.Struct``s because most of them cross HTTP; nothing here opens or decides anything.
Times are RFC 3339 strings in UTC with microseconds; durations name their unit. What every invocation
makes is no affair of the garbage collector (``gc=False``): values cannot form cycles, and those that
wait to be recorded would have it look through the whole process again and again.
"""

from __future__ import annotations

import enum
from typing import Any, Generic, TypeVar

import msgspec

__all__ = [
    "Collection",
    "DeployOutcome",
    "Deployment",
    "Draft",
    "EnvLevel",
    "ErrorCode",
    "Execution",
    "ExecutionError",
    "Function",
    "FunctionRef",
    "Invocation",
    "InvokeRequest",
    "Language",
    "Limits",
    "LogEvent",
    "LogLine",
    "LogSummary",
    "Outcome",
    "Page",
    "Phase",
    "Resolution",
    "Reuse",
    "RunResult",
    "SandboxLimits",
    "SourceCheck",
    "SourceFault",
    "StartKind",
    "Status",
    "Timings",
    "Usage",
]

T = TypeVar("T")


class Language(enum.StrEnum):
    """What a function is written in; decides the suffix of its file."""

    JAVASCRIPT = "javascript"
    TYPESCRIPT = "typescript"

    @property
    def suffix(self) -> str:
        """``.mjs`` or ``.mts``."""
        return ".mjs" if self is Language.JAVASCRIPT else ".mts"

    @property
    def media_type(self) -> str:
        """The media type of a source in this language."""
        return f"text/{self.value}"


class Reuse(enum.StrEnum):
    """Whether runs of one deployment may share an instance."""

    WARM = "warm"
    FRESH = "fresh"


class Status(enum.StrEnum):
    """The verdict over one execution, as the host saw it."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    HANDLER_ERROR = "handler_error"
    INVALID_OUTPUT = "invalid_output"
    OUTPUT_TOO_LARGE = "output_too_large"
    INVALID_HANDLER = "invalid_handler"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out_of_memory"
    CRASHED = "crashed"
    CANCELLED = "cancelled"


class ErrorCode(enum.StrEnum):
    """``error.code`` of a RunResult; the contract's table says which goes with which status."""

    HANDLER_ERROR = "handler_error"
    INVALID_OUTPUT = "invalid_output"
    OUTPUT_TOO_LARGE = "output_too_large"
    SYNTAX_ERROR = "syntax_error"
    LOAD_ERROR = "load_error"
    NO_HANDLER = "no_handler"
    TIMEOUT = "timeout"
    OUT_OF_MEMORY = "out_of_memory"
    EXITED = "exited"
    KILLED = "killed"
    SANDBOX_LOST = "sandbox_lost"
    NEVER_SETTLED = "never_settled"
    PROTOCOL_ERROR = "protocol_error"
    CANCELLED = "cancelled"


class Phase(enum.StrEnum):
    """Where in an execution user code was when it ended."""

    LOAD = "load"
    RUN = "run"


class StartKind(enum.StrEnum):
    """How the invocation came by its instance."""

    WARM = "warm"
    PREWARMED = "prewarmed"
    COLD = "cold"


class Outcome(enum.StrEnum):
    """Whether user code was started."""

    EXECUTED = "executed"
    NOT_EXECUTED = "not_executed"
    UNKNOWN = "unknown"


class FunctionRef(msgspec.Struct, frozen=True, gc=False):
    """Names a function; ``collection_path`` is ``""`` for the root."""

    collection_path: str
    name: str

    def __str__(self) -> str:
        return f"{self.collection_path}/{self.name}" if self.collection_path else self.name


class Limits(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What a deployment asks for; an absent key means the operator's default."""

    memory_mb: int | None = None
    cpus: float | None = None
    pids: int | None = None
    tmp_mb: int | None = None
    timeout_ms: int | None = None


class SandboxLimits(msgspec.Struct, frozen=True):
    """What a sandbox is started with: every value decided. Hashable; part of the pool's key."""

    memory_mb: int
    cpus: float
    pids: int
    tmp_mb: int


class Draft(msgspec.Struct, frozen=True, kw_only=True):
    """What someone wants to deploy. ``env=None`` leaves the function's env as it is.

    ``replaces`` is the id of the deployment it was made of: it is for no other one to take its
    place, and for no function that was deleted meanwhile.
    """

    source: bytes
    language: Language
    reuse: Reuse
    limits: Limits = Limits()
    env: dict[str, str] | None = None
    source_url: str | None = None
    checked: bool = False
    replaces: str | None = None


class SourceFault(msgspec.Struct, frozen=True):
    """What is wrong with the syntax of a source, and where, from 1; of a span only its line is known."""

    message: str
    line: int | None = None
    column: int | None = None

    def __str__(self) -> str:
        if self.line is None:
            return self.message
        column = "" if self.column is None else f", column {self.column}"
        return f"line {self.line}{column}: {self.message}"


class SourceCheck(msgspec.Struct, frozen=True):
    """Whether anybody looked at the syntax of a source, and what was found wrong with it."""

    checked: bool
    fault: SourceFault | None = None


class Deployment(msgspec.Struct, frozen=True, kw_only=True):
    """The immutable snapshot of a function's source, language, reuse and limits."""

    deployment_id: str
    function_name: str
    collection_path: str
    version: int
    language: Language
    sha256: str
    size: int
    source_url: str | None
    reuse: Reuse
    limits: Limits
    created_at: str
    current: bool
    checked: bool
    restored_from: int | None

    @property
    def ref(self) -> FunctionRef:
        """The function it belongs to."""
        return FunctionRef(self.collection_path, self.function_name)


class DeployOutcome(msgspec.Struct, frozen=True):
    """``created`` is false when the draft equals the current deployment, which is then answered."""

    deployment: Deployment
    created: bool


class Function(msgspec.Struct, frozen=True, kw_only=True):
    """A function as lists show it; env values are read only through the env routes."""

    name: str
    collection_path: str
    language: Language
    current: Deployment
    env_keys: list[str]
    created_at: str
    updated_at: str


class Collection(msgspec.Struct, frozen=True, kw_only=True):
    """A registered collection."""

    path: str
    env_keys: list[str]
    created_at: str


class Page(msgspec.Struct, Generic[T], frozen=True):
    """One page of a list; ``next_cursor`` is opaque, ``None`` on the last page."""

    items: list[T]
    next_cursor: str | None = None


class EnvLevel(msgspec.Struct, frozen=True, gc=False):
    """The env of one level. ``level`` is ``collection``, ``function`` or ``request``."""

    level: str
    path: str
    env: dict[str, str]


class Resolution(msgspec.Struct, frozen=True, gc=False):
    """What an invocation needs from storage: the deployment, and the env levels root first."""

    deployment: Deployment
    levels: tuple[EnvLevel, ...]


class InvokeRequest(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Somebody's wish to run a function, from whatever trigger. ``input`` is a JSON object."""

    ref: FunctionRef
    request_id: str
    input: msgspec.Raw
    timeout_ms: int | None = None
    env: dict[str, str] = {}
    version: int | None = None
    run_id: str | None = None
    execution_id: str | None = None
    traceparent: str | None = None
    #: The execution whose input this is.
    replay_of: str | None = None


class Invocation(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A resolved InvokeRequest: what a runner runs. Clocks are ``time.monotonic_ns``."""

    execution_id: str
    run_id: str
    request_id: str
    deployment: Deployment
    env: dict[str, str]
    #: Whether the request itself brought env: such instances are rarely used again.
    request_env: bool
    input: msgspec.Raw
    accepted_ns: int
    deadline_ns: int
    traceparent: str | None = None
    #: Whether the caller chose the execution id: it must be nobody else's.
    chosen: bool = False
    #: The execution whose input this is.
    replay_of: str | None = None


class LogLine(msgspec.Struct, frozen=True, gc=False):
    """One line as a runner captured it, before the host adds who it was.

    ``execution_id`` is the execution that printed it, which may be over: its timers go on while
    the same instance runs another one.
    """

    execution_id: str
    ts_ns: int
    level: str
    stream: str
    message: str


class LogEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One line on its way to the sinks; the field names are part of the contract."""

    ts: str
    level: str
    message: str
    log_stream: str
    run_id: str
    execution_id: str
    function_name: str
    collection_path: str
    deployment_id: str
    deployment_version: int
    seq: int
    traceparent: str | None = None
    late: bool = False
    truncated: bool = False


class ExecutionError(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Why an execution did not succeed. ``stack`` holds user frames only."""

    code: ErrorCode
    message: str
    phase: Phase
    stack: str | None = None


class Execution(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a runner found out about one run. Durations in nanoseconds."""

    status: Status
    start: StartKind
    output: msgspec.Raw | None = None
    error: ExecutionError | None = None
    queue_ns: int = 0
    start_ns: int = 0
    run_ns: int = 0
    cpu_ns: int | None = None
    max_rss_bytes: int | None = None
    image: str | None = None


class Timings(msgspec.Struct, frozen=True, gc=False):
    """Where the time went, in milliseconds."""

    queue: float
    start: float
    run: float
    total: float


class Usage(msgspec.Struct, frozen=True, gc=False):
    """What the run used: CPU of the instance over the run, its peak memory so far."""

    cpu_ms: float | None
    max_rss_bytes: int | None


class LogSummary(msgspec.Struct, frozen=True, gc=False):
    """How much a run printed."""

    lines: int
    truncated: bool


class RunResult(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The answer to an invocation that ran to a verdict."""

    execution_id: str
    run_id: str
    request_id: str
    function_name: str
    collection_path: str
    deployment_id: str
    deployment_version: int
    status: Status
    output: msgspec.Raw | None
    error: ExecutionError | None
    start: StartKind
    outcome: Outcome
    started_at: str
    finished_at: str
    timings_ms: Timings
    usage: Usage
    logs: LogSummary

    def document(self) -> dict[str, Any]:
        """Return it as plain Python values, for people and tests."""
        parsed: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(self))
        return parsed
