"""``make dev-services``: PostgreSQL and S3 for a developer, until Ctrl-C.

Prints the variables that `make run` and `lowcode-faas` take, as lines for a shell. What is kept
lies in a folder of its own and is gone afterwards.
"""

from __future__ import annotations

import contextlib
import signal
import sys

from tests.services.fixtures import server_folder
from tests.services.postgres import Absent, Postgres
from tests.services.s3 import Rclone

__all__ = ["main"]


def main() -> int:
    """Start both, print how they are reached, and wait."""
    # Before anything is started: whatever ends this ends the servers, too. A shell has what it runs
    # in the background ignore SIGINT.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), contextlib.ExitStack() as stack:
        try:
            postgres = Postgres(server_folder(stack, "pg"))
            s3 = Rclone(server_folder(stack, "s3"))
        except Absent as absent:
            print(absent, file=sys.stderr)
            return 1
        for server in (postgres.server, s3.server):
            stack.callback(server.stop)
            server.start()
        for name, value in {
            "STORAGE": "db_s3",
            "POSTGRES_DSN": f"postgresql://faas@127.0.0.1:{postgres.port}/postgres",
            "S3_ENDPOINT": s3.endpoint,
            "S3_BUCKET": s3.bucket(),
            "S3_ACCESS_KEY": s3.access_key,
            "S3_SECRET_KEY": s3.secret_key,
        }.items():
            print(f"export LOWCODE_FAAS_{name}={value}", flush=True)
        print("paste these into another shell; Ctrl-C here ends both servers", file=sys.stderr)
        signal.pause()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
