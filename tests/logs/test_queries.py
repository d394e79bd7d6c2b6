"""The five languages, read back by parsers that know their grammars and none of the quoting code."""

from __future__ import annotations

import itertools
import json
import random
import re
import string
import time
from collections.abc import Callable
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lowcode_faas_core.configuration import LogQuerySettings
from lowcode_faas_core.errors import ConfigurationError, PluginError
from lowcode_faas_core.interfaces.log_dialect import LogDialect, LogFilter
from lowcode_faas_core.logquery.grafana import explore_url
from lowcode_faas_core.logquery.queries import LogQueries
from lowcode_faas_core.settings import read

QUERIES = LogQueries({"job": "lowcode-faas"})
Parsed = dict[str, str]


class Text:
    """A query being read, from the left."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def take(self, pattern: str) -> str:
        found = re.compile(pattern, re.DOTALL).match(self.text, self.at)
        assert found, f"expected {pattern} at {self.text[self.at : self.at + 60]!r}"
        self.at = found.end()
        return found[0]

    def sees(self, pattern: str) -> bool:
        return re.compile(pattern).match(self.text, self.at) is not None

    def string(self, escape: Callable[[Text], str], newline: bool = True) -> str:
        """Read one double-quoted string; ``escape`` reads what follows a backslash."""
        self.take('"')
        out = []
        while not self.sees('"'):
            character = self.take(r'\\|[^"\\]+')
            assert newline or "\n" not in character, "a string must not hold a newline"
            out.append(escape(self) if character == "\\" else character)
        self.take('"')
        return "".join(out)

    def end(self) -> None:
        assert self.at == len(self.text), self.text[self.at :]


def go_escape(text: Text) -> str:
    """Go's interpreted strings (language specification, "Rune literals" and "String literals")."""
    letter = text.take(".")
    simple = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
    simple |= {"\\": "\\", '"': '"'}
    if letter in simple:
        return simple[letter]
    if letter in "01234567":
        return chr(int(letter + text.take("[0-7]{2}"), 8))
    width = {"x": 2, "u": 4, "U": 8}[letter]
    code = int(text.take(f"[0-9a-fA-F]{{{width}}}"), 16)
    assert not 0xD800 <= code < 0xE000, "Go refuses surrogates"
    return chr(code)


def lucene_escape(text: Text) -> str:
    """Lucene's QueryParserBase.discardEscapeChar: ``u`` begins a code, all else is itself."""
    letter = text.take(".")
    return chr(int(text.take("[0-9a-fA-F]{4}"), 16)) if letter == "u" else letter


def backslash_escape(text: Text) -> str:
    return text.take(r'[\\"]')


def google_escape(text: Text) -> str:
    """Escapes of Cloud Logging's filter strings: those of C, with unicode."""
    return go_escape(text)


def parse_logql_json(query: str) -> Parsed:
    text = Text(query)
    assert parse_selector(text) == {"job": "lowcode-faas"}
    text.take(r' \| json \| __error__=""')
    found: Parsed = {}
    while text.sees(" "):
        field = text.take(r" \| \w+=")[3:-1]
        found[field] = text.string(go_escape, newline=False)
    text.end()
    return found


def parse_selector(text: Text) -> Parsed:
    text.take(r"\{")
    labels: Parsed = {}
    while not text.sees(r"\}"):
        name = text.take("[a-zA-Z_][a-zA-Z0-9_]*=")[:-1]
        labels[name] = text.string(go_escape, newline=False)
        if not text.sees(r"\}"):
            text.take(", ")
    text.take(r"\}")
    return labels


def parse_logql_substr(query: str) -> Parsed:
    text = Text(query)
    assert parse_selector(text) == {"job": "lowcode-faas"}
    members = []
    while text.sees(" "):
        text.take(r" \|= ")
        members.append(text.string(go_escape, newline=False))
    text.end()
    if members == ['"execution_id":"']:
        return {}
    found: Parsed = {}
    for member in members:
        parsed = json.loads("{" + member + "}")
        assert len(parsed) == 1
        found |= parsed
    return found


