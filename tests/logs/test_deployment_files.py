"""The files that bring Loki, Grafana and a collector: valid, bounded, and never collecting themselves."""

from __future__ import annotations

import json
import re
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from jsonschema import Draft7Validator

from lowcode_faas_core.configuration import CORE_SETTINGS, LogQuerySettings
from lowcode_faas_core.interfaces.log_dialect import LogFilter
from lowcode_faas_core.logquery.queries import LogQueries
from lowcode_faas_core.settings import infos, read

CONF = Path(__file__).resolve().parents[2] / "conf"
OURS = {"dispatcher", "worker"}


@pytest.fixture(scope="module")
def compose() -> Any:
    return yaml.safe_load((CONF / "docker-compose.dev.yml").read_text())


def code_of(path: Path, comment: str) -> str:
    return "\n".join(
        re.sub(rf"^\s*{comment}.*", "", line) for line in path.read_text().splitlines()
    )


def test_compose_follows_its_specification(compose: Any) -> None:
    vendored = resources.files("check_jsonschema").joinpath("builtin_schemas/vendor")
    schema = json.loads(vendored.joinpath("compose-spec.json").read_text())
    found = [f"{e.json_path}: {e.message}" for e in Draft7Validator(schema).iter_errors(compose)]
    assert not found


def test_compose_has_what_an_installation_needs_and_serves_this_machine_only(compose: Any) -> None:
    services = compose["services"]
    assert set(services) >= OURS | {"postgres", "s3", "loki", "alloy", "grafana"}
    assert "minio" not in json.dumps(compose).lower()
    for name, service in services.items():
        assert "logging" in service, f"{name}: the engine's own log has no bound"
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), name
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            known = source in compose["volumes"] or source.startswith(("./", "/", ".."))
            assert known, volume
            if source.startswith("./"):
                assert (CONF / source).exists()
        for needed in service.get("depends_on", ()):
            assert needed in services


def test_compose_names_variables_that_exist(compose: Any) -> None:
    known = {info.variable for info in infos(CORE_SETTINGS)}
    known |= {"LOWCODE_FAAS_DATA_DIR", "LOWCODE_FAAS_FILES_KEEP_VERSIONS"}
    for name in OURS:
        given = {v for v in compose["services"][name]["environment"] if v.startswith("LOWCODE")}
        assert given <= known


@pytest.mark.fault(89)
def test_collectors_read_containers_of_ours_only(compose: Any) -> None:
    # Given the label both collectors ask for
    alloy = code_of(CONF / "alloy.dev.alloy", "//")
    promtail = yaml.safe_load((CONF / "promtail-dev.yml").read_text())
    (scrape,) = promtail["scrape_configs"]
    (discovery,) = scrape["docker_sd_configs"]
    assert discovery["filters"] == [{"name": "label", "values": ["logging=lowcode-faas"]}]
    assert re.search(r'name\s+= "label"\s+values = \["logging=lowcode-faas"\]', alloy)
    # Then services of ours have it and no other, the collectors least of all
    labelled = {
        name
        for name, service in compose["services"].items()
        if service.get("labels", {}).get("logging") == "lowcode-faas"
    }
    assert labelled == OURS
    # And should one have it by mistake, it is dropped all the same
    others = set(compose["services"]) & {"alloy", "promtail", "loki", "grafana"}
    dropped = [r for r in scrape["relabel_configs"] if r.get("action") == "drop"]
    for pattern in (dropped[0]["regex"], re.search(r'regex\s+= "([^"]+)"', alloy)[1]):  # type: ignore[index]
        assert {name for name in compose["services"] if re.fullmatch(pattern, name)} == others


def test_collectors_give_the_label_that_queries_select_by() -> None:
    assert read({}, LogQuerySettings).loki_labels == (("job", "lowcode-faas"),)
    alloy = code_of(CONF / "alloy.dev.alloy", "//")
    assert '{"job" = "lowcode-faas"}' in alloy
    assert alloy.count("{") == alloy.count("}")
    promtail = yaml.safe_load((CONF / "promtail-dev.yml").read_text())
    job = {"target_label": "job", "replacement": "lowcode-faas"}
    assert job in promtail["scrape_configs"][0]["relabel_configs"]
    assert "end" in (CONF / "promtail-dev.yml").read_text().splitlines()[0]


def test_the_link_of_the_compose_file_opens_the_provisioned_source(compose: Any) -> None:
    # Given the template of the compose file and the data source Grafana is given
    environment = compose["services"]["dispatcher"]["environment"]
    settings = read({k: v for k, v in environment.items() if "TEMPLATE" in k}, LogQuerySettings)
    provisioned = yaml.safe_load(
        (CONF / "grafana" / "provisioning" / "datasources" / "loki.yml").read_text()
    )
    (source,) = provisioned["datasources"]
    # When a link is made
    queries = LogQueries(dict(settings.loki_labels), settings.explore_template)
    answer = queries.answer(LogFilter(run_id='a"b'))
    query = urlsplit(str(answer["grafana_explore_url"])).query
    panes = json.loads(unquote(dict(p.partition("=")[::2] for p in query.split("&"))["panes"]))
    # Then it holds the query, whole, for that source
    assert panes["a"]["datasource"] == source["uid"]
    assert panes["a"]["queries"][0]["expr"] == answer["loki_logql_json"]
