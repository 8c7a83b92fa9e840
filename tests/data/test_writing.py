from __future__ import annotations

import csv
import json
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from dupq.data.parquet import parquet_rows
from dupq.data.writing import (
    output_format,
    write_json,
    write_rows,
    write_text,
    written_beside,
)
from dupq.errors import InputError, OutputError
from dupq.types import Decision

ROWS = [
    {"a": "x", "score": -1.5, "decision": Decision.REVIEW, "left out": 0},
    {"a": 'y, "z"\r', "score": 2.0, "decision": Decision.DUPLICATE},
]
COLUMNS = ["a", "score", "decision"]


def test_what_is_written(tmp_path: Path) -> None:
    for kind in ("jsonl", "csv", "tsv", "parquet"):
        assert write_rows(tmp_path / f"new/folder/out.{kind}", ROWS, COLUMNS) == 2
    folder = tmp_path / "new/folder"
    expected = [
        {"a": "x", "score": -1.5, "decision": "review"},
        {"a": 'y, "z"\r', "score": 2.0, "decision": "duplicate"},
    ]
    assert [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()] == expected
    assert pyarrow.parquet.read_table(folder / "out.parquet").to_pylist() == expected
    for name, delimiter in (("out.csv", ","), ("out.tsv", "\t")):
        with (folder / name).open(newline="") as stream:
            read = list(csv.DictReader(stream, delimiter=delimiter))
        assert read == [{key: str(value) for key, value in row.items()} for row in expected]
    assert {path.name for path in folder.iterdir()} == {"out.jsonl", "out.csv", "out.tsv", "out.parquet"}


@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv", "parquet"])
def test_no_rows_are_a_file_too(tmp_path: Path, kind: str) -> None:
    assert write_rows(tmp_path / f"out.{kind}", [], COLUMNS) == 0
    if kind == "parquet":
        assert pyarrow.parquet.read_table(tmp_path / "out.parquet").column_names == COLUMNS
    else:
        assert (tmp_path / f"out.{kind}").read_text().count("\n") == (kind != "jsonl")


def test_many_rows_to_parquet(tmp_path: Path) -> None:
    assert write_rows(tmp_path / "out.parquet", ({"n": n} for n in range(10_000)), ["n"]) == 10_000
    assert pyarrow.parquet.read_table(tmp_path / "out.parquet")["n"].to_pylist() == list(range(10_000))


def test_rows_that_do_not_fit_parquet(tmp_path: Path) -> None:
    for bad in ("1", True, 2**63, ["a"], 0.5):
        rows = [*({"n": None} for _ in range(5000)), {"n": 1}, {"n": bad}]
        if bad == 0.5:
            write_rows(tmp_path / "out.parquet", rows, ["n"])
            assert pyarrow.parquet.read_table(tmp_path / "out.parquet")["n"].to_pylist()[-2:] == [1.0, 0.5]
        else:
            with pytest.raises(OutputError, match=r"out.parquet: the rows do not fit Parquet \(column 'n' holds"):
                write_rows(tmp_path / "out.parquet", rows, ["n"])
            assert list(tmp_path.iterdir()) == []
    with pytest.raises(OutputError, match="do not fit Parquet"):
        write_rows(tmp_path / "lone.parquet", [{"n": "\ud800"}], ["n"])


def test_every_value_survives_parquet(tmp_path: Path) -> None:
    rows = [
        {"t": text, "i": number, "f": real, 'odd "name"': flag}
        for text, number, real, flag in zip(
            ["", "a\0b", "\r\n\t", "日本 🤔", "x" * 500_000, None],
            [0, -(2**63), 2**63 - 1, 7, None, 1],
            [0.1, -0.0, 1e308, 5e-324, None, float("inf")],
            [True, False, None, True, True, False],
            strict=True,
        )
    ]
    write_rows(tmp_path / "it's [a] *.parquet", rows, list(rows[0]))
    assert pyarrow.parquet.read_table(tmp_path / "it's [a] *.parquet").to_pylist() == rows
    assert [row for _, row in parquet_rows(tmp_path / "it's [a] *.parquet", "it")] == rows
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv", "parquet"])
@pytest.mark.parametrize("end", [KeyboardInterrupt, InputError("a bad row")])
def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path, kind: str, end: Any) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        for n in range(5000):
            yield {"a": n}
        raise end

    path = tmp_path / f"out.{kind}"
    path.write_text("old")
    with pytest.raises((KeyboardInterrupt, InputError)):
        write_rows(path, rows(), ["a"])
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [(path.name, "old")]


@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv", "parquet"])
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    path = tmp_path / f"out.{kind}"
    path.write_text("old")
    # The file beside it goes to a device that is always full.
    monkeypatch.setattr("dupq.data.writing._part_name", lambda name: "full.part")
    (tmp_path / "full.part").symlink_to("/dev/full")
    with pytest.raises(OutputError, match=r"it could not be written \(.*No space left") as caught:
        write_rows(path, ({"a": n} for n in range(50_000)), ["a"])
    assert caught.value.location == str(path)
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [(path.name, "old")]


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.json").mkdir()
    for path in (tmp_path / "file" / "out.json", tmp_path / "folder.json", tmp_path / ("x" * 300 + ".json")):
        with pytest.raises(OutputError) as caught:
            write_json(path, {})
        assert caught.value.location == str(path)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder.json"]


