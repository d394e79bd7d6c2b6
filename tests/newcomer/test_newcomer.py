"""A newcomer: clones, and does what the README says and nothing else, until a second version is undone.

No command stands here. Where the README lacks a step, this fails.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import urllib3

from tests.docs.following import blocks_until, follow, system_path
from tests.docs.pages import Page
from tests.docs.reader import Reader

#: Where no test before it did, it makes the clone's virtual environment.
pytestmark = pytest.mark.timeout(900)


def pip_of_this_user():
    """Return what has pip find this user's cache and index from another home."""
    places = [Path.home() / each / "pip.conf" for each in (".config/pip", ".pip")]
    found = [str(each) for each in places if each.exists()]
    return {
        "PIP_CACHE_DIR": str(Path.home() / ".cache" / "pip"),
        **({"PIP_CONFIG_FILE": found[0]} if found else {}),
    }


@pytest.fixture
def reader(clone, tmp_path):
    """Return somebody who has just cloned."""
    shutil.rmtree(clone / "data", ignore_errors=True)  # of another test
    reader = Reader(tmp_path, pip_of_this_user(), begins=clone, path=system_path(tmp_path))
    yield reader
    reader.close()


def get(url):
    answer = urllib3.request("GET", url, retries=False, timeout=30)
    assert answer.status == 200, answer.data
    return answer.json()


def undone(url):
    """Return the functions of nested collections whose second version was rolled back to the first."""
    found = []
    for path in (each["path"] for each in get(f"{url}/collections")["items"]):
        if "/" not in path:
            continue
        functions = f"{url}/collections/{path}/functions"
        for name in (each["name"] for each in get(functions)["items"]):
            versions = {
                each["version"]: each for each in get(f"{functions}/{name}/versions")["items"]
            }
            current = next(each for each in versions.values() if each["current"])
            if (
                current["restored_from"] == 1
                and set(versions) == {1, 2, 3}
                and current["sha256"] == versions[1]["sha256"] != versions[2]["sha256"]
            ):
                found.append(f"{functions}/{name}")
    return found


def test_the_readme_leads_from_a_clone_to_a_second_version_that_is_undone(reader):
    blocks = blocks_until(Page("README.md"), "## From the command line")
    assert follow(blocks, reader, lambda block: "in" not in block.options) >= 7

    (function,) = undone(reader.url)
    # It has env, of a collection above its own, and ran with it.
    (level,) = get(f"{function}/env/explain")["env"].values()
    assert level["level"] == "collection"
    assert level["path"] not in ("", function.split("/collections/")[1].split("/functions")[0])
    executions = get(f"{reader.url}/executions")["items"]
    assert [
        each for each in executions if each["collection_path"] and each["status"] == "succeeded"
    ]
