"""The file of tokens, and who they are taken for."""

from __future__ import annotations

import json
import logging
import os
import re
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

from lowcode_faas_core.authentication import LOOK_S, Authentication, TokenAuthenticator
from lowcode_faas_core.callers import ANYONE, Caller, Verb
from lowcode_faas_core.cli import cli
from lowcode_faas_core.errors import ConfigurationError, InvalidValue, Unauthenticated
from lowcode_faas_core.testing.authenticator_contract import AuthenticatorContract
from lowcode_faas_core.testing.memory_authenticator import MemoryAuthenticator
from lowcode_faas_core.tokens import TokenFile, split

KEEP = "keep it now, it is shown only this once:\n"
ME = Caller("me", "me", frozenset((Verb.READ,)), "org")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def file(tmp_path: Path) -> TokenFile:
    return TokenFile(tmp_path / "data" / "tokens.json")


@pytest.mark.parametrize("link", [os.symlink, os.link])
def test_another_file_in_place_of_the_lock_is_left_alone(
    file: TokenFile, tmp_path: Path, link: Callable[[Path, Path], None]
) -> None:
    """Whoever the service runs as may put one there, and root would give it to them."""
    victim = tmp_path / "victim"
    victim.write_text("root's")
    file.path.parent.mkdir()
    if os.geteuid() == 0:
        os.chown(file.path.parent, 1000, 1000)
    before = victim.stat()
    link(victim, Path(f"{file.path}.lock"))
    with pytest.raises(ConfigurationError, match=r"tokens\.json\.lock is .*remove it"):
        file.create("ci", [Verb.ADMIN])
    assert (victim.stat().st_uid, victim.read_text()) == (before.st_uid, "root's")
    os.unlink(f"{file.path}.lock")
    assert file.create("ci", [Verb.ADMIN])


class TestTokenAuthenticator(AuthenticatorContract):
    @pytest.fixture
    def token(self, file: TokenFile) -> str:
        return file.create("ci", [Verb.READ, Verb.INVOKE], "org/team")

    @pytest.fixture
    def authenticator(self, file: TokenFile, rejected: list[str]) -> TokenAuthenticator:
        """Read the file once all of its tokens are made."""
        return TokenAuthenticator(file)

    @pytest.fixture
    def known(self, token: str) -> tuple[str, Caller]:
        verbs = frozenset((Verb.READ, Verb.INVOKE))
        return f"Bearer {token}", Caller(split(token)[0], "ci", verbs, "org/team")

    @pytest.fixture
    def rejected(self, file: TokenFile, token: str) -> list[str]:
        past = file.create("past", [Verb.ADMIN], lifetime=timedelta(seconds=-1))
        revoked = file.create("revoked", [Verb.ADMIN])
        file.revoke(split(revoked)[0])
        identity, secret = split(token)
        other = file.create("other", [Verb.ADMIN])
        return [
            f"Bearer {shown}"
            for shown in (
                past,
                revoked,
                f"lcf_{split(other)[0]}_{secret}",
                f"lcf_{identity}_x",
                "lcf_x",
            )
        ]


class TestMemoryAuthenticator(AuthenticatorContract):
    @pytest.fixture
    def authenticator(self) -> MemoryAuthenticator:
        return MemoryAuthenticator({"secret": ME})

    @pytest.fixture
    def known(self) -> tuple[str, Caller]:
        return "Memory secret", ME

    @pytest.fixture
    def rejected(self) -> list[str]:
        return ["Memory other"]


