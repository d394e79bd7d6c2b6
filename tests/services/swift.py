"""OpenStack Swift with ``s3api``: a strict S3 server, four small processes in one folder."""

from __future__ import annotations

import os
import pwd
import secrets
import signal
import socket
import subprocess
import sys
from pathlib import Path

import boto3
import botocore.config

from tests.services.postgres import Absent
from tests.services.processes import WITH_ME, Server, free_port

__all__ = ["Swift"]

_RINGS = ("account", "container", "object")

_STORAGE = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {folder}
devices = {folder}/devices
mount_check = false
fallocate_reserve = 0
disable_fallocate = true
log_level = WARNING
log_address = {folder}/no-syslog

[pipeline:main]
pipeline = {kind}-server

[app:{kind}-server]
use = egg:swift#{kind}
"""

_PROXY = """
[DEFAULT]
bind_ip = 127.0.0.1
bind_port = {port}
workers = 0
user = {user}
swift_dir = {folder}
log_level = WARNING
log_address = {folder}/no-syslog

[pipeline:main]
pipeline = catch_errors cache s3api tempauth slo copy proxy-server

[app:proxy-server]
use = egg:swift#proxy
allow_account_management = true
account_autocreate = true
node_timeout = 10
conn_timeout = 2

[filter:catch_errors]
use = egg:swift#catch_errors

[filter:cache]
use = egg:swift#memcache
memcache_servers = 127.0.0.1:1

[filter:s3api]
use = egg:swift#s3api
location = us-east-1

[filter:tempauth]
use = egg:swift#tempauth
user_test_tester = testing .admin

[filter:slo]
use = egg:swift#slo

[filter:copy]
use = egg:swift#copy
"""


class Swift:
    """One copy of everything, on one device; ``folder`` must allow extended attributes."""

    access_key = "test:tester"
    secret_key = "testing"

    def __init__(self, folder: Path) -> None:
        programs = Path(sys.executable).parent
        if not (programs / "swift-proxy-server").exists():
            raise Absent("the package swift is not installed: make .venv/.dev")
        self._folder = folder
        self._ports = {kind: free_port() for kind in (*_RINGS, "proxy")}
        self.endpoint = f"http://127.0.0.1:{self._ports['proxy']}"
        (folder / "devices" / "one").mkdir(parents=True)
        (folder / "swift.conf").write_text(
            "[swift-hash]\nswift_hash_path_suffix = tests\nswift_hash_path_prefix = tests\n"
            "[storage-policy:0]\nname = one\ndefault = yes\n"
        )
        user = pwd.getpwuid(os.geteuid()).pw_name
        self.servers: list[Server] = []
        for kind, port in self._ports.items():
            text = _PROXY if kind == "proxy" else _STORAGE
            path = folder / f"{kind}.conf"
            path.write_text(text.format(kind=kind, port=port, folder=folder, user=user))
            if kind != "proxy":
                self._ring(programs / "swift-ring-builder", kind, port)
            self.servers.append(
                Server(
                    [*WITH_ME, str(programs / f"swift-{kind}-server"), str(path), "--verbose"],
                    folder / f"{kind}.log",
                    lambda port=port: _listens(port),
                    stop=signal.SIGKILL,
                )
            )

    def start(self) -> None:
        """Start all four."""
        for server in self.servers:
            server.start()

    def stop(self) -> None:
        """End all four."""
        for server in reversed(self.servers):
            server.stop()

    def bucket(self) -> str:
        """Make an empty bucket and return its name."""
        name = f"t-{secrets.token_hex(6)}"
        client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=botocore.config.Config(s3={"addressing_style": "path"}),
        )
        client.create_bucket(Bucket=name)
        client.close()
        return name

    def _ring(self, builder: Path, kind: str, port: int) -> None:
        for arguments in (
            ("create", "1", "1", "0"),
            ("add", f"r1z1-127.0.0.1:{port}/one", "1"),
            ("rebalance",),
        ):
            done = subprocess.run(
                [str(builder), f"{kind}.builder", *arguments],
                cwd=self._folder,
                check=False,
                capture_output=True,
                text=True,
            )
            if done.returncode:
                raise RuntimeError(f"swift-ring-builder {arguments}:\n{done.stdout}{done.stderr}")


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 2).close()
    except OSError:
        return False
    return True
