"""``/executions``: what ran, what it printed or prints, and running it again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
from flask import Blueprint, Response, request

from lowcode_faas_core.api.answers import STATUS_HEADER, json_answer
from lowcode_faas_core.api.authorisation import enter, visible
from lowcode_faas_core.api.context import current_request, services
from lowcode_faas_core.api.queries import id_of, page_of_query, read_query, time_of, version_of
from lowcode_faas_core.callers import Verb, requires
from lowcode_faas_core.errors import (
    ExecutionsNotKept,
    FaasError,
    InputNotKept,
    InvalidValue,
    VersionNotKept,
)
from lowcode_faas_core.following import Following
from lowcode_faas_core.model import FunctionRef, InvokeRequest, Page, StartKind
from lowcode_faas_core.names import check_collection_path, check_execution_id, check_function_name
from lowcode_faas_core.paging import decode_cursor, encode_cursor
from lowcode_faas_core.records import Record, RecordFilter, RecordStatus
from lowcode_faas_core.trace_context import traceparent
from lowcode_faas_core.turns import FOLLOW

__all__ = ["blueprint", "following"]

blueprint = Blueprint("executions", __name__)

_encode = msgspec.json.Encoder().encode
_follow = re.compile(FOLLOW).fullmatch


def following() -> Following:
    """Return what looks at executions.

    :raises ExecutionsNotKept: nothing keeps them.
    """
    found = services().following
    if found is None:
        raise ExecutionsNotKept(
            "this service keeps no executions; LOWCODE_FAAS_EXECUTIONS names who does"
        )
    return found


@blueprint.get("/executions")
@requires(Verb.READ)
def list_executions() -> Response:
    """List what the caller reaches of it, newest first."""
    query = read_query(
        "function",
        "collection_path",
        "status",
        "start",
        "deployment_id",
        "run_id",
        "since",
        "until",
        "limit",
        "cursor",
    )
    subtree = visible(check_collection_path(query.get("collection_path", ""), where="query"))
    if "function" in query:
        check_function_name(query["function"], "/function", where="query")
    limit, cursor = page_of_query(query)
    since, until = time_of(query, "since"), time_of(query, "until")
    if since is not None and until is not None and since >= until:
        raise InvalidValue("since must be before until", "/since", where="query")
    wanted = RecordFilter(
        collection_path=subtree,
        function_name=query.get("function"),
        status=_word(RecordStatus, query, "status"),
        start=_word(StartKind, query, "start"),
        deployment_id=id_of(query, "deployment_id"),
        run_id=id_of(query, "run_id"),
        since=_microseconds(since),
        until=_microseconds(until),
    )
    found = following()
    if wanted.status is RecordStatus.RUNNING:
        found.ask_for_all()
    page = found.store.executions(wanted, limit, cursor)
    return json_answer({"items": page.items, "next_cursor": page.next_cursor})


@blueprint.get("/executions/<execution_id>")
@requires(Verb.READ)
def get_execution(execution_id: str) -> Response:
    """Answer with what is known of one."""
    read_query()
    return json_answer(_document(_find(execution_id)))


@blueprint.get("/executions/<execution_id>/logs")
@requires(Verb.READ)
def get_logs(execution_id: str) -> Response:
    """Answer with a page of lines, or follow them."""
    query = read_query("follow", "limit", "cursor")
    if query.get("follow", "0") not in ("0", "1"):
        raise InvalidValue("follow must be 0 or 1", "/follow", where="query")
    limit, cursor = page_of_query(query)
    after = 0 if cursor is None else _place(cursor)
    if query.get("follow") == "1":
        return _followed(execution_id, max(after, _last_event_id()))
    _find(execution_id)
    lines = following().store.lines(execution_id, after, limit + 1)
    more = encode_cursor(str(lines[limit - 1].seq)) if len(lines) > limit else None
    return json_answer(Page(lines[:limit], more))


@blueprint.post("/executions/<execution_id>/replay")
@requires(Verb.INVOKE)
def replay(execution_id: str) -> Response:
    """Run it again with its input, on its version unless another one is named."""
    version = version_of(read_query("version"))
    original = _find(execution_id)
    if original.input is None or original.input_cut:
        how = "was cut" if original.input_cut else "was not kept"
        raise InputNotKept(f"the input of execution {execution_id} {how}: it cannot be run again")
    ref = FunctionRef(original.collection_path, original.function_name)
    if version is None:
        version = original.deployment_version
        deployment = services().storage.deployment(ref, version)
        if deployment.deployment_id != original.deployment_id:
            raise VersionNotKept(f"{ref} was deleted since; its version {version} is another one")
    current = current_request()
    result = services().invoker.invoke(
        InvokeRequest(
            ref=ref,
            request_id=current.request_id,
            input=msgspec.Raw(original.input.encode()),
            version=version,
            run_id=original.run_id,
            traceparent=traceparent(request.environ.get("HTTP_TRACEPARENT")),
            replay_of=execution_id,
        )
    )
    shown = _document(original)
    if not current.caller.holds(Verb.READ):
        # What came in and out of it is for those who may read it, not for all who may run it.
        shown |= {"input": None, "output": None}
    return json_answer(
        {"original": shown, "replay": result},
        headers={STATUS_HEADER: result.status.value},
    )


def _find(execution_id: str) -> Record:
    check_execution_id(execution_id, where="path")
    record = following().find(execution_id)
    enter(record.collection_path)
    return record


def _followed(execution_id: str, after: int) -> Response:
    target = request.environ.get("RAW_URI", "")
    if target and not _follow(target):
        raise InvalidValue("follow=1 must be written plainly", "/follow", where="query")
    found = following()
    _find(execution_id)
    leave = found.enter()
    answer = Response(
        _events(found, execution_id, after),
        mimetype="text/event-stream",
        # nginx would hold events back.
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )
    # Not at the end of the generator: one that was never begun has no end.
    answer.call_on_close(leave)
    return answer


def _events(found: Following, execution_id: str, after: int) -> Iterator[bytes]:
    yield b"retry: 1000\n\n"
    try:
        for each in found.lines(execution_id, after):
            if each is None:
                yield b": nothing new\n\n"
            elif isinstance(each, Record):
                yield b"event: end\ndata: " + _encode({"status": each.status}) + b"\n\n"
            else:
                yield b"".join(b"id: %d\ndata: %b\n\n" % (line.seq, _encode(line)) for line in each)
    except FaasError as error:
        # The head is out: all that is left is to end, and the client comes again.
        yield b": " + error.code.encode() + b"\n\n"


def _document(record: Record) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.structs.asdict(record)
    for name in ("input", "output"):
        if document[name] is not None and not document[f"{name}_cut"]:
            document[name] = msgspec.Raw(document[name].encode())
    return document


def _word(kind: Any, query: dict[str, str], name: str) -> Any:
    if name not in query:
        return None
    try:
        return kind(query[name])
    except ValueError:
        words = ", ".join(word.value for word in kind)
        raise InvalidValue(f"{name} must be one of {words}", f"/{name}", where="query") from None


def _microseconds(moment: str | None) -> str | None:
    return None if moment is None else f"{moment[:26]}Z"


def _place(cursor: str) -> int:
    key = decode_cursor(cursor)
    if key.isascii() and key.isdigit() and len(key) < 19:
        return int(key)
    raise InvalidValue("the cursor is of another list", "cursor", where="query")


def _last_event_id() -> int:
    given = request.environ.get("HTTP_LAST_EVENT_ID", "").strip()
    # Browsers send what they have, and would not come again after a refusal.
    return int(given) if given.isascii() and given.isdigit() and len(given) < 19 else 0
