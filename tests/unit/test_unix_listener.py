"""A path is looked at once more before gunicorn would take it from whoever has it."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from lowcode_faas_core.errors import ConfigurationError
from lowcode_faas_core.unix_listener import Master, check_path


@pytest.fixture
def path(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.delenv("GUNICORN_FD", raising=False)
    monkeypatch.delenv("LISTEN_FDS", raising=False)
    with tempfile.TemporaryDirectory() as folder:  # a test's own may be deeper than sockets can
        yield Path(folder) / "worker.sock"


def test_who_came_between_the_trial_and_the_start_keeps_it(path: Path) -> None:
    # Given a start that found nobody
    check_path(path)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(0)
        # When somebody listens by the time gunicorn would
        master = Master.__new__(Master)
        master.cfg = SimpleNamespace(address=[("127.0.0.1", 1), str(path)])
        # Then it does not begin to
        with pytest.raises(ConfigurationError, match=r"WORKER_SOCKET is .*a worker listens there"):
            master.start()
        # Nor does the next one, for whom there is no room to ask: the first waits to be accepted
        with pytest.raises(ConfigurationError, match="a worker listens there"):
            check_path(path)
    # And what is left of who has gone is no obstacle
    check_path(path)


def test_a_link_is_no_socket(path: Path) -> None:
    path.symlink_to("nowhere")
    with pytest.raises(ConfigurationError, match="which is no socket"):
        check_path(path)


def test_a_datagram_socket_is_nobody_s_to_take(path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.bind(str(path))
        with pytest.raises(ConfigurationError, match="cannot be used: Protocol wrong type"):
            check_path(path)