def parse_elasticsearch(query: str) -> Parsed:
    text = Text(query)
    if query == "execution_id:*":
        return {}
    found: Parsed = {}
    while True:
        field = text.take(r"\w+:")[:-1]
        if field == "ts":
            text.take(r"\[")
            low = text.take(r"\*") if text.sees(r"\*") else text.string(lucene_escape)
            text.take(" TO ")
            high = text.take(r"\*") if text.sees(r"\*") else text.string(lucene_escape)
            text.take(r"\]" if high == "*" else r"\}")
            found |= {k: v for k, v in (("since", low), ("until", high)) if v != "*"}
        else:
            found[field] = text.string(lucene_escape)
        if not text.sees(" "):
            break
        text.take(" AND ")
    text.end()
    return found


def parse_cloudwatch(query: str) -> Parsed:
    text = Text(query)
    text.take(r"fields [@\w, ]+? \| filter ")
    found: Parsed = {}
    if text.sees("ispresent"):
        text.take(r"ispresent\(execution_id\)")
    else:
        while True:
            field = text.take(r"\w+ = ")[:-3]
            found[field] = text.string(backslash_escape)
            if not text.sees(" and "):
                break
            text.take(" and ")
    text.take(r" \| sort @timestamp asc, seq asc \| limit 10000")
    text.end()
    return found


def parse_google(query: str) -> Parsed:
    if query == "jsonPayload.execution_id:*":
        return {}
    text = Text(query)
    found: Parsed = {}
    while True:
        if text.sees("timestamp"):
            operator = text.take("timestamp(>=|<)")[len("timestamp") :]
            found["since" if operator == ">=" else "until"] = text.string(google_escape)
        else:
            field = text.take(r"jsonPayload\.\w+=")[len("jsonPayload.") : -1]
            found[field] = text.string(google_escape, newline=False)
        if not text.sees(" "):
            break
        text.take(" AND ")
    text.end()
    return found


PARSERS: dict[str, tuple[Callable[[str], Parsed], bool]] = {
    # Whether the language's text has times.
    "loki_logql_json": (parse_logql_json, False),
    "loki_logql_substr": (parse_logql_substr, False),
    "elasticsearch_query_string": (parse_elasticsearch, True),
    "aws_cloudwatch_logs_insights": (parse_cloudwatch, False),
    "google_cloud_logging": (parse_google, True),
}

SINCE, UNTIL = "2026-11-22T09:00:00.000000000Z", "2026-11-23T09:00:00.000000000Z"
HOSTILE = [
    'x"} or {job=~".+',
    "`",
    "\\",
    "x\\",
    '"\n',
    "${}",
    "* OR 1:1",
    '") OR (',
    'a" or run_id like /.*/',
    "/.*/",
    '\\" OR *',
    "\\u0022 OR x",
    "{{logql}}",
    "\x00\x1f\x7f\u2028\ufeff",
    "é\U0001f600",
    "",
    "'",
    "AND",
    "x | line_format `{{.run_id}}`",
]


def held(wanted: LogFilter) -> None:
    """Assert that every query reads back as exactly this filter."""
    answer = QUERIES.answer(wanted)
    times = {k: v for k, v in (("since", wanted.since), ("until", wanted.until)) if v is not None}
    assert answer.pop("start") == wanted.since
    assert answer.pop("end") == wanted.until
    assert set(answer) == set(PARSERS)
    for name, (parse, has_times) in PARSERS.items():
        query = answer[name]
        assert query is not None
        expected = dict(wanted.terms()) | (times if has_times else {})
        assert parse(query) == expected, (name, query)


ids = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
awkward = st.text("\"'`\\/{}[]()*?~:^ \n\t|=<>&$#%\u2028u0a", max_size=30)
values = st.one_of(ids, awkward, st.sampled_from(HOSTILE))
segments = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9_-]{0,12}\Z")
paths = st.lists(segments, max_size=8).map("/".join)


