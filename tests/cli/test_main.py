"""How a command ends: its exit status, and one clear line where something is wrong outside of dupq."""

from __future__ import annotations

import errno
import io
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dupq.cli import train
from dupq.cli.main import build_parser, main
from dupq.errors import OutputError

ROOT = Path(__file__).resolve().parents[2]
METHODS = ["train", "--list-methods"]
OPENING = "opening the shipped model ...\n"


def dupq(*arguments: str | bytes, **options: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **options.pop("env", {})}
    command = [sys.executable, "-m", "dupq.cli.main", *arguments]
    return subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, check=False, **options)


@pytest.mark.parametrize("arguments", [METHODS, [*METHODS, "--json"], []])
def test_a_full_disk_behind_standard_output_is_one_line(arguments: list[str]) -> None:
    with open("/dev/full", "w") as full:
        done = dupq(*arguments, stdout=full)
    assert done.returncode == 2
    assert done.stderr == "dupq: No space left on device\n  -> free space, or write elsewhere\n"


def test_a_reader_that_has_gone_is_no_error() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = dupq(*METHODS, stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_character_that_the_output_cannot_hold_is_one_line() -> None:
    done = dupq("explain", "Où est l'école?", "Where is it?", stdout=subprocess.PIPE, env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 2
    # On a slow machine a note that the model is being opened stands before.
    assert (
        done.stderr.removeprefix(OPENING)
        == "dupq: ascii cannot encode '\\xf9' of the output\n  -> set PYTHONIOENCODING=utf-8\n"
    )
    done = dupq("explain", "Où est l'école?", "Where is it?", stdout=subprocess.PIPE, env={"PYTHONIOENCODING": "utf-8"})
    assert done.returncode == 0


@pytest.mark.parametrize("arguments", [["score", b"\xff\xfe", "b"], ["score", "a", b"caf\xe9"]])
def test_an_argument_that_is_no_text_is_one_line(arguments: list[str | bytes]) -> None:
    done = dupq(*arguments, stdout=subprocess.PIPE)
    assert done.returncode == 2
    printed = done.stderr.removeprefix(OPENING)
    assert printed.startswith("dupq: ")
    assert printed.count("\n") == 2
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("error", "status", "printed"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "posts.csv"), 2, "posts.csv: Permission denied"),
        (OSError(errno.ENOSPC, "No space left on device"), 2, "free space"),
        (OSError(errno.EIO, "Input/output error"), 2, "Input/output error"),
        (OSError("no number"), 2, "no number"),
        (OutputError("it could not be written", location="x", hint="free space"), 2, "x: it could not be written"),
        (MemoryError(), 2, "not enough memory"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (BrokenPipeError(), 0, ""),
    ],
)
def test_what_goes_wrong_outside_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, status: int, printed: str
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(train, "emit", fail)
    assert main(METHODS) == status
    out, err = capsys.readouterr()
    assert out == ""
    assert printed in err
    assert err == "" if not printed else err.startswith("dupq: ")
    assert err.count("\n") <= 2


@pytest.mark.parametrize("error", [ValueError("a bug"), AssertionError(), KeyError("a bug"), RecursionError()])
def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(train, "emit", fail)
    with pytest.raises(type(error)):
        main(METHODS)


def test_a_failure_to_write_leaves_a_stdout_without_a_file_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        def flush(self) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sys, "stdout", Full())
    assert main(METHODS) == 2


@pytest.mark.parametrize(
    ("line", "given"),
    [
        ("flag my.db --model m 'Is go hard?'", {"index": "my.db", "question": "Is go hard?", "model": "m"}),
        ("flag --model m my.db 'Is go hard?'", {"index": "my.db", "question": "Is go hard?"}),
        ("flag my.db -k 3 -- '--what?'", {"question": "--what?", "k": 3}),
        ("flag my.db --questions new.csv -o o.csv", {"question": None, "questions": "new.csv"}),
        ("score one --model m two", {"questions": ["one", "two"]}),
        ("index remove my.db 1 --json 2", {"ids": ["1", "2"], "json": True}),
        ("calibrate --model m splits -o new", {"pairs": "splits", "model": "m"}),
        ("distill soft-labels a.csv -o o.csv b.csv --teacher t", {"pairs": ["a.csv", "b.csv"]}),
        ("train bi-encoder -o net pairs.csv --columns a b", {"pairs": "pairs.csv", "columns": ["a", "b"]}),
    ],
)
def test_words_and_options_go_in_any_order(line: str, given: dict[str, Any]) -> None:
    args = build_parser().parse_args(shlex.split(line))
    assert {name: getattr(args, name) for name in given} == given


# ---- shell completion ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shell", "part"), [("bash", "-F _shtab_dupq dupq"), ("zsh", "#compdef dupq"), ("fish", "-c dupq")]
)
def test_a_completion_script_is_printed(shell: str, part: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(["--print-completion", shell])
    assert done.value.code == 0
    out = capsys.readouterr().out
    assert part in out
    for word in ("from-stackexchange", "soft-labels", "--min-cosine", "--allow-unknown-language"):
        assert word.removeprefix("--") in out
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=out, text=True, check=True)


def test_completion_completes_commands_options_and_files(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit):
        main(["--print-completion", "bash"])
    (tmp_path / "script").write_text(capsys.readouterr().out, encoding="utf-8")
    (tmp_path / "pairs.csv").touch()
    for words, expected in (
        ("model ex", "export"),
        ("mine --min-c", "--min-cosine"),
        ("score --pairs pai", "pairs.csv"),
    ):
        line = f"COMP_WORDS=(dupq {words}); COMP_CWORD={len(words.split())}; _shtab_dupq; echo ${{COMPREPLY[@]}}"
        done = subprocess.run(
            ["bash", "-c", f". ./script; {line}"], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert expected in done.stdout.split(), (words, done.stdout, done.stderr)


def test_completion_without_its_package_names_the_extra(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["--print-completion", "bash"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    message = "dupq: shell completion needs shtab, which is not installed\n  -> pip install 'dupq[completion]'\n"
    assert err == message


# ---- arguments -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [["--json"], []])
def test_methods_are_listed_as_json(before: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *before, "--list-methods", *(["--json"] if not before else [])]) == 0
    assert {method["kind"] for method in json.loads(capsys.readouterr().out)} == {"bi-encoder", "cross-encoder"}


@pytest.mark.parametrize("line", ["flag", "score --nothing", "index", "index remove my.db", "train", "nothing"])
def test_what_does_not_parse_is_argparses_to_say(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(line.split())
    assert done.value.code == 2
    assert "usage: dupq" in capsys.readouterr().err
