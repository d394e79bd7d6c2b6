"""Somebody who reads a page with terminals open, and types what it says."""

from __future__ import annotations

import contextlib
import io
import os
import re
import runpy
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pluggy
import urllib3

from lowcode_faas_core import hookspecs
from scripts.node_path import node_path
from tests.docs.pages import ROOT, Block
from tests.services.processes import WITH_ME, free_port

__all__ = ["Printed", "Reader"]

#: The commands of the virtual environment, its Node among them.
BIN = f"{Path(sys.executable).parent}:{node_path().parent}"
#: Seconds that one block may take, and a service until it is ready.
BLOCK_S, READY_S = 60.0, 60.0
#: The same where everything is installed anew.
INSTALLING_S = 600.0
#: What ``make run`` prints when the examples are deployed.
GUIDED = "Ctrl-C ends the service"
#: Commands that act on the host; every other one calls a service.
ON_HOST = "dispatcher|worker|dev|config|plugin|token|doctor|migrate|gc|completion"
CLIENT = re.compile(rf"\bcurl\b|\blowcode-faas (?!{ON_HOST})\w")
#: What ran is written every 0.1 s, after the answer: a person types no faster than this.
TYPING = """\
lowcode-faas() { case $1 in executions | logs) sleep 0.5 ;; esac; command lowcode-faas "$@"; }
"""
#: A terminal with one command, all of which is gone when the other end of its input is.
TERMINAL = "exec 3<&0 </dev/null; { read -r <&3; kill -KILL 0; } & exec 3<&-; "
DISPATCHER, WORKER = "8080", "9090"
#: Neither caps nor the time a balancer needs are what pages are about.
SMALL = {"WORKERS": "1", "STOCK": "1", "DRAIN_NOTICE_S": "0", "DRAIN_TIMEOUT_S": "1"}


@dataclass(frozen=True)
class Printed:
    """What a block printed; on one stream when that was asked for."""

    output: str
    errors: str


