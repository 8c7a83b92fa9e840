from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from dupq.cli.main import main
from dupq.cli.token import ROLES
from dupq.index.stores import open_store
from dupq.service import access
from dupq.service.access import Access


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DUPQ_SERVE_DB", raising=False)
    return tmp_path


def test_the_roles_are_those_of_the_service() -> None:
    assert ROLES == access.ROLES


def test_a_token_is_printed_once_and_works(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["token", "create", "--role", "moderator", "--name", "Ann"]) == 0
    printed = capsys.readouterr()
    secret = printed.out.strip()
    assert "shown once" in printed.err
    with closing(open_store(folder / "forum.db")) as store:
        caller = Access(store).caller(secret)
    assert caller is not None
    assert (caller.name, caller.role) == ("Ann", "moderator")
    assert main(["token", "list"]) == 0
    listed = capsys.readouterr().out
    assert listed.split()[4:6] == ["Ann", "moderator"]
    assert secret not in listed
    assert main(["token", "list", "--json"]) == 0
    text = capsys.readouterr().out
    assert secret not in text
    assert [set(row) for row in json.loads(text)] == [{"name", "role", "created", "revoked"}]


def test_a_token_is_revoked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["token", "create", "--role", "bot", "--name", "Ann", "--db", "other.db", "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert main(["token", "revoke", "Ann", "--db", "other.db"]) == 0
    with closing(open_store("other.db")) as store:
        assert Access(store).caller(made["token"]) is None
        assert not Access(store).has_tokens()
    assert main(["token", "revoke", "Bob", "--db", "other.db"]) == 2
    assert "no token has the name 'Bob'" in capsys.readouterr().err


def test_the_database_is_that_of_the_service(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DUPQ_SERVE_DB", str(folder / "shop.db"))
    assert main(["token", "create", "--role", "reader", "--name", "Ann"]) == 0
    assert (folder / "shop.db").exists()
    assert not (folder / "forum.db").exists()
    capsys.readouterr()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["list"], "there is no such index"),
        (["revoke", "Ann"], "there is no such index"),
        (["create", "--role", "bot", "--name", " "], "name must not be blank"),
        (["create", "--role", "bot", "--name", "a\nb"], "printable characters"),
    ],
)
def test_a_mistake_is_one_error(words: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["token", *words]) == 2
    assert message in capsys.readouterr().err


def test_no_new_file_for_a_wrong_name(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["token", "list", "--db", "wrong.db"])
    assert list(folder.iterdir()) == []
    capsys.readouterr()
