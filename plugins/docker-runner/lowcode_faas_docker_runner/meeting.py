"""Where a container of this machine meets the service without its engine in between.

A folder of its own is mounted into each container: a Unix socket and two pipes are in it until the
container's first process, before any user code, has opened them. Then the folder is emptied and
removed; what stays mounted is nothing. Whether the engine shares this file system is not asked but
seen: a container that cannot come here says so on its attach stream, and is spoken to there.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import logging
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from lowcode_faas_docker_runner.line import Line, set_timeouts

__all__ = ["CAME", "MEETING_POINT", "STAYED_AWAY", "Meeting", "Meetings", "prelude"]

_log = logging.getLogger(__name__)

#: Where the folder is in the container. No image has it.
MEETING_POINT: Final = "/lowcode-faas"
#: A container's first words: through the socket, one byte before it burns its bridges and one after
#: that, or on its stdout when there is no way there.
CAME: Final = b"++"
STAYED_AWAY: Final = b"-"

#: Runs before the loader and tells it its descriptors. Of ``net`` only the connected descriptor is
#: used: its handle keeps no event loop alive and reads nothing. Descriptors 0 to 2 are opened anew,
#: each as the lowest that is free, so that neither code nor its children speak through the engine.
_PRELUDE: Final = """'use strict';{
const { openSync, closeSync, writeSync, constants: { O_RDONLY, O_WRONLY } } = require('node:fs');
const [, folder] = process.argv;
let handle, outputs = [];
try {
  const socket = require('node:net').connect(`${folder}/channel`).on('error', () => {});
  handle = socket._handle;
  socket._handle = null;
  socket.destroy();
  handle.unref();
  if (handle.setBlocking(true) !== 0) throw new Error('it does not block');
  for (const name of ['stdout', 'stderr']) outputs.push(openSync(`${folder}/${name}`, O_WRONLY));
  writeSync(handle.fd, '+'); // only here a connection that was refused is found out
  [['/dev/null', O_RDONLY], [`${folder}/stdout`, O_WRONLY], [`${folder}/stderr`, O_WRONLY]].forEach(
    ([path, flags], fd) => { closeSync(fd); if (openSync(path, flags) !== fd) process.reallyExit(70); });
  writeSync(handle.fd, '+');
  process.argv = ['node', `${handle.fd}`, `${handle.fd}`, '-'];
} catch {
  handle?.close();
  writeSync(1, '-');
  process.argv = ['node', '0', '1', '-'];
}
outputs.forEach((fd) => closeSync(fd));
}
"""


def prelude(command: list[str]) -> list[str]:
    """Return a loader's command, made to look for the meeting before it loads."""
    *before, loader = command[: command.index("-e") + 2]
    return [*before, _PRELUDE + loader, MEETING_POINT]


class Meeting:
    """One folder, from before its container is created until that has come, or not."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(0o700)
        with contextlib.ExitStack() as on_failure:
            on_failure.callback(shutil.rmtree, folder, ignore_errors=True)
            # In there user code is a stranger. On this host nobody else gets as far as this folder.
            folder.chmod(0o755)
            self._listener = on_failure.enter_context(_listener(folder, "channel"))
            self._outputs: list[int] = []
            for name in ("stdout", "stderr"):
                self._outputs.append(_pipe(folder / name))
                on_failure.callback(os.close, self._outputs[-1])
            on_failure.pop_all()

    def fileno(self) -> int:
        """Return the descriptor that is readable once the container is here."""
        return self._listener.fileno()

    def receive(self, timeout_s: float) -> Line | None:
        """Take who is here; ``None`` when it turned back, and speaks by its attach stream."""
        connection, _ = self._listener.accept()
        set_timeouts(connection, timeout_s)
        try:
            came = connection.recv(len(CAME), socket.MSG_WAITALL) == CAME
        except OSError:
            came = False
        if not came:
            connection.close()
            return None
        (stdout, stderr), self._outputs = self._outputs, []
        return Line(connection, stdout, stderr)

    def over(self) -> None:
        """Remove the folder and all that nobody took over; may be repeated."""
        self._listener.close()
        outputs, self._outputs = self._outputs, []
        for descriptor in outputs:
            os.close(descriptor)
        shutil.rmtree(self.folder, ignore_errors=True)


class Meetings:
    """Makes the folders of one serving process, as long as containers can come to them."""

    def __init__(self, environ: Mapping[str, str], *, wanted: bool) -> None:
        data = Path(environ.get("LOWCODE_FAAS_DATA_DIR") or "data").expanduser().absolute()
        self._root = data / "meetings"
        address = environ.get("DOCKER_HOST") or "unix://"
        #: Whether containers come; an engine on another machine is not asked.
        self.possible = wanted and address.startswith("unix://")
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._folder: Path | None = None
        self._held = -1

    def arrange(self) -> Meeting | None:
        """Return a place for a container to come to; ``None`` where none can."""
        if not self.possible:
            return None
        try:
            with self._lock:
                if self._folder is None:
                    self._open()
                assert self._folder is not None  # noqa: S101  # opened just now
                folder = self._folder
            return Meeting(folder / str(next(self._numbers)))
        except OSError as error:
            self.give_up(f"no folder can be made: {error}")
            return None

    def give_up(self, reason: str) -> None:
        """Speak to all later containers by the engine."""
        if self.possible:
            self.possible = False
            _log.info("containers are spoken to by way of the engine, which is slower: %s", reason)

    def close(self) -> None:
        """Remove the folder."""
        with self._lock:
            folder, self._folder = self._folder, None
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
                os.close(self._held)

    def _open(self) -> None:
        """Make a folder that is this process's, and remove those of processes that are dead."""
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        with _locked(self._root):
            for each in self._root.iterdir():
                with contextlib.suppress(OSError), _locked(each, fcntl.LOCK_NB):
                    shutil.rmtree(each, ignore_errors=True)
            folder = Path(tempfile.mkdtemp(dir=self._root))
            self._held = _lock(folder)
        self._folder = folder


def _listener(folder: Path, name: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    try:
        # The name of a socket ends at 107 bytes, the path of a data folder does not.
        at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            listener.bind(f"/proc/self/fd/{at}/{name}")
        finally:
            os.close(at)
        (folder / name).chmod(0o666)
        listener.listen(1)
    except OSError:
        listener.close()
        raise
    return listener


def _pipe(path: Path) -> int:
    os.mkfifo(path, 0o600)
    path.chmod(0o622)
    return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)


def _lock(folder: Path, how: int = 0) -> int:
    held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | how)
    except OSError:
        os.close(held)
        raise
    return held


@contextlib.contextmanager
def _locked(folder: Path, how: int = 0) -> Iterator[None]:
    held = _lock(folder, how)
    try:
        yield
    finally:
        os.close(held)
