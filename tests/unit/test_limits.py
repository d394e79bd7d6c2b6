from __future__ import annotations

import pytest

from lowcode_faas_core.configuration import LimitSettings
from lowcode_faas_core.errors import InvalidValue, PayloadTooLarge
from lowcode_faas_core.limits import OperatorLimits
from lowcode_faas_core.model import Limits, SandboxLimits

LIMITS = OperatorLimits(LimitSettings())


def test_absent_keys_are_the_operators_defaults() -> None:
    assert LIMITS.resolve(Limits()) == SandboxLimits(256, 1.0, 64, 64)
    assert LIMITS.resolve(Limits(memory_mb=32, cpus=0.5)) == SandboxLimits(32, 0.5, 64, 64)


def test_a_lowered_maximum_wins_over_an_old_deployment() -> None:
    lowered = OperatorLimits(
        LimitSettings(memory_mb=64, max_memory_mb=128, pids=16, max_pids=32, max_timeout_ms=200_000)
    )
    old = Limits(memory_mb=2048, pids=512, timeout_ms=900_000)

    assert lowered.resolve(old) == SandboxLimits(128, 1.0, 32, 64)
    assert lowered.timeout_ms(None, old) == 200_000


def test_equal_limits_resolve_to_equal_keys() -> None:
    assert hash(LIMITS.resolve(Limits(memory_mb=256))) == hash(LIMITS.resolve(Limits()))


@pytest.mark.parametrize(
    ("limits", "pointer"),
    [
        (Limits(memory_mb=31), "/limits/memory_mb"),
        (Limits(memory_mb=2049), "/limits/memory_mb"),
        (Limits(cpus=0.0), "/limits/cpus"),
        (Limits(cpus=float("nan")), "/limits/cpus"),
        (Limits(cpus=4.1), "/limits/cpus"),
        (Limits(pids=15), "/limits/pids"),
        (Limits(tmp_mb=0), "/limits/tmp_mb"),
        (Limits(timeout_ms=0), "/limits/timeout_ms"),
        (Limits(timeout_ms=900_001), "/limits/timeout_ms"),
        (Limits(timeout_ms=2**80), "/limits/timeout_ms"),
    ],
)
def test_what_is_outside_the_bounds_is_pointed_at(limits: Limits, pointer: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        LIMITS.check(limits)

    assert refused.value.pointer == pointer


def test_the_bounds_themselves_are_legal() -> None:
    LIMITS.check(Limits())
    LIMITS.check(Limits(memory_mb=32, cpus=0.05, pids=16, tmp_mb=1, timeout_ms=1))
    LIMITS.check(Limits(memory_mb=2048, cpus=4, pids=512, tmp_mb=1024, timeout_ms=900_000))


def test_the_deadline_is_the_requests_the_deployments_or_the_default() -> None:
    assert LIMITS.timeout_ms(None, Limits()) == 120_000
    assert LIMITS.timeout_ms(None, Limits(timeout_ms=5)) == 5
    assert LIMITS.timeout_ms(7, Limits(timeout_ms=5)) == 7
    assert LIMITS.timeout_ms(900_000, Limits()) == 900_000
    for requested in (0, -1, 900_001):
        with pytest.raises(InvalidValue) as refused:
            LIMITS.timeout_ms(requested, Limits())
        assert refused.value.pointer == "/timeout_ms"


def test_sizes_are_bounded() -> None:
    limits = OperatorLimits(LimitSettings(source_bytes=1024, input_bytes=1024, env_bytes=1024))
    limits.check_source(b"x" * 1024)
    limits.check_input(1024)
    limits.check_env_size({"A": "x" * 1021})
    with pytest.raises(PayloadTooLarge):
        limits.check_source(b"x" * 1025)
    with pytest.raises(PayloadTooLarge):
        limits.check_input(1025)
    for env in ({"A": "x" * 1022}, {"A": "\u00e9" * 511}, {f"K{n}": "" for n in range(256)}):
        with pytest.raises(InvalidValue) as refused:
            limits.check_env_size(env)
        assert refused.value.pointer == "/env"
    for source in (b"", b" \r\n\t"):
        with pytest.raises(InvalidValue):
            limits.check_source(source)


def test_the_document_shows_what_is_checked() -> None:
    document = LIMITS.document()

    assert list(document["function"]) == ["memory_mb", "cpus", "pids", "tmp_mb", "timeout_ms"]
    for key, shown in document["function"].items():
        assert isinstance(shown, dict)
        LIMITS.check(Limits(**{key: shown["max"]}))
        with pytest.raises(InvalidValue):
            LIMITS.check(Limits(**{key: shown["max"] + 1}))
