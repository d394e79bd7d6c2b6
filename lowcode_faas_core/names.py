"""What a legal name, collection path, env key or id is; checked here, below the web framework.

Werkzeug decodes ``..%2f`` and ``%00`` before a view sees them, so nothing above the domain layer
can be trusted to have refused them. All patterns are linear and match ASCII only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from lowcode_faas_core.errors import InvalidValue

__all__ = [
    "ENV_KEY",
    "EXECUTION_ID",
    "MAX_COLLECTION_DEPTH",
    "MAX_COLLECTION_PATH",
    "NAME",
    "REQUEST_ID",
    "RESERVED_SEGMENTS",
    "ancestors",
    "check_collection_path",
    "check_env",
    "check_execution_id",
    "check_function_name",
    "check_run_id",
    "is_request_id",
]

#: Characters of a function's name or of one segment of a collection path, at most.
MAX_NAME = 64
#: Characters of a run's or a request's id, at most.
MAX_ID = 128

NAME = rf"[A-Za-z0-9][A-Za-z0-9_-]{{0,{MAX_NAME - 1}}}"
ENV_KEY = r"[A-Za-z_][A-Za-z0-9_]*"
REQUEST_ID = rf"[A-Za-z0-9._:-]{{1,{MAX_ID}}}"
EXECUTION_ID = r"[A-Za-z0-9_-]{8,64}"

#: Segments of a collection path, at most.
MAX_COLLECTION_DEPTH = 8
#: Characters of a collection path, at most.
MAX_COLLECTION_PATH = 255
#: Characters of an env key, at most.
MAX_ENV_KEY = 256

#: Words with a meaning of their own in routes or in the data folder.
RESERVED_SEGMENTS = frozenset(
    "functions env versions invoke pull rollback source explain __root__".split()
)

#: Variables that would run code, or change what runs, before the handler does.
LOADER_VARIABLES = frozenset(
    (
        "NODE_OPTIONS NODE_PATH NODE_EXTRA_CA_CERTS NODE_REPL_EXTERNAL_MODULE NODE_V8_COVERAGE "
        "LD_PRELOAD LD_LIBRARY_PATH PATH HOME"
    ).split()
)
PLATFORM_PREFIX = "LOWCODE_FAAS_"

_name = re.compile(NAME, re.ASCII).fullmatch
_env_key = re.compile(ENV_KEY, re.ASCII).fullmatch
_request_id = re.compile(REQUEST_ID, re.ASCII).fullmatch
_execution_id = re.compile(EXECUTION_ID, re.ASCII).fullmatch


def check_function_name(name: str, pointer: str = "/name", *, where: str = "body") -> str:
    """Return ``name`` or raise :class:`InvalidValue` naming ``pointer``."""
    if not _name(name):
        raise InvalidValue(f"a function name must match {NAME}", pointer, where=where)
    return name


def check_collection_path(
    path: str, pointer: str = "/collection_path", *, where: str = "body", root: bool = True
) -> str:
    """Return ``path`` or raise :class:`InvalidValue`; ``""`` is the root, allowed with ``root``."""
    if not path:
        if root:
            return path
        raise InvalidValue("a collection path may not be empty", pointer, where=where)
    if len(path) > MAX_COLLECTION_PATH:
        raise InvalidValue(
            f"a collection path has at most {MAX_COLLECTION_PATH} characters", pointer, where=where
        )
    segments = path.split("/")
    if len(segments) > MAX_COLLECTION_DEPTH:
        raise InvalidValue(
            f"a collection path has at most {MAX_COLLECTION_DEPTH} segments", pointer, where=where
        )
    for segment in segments:
        if segment in RESERVED_SEGMENTS:
            raise InvalidValue(
                f"{segment!r} is a reserved word and cannot be a collection segment",
                pointer,
                where=where,
            )
        if not _name(segment):
            raise InvalidValue(
                f"each segment of a collection path must match {NAME}", pointer, where=where
            )
    return path


def ancestors(path: str) -> tuple[str, ...]:
    """Return the paths from the root to ``path``, both included: ``("", "a", "a/b")``."""
    if not path:
        return ("",)
    segments = path.split("/")
    return ("", *("/".join(segments[: i + 1]) for i in range(len(segments))))


def check_env(env: Mapping[str, str], pointer: str = "/env") -> None:
    """Raise :class:`InvalidValue` for the first illegal key or value; sizes are for limits."""
    for key, value in env.items():
        at = f"{pointer}/{key.replace('~', '~0').replace('/', '~1')}"
        if len(key) > MAX_ENV_KEY or not _env_key(key):
            raise InvalidValue(
                f"an env key must match {ENV_KEY} and have at most {MAX_ENV_KEY} characters", at
            )
        if key.upper() in LOADER_VARIABLES or key.upper().startswith(PLATFORM_PREFIX):
            raise InvalidValue(
                f"{key} is refused: it would act before the handler or is the platform's own", at
            )
        if "\0" in value:
            raise InvalidValue("an env value may not contain NUL", at)


def check_run_id(run_id: str, pointer: str = "/run_id") -> str:
    """Return ``run_id`` or raise :class:`InvalidValue`."""
    if not _request_id(run_id):
        raise InvalidValue(f"run_id must match {REQUEST_ID}", pointer)
    return run_id


def check_execution_id(
    execution_id: str, pointer: str = "/execution_id", *, where: str = "body"
) -> str:
    """Return ``execution_id`` or raise :class:`InvalidValue`."""
    if not _execution_id(execution_id):
        raise InvalidValue(f"an execution id must match {EXECUTION_ID}", pointer, where=where)
    return execution_id


def is_request_id(text: str) -> bool:
    """Tell whether a caller's ``X-Request-Id`` may be kept; an illegal one is replaced."""
    return _request_id(text) is not None
