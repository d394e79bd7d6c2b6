"""What dispatcher and worker say to each other; both import it, so that they cannot differ."""

from __future__ import annotations

from typing import Final

import msgspec

from lowcode_faas_core.model import Language, RunResult, SourceCheck

__all__ = [
    "API_VERSION",
    "ATTEMPT_HEADER",
    "DEPLOYMENT_HEADER",
    "VERSION_HEADER",
    "CheckRequest",
    "Info",
    "Problem",
    "RunRequest",
    "decode_check",
    "decode_info",
    "decode_problem",
    "decode_result",
]

#: Raised with every change that an older peer would misread; both sides must be equal.
API_VERSION: Final = 2
#: Says which version of this exchange the sender speaks; on requests and on answers.
VERSION_HEADER: Final = "X-Lowcode-Faas-Api"
#: Carries the deployment id, so that a load balancer can send equal ones to the same worker.
DEPLOYMENT_HEADER: Final = "X-Lowcode-Faas-Deployment"
#: On what is offered again: a balancer that offers it again itself as well would multiply the two.
ATTEMPT_HEADER: Final = "X-Lowcode-Faas-Attempt"


class RunRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, gc=False):
    """``POST /v1/run``: a resolved invocation. The deadline travels as time left, in milliseconds.

    ``timeout_ms`` is what the invocation was given in all: messages name it.
    """

    execution_id: str
    run_id: str
    request_id: str
    deployment_id: str
    function_name: str
    collection_path: str
    env: dict[str, str]
    input: msgspec.Raw
    remaining_ms: float
    timeout_ms: int | None = None
    request_env: bool = False
    traceparent: str | None = None
    chosen: bool = False
    replay_of: str | None = None


class CheckRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``POST /v1/check``: a source, to be compiled and never run. The answer is a SourceCheck."""

    source: str
    language: Language


class Problem(msgspec.Struct):
    """What the dispatcher reads of a worker's problem document."""

    code: str = ""
    detail: str = ""
    outcome: str | None = None
    phase: str | None = None


class Info(msgspec.Struct):
    """What the dispatcher reads of ``GET /v1/info``."""

    max_timeout_ms: int | None = None


class _Result(RunResult, frozen=True, kw_only=True):
    # msgspec reads ``Raw | None`` as null alone.
    output: msgspec.Raw


_NULL: Final = memoryview(b"null")
_decode_result = msgspec.json.Decoder(_Result).decode


def decode_result(data: bytes) -> RunResult:
    """Return a worker's answer; raises ``msgspec.DecodeError`` for anything else."""
    found = _decode_result(data)
    # Of two of different lengths no byte is compared.
    if memoryview(found.output) == _NULL:
        return msgspec.structs.replace(found, output=None)
    return found


decode_check = msgspec.json.Decoder(SourceCheck).decode
decode_info = msgspec.json.Decoder(Info).decode
decode_problem = msgspec.json.Decoder(Problem).decode
