from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dupq.cli.main import main
from dupq.errors import InputError
from dupq.service.settings import MASK, ServiceSettings, load_settings, masked_url, shown, sources


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "settings.toml"
    path.write_text(
        'port = 1\nbatch = 11\nworkers = 3\nwebhook_urls = ["https://a.example/x"]\n[generic_fields]\nid = "post.id"\n',
        encoding="utf-8",
    )
    return path


def test_a_flag_is_stronger_than_the_environment_and_this_than_the_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DUPQ_SERVE_PORT", "2")
    monkeypatch.setenv("DUPQ_SERVE_BATCH", "12")
    settings = load_settings({"port": 3}, file)
    assert (settings.port, settings.batch, settings.workers, settings.max_waiting) == (3, 12, 3, 2048)
    assert settings.generic_fields == {"id": "post.id"}
    found = sources({"port": 3}, file)
    assert found["port"] == "flag --port"
    assert found["batch"] == "environment variable DUPQ_SERVE_BATCH"
    assert found["workers"] == str(file)
    assert found["host"] == "default"


def test_lists_and_tables_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUPQ_SERVE_WEBHOOK_URLS", "https://a.example/x, https://b.example/y")
    monkeypatch.setenv("DUPQ_SERVE_GENERIC_FIELDS", '{"id": "post.id"}')
    monkeypatch.setenv("DUPQ_SERVE_MODEL", "")
    settings = load_settings({})
    assert settings.webhook_urls == ("https://a.example/x", "https://b.example/y")
    assert settings.generic_fields == {"id": "post.id"}
    assert settings.model is None


@pytest.mark.parametrize(
    ("text", "variables", "flags", "where", "message"),
    [
        ("prt = 1", {}, {}, "settings.toml", "got 'prt'"),
        ('port = "many"', {}, {}, "settings.toml", "port must be a valid integer, got 'many'"),
        ("port = 70000", {}, {}, "settings.toml", "port must be less than or equal to 65535, got 70000"),
        ("port = ", {}, {}, "settings.toml", "must be TOML"),
        ("", {"DUPQ_SERVE_PRT": "1"}, {}, "environment variable DUPQ_SERVE_PRT", "got 'prt'"),
        ("", {"DUPQ_SERVE_BATCH": "0"}, {}, "environment variable DUPQ_SERVE_BATCH", "batch must be greater"),
        ("", {"DUPQ_SERVE_RATE_LIMIT": "nan"}, {}, "environment variable DUPQ_SERVE_RATE_LIMIT", "finite"),
        ("", {"DUPQ_SERVE_GENERIC_FIELDS": "x"}, {}, "environment variable DUPQ_SERVE_GENERIC_FIELDS", "JSON object"),
        ("", {}, {"threads": 0}, "flag --threads", "threads must be greater than or equal to 1, got 0"),
        ("", {}, {"stop_seconds": -1.0}, "flag --stop-seconds", "stop_seconds must be"),
        ('github_secret = ""', {}, {}, "settings.toml", "github_secret"),
    ],
)
def test_what_is_unfit_is_one_error_with_its_name_and_source(
    text: str,
    variables: dict[str, str],
    flags: dict[str, Any],
    where: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(text, encoding="utf-8")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=message) as caught:
        load_settings(flags, path)
    assert (caught.value.location or "").endswith(where)
    assert caught.value.hint


def test_a_secret_is_in_no_error(tmp_path: Path) -> None:
    path = tmp_path / "settings.toml"
    path.write_text("github_secret = 987654321", encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_settings({}, path)
    assert "987654321" not in str(caught.value)


def test_a_file_that_is_missing_or_no_text(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must exist"):
        load_settings({}, tmp_path / "none.toml")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="must be TOML"):
        load_settings({}, tmp_path / "bytes.toml")


def test_secrets_are_masked() -> None:
    settings = ServiceSettings(
        db="postgresql://me:hunter2@host/forum?password=hunter3",
        github_secret="hunter4",
        webhook_urls=("https://u:hunter5@a.example/x?key=hunter6",),
    )
    text = json.dumps(shown(settings)) + repr(settings.github_secret)
    assert "hunter" not in text
    assert shown(settings)["db"] == f"postgresql://me:{MASK}@host/forum?{MASK}"
    assert masked_url("forum.db") == "forum.db"
    assert masked_url("https://[x") == MASK


@pytest.mark.parametrize(
    ("host", "inside"),
    [
        *[(host, True) for host in ("127.0.0.1", "127.8.9.1", "::1", "localhost")],
        *[(host, False) for host in ("0.0.0.0", "::", "10.0.0.1", "forum.example", "localhost.example")],
    ],
)
def test_loopback(host: str, inside: bool) -> None:
    assert ServiceSettings(host=host).on_loopback is inside


def test_the_command_prints_the_settings(
    file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DUPQ_SERVE_GITHUB_SECRET", "hunter2")
    command = ["serve", "--settings", str(file), "--port", "9", "--print-settings", "--secure-cookies"]
    assert main(command) == 0
    printed = capsys.readouterr().out
    assert "port = 9  # flag --port\n" in printed
    assert f'github_secret = "{MASK}"  # environment variable DUPQ_SERVE_GITHUB_SECRET\n' in printed
    assert "# model is not set\n" in printed
    file.write_text(printed.replace(f'"{MASK}"', '"other"'), encoding="utf-8")
    assert load_settings({}, file).secure_cookies is True  # what is printed can be read again
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["generic_fields"] == {"id": "post.id"}
    assert "hunter2" not in printed