@pytest.mark.fault(83, 84)
def test_ten_thousand_filters_read_back_as_themselves() -> None:
    # Seeded: a failure can be looked at again. hypothesis, below, looks for smaller ones.
    dice = random.Random(7)
    alphabets = (
        "\"'`\\/{}[]()*?~:^ \n\t|=<>&$#%\u2028u0ax",
        string.ascii_letters + string.digits + "._:-",
        "".join(map(chr, range(256))) + "\u2028\u2029\ufeff\ufffd\U0001f600\ud7ff\ue000",
    )

    def text() -> str:
        if dice.random() < 0.1:
            return dice.choice(HOSTILE)
        return "".join(dice.choices(dice.choice(alphabets), k=dice.randrange(40)))

    def path() -> str:
        words = (
            "".join(dice.choices(alphabets[1][:62], k=dice.randrange(1, 9))) for _ in "12345678"
        )
        return "/".join(list(words)[: dice.randrange(9)])

    names = ("run_id", "execution_id", "function", "deployment_id")
    for _ in range(10_000):
        given = {name: text() for name in names if dice.random() < 0.6}
        if dice.random() < 0.8:
            given["collection_path"] = path() if dice.random() < 0.7 else text()
        if dice.random() < 0.3:
            given["since"] = SINCE
        if dice.random() < 0.3:
            given["until"] = UNTIL
        held(LogFilter(**given))


@pytest.mark.fault(83, 84)
@settings(max_examples=150, deadline=None, database=None)
@given(values, paths | values)
def test_any_id_and_path_reads_back(text: str, path: str) -> None:
    held(LogFilter(run_id=text, execution_id=path, collection_path=path))


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_reads_back(text: str) -> None:
    held(LogFilter(text, text, text, text, text))


@pytest.mark.parametrize("given", list(itertools.product((False, True), repeat=5)))
def test_every_choice_of_fields_reads_back(given: tuple[bool, ...]) -> None:
    names = ("run_id", "execution_id", "function", "collection_path", "deployment_id")
    held(LogFilter(**{n: f"v-{n}" for n, yes in zip(names, given, strict=True) if yes}))


@pytest.mark.fault(83)
def test_logql_by_hand() -> None:
    answer = QUERIES.answer(LogFilter(run_id='x"} or {job=~".+', collection_path=""))
    assert answer["loki_logql_json"] == (
        '{job="lowcode-faas"} | json | __error__=""'
        ' | run_id="x\\"} or {job=~\\".+" | collection_path=""'
    )
    assert answer["loki_logql_substr"] == (
        '{job="lowcode-faas"} |= "\\"run_id\\":\\"x\\\\\\"} or {job=~\\\\\\".+\\""'
        ' |= "\\"collection_path\\":\\"\\""'
    )
    assert '| run_id="a`b\\\\"' in str(QUERIES.answer(LogFilter(run_id="a`b\\"))["loki_logql_json"])
    assert "=~" not in str(QUERIES.answer(LogFilter(run_id="a"))["loki_logql_json"])


@pytest.mark.fault(84)
def test_the_other_languages_by_hand() -> None:
    answer = QUERIES.answer(LogFilter(run_id='") OR (\\', function="greet", since=SINCE))
    assert answer["elasticsearch_query_string"] == (
        f'run_id:"\\") OR (\\\\" AND function_name:"greet" AND ts:["{SINCE}" TO *]'
    )
    assert answer["aws_cloudwatch_logs_insights"] == (
        "fields @timestamp, level, message, function_name, execution_id, seq "
        '| filter run_id = "\\") OR (\\\\" and function_name = "greet" '
        "| sort @timestamp asc, seq asc | limit 10000"
    )
    assert answer["google_cloud_logging"] == (
        'jsonPayload.run_id="\\") OR (\\\\" AND jsonPayload.function_name="greet" '
        f'AND timestamp>="{SINCE}"'
    )


@pytest.mark.fault(71)
def test_a_megabyte_of_quotes_is_quoted_at_once() -> None:
    begun = time.process_time()
    QUERIES.answer(LogFilter(run_id='"\\' * 500_000, collection_path="a/" * 500_000))
    # Linear code needs some 50 ms of CPU for these four megabytes; a quadratic one hours.
    assert time.process_time() - begun < 5


TEMPLATE = (
    "https://grafana.example/explore?q={{logql}}&run={{run_id}}&d={{deployment_id}}&x=%7B{{run_id}}"
)


