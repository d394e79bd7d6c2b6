"""Where the command line finds its service."""

from __future__ import annotations

from pathlib import Path

import pytest

from lowcode_faas_core.client.address import DEFAULT_URL, Address, find
from lowcode_faas_core.errors import ConfigurationError


def _file(home: Path, text: str) -> None:
    path = home / ".config" / "lowcode-faas" / "config.toml"
    path.parent.mkdir(parents=True)
    path.write_text(text)


def test_the_environment_comes_before_the_file(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    assert find(home) == Address(DEFAULT_URL, "")
    _file(tmp_path, 'url = "https://faas.example/x/"\ntoken = "kept"')
    assert find(home) == Address("https://faas.example/x", "kept")
    assert find({**home, "LOWCODE_FAAS_TOKEN": "given"}).token == "given"


def test_the_files_token_goes_to_no_other_service(tmp_path: Path) -> None:
    _file(tmp_path, 'url = "https://faas.example"\ntoken = "kept"')
    other = {"HOME": str(tmp_path), "LOWCODE_FAAS_URL": "https://elsewhere.example"}
    assert find(other) == Address("https://elsewhere.example", "")
    assert "kept" not in repr(find({"HOME": str(tmp_path)}))


def test_options_come_first_and_a_token_goes_to_the_service_it_was_given_for(
    tmp_path: Path,
) -> None:
    _file(tmp_path, 'url = "https://faas.example"\ntoken = "kept"')
    named = {
        "HOME": str(tmp_path),
        "LOWCODE_FAAS_URL": "https://elsewhere.example",
        "LOWCODE_FAAS_TOKEN": "given",
    }
    for url, token in (("https://third.example", ""), ("https://faas.example/", "kept")):
        assert find(named, url) == Address(url.rstrip("/"), token)
    assert find(named, "https://elsewhere.example").token == "given"
    assert find(named, "", "typed") == Address("https://elsewhere.example", "typed")
    with pytest.raises(ConfigurationError, match="--server: 'x'"):
        find(named, "x")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("url = 3", "url must be a string"),
        ('uri = "x"', "there is no 'uri'"),
        ("url =", "cannot be read"),
        ('url = "ftp://x"', "not an http or https URL"),
        ('url = "http://"', "not an http or https URL"),
        ('url = "http://x:99999"', "not an http or https URL"),
    ],
)
def test_a_file_that_is_wrong_says_so(tmp_path: Path, text: str, said: str) -> None:
    _file(tmp_path, text)
    with pytest.raises(ConfigurationError, match=said):
        find({"HOME": str(tmp_path)})
