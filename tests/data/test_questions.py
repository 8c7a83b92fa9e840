from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dupq.data.questions import Question, read_questions
from dupq.data.reading import Skipped
from dupq.data.writing import write_rows
from dupq.errors import InputError
from tests.data.test_stackexchange import dump

ROWS = [
    {"id": "a", "text": "Who invented chess?", "created": "2024-05-01"},
    {"id": "b", "text": "What is go, and who plays it?", "created": None},
]


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
def test_every_format_gives_the_same_questions(tmp_path: Path, ending: str) -> None:
    write_rows(tmp_path / f"q.{ending}", ROWS, ["id", "text", "created"])
    assert list(read_questions(tmp_path / f"q.{ending}")) == [
        Question("a", "Who invented chess?", "2024-05-01"),
        Question("b", "What is go, and who plays it?", None),
    ]


def test_columns_can_be_named_and_joined(tmp_path: Path) -> None:
    (tmp_path / "q.jsonl").write_text('{"key": 7, "head": "Chess?", "body": "Who made it?", "on": 5}\n')
    options: dict[str, Any] = {"id_column": "key", "text_columns": ["head", "body"], "created_column": "on"}
    assert list(read_questions(tmp_path / "q.jsonl", **options)) == [Question(7, "Chess?\nWho made it?", "5")]


def test_without_ids_the_rows_are_counted(tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text("question\nWho?\nWhy?\n")
    assert list(read_questions(tmp_path / "q.csv")) == [Question(1, "Who?"), Question(2, "Why?")]


def test_a_dump_is_a_file_of_questions_too(tmp_path: Path) -> None:
    dump(tmp_path, {4: "Who invented chess?"}, [])
    wanted = [Question(4, "Who invented chess?", "2020-01-05T10:00:00.000")]
    assert list(read_questions(tmp_path)) == wanted
    assert list(read_questions(tmp_path / "Posts.xml")) == wanted


@pytest.mark.parametrize(
    ("text", "options", "told"),
    [
        ("a,b\n1,2\n", {}, "no column of questions"),
        ("id,text\n1,Why?\n", {"id_column": "key"}, "no column 'key'"),
        ("id,text\n1,Why?\n2, \n", {}, "row 2, column 'text': the text is blank"),
        ("id,text\n,Why?\n", {}, "row 1, column 'id': the id is ''"),
    ],
)
def test_bad_files_are_one_clear_error(tmp_path: Path, text: str, options: dict[str, Any], told: str) -> None:
    (tmp_path / "q.csv").write_text(text)
    with pytest.raises(InputError, match=told):
        list(read_questions(tmp_path / "q.csv", **options))


def test_bad_rows_can_be_left_out(tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text("id,text\n1,Why?\n2, \n3,How?\n")
    skipped = Skipped()
    assert [question.id for question in read_questions(tmp_path / "q.csv", skipped=skipped)] == ["1", "3"]
    assert skipped.count == 1
