from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from dupq.data.writing import output_format, write_json, write_rows, write_text, written_beside
from dupq.errors import InputError, OutputError
from dupq.records import Decision

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
    rows = [*({"n": None} for _ in range(5000)), {"n": 1}]
    with pytest.raises(OutputError, match="do not fit Parquet"):
        write_rows(tmp_path / "out.parquet", rows, ["n"])
    assert list(tmp_path.iterdir()) == []


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
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"out.{kind}"
    path.write_text("old")
    # The file beside it goes to a device that is always full.
    (tmp_path / f".{path.name}.{os.getpid()}.part").symlink_to("/dev/full")
    with pytest.raises(OutputError, match=r"it could not be written \(.*No space left") as caught:
        write_rows(path, ({"a": n} for n in range(50_000)), ["a"])
    assert caught.value.where == str(path)
    assert [(entry.name, entry.read_text()) for entry in tmp_path.iterdir()] == [(path.name, "old")]


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.json").mkdir()
    for path in (tmp_path / "file" / "out.json", tmp_path / "folder.json", tmp_path / ("x" * 300 + ".json")):
        with pytest.raises(OutputError) as caught:
            write_json(path, {})
        assert caught.value.where == str(path)
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