class TestFile:
    @pytest.mark.fault(26)
    def test_it_holds_no_secret_and_is_its_owners(self, file: TokenFile) -> None:
        before = os.umask(0)
        try:
            token = file.create("ci", [Verb.READ])
        finally:
            os.umask(before)
        assert re.fullmatch(r"lcf_[A-Za-z0-9]{10}_[A-Za-z0-9]{43}", token)
        for path in file.path.parent.iterdir():
            assert split(token)[1] not in path.read_text()
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert {path.name for path in file.path.parent.iterdir()} == {
            "tokens.json",
            "tokens.json.lock",
        }

    def test_nothing_made_at_once_is_lost(self, file: TokenFile) -> None:
        with ThreadPoolExecutor(8) as threads:
            made = list(
                threads.map(lambda n: TokenFile(file.path).create(str(n), [Verb.READ]), range(24))
            )
        assert {token.id for token in file.read() or ()} == {split(token)[0] for token in made}
        assert len(made) == 24

    @pytest.mark.fault(24)
    def test_the_first_token_is_made_once_however_many_ask(self, file: TokenFile) -> None:
        code = (
            "import sys; from pathlib import Path; from lowcode_faas_core.tokens import TokenFile;"
            "print(TokenFile(Path(sys.argv[1])).create_first() or 'none')"
        )
        asking = [
            subprocess.Popen(
                [sys.executable, "-c", code, str(file.path)], stdout=subprocess.PIPE, text=True
            )
            for _ in range(6)
        ]
        said = sorted(process.communicate(timeout=60)[0].strip() for process in asking)
        assert said[1:] == ["none"] * 5
        assert said[0].startswith("lcf_")
        [kept] = file.read() or ()
        assert (kept.id, kept.verbs, kept.collection) == (split(said[0])[0], (Verb.ADMIN,), "")

    @pytest.mark.parametrize(
        "content",
        [
            "",
            "{",
            "[]",
            '{"tokens": [{}]}',
            '{"tokens": [{"id": "a", "name": "a", "sha256": "zz", "verbs": ["read"],'
            ' "collection": "", "created_at": "2026-01-01T00:00:00+00:00"}]}',
            '{"tokens": [{"id": "a", "name": "a", "sha256": "00", "verbs": ["all"],'
            ' "collection": "", "created_at": "2026-01-01T00:00:00+00:00"}]}',
            '{"tokens": [{"id": "a", "name": "a", "sha256": "00", "verbs": ["read"],'
            ' "collection": "../x", "created_at": "2026-01-01T00:00:00+00:00"}]}',
            '{"tokens": [{"id": "a", "name": "a", "sha256": "00", "verbs": ["read"],'
            ' "collection": "", "created_at": "", "expires_at": "soon"}]}',
        ],
    )
    def test_one_that_is_broken_stops_the_start(self, file: TokenFile, content: str) -> None:
        file.path.parent.mkdir()
        file.path.write_text(content)
        file.path.chmod(0o600)
        with pytest.raises(ConfigurationError, match=r"API_TOKENS_FILE.*is not a file of tokens"):
            TokenAuthenticator(file)

    def test_one_that_others_may_write_stops_the_start(self, file: TokenFile) -> None:
        file.create("ci", [Verb.READ])
        file.path.chmod(0o620)
        with pytest.raises(ConfigurationError, match="may be written by others"):
            TokenAuthenticator(file)

    @pytest.mark.parametrize(("name", "collection"), [("", ""), ("a\nb", ""), ("a", "../x")])
    def test_illegal_names_make_nothing(self, file: TokenFile, name: str, collection: str) -> None:
        with pytest.raises(InvalidValue):
            file.create(name, [Verb.READ], collection)
        assert file.read() is None

    def test_a_folder_that_cannot_be_written_is_a_sentence(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(ConfigurationError, match=r"API_TOKENS_FILE.*cannot be (read|written)"):
            TokenFile(tmp_path / "file" / "tokens.json").create_first()


class TestChanges:
    """What changes in the file counts after a look, and a look is a stat now and then."""

    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture
    def authenticator(self, file: TokenFile, clock: Clock) -> TokenAuthenticator:
        return TokenAuthenticator(file, clock)

    def test_looks_are_often_enough_for_what_is_promised(self) -> None:
        assert LOOK_S < 5

    @pytest.mark.fault(26)
    def test_a_token_counts_until_it_is_revoked(self, file: TokenFile, clock: Clock) -> None:
        token = file.create("ci", [Verb.READ])
        authenticator = TokenAuthenticator(file, clock)
        assert authenticator.authenticate(f"Bearer {token}")
        later = file.create("later", [Verb.READ])
        file.revoke(split(token)[0])
        clock.now += LOOK_S
        with pytest.raises(Unauthenticated):
            authenticator.authenticate(f"Bearer {token}")
        assert authenticator.authenticate(f"Bearer {later}")

    def test_between_two_looks_no_file_is_touched(
        self, file: TokenFile, clock: Clock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        token = file.create("ci", [Verb.READ])
        authenticator = TokenAuthenticator(file, clock)
        looked: list[int] = []
        signature = file.signature
        monkeypatch.setattr(file, "signature", lambda: looked.append(1) or signature())
        monkeypatch.setattr(file, "read", lambda: pytest.fail("nothing has changed"))
        for _ in range(1000):
            clock.now += LOOK_S / 500
            authenticator.authenticate(f"Bearer {token}")
        assert 1 <= len(looked) <= 2

    def test_the_first_token_of_a_running_service_closes_it(
        self, file: TokenFile, clock: Clock, authenticator: TokenAuthenticator
    ) -> None:
        door = Authentication(authenticator, loopback=True)
        assert door.authenticate("") is ANYONE
        # A token left over in a caller's environment is nobody's business here.
        assert door.authenticate("Bearer lcf_old_one") is ANYONE
        token = file.create("ci", [Verb.READ])
        clock.now += LOOK_S
        with pytest.raises(Unauthenticated):
            door.authenticate("")
        assert door.authenticate(f"Bearer {token}").name == "ci"
        assert not door.loopback_only

    @pytest.mark.parametrize("how", ["revoked", "removed"])
    def test_the_end_of_the_last_token_does_not_open_it(
        self, file: TokenFile, clock: Clock, how: str
    ) -> None:
        token = file.create("ci", [Verb.READ])
        door = Authentication(TokenAuthenticator(file, clock), loopback=True)
        file.revoke(split(token)[0]) if how == "revoked" else file.path.unlink()
        clock.now += LOOK_S
        for header in ("", f"Bearer {token}"):
            with pytest.raises(Unauthenticated):
                door.authenticate(header)

    def test_a_file_that_breaks_changes_nothing_and_is_told(
        self, file: TokenFile, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        token = file.create("ci", [Verb.READ])
        door = Authentication(TokenAuthenticator(file, clock))
        good = file.path.read_text()
        file.path.write_text("{")
        with caplog.at_level(logging.ERROR):
            for _ in range(3):
                clock.now += LOOK_S
                assert door.authenticate(f"Bearer {token}")
        assert len(caplog.records) == 1
        [reason] = door.degraded()
        assert "is not a file of tokens" in reason
        file.path.write_text(good)
        clock.now += LOOK_S
        assert door.authenticate(f"Bearer {token}")
        assert door.degraded() == []


class TestChain:
    def test_the_first_that_knows_the_caller_counts(self) -> None:
        second = Caller("second", "second", frozenset())
        door = Authentication(
            None,
            [MemoryAuthenticator({"a": ME}), MemoryAuthenticator({"a": second, "b": second})],
        )
        assert door.authenticate("Memory a") is ME
        with pytest.raises(Unauthenticated):
            door.authenticate("Memory b")  # the first refused it

    def test_tokens_come_first_and_leave_the_rest_to_plugins(self, file: TokenFile) -> None:
        token = file.create("ci", [Verb.READ])
        door = Authentication(TokenAuthenticator(file), [MemoryAuthenticator({"a": ME})])
        assert door.authenticate(f"bearer  {token} ").name == "ci"
        assert door.authenticate("Memory a") is ME

    @pytest.mark.fault(24)
    @pytest.mark.parametrize("header", ["", "Basic x", "Bearer x", "Bearer lcf_a_b"])
    def test_who_is_not_known_is_refused(self, file: TokenFile, header: str) -> None:
        door = Authentication(TokenAuthenticator(file))
        with pytest.raises(Unauthenticated) as caught:
            door.authenticate(header)
        assert "lcf_a_b" not in caught.value.detail

    def test_with_a_plugin_loopback_is_asked_too(self, file: TokenFile) -> None:
        door = Authentication(TokenAuthenticator(file), [MemoryAuthenticator()], loopback=True)
        assert not door.loopback_only
        with pytest.raises(Unauthenticated):
            door.authenticate("")

    def test_anonymous_is_whoever_shows_nothing_that_is_ours(self, file: TokenFile) -> None:
        token = file.create("ci", [Verb.READ])
        door = Authentication(TokenAuthenticator(file), anonymous=True)
        assert door.authenticate("") is ANYONE
        assert door.authenticate("Basic somebody-elses") is ANYONE
        assert door.authenticate(f"Bearer {token}").name == "ci"
        assert not door.loopback_only


@pytest.mark.parametrize(
    ("own", "named", "inside"),
    [
        ("", "", True),
        ("", "a/b", True),
        ("a", "a", True),
        ("a", "a/b", True),
        ("a", "", False),
        ("a", "ab", False),
        ("a", "ab/a", False),
        ("a/b", "a", False),
        ("a/b", "a/bc", False),
    ],
)
@pytest.mark.fault(27)
def test_a_subtree_is_a_collection_and_what_is_below(own: str, named: str, inside: bool) -> None:
    caller = Caller("x", "x", frozenset((Verb.READ,)), own)
    assert caller.may(Verb.READ, named) is inside
    assert not caller.may(Verb.INVOKE, named)
    assert Caller("x", "x", frozenset((Verb.ADMIN,)), own).may(Verb.DEPLOY, named) is inside


class TestCommand:
    @pytest.fixture
    def runner(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CliRunner:
        for name in [name for name in os.environ if name.startswith("LOWCODE_FAAS_")]:
            monkeypatch.delenv(name)
        return CliRunner(env={"LOWCODE_FAAS_DATA_DIR": str(tmp_path)})

    def test_the_token_is_alone_on_standard_output(self, runner: CliRunner, tmp_path: Path) -> None:
        made = runner.invoke(
            cli, ["token", "create", "ci", "--verbs", "read,invoke", "--collection", "org/team"]
        )
        assert made.exit_code == 0, made.output
        token = made.stdout.strip()
        assert made.stdout == f"{token}\n"
        found = TokenAuthenticator(TokenFile(tmp_path / "tokens.json")).authenticate(
            f"Bearer {token}"
        )
        assert found is not None
        assert (found.verbs, found.collection) == ({Verb.READ, Verb.INVOKE}, "org/team")
        listed = runner.invoke(cli, ["token", "list", "--json"])
        [row] = json.loads(listed.stdout)["tokens"]
        assert (row["id"], row["name"], row["verbs"]) == (found.id, "ci", ["read", "invoke"])
        secret = split(token)[1]
        assert secret not in listed.output + runner.invoke(cli, ["token", "list"]).output
        assert runner.invoke(cli, ["token", "revoke", found.id]).exit_code == 0
        assert json.loads(runner.invoke(cli, ["token", "list", "--json"]).stdout)["tokens"] == []

    def test_what_a_token_changes_for_all_others_is_said(
        self, runner: CliRunner, tmp_path: Path
    ) -> None:
        def said(*arguments: str, **environ: str) -> str:
            done = runner.invoke(cli, ["token", *arguments], env=environ)
            assert done.exit_code == 0, done.output
            made.extend(done.stdout.split())
            return done.stderr

        made: list[str] = []
        closed = "from now on every caller needs a token"
        nobody = "none of the tokens has admin everywhere: make one with"
        # The first shuts everybody else out, and may have shut out who made it
        talk = said("create", "ci", "--collection", "shop")
        assert closed in talk
        assert f"{nobody} lowcode-faas token create admin --verbs admin\n" in talk
        for short_of_it in (
            ("--verbs", "read,deploy,invoke"),
            ("--verbs", "admin", "--collection", "shop"),
            ("--verbs", "admin", "--days", "0.0000001"),
        ):
            time.sleep(0.02)
            talk = said("create", "more", *short_of_it)
            assert (closed in talk, nobody in talk) == (False, True), short_of_it
        assert said("create", "ops", "--verbs", "admin") == KEEP
        assert said("create", "more") == KEEP
        # The last one to go leaves a service that lets nobody in
        last = made.pop()
        for each in made:
            assert said("revoke", each).count("\n") == 1
        talk = said("revoke", last)
        revoked, *rest = talk.splitlines()
        assert revoked.startswith("revoked ")
        assert "lets nobody in by one" in " ".join(rest)
        assert str(tmp_path / "tokens.json") in " ".join(rest)
        # And the next one finds it so
        talk = said("create", "ci")
        assert (closed in talk, nobody in talk) == (False, True)

    def test_where_anybody_may_call_no_token_shuts_out(self, runner: CliRunner) -> None:
        environ = {"LOWCODE_FAAS_ALLOW_ANONYMOUS": "true"}
        done = runner.invoke(cli, ["token", "create", "ops", "--verbs", "admin"], env=environ)
        assert done.stderr == KEEP
        token = done.stdout.strip()
        done = runner.invoke(cli, ["token", "revoke", token], env=environ)
        assert done.stderr.count("\n") == 1

    @pytest.mark.parametrize(
        ("arguments", "code"),
        [
            (["create"], 2),
            (["create", "x", "--verbs", "all"], 2),
            (["create", "x", "--verbs", ","], 2),
            (["create", "x", "--collection", "../y"], 2),
            (["create", "x", "--days", "0"], 2),
            (["revoke", "nobody"], 1),
        ],
    )
    def test_what_is_wrong_is_said_and_makes_nothing(
        self, runner: CliRunner, tmp_path: Path, arguments: list[str], code: int
    ) -> None:
        done = runner.invoke(cli, ["token", *arguments])
        assert done.exit_code == code, done.output
        assert done.stdout == ""
        assert not (tmp_path / "tokens.json").exists()

    def test_a_broken_file_is_a_sentence(self, runner: CliRunner, tmp_path: Path) -> None:
        (tmp_path / "tokens.json").write_text("{")
        for arguments in (["list"], ["create", "x"], ["revoke", "x"]):
            done = runner.invoke(cli, ["token", *arguments])
            assert done.exit_code == 2
            assert "lowcode-faas: LOWCODE_FAAS_API_TOKENS_FILE: " in done.stderr
        assert (tmp_path / "tokens.json").read_text() == "{"