def test_a_device_stays_a_device() -> None:
    write_text("/dev/null", "text")
    assert Path("/dev/null").is_char_device()
    with pytest.raises(OutputError, match="No space left"):
        write_text("/dev/full", "text")


def test_a_link_stays_and_its_target_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("old")
    (tmp_path / "link").symlink_to("target")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_text() == "new"


def test_a_file_that_is_never_made_is_an_error_and_not_silence(tmp_path: Path) -> None:
    with pytest.raises(OutputError), written_beside(tmp_path / "out"):
        pass


def test_standard_output(capsys: pytest.CaptureFixture[str]) -> None:
    assert write_rows("-", ROWS, ["a"]) == 2
    assert capsys.readouterr().out == '{"a": "x"}\n{"a": "y, \\"z\\"\\r"}\n'
    assert write_rows("-", ROWS, ["score"], "csv") == 2
    assert capsys.readouterr().out == '"score"\n-1.5\n2.0\n'


def test_standard_output_that_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = open("/dev/full", "w")  # noqa: SIM115 - it cannot be closed without the very error
    monkeypatch.setattr("sys.stdout", stream)
    with pytest.raises(OutputError, match="standard output: it could not be written"):
        write_rows("-", ROWS, ["a"])
    monkeypatch.undo()
    with pytest.raises(OSError, match="No space left"):
        stream.close()


def test_output_formats() -> None:
    assert output_format("a.ndjson") == output_format("-") == output_format("x", "jsonl") == "jsonl"
    for path, kind in (("a.txt", None), ("a", None), ("a.csv", "xml"), ("-", "parquet")):
        with pytest.raises(InputError):
            output_format(path, kind)


def test_json_holds_no_nan(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(tmp_path / "a.json", {"x": float("nan")})
    assert list(tmp_path.iterdir()) == []
    write_json(tmp_path / "a.json", {"ü": [1, None]})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"ü": [1, None]}


# ---- threads, and the disk ----------------------------------------------------------------------------------------


def test_four_thousand_writes_of_eight_threads_tear_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # the disk is not what is tested
    path = tmp_path / "a.json"
    write_json(path, {"thread": -1, "same": "-1" * 2000})
    errors: list[Exception] = []
    seen: list[int] = []
    over = threading.Event()

    def write(thread: int) -> None:
        try:
            for _ in range(500):
                write_json(path, {"thread": thread, "same": str(thread) * 2000})
        except (OSError, ValueError, AssertionError) as error:
            errors.append(error)

    def read() -> None:
        try:
            while not over.wait(0.0005):
                data = json.loads(path.read_bytes())
                assert data["same"] == str(data["thread"]) * 2000
                seen.append(data["thread"])
        except (OSError, ValueError, AssertionError) as error:
            errors.append(error)

    writers = [threading.Thread(target=write, args=(thread,)) for thread in range(8)]
    reader = threading.Thread(target=read)
    for thread in (reader, *writers):
        thread.start()
    for thread in writers:
        thread.join()
    over.set()
    reader.join()
    assert errors == []
    assert seen
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_the_bytes_are_on_the_disk_before_the_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    fsync, rename = os.fsync, os.replace

    def noted_fsync(handle: int) -> None:
        done.append("folder" if os.path.samestat(os.fstat(handle), os.stat(tmp_path)) else "file")
        fsync(handle)

    def noted_rename(one: Any, other: Any) -> None:
        done.append("rename")
        rename(one, other)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(os, "replace", noted_rename)
    write_text(tmp_path / "a", "text")
    assert done == ["file", "rename", "folder"]


def test_a_new_file_has_the_mode_that_the_umask_gives(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a", "text")
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


# ---- formulas ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["csv", "tsv"])
def test_a_spreadsheet_runs_no_text(tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / f"out.{kind}"
    bad = ['=HYPERLINK("http://evil","x")', "+cmd|' /C calc'!A0", "-2+3", "@SUM(1)", "\t=1", "\r=1"]
    good = ["How = old?", "-12", "+4.5", "", "'=1", " =1", "a-b"]
    rows = [{"text": text, "score": -1.5} for text in [*bad, *good]]
    with caplog.at_level(logging.WARNING, logger="dupq"):
        write_rows(path, rows, ["text", "score"])
    assert f"{path}: 6 texts" in caplog.text
    with path.open(newline="") as stream:
        read = list(csv.DictReader(stream, delimiter="," if kind == "csv" else "\t"))
    assert [row["text"] for row in read] == [*(f"'{text}" for text in bad), *good]
    assert {row["score"] for row in read} == {"-1.5"}
    caplog.clear()
    write_rows(path, rows, ["text", "score"], escape_formulas=False)
    with path.open(newline="") as stream:
        assert [row["text"] for row in csv.DictReader(stream, delimiter="," if kind == "csv" else "\t")] == [
            *bad,
            *good,
        ]
    write_rows(tmp_path / "out.jsonl", rows, ["text"])
    assert json.loads((tmp_path / "out.jsonl").read_text().splitlines()[0])["text"] == bad[0]
    assert caplog.text == ""