@pytest.mark.fault(85)
@pytest.mark.parametrize(
    "run_id", ["{{logql}}", "javascript:alert(1)", "#", "&", "a b+c/d%20", "é", "{{run_id}}"]
)
def test_values_are_encoded_once_and_never_expanded_again(run_id: str) -> None:
    wanted = LogFilter(run_id=run_id, deployment_id="{{run_id}}")
    url = explore_url(TEMPLATE, '{job="x"} | json', wanted)
    parts = urlsplit(url)
    assert (parts.scheme, parts.netloc, parts.fragment) == ("https", "grafana.example", "")
    query = parse_qs(parts.query, keep_blank_values=True, strict_parsing=True)
    assert query == {
        "q": ['{job="x"} | json'],
        "run": [run_id],
        "d": ["{{run_id}}"],
        "x": ["{" + run_id],
    }


def test_a_query_within_json_stays_within_its_string() -> None:
    template = "http://g/explore?panes={%22expr%22:%22{{logql_json}}%22}"
    url = explore_url(template, '{job="x"} |= "a\\"b"', LogFilter())
    assert json.loads(unquote(urlsplit(url).query)[len("panes=") :]) == {
        "expr": '{job="x"} |= "a\\"b"'
    }


@given(values, values)
@settings(max_examples=100, deadline=None, database=None)
def test_any_value_survives_the_template(run_id: str, logql: str) -> None:
    url = explore_url("http://g/?r={{run_id}}&l={{logql}}", logql, LogFilter(run_id=run_id))
    first, second = url.removeprefix("http://g/?r=").split("&l=")
    assert (unquote(first), unquote(second)) == (run_id, logql)


@pytest.mark.fault(85)
@pytest.mark.parametrize(
    "template",
    [
        "javascript:alert(1)//{{logql}}",
        "data:text/html,{{logql}}",
        "//grafana/explore",
        "ftp://grafana/",
        "https://",
        "https://{{run_id}}/explore",
        "https://{{run_id}}@grafana/explore",
        "https://grafana/ex plore",
        "grafana/explore",
        "http://[::1/explore",
    ],
)
def test_a_template_that_is_no_web_address_stops_the_start(template: str) -> None:
    with pytest.raises(ConfigurationError, match="EXPLORE_URL_TEMPLATE must"):
        read({"LOWCODE_FAAS_LOGS_GRAFANA_EXPLORE_URL_TEMPLATE": template}, LogQuerySettings)


@pytest.mark.parametrize("labels", ["", "job", "9a=b", "a=b,a=c", "a-b=c", "__a=b", "a="])
def test_labels_that_loki_would_refuse_stop_the_start(labels: str) -> None:
    environ = {"LOWCODE_FAAS_LOG_LOKI_LABELS": labels or ","}
    with pytest.raises(ConfigurationError, match="LOG_LOKI_LABELS must"):
        read(environ, LogQuerySettings)


def test_labels_select_the_streams() -> None:
    environ = {"LOWCODE_FAAS_LOG_LOKI_LABELS": 'job=faas, env=a"b'}
    labels = dict(read(environ, LogQuerySettings).loki_labels)
    query = LogQueries(labels).answer(LogFilter())["loki_logql_substr"]
    assert parse_selector(Text(str(query))) == {"job": "faas", "env": 'a"b'}


class Shout(LogDialect):
    name = "shout"

    def query(self, wanted: LogFilter) -> str:
        return (wanted.run_id or "").upper()


def test_a_further_dialect_joins_the_answer() -> None:
    answer = LogQueries({"job": "x"}, "", [Shout()]).answer(LogFilter(run_id="a"))
    assert answer["shout"] == "A"


@pytest.mark.parametrize(
    "name", ["loki_logql_json", "start", "grafana_explore_url", "No", "", None]
)
def test_a_dialect_whose_name_is_taken_or_illegal_is_refused(name: str | None) -> None:
    dialect = Shout()
    dialect.name = name  # type: ignore[misc, assignment]
    with pytest.raises(PluginError, match="dialect"):
        LogQueries({"job": "x"}, "", [dialect])
