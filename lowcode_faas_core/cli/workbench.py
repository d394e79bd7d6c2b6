"""A service of one function, for whoever writes it: storage, pool and runner as they are elsewhere.

It listens nowhere and keeps nothing: its data folder goes with it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from lowcode_faas_core.configuration import CORE_SETTINGS, LimitSettings
from lowcode_faas_core.ids import new_id
from lowcode_faas_core.interfaces.log_sink import LogSink
from lowcode_faas_core.model import (
    Draft,
    FunctionRef,
    InvokeRequest,
    Language,
    LogEvent,
    Reuse,
    RunResult,
)
from lowcode_faas_core.services import Services
from lowcode_faas_core.settings import PREFIX, infos
from lowcode_faas_core.startup import ProcessRole

__all__ = ["Workbench"]

#: Beginning of the names of data folders.
FOLDER: Final = "lowcode-faas-dev-"
#: Age from which a folder that nobody holds is taken for one whose owner was killed, in seconds.
ABANDONED_S: Final = 60.0
#: Longest wait for the last lines of a run, in seconds.
LINES_S: Final = 1.0
RUNNER: Final = f"{PREFIX}RUNNER"
#: One instance of the function, and a sandbox that waits for its next version.
DECIDED: Final = {
    "STORAGE": "files",
    "EXECUTIONS": "none",
    "FUNCTION_LOGS_SINK": "none",
    "SOURCE_FETCHERS": "none",
    "MAX_INSTANCES": "2",
    "STOCK": "1",
}


class Workbench:
    """Runs one function again and again. A context: leaving it ends its sandboxes."""

    def __init__(self, environ: Mapping[str, str], show: Callable[[LogEvent], None]) -> None:
        """Build the service; of ``environ`` the runner, its variables, and limits hold here.

        :param show: called with each line that is printed, by a thread of its own.
        :raises StartError: with everything that is wrong.
        """
        self._opened = contextlib.ExitStack()
        with contextlib.ExitStack() as opened:
            folder = _folder(opened)
            self._services = Services.build(
                _environ(environ, folder), ProcessRole.DISPATCHER, sinks={"dev": _Shown(show)}
            )
            opened.callback(self._services.close)
            self._opened = opened.pop_all()

    def __enter__(self) -> Workbench:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()

    def run(
        self,
        name: str,
        source: bytes,
        language: Language,
        given: object,
        env: dict[str, str],
        timeout_ms: int | None,
    ) -> RunResult:
        """Deploy a source where it differs, and run it; its lines were shown by then.

        :raises FaasError: it could not be run.
        """
        services = self._services
        ref = FunctionRef("", name)
        services.limits.check_source(source)
        services.storage.deploy(ref, Draft(source=source, language=language, reuse=Reuse.WARM))
        request = InvokeRequest(
            ref=ref,
            request_id=new_id(),
            input=msgspec.Raw(msgspec.json.encode(given)),
            env=env,
            timeout_ms=timeout_ms,
        )
        result = services.invoker.invoke(request)
        end = time.monotonic() + LINES_S
        while services.logs is not None and services.logs.backlog() and time.monotonic() < end:
            time.sleep(0.002)
        return result


class _Shown(LogSink):
    """Shows each event as it comes."""

    def __init__(self, show: Callable[[LogEvent], None]) -> None:
        self._show = show

    def emit(self, batch: Sequence[LogEvent]) -> None:
        for event in batch:
            self._show(event)

    def flush(self, deadline_ns: int) -> int:
        del deadline_ns
        return 0

    def close(self) -> None:
        """Hold nothing that would have to be released."""


def _environ(environ: Mapping[str, str], folder: Path) -> dict[str, str]:
    """Return the environment of the service: nothing of one that is served beside it."""
    declared = {info.variable for info in infos(CORE_SETTINGS)}
    declared -= {RUNNER, *(info.variable for info in infos([LimitSettings]))}
    kept = {
        name: value
        for name, value in environ.items()
        if name not in declared and name.removesuffix("_FILE") not in declared
    }
    decided: dict[str, Any] = {f"{PREFIX}{name}": value for name, value in DECIDED.items()}
    return {RUNNER: "process", **kept, **decided, f"{PREFIX}DATA_DIR": str(folder)}


def _folder(opened: contextlib.ExitStack) -> Path:
    """Make a folder that is held while this process lives, and remove those of the killed."""
    _sweep()
    folder = Path(tempfile.mkdtemp(prefix=FOLDER))
    opened.callback(shutil.rmtree, folder, ignore_errors=True)
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    opened.callback(os.close, held)
    fcntl.flock(held, fcntl.LOCK_EX)
    return folder


def _sweep() -> None:
    for path in Path(tempfile.gettempdir()).glob(f"{FOLDER}*"):
        with contextlib.suppress(OSError):
            found = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                stat = os.fstat(found)
                if stat.st_uid != os.geteuid() or time.time() - stat.st_mtime < ABANDONED_S:
                    continue
                fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path, ignore_errors=True)
            finally:
                os.close(found)
