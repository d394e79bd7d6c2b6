"""The npm package as it is published: packed, installed into an empty folder, used and type-checked."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
from importlib import resources
from pathlib import Path

import pytest

from lowcode_faas_core.sandbox.loader import LOADER
from scripts.node_path import node_path
from tests.docs.pages import Page

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent
NODE = node_path()
NPM = NODE.parents[1] / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
#: Gone with `make clean`; TypeScript is fetched once for each version.
CACHE = ROOT / ".cache" / "typescript"

#: Prints why each of the paths given cannot be imported.
IMPORTING = """
for (const name of process.argv.slice(1)) {
  console.log(await import(name).then(() => 'imported', (error) => error.code));
}
"""


def node(*arguments, cwd, timeout=120):
    kept = {k: v for k, v in os.environ.items() if not k.lower().startswith("npm_")}
    done = subprocess.run(
        [str(NODE), *map(str, arguments)],
        cwd=cwd,
        env={**kept, "PATH": f"{NODE.parent}:{os.environ['PATH']}", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def npm(*arguments, cwd, timeout=120):
    code, said = node(NPM, *arguments, "--no-audit", "--no-fund", cwd=cwd, timeout=timeout)
    assert code == 0, said
    return said


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """Return what `npm pack` makes of a copy of the two folders it reads."""
    copy = tmp_path_factory.mktemp("packing")
    shutil.copytree(ROOT / "js", copy / "js", ignore=shutil.ignore_patterns("node_modules"))
    (copy / "lowcode_faas_core").mkdir()
    shutil.copytree(
        ROOT / "lowcode_faas_core" / "sandbox",
        copy / "lowcode_faas_core" / "sandbox",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    shutil.copy(ROOT / "LICENSE", copy)
    before = sorted((copy / "js").rglob("*"))
    npm("pack", "./js", cwd=copy)
    assert sorted((copy / "js").rglob("*")) == before, "packing leaves something behind"
    (archive,) = copy.glob("*.tgz")
    return archive


@pytest.fixture(scope="module")
def followed(packed, tmp_path_factory):
    """Return an empty folder in which the page was followed, and what its commands printed."""
    folder = tmp_path_factory.mktemp("installed")
    shutil.copy(packed, folder)
    commands = tmp_path_factory.mktemp("bin")
    (commands / "node").symlink_to(NODE)
    (commands / "npm").write_text(f'#!/bin/sh\nexec node {NPM} "$@"\n')
    (commands / "npm").chmod(0o755)
    said = ""
    for block in [each.parsed() for each in Page("js/README.md").blocks()]:
        if "file" in block.options:
            (folder / block.options["file"]).write_text(block.text)
        elif block.options.get("in") == "tests/js/test_package.py":
            done = subprocess.run(
                ["bash", "-euc", block.text],
                cwd=folder,
                env={
                    "PATH": f"{commands}:/usr/bin:/bin",
                    "HOME": str(commands),
                    "npm_config_offline": "true",
                    "npm_config_audit": "false",
                    "NO_COLOR": "1",
                },
                capture_output=True,
                text=True,
                timeout=120,
                check=False,
            )
            said += done.stdout + done.stderr
            assert done.returncode == 0, said
    return folder, said


def test_the_package_holds_its_files_and_the_platforms_bytes(packed):
    with tarfile.open(packed) as archive:
        files = {
            each.name.removeprefix("package/"): archive.extractfile(each).read()
            for each in archive.getmembers()
        }
    assert set(files) == {
        *("package.json", "README.md", "LICENSE", "runtime.d.ts", "testing.d.ts"),
        *(
            f"testing/{name}.mjs"
            for name in ("invoke", "options", "platform", "sandbox", "verdict")
        ),
        *("testing/platform/bootstrap.cjs", "testing/platform/loader.js"),
    }
    sandbox = resources.files("lowcode_faas_core.sandbox")
    assert files["testing/platform/bootstrap.cjs"] == sandbox.joinpath("bootstrap.cjs").read_bytes()
    assert files["testing/platform/loader.js"].decode() == LOADER
    assert files["LICENSE"] == (ROOT / "LICENSE").read_bytes()
    said = json.loads(files["package.json"])
    assert said["license"] == "Apache-2.0"
    assert said["engines"] == {"node": ">=22.18"}
    assert "dependencies" not in said


def test_the_page_leads_from_an_empty_folder_to_a_test_that_passes(followed):
    _, said = followed
    assert "✔ greets by name" in said
    assert "ℹ fail 0" in said


def test_nothing_but_the_helper_can_be_imported(followed):
    names = ("", "/testing/sandbox.mjs", "/testing")
    paths = [f"lowcode-faas-runtime{each}" for each in names]
    code, said = node("--input-type=module", "-e", IMPORTING, *paths, cwd=followed[0])
    assert code == 0, said
    assert said.split() == [*["ERR_PACKAGE_PATH_NOT_EXPORTED"] * 2, "imported"]


@pytest.fixture(scope="session")
def tsc():
    """Return the pinned compiler; the lock file has its checksum."""
    wanted = (HERE / "typescript" / "package-lock.json").read_bytes()
    done = CACHE / "package-lock.json"
    program = CACHE / "node_modules" / "typescript" / "bin" / "tsc"
    if not (program.exists() and done.exists() and done.read_bytes() == wanted):
        shutil.rmtree(CACHE, ignore_errors=True)
        shutil.copytree(HERE / "typescript", CACHE)
        try:
            npm("ci", "--ignore-scripts", cwd=CACHE, timeout=240)
        except (AssertionError, subprocess.TimeoutExpired) as error:
            shutil.rmtree(CACHE, ignore_errors=True)
            if os.environ.get("CI"):
                raise
            pytest.skip(f"TypeScript cannot be had: {error}")
    return program


@pytest.mark.timeout(300)
def test_types_let_right_handlers_through_and_wrong_ones_not(tsc, followed):
    """A line after ``@ts-expect-error`` that is let through is an error itself."""
    folder = followed[0] / "types"
    shutil.copytree(HERE / "types", folder)
    code, said = node(tsc, "--project", folder, cwd=folder)
    assert code == 0, said