@dataclass
class _Service:
    process: subprocess.Popen[bytes]
    log: Path

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def end(self) -> None:
        """Press Ctrl-C in its terminal, and close that when nothing has ended after 15 s."""
        os.killpg(self.process.pid, signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(15)
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


class Reader:
    """Runs the blocks of one page in a folder of its own.

    What it begins with is this checkout with all that is installed, unless ``begins`` is a folder
    for that; ``path`` is then where it finds the commands of its system.
    """

    def __init__(
        self,
        folder: Path,
        variables: Mapping[str, str],
        begins: Path | None = None,
        path: str = f"{BIN}:{os.environ['PATH']}",
    ) -> None:
        self.folder = begins or folder / "checkout"
        self._own = begins is not None
        self._scratch = folder / "scratch"
        for each in (self._scratch, folder / "home", folder / "tmp"):
            each.mkdir()
        if not self._own:
            self.folder.mkdir()
            for entry in ROOT.iterdir():
                if entry.name not in ("data", ".git", ".hypothesis", ".pytest_cache"):
                    (self.folder / entry.name).symlink_to(entry)
        (folder / "home" / ".curlrc").write_text("fail-with-body\n")
        self._ports: dict[str, str] = {}
        self._given = dict(variables)
        self._number = 0
        self._services: dict[str, _Service] = {}
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("LOWCODE_FAAS_", "MAKE", "MFLAGS", "VIRTUAL_ENV", "PYTHON"))
        }
        ours = {
            **SMALL,
            "RUNNER": "process",
            "DATA_DIR": str(self.folder / "data"),
            "LISTEN": f"127.0.0.1:{self._port(DISPATCHER)}",
            "WORKER_LISTEN": f"127.0.0.1:{self._port(WORKER)}",
            "URL": f"http://127.0.0.1:{self._port(DISPATCHER)}",
        }
        self._environ = {
            **kept,
            **{f"LOWCODE_FAAS_{name}": value for name, value in ours.items()},
            **self._given,
            "PATH": path,
            "HOME": str(folder / "home"),
            "CURL_HOME": str(folder / "home"),
            "TMPDIR": str(folder / "tmp"),
            "NO_COLOR": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            **({} if self._own else {"PIP_NO_INDEX": "1"}),
        }
        # The terminal: it ends when its input does, also after a kill of this process.
        self._shell = subprocess.Popen(
            [*WITH_ME, "bash", "--noprofile", "--norc", "-eu", "-o", "pipefail"],
            cwd=self.folder,
            env=self._environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )

    def close(self) -> None:
        """Close both terminals."""
        for service in self._services.values():
            service.end()
        self._end_shell()
        self._shell.communicate()

    @property
    def url(self) -> str:
        """Where the page's dispatcher is."""
        return f"http://127.0.0.1:{self._port(DISPATCHER)}"

    def service_text(self) -> str:
        """Return what the services printed so far."""
        return self._shown("".join(service.text() for service in self._services.values()))

    def write(self, name: str, text: str) -> None:
        """Write a file that blocks below use."""
        path = self.folder / name
        assert not path.is_symlink(), f"{name} is a file of the repository"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def run(self, block: Block, together: bool) -> Printed:
        """Run a block of commands; with ``together`` both streams are one, as in a terminal."""
        assert self._own or "venv .venv" not in block.text, (
            "another .venv takes a test of its own (in=)"
        )
        if CLIENT.search(block.text) and not self._services:
            self._serve("make run", DISPATCHER, self._environ)
        fails = "fails" in block.options
        return self._type(block.where, self._translated(block.text), together, fails)

    def serve(self, block: Block) -> None:
        """Run all but the last command of a block; that one is a service, and stays."""
        text = self._translated(block.text).replace("\\\n", " ")
        *before, last = [line for line in text.strip().splitlines() if line and line[0] != "#"]
        after = self._scratch / f"environment-{self._number}"
        typed = "\n".join([*before, f"env -0 > {shlex.quote(str(after))}", "pwd"])
        cwd = self._type(block.where, typed).output.splitlines()[-1]
        environ = dict(pair.split("=", 1) for pair in after.read_text().split("\0") if "=" in pair)
        named = re.findall(r"_LISTEN=127\.0\.0\.1:(\d+)", block.text)
        usual = WORKER if "lowcode-faas worker" in last else DISPATCHER
        self._serve(last, named[-1] if named else usual, environ, cwd)

    def execute(self, block: Block) -> Printed:
        """Run Python; what it marks as hooks must fit them, and its classes must be whole."""
        path = self._scratch / f"block_{block.line}.py"
        path.write_text(block.text)
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            names = runpy.run_path(str(path))
        manager = pluggy.PluginManager("lowcode_faas")
        manager.add_hookspecs(hookspecs)
        manager.register(SimpleNamespace(**names))
        manager.check_pending()
        for name, value in names.items():
            if isinstance(value, type) and value.__module__ == names["__name__"]:
                missing = sorted(getattr(value, "__abstractmethods__", ()))
                assert not missing, f"{name} lacks {', '.join(missing)}"
        return Printed(output.getvalue(), "")

    def _serve(
        self, command: str, port: str, environ: Mapping[str, str], cwd: str | None = None
    ) -> None:
        if before := self._services.pop(port, None):
            before.end()
        log = self._scratch / f"service-{len(list(self._scratch.iterdir()))}"
        with log.open("wb") as file:
            process = subprocess.Popen(
                ["bash", "-c", TERMINAL + command],
                cwd=cwd or self.folder,
                env=environ,
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        service = self._services[port] = _Service(process, log)
        url = f"http://127.0.0.1:{self._port(port)}/readyz"
        guided = "make run" not in command
        deadline = time.monotonic() + (INSTALLING_S if self._own else READY_S)
        while not (guided and self._answers(url)):
            guided = guided or GUIDED in service.text()
            lives = process.poll() is None and time.monotonic() < deadline
            assert lives, f"{command}: not ready\n{service.text()}"
            time.sleep(0.05)

    @staticmethod
    def _answers(url: str) -> bool:
        try:
            return urllib3.request("GET", url, retries=False, timeout=5).status == 200
        except urllib3.exceptions.HTTPError:
            return False

    def _type(self, where: str, text: str, together: bool = False, fails: bool = False) -> Printed:
        text = TYPING + text
        self._number += 1
        script = self._scratch / f"{self._number}.sh"
        output, errors = script.with_suffix(".output"), script.with_suffix(".errors")
        script.write_text(text + "\n")
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        errors.touch()
        streams = f"> {output} " + ("2>&1" if together else f"2> {errors}")
        patience = INSTALLING_S if self._own else BLOCK_S
        giving_up = threading.Timer(patience, self._end_shell)
        giving_up.start()
        with contextlib.suppress(BrokenPipeError):
            typed = f". {script} {streams} < /dev/null"
            self._shell.stdin.write(f"if ({typed}); then exit; fi" if fails else typed)
            self._shell.stdin.write("; echo done\n")
            self._shell.stdin.flush()
        done = self._shell.stdout.readline()
        giving_up.cancel()
        printed, said = (self._shown(path.read_text()) for path in (output, errors))
        assert done, (
            f"{where}: {'did not fail' if fails else 'failed'}, or took {patience:g} s:\n"
            f"{text}\n{printed}{said}\n"
            f"{self.service_text()}"
        )
        return Printed(printed, said)

    def _end_shell(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._shell.pid, signal.SIGKILL)

    def _port(self, number: str) -> str:
        if number not in self._ports:
            self._ports[number] = str(free_port())
        return self._ports[number]

    def _translated(self, text: str) -> str:
        text = re.sub(r"(?<=127\.0\.0\.1:)\d{4,5}\b", lambda found: self._port(found[0]), text)
        for name, value in self._given.items():
            given = f"{name}={shlex.quote(value)}"
            text = re.sub(rf"\b{name}=\S+", given.replace("\\", r"\\"), text)
        return text

    def _shown(self, text: str) -> str:
        for number, port in self._ports.items():
            text = text.replace(f"127.0.0.1:{port}", f"127.0.0.1:{number}")
        return text
