from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lowcode_faas_core.errors import InvalidValue
from lowcode_faas_core.names import (
    LOADER_VARIABLES,
    RESERVED_SEGMENTS,
    ancestors,
    check_collection_path,
    check_env,
    check_execution_id,
    check_function_name,
    check_run_id,
    is_request_id,
)


@pytest.mark.parametrize("name", ["a", "A9", "0", "a_-b", "a" * 64, "constructor", "env"])
def test_legal_function_names(name: str) -> None:
    assert check_function_name(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "-a",
        "_a",
        ".",
        "..",
        "a.b",
        "a/b",
        "a\\b",
        "a b",
        "a\n",
        "a\0",
        "\u00e9",
        "\uff47",
        "a" * 65,
    ],
)
@pytest.mark.fault(1)
@pytest.mark.fault(5)
@pytest.mark.fault(7)
def test_illegal_function_names(name: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        check_function_name(name, "/name", where="path")

    assert (refused.value.pointer, refused.value.where) == ("/name", "path")


@pytest.mark.parametrize("path", ["a", "a/b", "a/b/c/d/e/f/g/h", "/".join(["a" * 62] * 4)])
def test_legal_collection_paths(path: str) -> None:
    assert check_collection_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/a",
        "a/",
        "a//b",
        "..",
        "a/../b",
        "a/./b",
        "a\\b",
        "a/b/c/d/e/f/g/h/i",
        "a\n",
        "%2e%2e",
    ],
)
@pytest.mark.fault(2)
@pytest.mark.fault(3)
def test_illegal_collection_paths(path: str) -> None:
    with pytest.raises(InvalidValue):
        check_collection_path(path)


@pytest.mark.fault(9)
def test_a_collection_path_is_bounded() -> None:
    longest = "/".join(["a" * 63] * 3 + ["a" * 63])
    assert len(longest) == 255
    assert check_collection_path(longest) == longest
    for path in (longest + "a", "/".join(["a"] * 1000)):
        with pytest.raises(InvalidValue):
            check_collection_path(path)


def test_the_root_is_legal_where_it_is_meant() -> None:
    assert check_collection_path("") == ""
    with pytest.raises(InvalidValue):
        check_collection_path("", root=False)


@pytest.mark.fault(6)
@pytest.mark.parametrize("word", sorted(RESERVED_SEGMENTS))
def test_reserved_words_are_no_segments(word: str) -> None:
    for path in (word, f"a/{word}", f"{word}/a"):
        with pytest.raises(InvalidValue):
            check_collection_path(path)
    assert check_collection_path(f"{word.strip('_')}X")


def test_the_contract_reserves_these_words() -> None:
    assert set("functions env versions invoke pull rollback source explain __root__".split()) == (
        RESERVED_SEGMENTS
    )


def test_ancestors_lead_from_the_root() -> None:
    assert ancestors("") == ("",)
    assert ancestors("a/b/c") == ("", "a", "a/b", "a/b/c")


@pytest.mark.fault(73)
@pytest.mark.parametrize("key", [*sorted(LOADER_VARIABLES), "LOWCODE_FAAS_ANYTHING"])
def test_loader_variables_are_refused_in_any_case(key: str) -> None:
    for spelling in (key, key.lower(), key.title()):
        with pytest.raises(InvalidValue) as refused:
            check_env({"FINE": "1", spelling: "x"})
        assert refused.value.pointer == f"/env/{spelling}"
    check_env({f"MY_{key}": "x", "PATHS": "x", "NODE_ENV": "x"})


@pytest.mark.fault(74)
@pytest.mark.parametrize("key", ["", "A=B", "A\0", "1A", "A B", "A-B", "\u00c4", "A\n", "A" * 257])
def test_illegal_env_keys_are_refused(key: str) -> None:
    with pytest.raises(InvalidValue):
        check_env({key: "x"})


def test_pointers_escape_what_they_must() -> None:
    with pytest.raises(InvalidValue) as refused:
        check_env({"a/b~c": "x"}, "/env")

    assert refused.value.pointer == "/env/a~1b~0c"


@pytest.mark.fault(74)
def test_env_values_hold_no_nul() -> None:
    check_env({"A": "", "B": "any\ntext \U0001f600"})
    with pytest.raises(InvalidValue):
        check_env({"A": "a\0b"})


def test_ids_of_callers_are_bounded() -> None:
    assert check_run_id("a.B_c:d-1") == "a.B_c:d-1"
    assert check_execution_id("a" * 8) == "a" * 8
    for run_id in ("", "a b", "a" * 129, "a\n", "\u00e9"):
        assert not is_request_id(run_id)
        with pytest.raises(InvalidValue):
            check_run_id(run_id)
    for execution_id in ("", "a" * 7, "a" * 65, "a.bcdefgh", "abcdefgh\n"):
        with pytest.raises(InvalidValue):
            check_execution_id(execution_id)


@pytest.mark.fault(71)
@pytest.mark.parametrize("text", ["a/" * 500_000, "a" * 1_000_000 + "!", "A_" * 500_000 + "="])
def test_checks_take_time_in_proportion(text: str) -> None:
    begin = time.process_time()
    for check in (check_function_name, check_collection_path, check_run_id):
        with pytest.raises(InvalidValue):
            check(text)
    with pytest.raises(InvalidValue):
        check_env({text: "x"})

    # A quadratic check of a megabyte takes minutes, not seconds: this is no stopwatch.
    assert time.process_time() - begin < 5


@given(st.text(max_size=80))
def test_what_is_legal_stays_within_one_file_name(text: str) -> None:
    try:
        check_function_name(text)
    except InvalidValue:
        return
    assert text.isascii()
    assert not set(text) & set("/\\.\0 ")
    assert 1 <= len(text) <= 64
