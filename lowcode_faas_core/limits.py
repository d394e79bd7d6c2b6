"""The operator's bounds on requests and on user code; what ``GET /limits`` shows is what is checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lowcode_faas_core.configuration import AdmissionSettings, LimitSettings
from lowcode_faas_core.errors import InvalidValue, PayloadTooLarge
from lowcode_faas_core.model import Limits, SandboxLimits
from lowcode_faas_core.names import (
    MAX_COLLECTION_DEPTH,
    MAX_COLLECTION_PATH,
    MAX_ENV_KEY,
    MAX_ID,
    MAX_NAME,
)

__all__ = ["MAX_LIST_ITEMS", "OperatorLimits"]

#: Items on a page of a list, at most.
MAX_LIST_ITEMS = 1000
#: Bytes ``execve`` would add to each variable: ``=`` and NUL. Counted so that ten thousand empty
#: values are not free.
ENV_ENTRY_BYTES = 2


@dataclass(frozen=True)
class Bound:
    """What one key of ``limits`` is when absent, and between what it may lie, both included."""

    minimum: float
    default: float
    maximum: float


class OperatorLimits:
    """Checks what callers ask for and decides what they get. Immutable, for many threads."""

    def __init__(self, settings: LimitSettings, admission: AdmissionSettings | None = None) -> None:
        self.settings = settings
        self._admission = admission or AdmissionSettings()
        self.bounds: Mapping[str, Bound] = {
            "memory_mb": Bound(32, settings.memory_mb, settings.max_memory_mb),
            "cpus": Bound(0.05, settings.cpus, settings.max_cpus),
            "pids": Bound(16, settings.pids, settings.max_pids),
            "tmp_mb": Bound(1, settings.tmp_mb, settings.max_tmp_mb),
            "timeout_ms": Bound(1, settings.default_timeout_ms, settings.max_timeout_ms),
        }
        self._default = self._resolve(Limits())

    def check(self, limits: Limits, pointer: str = "/limits") -> None:
        """Raise :class:`InvalidValue` for the first key outside its bounds."""
        for key, bound in self.bounds.items():
            value = getattr(limits, key)
            if value is not None and not bound.minimum <= value <= bound.maximum:
                raise InvalidValue(
                    f"{key} must be from {bound.minimum:g} to {bound.maximum:.16g}",
                    f"{pointer}/{key}",
                )

    def resolve(self, limits: Limits) -> SandboxLimits:
        """Decide every value of a sandbox.

        A maximum lowered after the deploy wins over what the deployment was allowed then.
        """
        return self._default if limits == _NOTHING_ASKED else self._resolve(limits)

    def _resolve(self, limits: Limits) -> SandboxLimits:
        top = self.settings
        return SandboxLimits(
            memory_mb=min(_or(limits.memory_mb, top.memory_mb), top.max_memory_mb),
            cpus=min(top.cpus if limits.cpus is None else limits.cpus, top.max_cpus),
            pids=min(_or(limits.pids, top.pids), top.max_pids),
            tmp_mb=min(_or(limits.tmp_mb, top.tmp_mb), top.max_tmp_mb),
        )

    def check_timeout(self, timeout_ms: int, pointer: str = "/timeout_ms") -> None:
        """Raise :class:`InvalidValue` when a request's timeout is outside its bounds."""
        if not 1 <= timeout_ms <= self.settings.max_timeout_ms:
            raise InvalidValue(
                f"timeout_ms must be from 1 to {self.settings.max_timeout_ms}", pointer
            )

    def timeout_ms(self, requested: int | None, limits: Limits) -> int:
        """Return the deadline of one invocation: the request's, the deployment's, or the default.

        :raises InvalidValue: when the request's own is outside its bounds.
        """
        if requested is not None:
            self.check_timeout(requested)
            return requested
        if limits.timeout_ms is not None:
            return min(limits.timeout_ms, self.settings.max_timeout_ms)
        return self.settings.default_timeout_ms

    def check_source(self, source: bytes, pointer: str = "/source_code") -> None:
        """Raise when a source is empty (:class:`InvalidValue`) or too large (413)."""
        if not source.strip():
            raise InvalidValue("the source may not be empty", pointer)
        if len(source) > self.settings.source_bytes:
            raise PayloadTooLarge(f"a source has at most {self.settings.source_bytes} bytes")

    def check_input(self, size: int) -> None:
        """Raise :class:`PayloadTooLarge` when an input of ``size`` bytes of JSON is too large."""
        if size > self.settings.input_bytes:
            raise PayloadTooLarge(f"an input has at most {self.settings.input_bytes} bytes")

    def check_env_size(self, env: Mapping[str, str], pointer: str = "/env") -> None:
        """Raise :class:`InvalidValue` when one level of env is too large.

        It is an illegal value, not a 413, because the same bytes are legal elsewhere in a body.
        """
        size = sum(len(key) + len(value.encode()) + ENV_ENTRY_BYTES for key, value in env.items())
        if size > self.settings.env_bytes:
            raise InvalidValue(
                f"an env has at most {self.settings.env_bytes} bytes in keys and values, "
                f"{ENV_ENTRY_BYTES} more counted for each key; this one has {size}",
                pointer,
            )

    def document(self) -> dict[str, dict[str, object]]:
        """Return what ``GET /limits`` answers.

        It answers everybody, so the collections that have caps are not named in it.
        """
        settings = self.settings
        return {
            "function": {
                key: {"default": bound.default, "max": bound.maximum}
                for key, bound in self.bounds.items()
            },
            "request": {
                "body_bytes": settings.body_bytes,
                "source_bytes": settings.source_bytes,
                "input_bytes": settings.input_bytes,
                "output_bytes": settings.output_bytes,
                "env_bytes": settings.env_bytes,
                "env_key_characters": MAX_ENV_KEY,
                "name_characters": MAX_NAME,
                "id_characters": MAX_ID,
                "log_line_bytes": settings.log_line_bytes,
                "log_run_bytes": settings.log_run_bytes,
                "collection_depth": MAX_COLLECTION_DEPTH,
                "collection_path_characters": MAX_COLLECTION_PATH,
                "list_items": MAX_LIST_ITEMS,
            },
            "capacity": {
                "in_flight": self._admission.max_inflight,
                "in_flight_per_function": self._admission.max_inflight_per_function,
                "requests_per_second": self._admission.rate_per_token or None,
            },
        }


_NOTHING_ASKED = Limits()


def _or(asked: int | None, default: int) -> int:
    return default if asked is None else asked
