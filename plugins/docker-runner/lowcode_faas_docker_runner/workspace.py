"""What the files exchange copies into a container before it starts, and out once it has ended."""

from __future__ import annotations

import io
import tarfile
import time
from importlib import resources
from typing import Any, Final

import msgspec

from lowcode_faas_core.model import Invocation
from lowcode_faas_core.sandbox.protocol import Kind
from lowcode_faas_docker_runner.arguments import FOLDER, WORKSPACE
from lowcode_faas_docker_runner.engine import SLOW_S, Absent, Engine

__all__ = ["Answer", "BadOutput", "OutputTooLarge", "copy_in", "copy_out"]

#: What the bootstrap leaves when the answer did not fit the file.
_TOO_LARGE: Final = "t"
_OUTPUT: Final = f"{WORKSPACE}/{FOLDER}/output.json"
#: What a tar of one file has besides its bytes, and the kind and payload around an output.
_TAR_EXTRA: Final = 64 << 10
#: Type bits of a Go FileMode: directory, link, device, pipe, socket, character device, irregular.
_NOT_REGULAR: Final = 1 << 31 | 1 << 27 | 1 << 26 | 1 << 25 | 1 << 24 | 1 << 21 | 1 << 19


class BadOutput(Exception):
    """Raised when output.json is no regular file, or not what the bootstrap writes."""


class OutputTooLarge(Exception):
    """Raised when output.json is larger than an output may be, before it is read."""


class Answer(msgspec.Struct):
    """What the bootstrap left: ``kind`` is a frame's, or says how far it came."""

    kind: str
    payload: msgspec.Raw = msgspec.Raw(b"null")


class _Context(msgspec.Struct, rename="camel"):
    execution_id: str
    run_id: str
    function_name: str
    collection_path: str
    version: int
    deadline: int
    traceparent: str | None


class _Input(msgspec.Struct):
    file: str
    input: msgspec.Raw
    context: _Context
    env: dict[str, str]


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Answer).decode


def copy_in(
    engine: Engine,
    container: str,
    invocation: Invocation,
    source: bytes,
    uid: int,
    limit_s: float,
) -> None:
    """Write the workspace of one invocation into a container that has not started.

    User code owns no folder in it and may write to two files only: the disk behind the volume has
    no other bound, and what cannot be made cannot be a link, a pipe or a tree either.
    """
    deployment = invocation.deployment
    file = deployment.function_name + deployment.language.suffix
    left_ms = (invocation.deadline_ns - time.monotonic_ns()) // 1_000_000
    given = _Input(
        file=file,
        input=invocation.input,
        context=_Context(
            execution_id=invocation.execution_id,
            run_id=invocation.run_id,
            function_name=deployment.function_name,
            collection_path=deployment.collection_path,
            version=deployment.version,
            deadline=time.time_ns() // 1_000_000 + left_ms,
            traceparent=invocation.traceparent,
        ),
        env=invocation.env,
    )
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        folder = tarfile.TarInfo(FOLDER)
        folder.type, folder.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(folder)
        _add(tar, "bootstrap.mjs", _bootstrap(), 0o444)
        _add(tar, file, source, 0o444)
        _add(tar, "input.json", _encode(given), 0o600, uid)
        _add(tar, "output.json", b"", 0o600, uid)
    with engine.calling("copy files into a container", limit_s) as client:
        client.put_archive(container, WORKSPACE, archive.getvalue())


def copy_out(engine: Engine, container: str, output_bytes: int) -> Answer | None:
    """Return what a container that has ended left, ``None`` when it left nothing.

    :raises BadOutput: when it is not one regular file that holds an answer.
    :raises OutputTooLarge: when it is larger than an answer may be.
    """
    try:
        with engine.calling("copy files out of a container", SLOW_S) as client:
            chunks, stat = client.get_archive(container, _OUTPUT)
            try:
                _check(stat, output_bytes)
                data = _capped(chunks, stat["size"])
            finally:
                chunks.close()
    except Absent:
        return None
    content = _only_member(data, stat["size"])
    if not content:
        return None
    try:
        answer = _decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadOutput("output.json is not what the bootstrap writes") from error
    if answer.kind == _TOO_LARGE:
        raise OutputTooLarge
    if answer.kind == Kind.RESULT.decode() and len(bytes(answer.payload)) > output_bytes:
        raise OutputTooLarge
    return answer


def _add(tar: tarfile.TarFile, name: str, data: bytes, mode: int, uid: int = 0) -> None:
    info = tarfile.TarInfo(f"{FOLDER}/{name}")
    info.size, info.mode, info.uid, info.gid = len(data), mode, uid, uid
    tar.addfile(info, io.BytesIO(data))


def _bootstrap() -> bytes:
    return resources.files(__package__).joinpath("bootstrap.mjs").read_bytes()


def _check(stat: dict[str, Any], output_bytes: int) -> None:
    if stat.get("linkTarget") or int(stat["mode"]) & _NOT_REGULAR:
        raise BadOutput("output.json is not a regular file")
    if stat["size"] > output_bytes + _TAR_EXTRA:
        raise OutputTooLarge


def _capped(chunks: Any, size: int) -> bytes:
    data = bytearray()
    for chunk in chunks:
        data += chunk
        if len(data) > size + _TAR_EXTRA:
            raise BadOutput("output.json is larger than its size says")
    return bytes(data)


def _only_member(data: bytes, size: int) -> bytes:
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as tar:
            members = tar.getmembers()
            if len(members) != 1 or members[0].type not in (tarfile.REGTYPE, tarfile.AREGTYPE):
                raise BadOutput("output.json is not a regular file")
            if members[0].size != size or (file := tar.extractfile(members[0])) is None:
                raise BadOutput("output.json is not of the size it has")
            return file.read()
    except tarfile.TarError as error:
        raise BadOutput("output.json cannot be read") from error
