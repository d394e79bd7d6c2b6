"""What the service is measured beside: a bare echo, and other hosts of functions that do the same.

All but the echo and the bare Node server come from registries, into a cache that all checkouts share;
one that cannot be had is left out, and the results say so.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from bench.servers import ROOT, Server, free_port

__all__ = ["HEADERS", "bare", "echo", "install", "others"]

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lowcode-faas-bench"
MODULES = CACHE / "node_modules"
DENO = CACHE / "deno"
DENO_VERSION = "2.9.8"
#: As long as those the service is sent, which asks for a token.
HEADERS = {"Authorization": f"Bearer {'x' * 43}"}

_WORKERD = """using Workerd = import "/workerd/workerd.capnp";
const config :Workerd.Config = (
  services = [(name = "echo", worker = (
    modules = [(name = "echo.js", esModule = embed "{source}")],
    compatibilityDate = "2026-01-01"))],
  sockets = [(name = "http", address = "127.0.0.1:{port}", http = (), service = "echo")],
);
"""


def install() -> list[str]:
    """Fetch the peers that are not there yet; return a sentence for each that cannot be had."""
    CACHE.mkdir(parents=True, exist_ok=True)
    missing = []
    wanted = (HERE / "package.json").read_text()
    copied = CACHE / "package.json"
    if not MODULES.is_dir() or not copied.is_file() or copied.read_text() != wanted:
        copied.write_text(wanted)
        npm = ["npm", "install", "--no-audit", "--no-fund", "--silent"]
        if (failed := _failure(npm, cwd=CACHE)) is not None:
            copied.unlink()
            missing.append(f"functions-framework and workerd cannot be had: {failed}")
    if not DENO.is_dir():
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        wheel = ["--no-deps", "--target", str(DENO), f"deno=={DENO_VERSION}"]
        if (failed := _failure(pip + wheel)) is not None:
            missing.append(f"deno cannot be had: {failed}")
    return missing


def echo(workers: int, threads: int, headers: Mapping[str, str]) -> Server:
    """Start the bare Flask application, hosted as the service is."""
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "gunicorn",
        "--bind",
        f"127.0.0.1:{port}",
        "--chdir",
        str(ROOT),
    ]
    command += ["--worker-class", "gthread", "--workers", str(workers), "--threads", str(threads)]
    command += ["--keep-alive", "75", "--no-control-socket", "bench.echo:app"]
    return Server("echo", command, port, headers=headers)


def bare(node: Path, headers: Mapping[str, str]) -> Server:
    """Start the bare server of Node, one process."""
    port = free_port()
    return Server("node:http", [node, HERE / "node.mjs", str(port)], port, headers=headers)


def others(node: Path, folder: Path, headers: Mapping[str, str]) -> list[Server]:
    """Start the other hosts that are there, each as one process: they have no more to offer."""
    found = []
    framework = MODULES / "@google-cloud" / "functions-framework" / "build" / "src" / "main.js"
    if framework.is_file():
        # Node looks for packages beside the module that asks for them.
        source = CACHE / "framework.mjs"
        source.write_text((HERE / "framework.mjs").read_text())
        port = free_port()
        command = [
            str(node),
            str(framework),
            "--target=echo",
            f"--source={source}",
            f"--port={port}",
        ]
        environ = {"HOST": "127.0.0.1", "NODE_ENV": "production"}
        found.append(Server("functions-framework", command, port, environ=environ, headers=headers))
    workerd = MODULES / "workerd" / "bin" / "workerd"
    if workerd.is_file():
        port = free_port()
        config = folder / "workerd.capnp"
        (folder / "echo.js").write_text((HERE / "echo.js").read_text())
        config.write_text(_WORKERD.format(source="echo.js", port=port))
        found.append(Server("workerd", [str(workerd), "serve", str(config)], port, headers=headers))
    deno = DENO / "bin" / "deno"
    if os.access(deno, os.X_OK):
        port = free_port()
        command = [str(deno), "serve", "--host", "127.0.0.1", "--port", str(port)]
        command.append(str(HERE / "echo.js"))
        environ = {"DENO_DIR": str(folder / "deno"), "DENO_NO_UPDATE_CHECK": "1"}
        found.append(Server("deno", command, port, environ=environ, headers=headers))
    return found


def _failure(command: list[str], cwd: Path | None = None) -> str | None:
    try:
        subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True, timeout=300)
    except subprocess.CalledProcessError as error:
        return (error.stderr or error.stdout).strip().partition("\n")[0] or str(error)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return None
