"""``lowcode-faas export`` and ``import``: a tree goes to another service, and nothing of it is lost."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lowcode_faas_core.client.archive import FunctionCopy, Tree, write
from lowcode_faas_core.model import Language, Reuse
from tests.integration.typing_commands import typed

ECHO = "export const handler = () => ({ok: true, data: process.env.WORD ?? null});\n"
TYPED = "export const handler = async (_: object): Promise<object> => ({ok: true});\r\n// é"


def test_a_tree_goes_to_another_service_and_comes_back_the_same(
    serve: Callable[..., Any], tmp_path: Path, free_port: Callable[[], int]
) -> None:
    # Given a tree with env at every level, an empty value, limits, and a second version
    here = serve(DATA_DIR=str(tmp_path / "here"), WORKERS="1")
    there = serve(DATA_DIR=str(tmp_path / "there"), WORKERS="1", LISTEN=f"127.0.0.1:{free_port()}")
    run, run_there = typed(tmp_path, here.url), typed(tmp_path, there.url)
    here.call("PUT", "/collections/env", {"env": {"WORD": "root", "ROOT": "r"}})
    here.call("POST", "/collections", {"path": "shop", "env": {"WORD": "shop", "TOKEN": "hunter2"}})
    here.call("POST", "/collections", {"path": "shop/eu/empty", "env": {"E": ""}})
    here.deploy("plain", "export const handler = () => 1;")
    here.deploy("plain", ECHO)
    here.deploy("echo", ECHO, collection_path="shop", env={"WORD": ""}, limits={"memory_mb": 96})
    here.deploy(
        "collection", TYPED, collection_path="shop/eu", language="typescript", reuse="fresh"
    )
    # When all of it is exported, twice
    assert run("export", "all.tar.gz")[0] == 0
    code, out, talk = run("export", "again.tar.gz", "--json")
    assert (code, json.loads(out)["functions"]) == (0, 3)
    assert talk.startswith("functions: 3, collections: 4, bytes: ")
    archive = tmp_path / "all.tar.gz"
    assert archive.read_bytes() == (tmp_path / "again.tar.gz").read_bytes()
    assert archive.stat().st_mode & 0o777 == 0o600
    with tarfile.open(archive) as tar:
        assert "collections/shop/functions/echo.mjs" in tar.getnames()
    # Then an import says what it would do, and does it when it is told to
    everything = [
        "~ env         (root)  env +ROOT +WORD",
        "+ function    plain  javascript, 75 bytes",
        "+ collection  shop  env +TOKEN +WORD",
        "+ function    shop/echo  javascript, 75 bytes; env +WORD",
        "+ collection  shop/eu",
        "+ function    shop/eu/collection  typescript, 81 bytes",
        "+ collection  shop/eu/empty  env +E",
    ]
    code, out, talk = run_there("import", "all.tar.gz", "--dry-run")
    assert (code, out.splitlines()) == (0, everything)
    assert talk == "6 new, 1 changed, 0 as they should be; nothing was written\n"
    assert run_there("collections", "list")[1] == ""
    code, out, talk = run_there("import", "all.tar.gz")
    assert (code, out) == (2, "")
    assert "give --yes" in talk
    assert run_there("import", "all.tar.gz", "--yes")[:2] == (0, "\n".join(everything) + "\n")
    # And what is there is the same tree, to the byte
    assert run_there("export", "back.tar.gz")[0] == 0
    assert members(tmp_path / "back.tar.gz") == members(archive)
    explained = [r("env", "explain", "echo", "-c", "shop", "--json")[1] for r in (run, run_there)]
    assert explained[0] == explained[1]
    assert json.loads(run_there("invoke", "echo", "-c", "shop")[1])["data"] == ""
    # And a second import finds nothing to do
    code, out, talk = run_there("import", "all.tar.gz", "--yes")
    assert (code, out, talk) == (0, "", "0 new, 0 changed, 7 as they should be\n")
    told = json.loads(run_there("import", "all.tar.gz", "--yes", "--json")[1])
    assert (told["changes"], told["same"], told["written"]) == ([], 7, False)
    assert run_there("show", "plain", "--json")[1].count('"version": 1') == 1


def test_a_part_goes_under_another_collection_and_only_differences_are_written(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    service = serve(WORKERS="1", FILES_KEEP_VERSIONS="20")
    run = typed(tmp_path, service.url)
    service.call("POST", "/collections", {"path": "shop/eu", "env": {"A": "1", "B": "2"}})
    service.deploy("echo", ECHO, collection_path="shop/eu", env={"WORD": "x"})
    service.deploy("same", ECHO, collection_path="shop/eu")
    assert run("export", "shop.tar.gz", "-c", "shop")[0] == 0
    assert run("import", "shop.tar.gz", "--into", "staging/one", "--yes")[0] == 0
    assert run("invoke", "echo", "-c", "staging/one/eu")[1].split()[-2] == '"x"'
    # When it differs there, and there is more
    one = "/collections/staging/one/eu"
    service.call("PUT", f"{one}/env", {"env": {"B": "other", "C": "3"}})
    service.call("PUT", f"{one}/functions/echo/env", {"env": {}})
    body = {"source_code": f"// one more\n{ECHO}", "limits": {"memory_mb": 80}}
    service.call("POST", f"{one}/functions", {"name": "same", **body})
    service.call("POST", f"{one}/functions", {"name": "more", "source_code": ECHO})
    import_again = ("import", "shop.tar.gz", "--into", "/staging/one/")
    code, out, _ = run(*import_again, "--sources", "--dry-run")
    assert (code, out.splitlines()) == (
        0,
        [
            "~ env         staging/one/eu  env +A -C ~B",
            "~ env         staging/one/eu/echo  env +WORD",
            "~ function    staging/one/eu/same  source +0 -1 lines; limits memory_mb=80 -> default",
            "    --- staging/one/eu/same there",
            "    +++ staging/one/eu/same here",
            "    @@ -1,2 +1 @@",
            "    -// one more",
            f"     {ECHO.rstrip()}",
        ],
    )
    shown = json.loads(run(*import_again, "--yes", "--json")[1])
    assert [each["action"] for each in shown["changes"]] == ["change"] * 3
    assert shown["written"] is True
    assert run("list", "-c", "staging/one/eu")[1].split()[0::4] == ["echo", "more", "same"]
    versions = json.loads(run("versions", "same", "-c", "staging/one/eu", "--json")[1])
    assert [each["version"] for each in versions] == [3, 2, 1]
    # Without env, that of where it goes stays
    assert run("export", "bare.tar.gz", "-c", "shop", "--without-env")[0] == 0
    with tarfile.open(tmp_path / "bare.tar.gz") as tar:
        assert not [name for name in tar.getnames() if name.endswith("env.json")]
    done = run("import", "bare.tar.gz", "--into", "staging/one", "--yes")
    assert done == (0, "", "0 new, 0 changed, 4 as they should be\n")
    # Standard output and input will do
    assert run("export", "-c", "nowhere", "-")[:2] == (1, "")
    assert run("import", "shop.tar.gz", "--into", "/", "--yes")[0] == 0
    assert run("show", "echo", "-c", "eu")[0] == 0


def test_a_broken_archive_changes_nothing_and_is_named(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    service = serve(WORKERS="1")
    run = typed(tmp_path, service.url)
    service.call("POST", "/collections", {"path": "shop"})
    service.deploy("echo", ECHO, collection_path="shop")
    run("export", "whole.tar.gz", "-c", "shop")
    content = (tmp_path / "whole.tar.gz").read_bytes()
    (tmp_path / "cut.tar.gz").write_bytes(content[:-40])
    with tarfile.open(tmp_path / "evil.tar.gz", "w:gz") as tar:
        for info, data in members(tmp_path / "whole.tar.gz").items():
            add(tar, info, data)
        add(tar, "../../evil", b"x")
    for name, said in (
        ("cut.tar.gz", "cut.tar.gz: it is broken after"),
        ("evil.tar.gz", "evil.tar.gz: the member '../../evil' is not in its manifest"),
    ):
        code, out, talk = run("import", name, "--into", "elsewhere", "--yes")
        assert (code, out) == (1, "")
        assert talk.startswith(f"Error: {said}")
    assert not list(tmp_path.parent.glob("evil"))
    assert run("collections", "list")[1] == "shop\n"
    # One that is there in another language is seen before anything is written
    service.call("POST", "/collections", {"path": "other"})
    service.deploy("echo", TYPED, collection_path="other", language="typescript")
    code, _, talk = run("import", "whole.tar.gz", "--into", "other", "--yes")
    assert (code, talk) == (1, "Error: other/echo is there, in typescript; delete it\n")


def test_an_import_asks_and_what_it_broke_off_at_is_told(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    run = typed(tmp_path, serve(WORKERS="1").url)
    tree = Tree("shop", True, {"": {}})
    for name, source in (("one", ECHO), ("torn", "export const handler = (")):
        fields = {"language": Language.JAVASCRIPT, "reuse": Reuse.WARM, "version": 1}
        copy = FunctionCopy(collection="", name=name, **fields)  # type: ignore[arg-type]
        tree.functions.append(copy)
        tree.sources[copy.member] = source.encode()
    with (tmp_path / "shop.tar.gz").open("wb") as file:
        write(tree, file)
    code, out, talk = run("import", "shop.tar.gz", keys="n\n")
    assert (code, out.count("+ ")) == (1, 3)
    assert "3 new, 0 changed, 0 as they should be. Write it? [y/N]: " in talk
    assert run("collections", "list")[1] == ""
    code, _, talk = run("import", "shop.tar.gz", keys="y\n")
    assert code == 1
    assert "Error: shop/torn: " in talk
    assert "line 1" in talk
    assert talk.endswith("2 of 3 changes are written; import again to go on\n")
    assert run("import", "shop.tar.gz", "--dry-run")[1].startswith("+ function    shop/torn")


def members(path: Path) -> dict[str, bytes]:
    """Return what is in it; version numbers are each service's own."""
    with tarfile.open(path) as tar:
        found = {info.name: tar.extractfile(info).read() for info in tar}  # type: ignore[union-attr]
    manifest = json.loads(found["manifest.json"])
    for each in manifest["functions"]:
        each["version"] = 1
    return {**found, "manifest.json": json.dumps(manifest).encode()}


def add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size = len(content)
    tar.addfile(info, io.BytesIO(content))
