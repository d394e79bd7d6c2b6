"""The wheels: complete, installable by pip alone without a network, and named by what misses them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest

from lowcode_faas_core.catalogue import EXTRAS

#: The first test builds the wheels.
pytestmark = pytest.mark.timeout(600)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def bare(new_environment):
    """Return an environment with the core alone."""
    return new_environment("lowcode-faas-core")


def start(environment, cwd, **variables):
    """Start a dispatcher that has a reason not to, and return what it says."""
    done = subprocess.run(
        ["lowcode-faas", "dispatcher"],
        cwd=cwd,
        env=environment.environ({"LOWCODE_FAAS_LISTEN": "127.0.0.1:0", **variables}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2, done.stdout + done.stderr
    return done.stderr


def metadata_of(wheels, distribution):
    (wheel,) = wheels.glob(f"{distribution.replace('-', '_')}-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [each for each in archive.namelist() if each.endswith(".dist-info/METADATA")]
        return Parser().parsestr(archive.read(name).decode())


def test_every_folder_of_plugins_has_its_wheel_and_extra(wheelhouse):
    folders = [path.parent.name for path in ROOT.glob("plugins/*/pyproject.toml")]
    wheels = {path.name.split("-")[0] for path in wheelhouse.glob("lowcode_faas_*.whl")}
    assert wheels == {f"lowcode_faas_{name.replace('-', '_')}" for name in [*folders, "core"]}
    core = metadata_of(wheelhouse, "lowcode-faas-core")
    requires = dict(
        re.fullmatch(r"(\S+?)(?:\[.*\])?; extra == \"([a-z0-9-]+)\"", line).group(2, 1)
        for line in core.get_all("Requires-Dist")
        if "lowcode-faas" in line
    )
    assert requires.pop("all") == "lowcode-faas-core"
    assert {name.replace("-", "_") for name in requires.values()} == wheels - {"lowcode_faas_core"}
    assert set(requires) == set(EXTRAS.values())


def test_everything_is_installed_by_one_command_without_a_network(installation, tmp_path):
    assert installation.pip("check").returncode == 0
    said = subprocess.run(
        ["lowcode-faas", "plugins", "--json"],
        cwd=tmp_path,
        env=installation.environ({"LOWCODE_FAAS_RUNNER": "process"}),
        capture_output=True,
        text=True,
        check=True,
    )
    rows = json.loads(said.stdout)["plugins"]
    assert {row["name"].replace("_", "-") for row in rows} == {n.replace("_", "-") for n in EXTRAS}
    # Each name comes from the distribution that its extra asks for.
    extras = {row["name"].replace("_", "-"): row["distribution"] for row in rows}
    core = metadata_of(installation.wheels, "lowcode-faas-core").get_all("Requires-Dist")
    for name, extra in EXTRAS.items():
        assert f'{extras[name.replace("_", "-")]}; extra == "{extra}"' in core
    # And nothing reaches back into the checkout.
    paths = installation.folder.rglob("*.pth")
    assert not [path for path in paths if str(ROOT) in path.read_text()]


def test_what_misses_a_plugin_says_the_command(bare, tmp_path):
    roles = {
        "STORAGE": ["files", "sqlite", "db_s3"],
        "RUNNER": ["docker", "docker-runner", "process", "process-runner"],
        "FUNCTION_LOGS_SINK": ["stdout,docker_json,promtail,promtail-json,loki"],
        "SOURCE_FETCHERS": ["http"],
        "METRICS": ["prometheus"],
    }
    named = {name for names in roles.values() for each in names for name in each.split(",")}
    assert named == set(EXTRAS)
    # As many starts as the longest list: a start tells everything that is wrong at once.
    for at in range(4):
        chosen = {role: names[at] for role, names in roles.items() if at < len(names)}
        said = start(bare, tmp_path, **{f"LOWCODE_FAAS_{k}": v for k, v in chosen.items()})
        for role, names in chosen.items():
            for name in names.split(","):
                (line,) = re.findall(rf'LOWCODE_FAAS_{role} names the plugin "{name}", .*', said)
                command = f"pip install 'lowcode-faas-core[{EXTRAS[name]}]'"
                assert line.endswith(f"Install it with: {command}")


def test_the_command_that_is_said_is_the_one_that_helps(bare, tmp_path):
    """Last, since it installs."""
    variables = dict.fromkeys(("LOWCODE_FAAS_RUNNER", "LOWCODE_FAAS_STORAGE"), "none-such")
    variables["LOWCODE_FAAS_SOURCE_FETCHERS"] = "none"
    missing = re.findall(r"Install it with: (.*)", start(bare, tmp_path, **variables))
    (command,) = missing  # that of the default sink
    pip = f"{sys.executable} -m pip --python {bare.bin}/python"
    offline = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(bare.wheels), "PIP_QUIET": "2"}
    shell = command.replace("pip", pip, 1)
    subprocess.run(["sh", "-c", shell], env=bare.environ(offline), timeout=120, check=True)
    said = start(bare, tmp_path, **variables)
    assert "none-such" in said
    assert "pip install" not in said
