"""What ``lowcode-faas doctor`` looks at: socket, engine, known holes, image, the engine's machine."""

from __future__ import annotations

import re
import stat
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from lowcode_faas_core.configuration import LimitSettings, PoolSettings
from lowcode_faas_core.errors import RunnerUnavailable
from lowcode_faas_core.findings import Finding, clock, failure, fine, warning
from lowcode_faas_core.interfaces.examination import Examination
from lowcode_faas_core.settings import read_settings
from lowcode_faas_docker_runner.advisories import known
from lowcode_faas_docker_runner.engine import Engine
from lowcode_faas_docker_runner.settings import DockerSettings, Exchange

__all__ = ["EngineExamination"]

SUBJECT: Final = "Docker"
#: Below this the engine's volumes and images soon have no room, in bytes.
SCARCE_BYTES: Final = 1 << 30


class EngineExamination(Examination):
    """Asks the engine; starts nothing and pulls nothing."""

    def __init__(self, settings: DockerSettings, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._engine = Engine(environ)
        self._pool, self._limits = read_settings(environ, PoolSettings, LimitSettings)

    def findings(self) -> Iterator[Finding]:
        """See :class:`Examination`."""
        yield from self._socket()
        try:
            asked = time.time()
            info = self._engine.info()
            answered = time.time()
        except RunnerUnavailable as error:
            yield failure(SUBJECT, error.detail)
            return
        version = self._engine.version
        yield fine(SUBJECT, f"Engine {version.get('Version')} answers at {self._engine.address}")
        yield from holes(version, copying=self._settings.exchange is Exchange.FILES)
        yield from self._image()
        if theirs := info.get("SystemTime"):
            yield clock(SUBJECT, _seconds(str(theirs)), asked, answered)
        yield from machine(info, self._settings.runtime)
        yield from self._memory(int(info.get("MemTotal") or 0))

    def close(self) -> None:
        """Drop the connections."""
        self._engine.close()

    def _socket(self) -> Iterator[Finding]:
        if not self._engine.address.startswith("unix://"):
            if self._engine.address.startswith("tcp://") and not self._engine.encrypted:
                yield warning(
                    SUBJECT,
                    f"{self._engine.address} without TLS: whoever reaches it is root there",
                )
            return
        path = Path(self._engine.address.removeprefix("unix://"))
        try:
            mode = path.stat().st_mode
        except OSError:
            return  # the engine's own finding says it better
        if stat.S_IMODE(mode) & 0o002:
            yield warning(
                SUBJECT,
                f"{path} is writable for everybody: whoever is on this machine is root here; "
                f"chmod 660 {path}",
            )

    def _image(self) -> Iterator[Finding]:
        name = self._settings.image
        try:
            found = self._engine.image(name)
        except RunnerUnavailable as error:
            yield failure("image", error.detail)
            return
        if found is None:
            text = f"{name} is not at the engine: docker pull {name}, or docker load"
            # With prewarming the service's own start pulls it, where a registry can be reached.
            yield (warning if self._settings.prewarm_image else failure)("image", text)
            return
        pinned = "@sha256:" in name
        hint = "" if pinned else "; the name may be another image tomorrow, a digest would pin it"
        yield fine("image", f"{name} is {str(found.get('Id'))[:19]}{hint}")

    def _memory(self, total: int) -> Iterator[Finding]:
        most = self._pool.max_instances * self._limits.memory_mb << 20
        if total and most > total and self._pool.memory_budget_mb is None:
            yield warning(
                "memory",
                f"{self._pool.max_instances} sandboxes of {self._limits.memory_mb} MiB may take "
                f"{most >> 20} MiB of the engine's {total >> 20}: lower "
                "LOWCODE_FAAS_MAX_INSTANCES, or set LOWCODE_FAAS_MEMORY_BUDGET_MB",
            )


def holes(version: Mapping[str, Any], *, copying: bool) -> Iterator[Finding]:
    """Name the known ways out of a container that the versions have."""
    anything = False
    for by_copying in (False, True):
        for has, advisory in known(version, by_copying=by_copying):
            anything = True
            names = ", ".join(advisory.identities)
            text = (
                f"{advisory.part} {has} is older than the fix of {names}, by which "
                f"{advisory.harm} ({advisory.source}); update unless your distribution has "
                "brought the fix back"
            )
            if by_copying and not copying:
                yield fine(
                    "CVEs",
                    f"{text}. The exchange in use copies nothing: keep "
                    "LOWCODE_FAAS_DOCKER_EXCHANGE=stream, and docker cp away from its containers",
                )
            else:
                yield warning("CVEs", text)
    if not anything:
        yield fine("CVEs", "no known way out of a container for these versions, as of 2026-11-26")


def machine(info: Mapping[str, Any], runtime: str) -> Iterator[Finding]:
    """Judge what the engine says about its machine."""
    limits = {
        "MemoryLimit": "memory",
        "SwapLimit": "swap",
        "PidsLimit": "processes",
        "CpuCfsQuota": "CPU",
    }
    for name, what in limits.items():
        if info.get(name) is False:
            remedy = "; boot with swapaccount=1 or without swap" if what == "swap" else ""
            yield warning(SUBJECT, f"the engine's machine cannot limit {what} of sandboxes{remedy}")
    if str(info.get("CgroupVersion") or "2") == "1":
        yield warning(
            SUBJECT, "the engine's machine has control groups of version 1: boot with version 2"
        )
    if not any("seccomp" in str(each) for each in info.get("SecurityOptions") or ()):
        yield warning(SUBJECT, "the engine has no seccomp: user code may make any system call")
    if runtime and runtime not in (info.get("Runtimes") or {}):
        yield failure(SUBJECT, f"the engine has no runtime {runtime}")


def _seconds(text: str) -> float:
    # The engine gives nanoseconds, of which Python reads six digits.
    return datetime.fromisoformat(re.sub(r"(\.\d{6})\d+", r"\1", text)).timestamp()
