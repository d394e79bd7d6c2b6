from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowcode_faas_core.configuration import (
    CORE_SETTINGS,
    LimitSettings,
    PoolSettings,
    ServerSettings,
)
from lowcode_faas_core.errors import ConfigurationError
from lowcode_faas_core.setting_values import is_loopback, parse_address, url_of_worker
from lowcode_faas_core.settings import (
    boolean,
    decimal,
    effective,
    infos,
    integer,
    is_settings_class,
    name_list,
    read,
    read_settings,
    setting,
    text,
    unknown_names,
)
from lowcode_faas_core.startup import ProcessRole, check_exposure


@dataclass(frozen=True)
class Sample:
    size: int = setting("SAMPLE_SIZE", integer(1, 10), "5", "Size.")
    password: str = setting("SAMPLE_PASSWORD", text, "", "Password.", secret=True)


def problems(environ: dict[str, str], *classes: type) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        read_settings(environ, *classes)
    return caught.value.problems


def test_defaults_hold_when_nothing_or_an_empty_value_is_given() -> None:
    assert read({}, Sample) == Sample()
    assert read({"LOWCODE_FAAS_SAMPLE_SIZE": ""}, Sample).size == 5


def test_every_problem_of_every_class_is_reported_together() -> None:
    environ = {
        "LOWCODE_FAAS_SAMPLE_SIZE": "11",
        "LOWCODE_FAAS_THREADS": "x",
        "LOWCODE_FAAS_LISTEN": "nowhere",
    }
    found = problems(environ, Sample, *CORE_SETTINGS)
    assert len(found) == 3
    assert {sentence.split()[0] for sentence in found} == set(environ)


def test_a_default_above_its_maximum_stops_the_start() -> None:
    environ = {"LOWCODE_FAAS_INVOKE_MAX_TIMEOUT_MS": "1000", "LOWCODE_FAAS_LIMIT_PIDS": "600"}
    found = problems(environ, LimitSettings)
    assert len(found) == 2
    assert all("is above" in sentence for sentence in found)


class TestSecrets:
    def test_a_secret_may_come_from_a_file_without_its_line_end(self, tmp_path: Path) -> None:
        file = tmp_path / "password"
        file.write_text("s3cret \n")
        environ = {"LOWCODE_FAAS_SAMPLE_PASSWORD_FILE": str(file)}
        assert read(environ, Sample).password == "s3cret "
        origin = effective(environ, infos([Sample])[1])
        assert origin.origin == "LOWCODE_FAAS_SAMPLE_PASSWORD_FILE"

    def test_both_forms_at_once_are_refused(self, tmp_path: Path) -> None:
        environ = {
            "LOWCODE_FAAS_SAMPLE_PASSWORD": "a",
            "LOWCODE_FAAS_SAMPLE_PASSWORD_FILE": str(tmp_path),
        }
        assert "both set" in problems(environ, Sample)[0]

    @pytest.mark.parametrize("content", [None, b"\xff"])
    def test_an_unreadable_file_is_named_with_the_reason(
        self, tmp_path: Path, content: bytes | None
    ) -> None:
        file = tmp_path / "password"
        if content is not None:
            file.write_bytes(content)
        found = problems({"LOWCODE_FAAS_SAMPLE_PASSWORD_FILE": str(file)}, Sample)
        assert str(file) in found[0]
        assert "cannot be read" in found[0]

    def test_the_value_of_a_secret_is_in_no_message(self) -> None:
        @dataclass(frozen=True)
        class Strict:
            pin: int = setting("PIN", integer(0, 9), "0", "Pin.", secret=True)

        assert "12345" not in problems({"LOWCODE_FAAS_PIN": "12345"}, Strict)[0]


class TestUnknownNames:
    def test_a_misspelt_name_comes_with_the_nearest(self) -> None:
        found = unknown_names({"LOWCODE_FAAS_SAMPEL_SIZE": "1"}, infos([Sample]))
        assert found[0].startswith("LOWCODE_FAAS_SAMPEL_SIZE ")
        assert found[0].endswith("did you mean LOWCODE_FAAS_SAMPLE_SIZE?")

    def test_declared_names_secret_files_and_foreign_names_are_known(self) -> None:
        environ = {
            "LOWCODE_FAAS_SAMPLE_SIZE": "1",
            "LOWCODE_FAAS_SAMPLE_PASSWORD_FILE": "x",
            "PATH": "x",
        }
        assert unknown_names(environ, infos([Sample])) == []

    def test_only_secrets_have_a_file_twin(self) -> None:
        assert unknown_names({"LOWCODE_FAAS_SAMPLE_SIZE_FILE": "x"}, infos([Sample]))


