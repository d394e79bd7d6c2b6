"""Builds an image with Python and a few tools, without a registry: the Dockerfile's ``BASE``.

It is laid out as the official slim image is, from the Python that runs this and this machine's own
libraries.
"""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

NAME = "lowcode-faas-test:base"
#: What the Dockerfile's own lines call.
TOOLS = ("sh", "ls", "grep", "install", "id", "touch")
#: Libraries that wheels may ask of any system.
ANY_SYSTEM = (
    *("libgcc_s.so.1", "libstdc++.so.6", "libz.so.1"),
    *("libpthread.so.0", "libdl.so.2", "librt.so.1", "libutil.so.1"),
)
LEFT_OUT = {"test", "tests", "idlelib", "lib2to3", "tkinter", "turtledemo", "__pycache__"}
PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"


def tree() -> bytes:
    """Return the image's files as a tar."""
    standard = Path(sysconfig.get_path("stdlib", vars={"base": sys.base_prefix}))
    program = Path(sys._base_executable).resolve()  # type: ignore[attr-defined]  # as venv does
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:

        def add(name: str, data: bytes = b"", mode: int = 0o755, link: str = "") -> None:
            info = tarfile.TarInfo(name)
            info.mode, info.size, info.linkname = mode, len(data), link
            info.type = tarfile.SYMTYPE if link else tarfile.REGTYPE
            tar.addfile(info, io.BytesIO(data))

        for name, mode in (("tmp", 0o1777), ("etc", 0o755)):
            info = tarfile.TarInfo(name)
            info.type, info.mode = tarfile.DIRTYPE, mode
            tar.addfile(info)
        add("etc/passwd", b"root:x:0:0::/:/bin/sh\n", 0o644)
        add("etc/group", b"root:x:0:\n", 0o644)
        add(f"usr/local/bin/{PYTHON}", program.read_bytes())
        for alias in ("python3", "python"):
            add(f"usr/local/bin/{alias}", link=PYTHON)
        tools = [Path(shutil.which(tool) or tool).resolve(strict=True) for tool in TOOLS]
        for tool, path in zip(TOOLS, tools, strict=True):
            add(f"bin/{tool}", path.read_bytes())
        extensions = []
        for path in sorted(standard.rglob("*")):
            inside = path.relative_to(standard)
            if not path.is_file() or LEFT_OUT & set(inside.parts):
                continue
            if inside.parts[0] in ("site-packages", "dist-packages") or path.suffix == ".a":
                continue
            if path.suffix == ".so":
                extensions.append(path)
            add(f"usr/local/lib/{PYTHON}/{inside}", path.read_bytes())
        with zipfile.ZipFile(_pip()) as wheel:
            for name in wheel.namelist():
                for place in ("site-packages", "dist-packages"):  # the latter is Debian's own
                    add(f"usr/local/lib/{PYTHON}/{place}/{name}", wheel.read(name), 0o644)
        for library in libraries([program, *tools, *extensions]):
            # Where the loader looks without being told: some were found by a path of their own.
            own = str(library).startswith(("/lib", "/usr/lib"))
            target = str(library).lstrip("/") if own else f"usr/lib/{library.name}"
            add(target, library.read_bytes())
    return archive.getvalue()


def libraries(programs: Iterable[Path]) -> list[Path]:
    """Return the shared libraries these need, and those that wheels may ask for, by name."""
    said = subprocess.run(
        ["ldd", *map(str, programs)], capture_output=True, text=True, check=False
    ).stdout
    found = set(re.findall(r"(/\S+) \(0x", said))
    cache = subprocess.run(
        [shutil.which("ldconfig") or "/sbin/ldconfig", "-p"], capture_output=True, text=True
    ).stdout
    for name in ANY_SYSTEM:
        found |= set(re.findall(rf"\s{re.escape(name)} \(libc6,[^)]*\) => (\S+)", cache))
    return sorted(map(Path, found))


def _pip() -> Path:
    import ensurepip

    bundled = Path(ensurepip.__file__).parent / "_bundled"
    for folder in (bundled, Path("/usr/share/python-wheels")):  # the latter is Debian's
        for wheel in sorted(folder.glob("pip-*.whl")):
            return wheel
    raise SystemExit("ensurepip brings no pip")


def ensure(client: object) -> str:
    """Return the image's name at the engine of an SDK's client, made anew."""
    repository, tag = NAME.split(":")
    client.api.import_image_from_data(  # type: ignore[attr-defined]
        tree(), repository=repository, tag=tag, changes=["ENV PATH=/usr/local/bin:/usr/bin:/bin"]
    )
    return NAME
