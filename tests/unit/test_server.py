from __future__ import annotations

import os
import signal
import sys
from typing import Any

import pytest

from lowcode_faas_core import server
from lowcode_faas_core.configuration import ServerSettings
from lowcode_faas_core.drain import FaasWorker
from lowcode_faas_core.errors import ConfigurationError, StartError
from lowcode_faas_core.preflight import preflight
from lowcode_faas_core.startup import ProcessRole


class TestPreflight:
    def test_what_succeeds_is_zero(self) -> None:
        assert preflight(lambda: None) == 0

    def test_a_refusal_keeps_its_code(self) -> None:
        assert preflight(lambda: sys.exit(2)) == 2

    def test_a_bug_is_one_with_its_traceback(self, capfd: pytest.CaptureFixture[str]) -> None:
        def bug() -> None:
            raise ZeroDivisionError("oops")

        assert preflight(bug) == 1
        assert "ZeroDivisionError: oops" in capfd.readouterr().err

    def test_what_it_leaves_open_ends_with_it(self) -> None:
        reader, writer = os.pipe()

        def leave_open() -> None:
            import threading

            threading.Thread(target=threading.Event().wait).start()
            os.write(writer, b"x")

        assert preflight(leave_open) == 0
        os.close(writer)
        assert os.read(reader, 10) == b"x"
        assert os.read(reader, 10) == b""
        os.close(reader)

    def test_its_death_is_not_success(self) -> None:
        assert preflight(lambda: os.kill(os.getpid(), signal.SIGKILL)) == -signal.SIGKILL


def test_other_systems_are_refused_readably(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    with pytest.raises(StartError, match=r"runs on Linux .* this is darwin"):
        server.check_platform()


def test_a_taken_port_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import socket

    monkeypatch.delenv("GUNICORN_FD", raising=False)
    monkeypatch.delenv("LISTEN_FDS", raising=False)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = ServerSettings(worker_listen=taken.getsockname())
        with pytest.raises(ConfigurationError, match=r"LOWCODE_FAAS_WORKER_LISTEN is .*in use"):
            server.check_port(settings, ProcessRole.WORKER)


@pytest.mark.parametrize(
    ("listen", "bind"),
    [(("127.0.0.1", 80), "127.0.0.1:80"), (("::1", 80), "[::1]:80")],
)
def test_gunicorn_is_told_what_the_settings_say(listen: tuple[str, int], bind: str) -> None:
    settings = ServerSettings(listen=listen, workers=3, threads=7)
    told = server.gunicorn_settings(settings, ProcessRole.DISPATCHER)
    assert told["bind"] == [bind]
    assert (told["workers"], told["threads"]) == (3, 7)
    assert told["preload_app"] is False
    assert told["control_socket_disable"] is True
    assert told["accesslog"] is None


def test_gunicorn_knows_every_setting_it_is_told() -> None:
    from gunicorn.config import KNOWN_SETTINGS

    told = server.gunicorn_settings(ServerSettings(listen=("::1", 1)), ProcessRole.DISPATCHER)
    known = {setting.name for setting in KNOWN_SETTINGS}
    assert set(told) <= known


def test_a_second_quit_changes_nothing() -> None:
    class Quiet(FaasWorker):
        def __init__(self) -> None:
            self.quitting = True

        def __getattr__(self, name: str) -> Any:
            raise AssertionError(f"{name} was used")

    Quiet().handle_quit(signal.SIGQUIT, None)
