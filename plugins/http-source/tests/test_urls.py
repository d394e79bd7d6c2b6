"""What is refused by looking at a URL alone, and what the variables may say."""

from __future__ import annotations

from typing import Any

import pytest
from lowcode_faas_http_source import HttpSourceSettings
from lowcode_faas_http_source.connecting import is_public
from lowcode_faas_http_source.urls import MAX_URL, check_url, follow

from lowcode_faas_core.errors import ConfigurationError, SourceBlocked
from lowcode_faas_core.settings import read


def settings(**variables: str) -> HttpSourceSettings:
    environ = {f"LOWCODE_FAAS_SOURCE_{name}": value for name, value in variables.items()}
    return read(environ, HttpSourceSettings)


@pytest.mark.fault(35)
@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("file:///etc/passwd", "https URL"),
        ("ftp://example.org/a.mjs", "https URL"),
        ("gopher://example.org/", "https URL"),
        ("http://example.org/", "https URL"),
        ("data:text/javascript,export", "absolute URL"),
        ("javascript:alert(1)", "absolute URL"),
        ("//example.org/a.mjs", "absolute URL"),
        ("/a.mjs", "absolute URL"),
        ("", "absolute URL"),
        ("https:example.org", "absolute URL"),
        ("https://", "no legal host"),
        ("https:///a.mjs", "no legal host"),
        ("https://a@b/", "user or password"),
        ("https://a:b@example.org/", "user or password"),
        ("https://@example.org/", "user or password"),
        ("https://x:22/", "port 22"),
        ("https://x:80/", "port 80"),
        ("https://x:0/", "port 0"),
        ("https://x:65536/", "port 65536"),
        ("https://x:443a/", "no legal host"),
        ("https://x:443:443/", "no legal host"),
        ("https://x#@y", "fragment"),
        ("https://x/a#b", "fragment"),
        ("https://x\\@y/", "RFC 3986"),
        ("https://x\\.y/", "RFC 3986"),
        ("https://x /", "RFC 3986"),
        (" https://x/", "RFC 3986"),
        ("https://x/\n", "RFC 3986"),
        ("https://x/\r\nHost: y", "RFC 3986"),
        ("https://x/\0", "RFC 3986"),
        ("https://①②⑦.0.0.1/", "RFC 3986"),
        ("https://ｅxample.org/", "RFC 3986"),
        ("https://exa%6Dple.org/", "no legal host"),
        ("https://[::1%25lo]/", "no legal host"),
        ("https://[::1]x/", "no legal host"),
        ("https://-x/", "no legal host"),
        ("https://.x/", "no legal host"),
        ("https://x/" + "a" * MAX_URL, "at most"),
    ],
)
def test_what_is_refused_at_sight(url: str, words: str) -> None:
    with pytest.raises(SourceBlocked, match=words) as refused:
        check_url(url, settings())
    assert refused.value.pointer == "/source_url"


@pytest.mark.parametrize(
    ("url", "asked"),
    [
        ("https://example.org", "https://example.org/"),
        ("HTTPS://Example.ORG/A.mjs?x=1&y=/%20", "https://example.org/A.mjs?x=1&y=/%20"),
        ("https://example.org:443/a", "https://example.org/a"),
        ("https://example.org?x", "https://example.org/?x"),
        ("https://[2606:4700::1111]/a", "https://[2606:4700::1111]/a"),
        ("https://xn--bcher-kva.example/", "https://xn--bcher-kva.example/"),
    ],
)
def test_what_is_asked_for_is_put_together_again(url: str, asked: str) -> None:
    assert check_url(url, settings()).url == asked


def test_hosts_of_the_operator_may_have_ports_and_addresses_of_their_own() -> None:
    allowed = settings(ALLOW_HOSTS="git.internal, Mirror.internal:8443,[::1]:9", ALLOW_HTTP="true")
    assert check_url("https://git.internal/", allowed).trusted
    assert check_url("https://mirror.internal:8443/", allowed).trusted
    assert check_url("http://[::1]:9/", allowed).trusted
    assert not check_url("https://mirror.internal/", allowed).trusted
    assert not check_url("https://x.git.internal/", allowed).trusted
    for url in ("https://git.internal:8443/", "http://git.internal/", "https://other:8443/"):
        with pytest.raises(SourceBlocked, match="names port"):
            check_url(url, allowed)


@pytest.mark.fault(34)
@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("/b.mjs", "https://x/b.mjs"),
        ("b.mjs#top", "https://x/dir/b.mjs"),
        ("//y/b", "https://y/b"),
        ("https://y/b", "https://y/b"),
        ("file:///etc/passwd", None),
        ("http://x/b", None),
        ("https://a@y/", None),
        ("https://y:22/", None),
        ("https://y\\@z/", None),
        ("https://[::1/", None),
        ("", "https://x/dir/a"),
    ],
)
def test_a_redirect_is_held_to_the_same_rules(location: str, url: str | None) -> None:
    allowed = settings(ALLOW_HTTP="true", ALLOW_PORTS="80,443")
    start = check_url("https://x/dir/a", allowed)
    if url is not None:
        assert follow(start, location, allowed).url == url
        return
    with pytest.raises(SourceBlocked):
        follow(start, location, allowed)


@pytest.mark.fault(30, 32)
@pytest.mark.parametrize(
    "address",
    """0.0.0.0 10.0.0.1 100.64.0.1 100.100.100.200 127.0.0.1 127.255.255.254 169.254.169.254
    172.16.0.1 192.0.0.192 192.0.2.1 192.168.1.1 198.18.0.1 203.0.113.1 224.0.0.1 240.0.0.1
    255.255.255.255 :: ::1 ::ffff:127.0.0.1 ::ffff:8.8.8.8 ::7f00:1 64:ff9b::a9fe:a9fe
    64:ff9b:1::1 100::1 2001::1 2001:db8::1 2002:a9fe:a9fe:: fc00::1 fd00:ec2::254 fe80::1
    fec0::1 ff02::1 5f00::1 3fff::1 ::2""".split(),
)
def test_addresses_that_are_not_public(address: str, refused_by_the_library: Any) -> None:
    assert not is_public(address) or refused_by_the_library(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700:4700::1111"])
def test_addresses_that_are(address: str, refused_by_the_library: Any) -> None:
    assert is_public(address)
    assert not refused_by_the_library(address)


@pytest.fixture
def refused_by_the_library() -> Any:
    from requests_hardened.ip_filter import InvalidIPAddress, filter_host

    def refused(address: str) -> bool:
        try:
            filter_host(address, 443, allow_loopback=False)
        except InvalidIPAddress:
            return True
        return False

    return refused


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("ALLOW_PORTS", "443,x"),
        ("ALLOW_PORTS", "0"),
        ("ALLOW_PORTS", "65536"),
        ("ALLOW_PORTS", ","),
        ("ALLOW_HOSTS", "https://x"),
        ("ALLOW_HOSTS", "x:0"),
        ("ALLOW_HOSTS", "*.x"),
        ("ALLOW_HTTP", "perhaps"),
        ("CA_FILE", "/no/such/file"),
    ],
)
def test_variables_are_checked(variable: str, value: str) -> None:
    with pytest.raises(ConfigurationError, match=f"LOWCODE_FAAS_SOURCE_{variable} must be"):
        settings(**{variable: value})