@pytest.mark.parametrize(
    ("given_text", "address"),
    [
        (":8080", ("0.0.0.0", 8080)),
        ("127.0.0.1:1", ("127.0.0.1", 1)),
        ("[::1]:8080", ("::1", 8080)),
        ("localhost:0", ("localhost", 0)),
    ],
)
def test_addresses(given_text: str, address: tuple[str, int]) -> None:
    assert parse_address(given_text) == address


@pytest.mark.parametrize(
    "wrong", ["", "8080", "host:", "host:x", ":65536", "::1:80", ":-1", ":８０"]
)
def test_wrong_addresses(wrong: str) -> None:
    with pytest.raises(ValueError):
        parse_address(wrong)


@pytest.mark.parametrize("wrong", ["x", "1.5", "0", "11", "٣", "", "1" * 5000, "--1"])
def test_whole_numbers_say_their_span(wrong: str) -> None:
    with pytest.raises(ValueError, match="from 1 to 10"):
        integer(1, 10)(wrong)


@pytest.mark.parametrize("wrong", ["x", "nan", "inf", "-1", ""])
def test_decimals_are_finite_and_in_span(wrong: str) -> None:
    with pytest.raises(ValueError):
        decimal(0, 10)(wrong)


def test_booleans_and_lists() -> None:
    assert [boolean(word) for word in ("TRUE", "on", "0", " no ")] == [True, True, False, False]
    with pytest.raises(ValueError):
        boolean("maybe")
    assert name_list(" a, b,,") == ("a", "b")
    assert name_list("none") == name_list("") == ()


@given(st.text())
def test_a_parser_refuses_with_nothing_but_a_value_error(value: str) -> None:
    for info in infos(CORE_SETTINGS):
        with contextlib.suppress(ValueError):
            info.parse(value)


@given(st.integers(1, 10_000), st.integers(0, 10_000), st.integers(1, 64))
def test_shares_stay_within_the_cap_and_are_at_least_one(
    instances: int, stock: int, processes: int
) -> None:
    share = PoolSettings(max_instances=instances, stock=stock).share(processes)
    assert share.max_instances >= 1
    assert share.max_instances * processes <= max(instances, processes)
    assert share.per_function <= share.max_instances or share.per_function == 1
    assert share.stock == 0 if stock == 0 else share.stock >= 1


def test_one_process_has_everything() -> None:
    pool = PoolSettings()
    assert pool.share(1).max_instances == pool.max_instances
    assert pool.share(1).per_function == pool.per_function


@pytest.mark.parametrize(
    ("host", "alone"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("db", False)],
)
def test_loopback(host: str, alone: bool) -> None:
    assert is_loopback(host) is alone


@pytest.mark.fault(24)
class TestExposure:
    def test_a_dispatcher_asks_callers_itself(self) -> None:
        check_exposure(ServerSettings(), ProcessRole.DISPATCHER)

    def test_loopback_needs_nothing(self) -> None:
        check_exposure(ServerSettings(worker_listen=("::1", 9090)), ProcessRole.WORKER)

    @pytest.mark.fault(25)
    def test_a_worker_others_can_reach_needs_its_token(self) -> None:
        exposed = ServerSettings()
        with pytest.raises(ConfigurationError, match="LOWCODE_FAAS_WORKER_TOKEN"):
            check_exposure(exposed, ProcessRole.WORKER)
        check_exposure(
            ServerSettings(worker_listen=("0.0.0.0", 9090), worker_token="x"), ProcessRole.WORKER
        )


def test_settings_classes_are_told_from_other_things() -> None:
    @dataclass(frozen=True)
    class Plain:
        size: int = 1

    assert is_settings_class(Sample)
    assert not any(map(is_settings_class, (Plain, Sample(), int, 5)))


def test_large_numbers_are_shown_as_they_were_written() -> None:
    environ = {"LOWCODE_FAAS_INVOKE_DEFAULT_TIMEOUT_MS": "1000000"}
    with pytest.raises(ConfigurationError, match=r"\(1000000\) is above .* \(900000\)"):
        read(environ, LimitSettings)


@pytest.mark.parametrize(
    ("given_text", "url"),
    [
        ("", ""),
        (" http://worker:9090/ ", "http://worker:9090"),
        ("https://worker/prefix", "https://worker/prefix"),
        (" unix:/run/worker.sock ", "unix:/run/worker.sock"),
        ("unix:///run/worker.sock", "unix:/run/worker.sock"),
    ],
)
def test_a_worker_is_named_by_a_url_or_a_socket(given_text: str, url: str) -> None:
    assert url_of_worker(given_text) == url


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ("worker:9090", "http or https URL, or unix:/path"),
        ("unix:", "must name a socket"),
        ("unix:run/worker.sock", "absolute"),
        ("unix:/" + "x" * 107, "at most 107 bytes"),
    ],
)
def test_what_names_no_worker_is_refused(wrong: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        url_of_worker(wrong)
