from __future__ import annotations

import json
import tracemalloc
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from dupq.data.dates import parse_dates
from dupq.data.questions import Question, read_questions
from dupq.data.reading import ReadReport
from dupq.data.writing import write_rows
from dupq.errors import InputError
from tests.data.test_stackexchange import dump

ROWS = [
    {"id": "a", "text": "Who invented chess?", "created": "2024-05-01"},
    {"id": "b", "text": "What is go, and who plays it?", "created": None},
]
ENDINGS = ["csv", "tsv", "jsonl", "parquet"]


def write(folder: Path, rows: Sequence[dict[str, Any]], ending: str = "jsonl") -> Path:
    path = folder / f"q.{ending}"
    if ending == "parquet":
        pa.parquet.write_table(pa.Table.from_pylist(list(rows)), path)
    elif ending == "jsonl":
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    else:
        write_rows(path, rows, list(rows[0]))
    return path


def read(path: Path, skip_bad: bool = False, **options: Any) -> tuple[list[Question], ReadReport]:
    report = ReadReport(skip_bad=skip_bad)
    found = list(read_questions(path, report=report, **options))
    assert report.rows == report.accepted + report.rejected
    assert report.accepted == len(found)
    return found, report


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_format_gives_the_same_questions(tmp_path: Path, ending: str) -> None:
    assert read(write(tmp_path, ROWS, ending))[0] == [
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
    assert [question.id for question in read_questions(tmp_path / "q.csv", id_type="text")] == ["1", "2"]


@pytest.mark.parametrize(
    ("text", "options", "told"),
    [
        ("a,b\n1,2\n", {}, "no text column"),
        ("id,text\n1,Why?\n", {"id_column": "key"}, "no column 'key'"),
        ("id,text\n1,Why?\n", {"text_columns": ["text", "body"]}, "no column 'body'"),
        ("id,text\n1,Why?\n2, \n", {}, "row 2, column 'text': the text is blank"),
        ("id,text\n,Why?\n", {}, "row 1, column 'id': the id is missing"),
        ("id,text\n1,Why?\n", {"id_type": "number"}, "id_type must be one of"),
        ("id,text\n1,Why?\n", {"html": "remove"}, "html must be one of"),
    ],
)
def test_bad_files_are_one_clear_error(tmp_path: Path, text: str, options: dict[str, Any], told: str) -> None:
    (tmp_path / "q.csv").write_text(text)
    with pytest.raises(InputError, match=told):
        list(read_questions(tmp_path / "q.csv", **options))


def test_bad_rows_can_be_left_out(tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text("id,text\n1,Why?\n2, \n3,How?\n")
    found, report = read(tmp_path / "q.csv", skip_bad=True)
    assert [question.id for question in found] == ["1", "3"]
    assert (report.rows, report.rejected) == (3, 1)


# ---- texts of several columns ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("blank", [None, "", " \n"])
def test_columns_are_joined_where_they_are_there(tmp_path: Path, ending: str, blank: str | None) -> None:
    rows = [
        {"id": "a", "title": "How old are you?", "body": "I ask for a friend."},
        {"id": "b", "title": "What is your age?", "body": blank},
        {"id": "c", "title": blank, "body": "Where do you live?"},
        {"id": "d", "title": blank, "body": blank},
    ]
    path = write(tmp_path, rows, ending)
    with pytest.raises(InputError, match=r"row 4, column 'title' and 'body': the text is blank"):
        read(path, text_columns=["title", "body"])
    found, report = read(path, skip_bad=True, text_columns=["title", "body"])
    assert [question.text for question in found] == [
        "How old are you?\nI ask for a friend.",
        "What is your age?",
        "Where do you live?",
    ]
    assert report.rejected == 1


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_column_that_is_not_used_is_not_looked_at(tmp_path: Path, ending: str) -> None:
    rows = [
        {"id": "a", "title": "How old are you?", "body": "x" * 140_000},
        {"id": "b", "title": "What is your age?", "body": " "},
    ]
    assert [question.text for question in read(write(tmp_path, rows, ending))[0]] == [
        "How old are you?",
        "What is your age?",
    ]


def test_a_part_that_is_no_text_makes_the_row_bad(tmp_path: Path) -> None:
    path = write(tmp_path, [{"id": 1, "title": {"text": "Why?"}}, {"id": 2, "title": "Why?", "body": None}])
    found, report = read(path, skip_bad=True, text_columns=["title", "body"])
    assert found == [Question(2, "Why?")]
    assert "row 1, column 'title': text must be a str, got dict" in report.reasons[0]


# ---- which columns -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "used"),
    [
        ("id,title,created_at", "ids from 'id', texts from 'title', dates from 'created_at'"),
        ("Thread-ID,Subject,Date", "ids from 'Thread-ID', texts from 'Subject', dates from 'Date'"),
        ("QID,Headline,Posted At", "ids from 'QID', texts from 'Headline', dates from 'Posted At'"),
        ("number,TEXT,when", "row numbers as ids, texts from 'TEXT', no dates"),
        ("question,title,ID", "ids from 'ID', texts from 'title' (not 'question'; "),
        ("id,message,timestamp", "ids from 'id', texts from 'message', dates from 'timestamp'"),
    ],
)
def test_the_columns_that_were_used_are_noted(tmp_path: Path, header: str, used: str) -> None:
    path = tmp_path / "q.csv"
    path.write_text(f"{header}\n17,Why?,2020-01-01\n18,How?,2021-01-01\n")
    notes = read(path)[1].notes
    assert any(line.startswith(f"{path}: {used}") for line in notes), notes


def test_named_columns_are_noted_too(tmp_path: Path) -> None:
    path = write(tmp_path, [{"a": 1, "b": "Why?", "c": "How?"}])
    notes = read(path, id_column="a", text_columns=["b", "c"])[1].notes
    assert f"{path}: ids from 'a', texts from 'b' + 'c', no dates" in notes


def test_a_column_that_the_first_row_lacks_is_found(tmp_path: Path) -> None:
    rows = [{"title": "Why?"}, {"title": "How?", "id": "b", "created": "2020", "body": "Like so?"}]
    path = write(tmp_path, rows)
    with pytest.raises(InputError, match="row 1, column 'id': the id is missing"):
        read(path)
    found, _ = read(path, skip_bad=True, text_columns=["title", "body"])
    assert found == [Question("b", "How?\nLike so?", "2020")]


@pytest.mark.parametrize("rows", [["17", "18"], ["1.5"], ["7", "", "9"]])
def test_a_column_of_numbers_is_not_taken_for_questions(tmp_path: Path, rows: list[str]) -> None:
    path = tmp_path / "q.csv"
    path.write_text("id,question\n" + "".join(f"{at},{value}\n" for at, value in enumerate(rows)))
    with pytest.raises(InputError, match="'question' holds numbers") as caught:
        read(path, skip_bad=True)
    assert "--text-column" in str(caught.value)
    assert [question.text for question in read(path, skip_bad=True, text_columns=["question"])[0]] == [
        *filter(None, rows)
    ]


@pytest.mark.parametrize("skip_bad", [False, True])
@pytest.mark.parametrize(
    ("name", "text"),
    [("q.csv", "id,title\n"), ("q.tsv", "id\ttitle\n"), ("q.jsonl", ""), ("q.csv", ""), ("q.jsonl", "\n\n")],
)
def test_a_file_without_rows_is_an_error(tmp_path: Path, skip_bad: bool, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=name):
        read(tmp_path / name, skip_bad=skip_bad)


def test_a_file_whose_rows_are_all_bad_is_an_error_that_names_one(tmp_path: Path) -> None:
    (tmp_path / "q.csv").write_text("id,title\n1,\n2, \n")
    with pytest.raises(InputError, match=r"no usable question: .*row 1, column 'title'"):
        read(tmp_path / "q.csv", skip_bad=True)


# ---- ids -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ending", "ids", "auto", "as_int", "as_text"),
    [
        ("csv", ["1", "20"], ["1", "20"], [1, 20], ["1", "20"]),
        ("tsv", ["-1", "0"], ["-1", "0"], [-1, 0], ["-1", "0"]),
        ("csv", ["1.0", " 2"], ["1.0", " 2"], [1, 2], ["1.0", " 2"]),
        ("jsonl", [1, "1"], [1, "1"], None, None),
        ("jsonl", [1, 2.0], [1, 2], [1, 2], ["1", "2"]),
        ("parquet", [1, 2], [1, 2], [1, 2], ["1", "2"]),
        ("parquet", [1.0, 2.0], [1, 2], [1, 2], ["1", "2"]),
        ("parquet", ["1", "2"], ["1", "2"], [1, 2], ["1", "2"]),
    ],
)
def test_ids_have_the_type_of_the_file_or_the_one_that_is_asked_for(
    tmp_path: Path, ending: str, ids: list[Any], auto: list[Any], as_int: list[Any] | None, as_text: list[Any] | None
) -> None:
    path = write(tmp_path, [{"id": id_, "title": f"Why {at}?"} for at, id_ in enumerate(ids)], ending)
    for id_type, wanted in (("auto", auto), ("int", as_int), ("text", as_text)):
        if wanted is None:  # then the two are one id, with two texts
            with pytest.raises(InputError, match="has two texts"):
                read(path, id_type=id_type)
            continue
        got = [question.id for question in read(path, id_type=id_type)[0]]
        assert got == wanted
        assert [type(id_) for id_ in got] == [type(id_) for id_ in wanted]


def test_whole_floats_and_spaces_are_noted(tmp_path: Path) -> None:
    path = write(tmp_path, [{"id": 2.0, "title": "Why?"}, {"id": " a", "title": "How?"}, {"id": "b ", "title": "Who?"}])
    found, report = read(path)
    assert [question.id for question in found] == [2, " a", "b "]
    assert f"{path}: 1 ids with a decimal point, such as 2.0, were read as int" in report.notes
    assert f"{path}: 2 ids start or end with a space, which is part of the id" in report.notes


@pytest.mark.parametrize("id_", [None, True, 2.5, 2**63, 1e300, float("nan"), "", " ", [1], {"a": 1}, 1e17])
@pytest.mark.parametrize("id_type", ["auto", "int"])
def test_what_is_no_id_is_a_bad_row_with_its_number(tmp_path: Path, id_: object, id_type: str) -> None:
    path = write(tmp_path, [{"id": 1, "title": "Why?"}, {"id": id_, "title": "How?"}, {"id": 3, "title": "Who?"}])
    with pytest.raises(InputError, match=r"row 2, column 'id': the id"):
        read(path, id_type=id_type)
    assert [question.id for question in read(path, skip_bad=True, id_type=id_type)[0]] == [1, 3]


@pytest.mark.parametrize("id_", ["b", "1e5", "007", "1.5", "9" * 19, "9" * 5000, "+1", "\u0661"])
def test_text_that_is_no_whole_number_is_a_bad_row_where_numbers_are_asked_for(tmp_path: Path, id_: str) -> None:
    (tmp_path / "q.csv").write_text(f"id,title\n1,Why?\n{id_},How?\n")
    with pytest.raises(InputError, match=r"row 2, column 'id': the id must be"):
        read(tmp_path / "q.csv", id_type="int")
    assert [question.id for question in read(tmp_path / "q.csv")[0]] == ["1", id_]


def test_large_numbers_can_be_read_as_text(tmp_path: Path) -> None:
    path = write(tmp_path, [{"id": 2**64, "title": "Why?"}, {"id": 10**29, "title": "How?"}])
    assert [question.id for question in read(path, id_type="text")[0]] == [str(2**64), str(10**29)]


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("between", [0, 3, 300])
def test_an_id_with_two_texts_is_an_error_that_names_both_rows(tmp_path: Path, ending: str, between: int) -> None:
    rows = [{"id": "x", "title": "Why is it so?"}]
    rows += [{"id": f"y{at}", "title": f"Is it {at}?"} for at in range(between)]
    rows += [{"id": "x", "title": "Why is it not so?"}, {"id": "z", "title": "Who?"}]
    path = write(tmp_path, rows, ending)
    told = rf"row {between + 2}: the id 'x' has two texts \(rows 1 and {between + 2}\)"
    with pytest.raises(InputError, match=told):
        read(path)
    found, report = read(path, skip_bad=True)
    assert {question.id: question.text for question in found}["x"] == "Why is it so?"
    assert (len(found), report.rejected) == (between + 2, 1)


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("skip_bad", [False, True])
def test_an_id_that_repeats_its_text_is_read_once_and_listed(tmp_path: Path, ending: str, skip_bad: bool) -> None:
    rows = [{"id": id_, "title": title} for id_, title in (("a", "Why?"), ("b", "How?"), ("a", "Why?"), ("c", "Why?"))]
    found, report = read(write(tmp_path, rows, ending), skip_bad=skip_bad)
    assert [question.id for question in found] == ["a", "b", "c"]
    assert report.rejected == 1
    assert report.reasons[0].endswith("id 'a': rows 1 and 3 hold the same text")


# ---- HTML ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ENDINGS)
def test_html_is_stripped_where_it_clearly_is(tmp_path: Path, ending: str) -> None:
    texts = [
        "<p>How do I reset my password?</p>",
        "Why can&#39;t I log in &amp; out?",
        "Is a < b?",
        "What is <div> for?",
    ]
    path = write(tmp_path, [{"id": f"{at}", "body": text} for at, text in enumerate(texts)], ending)
    found, report = read(path)
    assert [question.text for question in found] == [
        "How do I reset my password?",
        "Why can't I log in & out?",
        "Is a < b?",
        "What is <div> for?",
    ]
    assert [question.original for question in found] == texts
    assert f"{path}: HTML was removed from 2 of 4 texts" in report.notes


def test_html_can_be_kept_or_stripped_from_all(tmp_path: Path) -> None:
    path = write(tmp_path, [{"id": 1, "body": "<p>What is</p> it?"}, {"id": 2, "body": "What is <div> for?"}])
    kept, report = read(path, html="keep")
    assert [question.text for question in kept] == [question.original for question in kept]
    assert not any("HTML" in line for line in report.notes)
    assert [question.text for question in read(path, html="strip")[0]] == ["What is\nit?", "What is\nfor?"]


def test_a_part_of_nothing_but_tags_is_as_a_blank_one(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        [{"id": 1, "title": "Why?", "body": "<p><br></p>"}, {"id": 2, "title": "<p></p>", "body": "<p> </p>"}],
    )
    found, report = read(path, skip_bad=True, text_columns=["title", "body"])
    assert found == [Question(1, "Why?", None, "Why?\n<p><br></p>")]
    assert "the text is blank without its HTML" in report.reasons[0]


# ---- dates ---------------------------------------------------------------------------------------------------------


def test_dates_stay_as_the_file_has_them_and_can_be_parsed(tmp_path: Path) -> None:
    created = [1600000000, 1600000000.0, "2021-05-01T10:00:00+09:00", "", None, 1600000000000]
    path = write(tmp_path, [{"id": at, "title": f"Why {at}?", "created": date} for at, date in enumerate(created)])
    found = [question.created for question in read(path)[0]]
    assert found == ["1600000000", "1600000000", "2021-05-01T10:00:00+09:00", None, None, "1600000000000"]
    assert parse_dates(found, "created") == [1600000000, 1600000000, 1619830800, None, None, 1600000000]
    rows = [
        {"id": 1, "title": "Why?", "created": datetime(2020, 1, 1, 10)},
        {"id": 2, "title": "How?", "created": None},
    ]
    found = [question.created for question in read(write(tmp_path, rows, "parquet"))[0]]
    assert found == ["2020-01-01T10:00:00", None]


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_reading_keeps_the_ids_and_not_the_texts(tmp_path: Path, ending: str) -> None:
    rows = [{"id": f"q{at}", "title": f"Why is it {at}?", "body": "b" * 4000} for at in range(5000)]
    path = write(tmp_path, rows, ending)
    del rows
    list(read_questions(write(tmp_path, ROWS, "tsv")))  # what is imported for the first file is not counted
    tracemalloc.start()
    assert sum(1 for _ in read_questions(path, text_columns=["title", "body"])) == 5000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < path.stat().st_size / 4


# ---- dumps ---------------------------------------------------------------------------------------------------------


def test_a_dump_is_a_file_of_questions_too(tmp_path: Path) -> None:
    dump(tmp_path, {4: "Is <b> bold & strong?"}, [])
    wanted = [Question(4, "Is <b> bold & strong?", "2020-01-05T10:00:00.000")]
    assert read(tmp_path)[0] == wanted
    found, report = read(tmp_path / "Posts.xml")
    assert found == wanted
    assert report.notes == [f"{tmp_path / 'Posts.xml'}: ids from 'Id', texts from 'Title', dates from 'CreationDate'"]


def test_the_text_columns_of_a_dump_are_read_without_html(tmp_path: Path) -> None:
    dump(tmp_path, {4: "Is <b> bold?", 5: "What is <i>x</i>?"}, [])

    def texts(*columns: str, **options: Any) -> list[str]:
        return [question.text for question in read(tmp_path, text_columns=columns, **options)[0]]

    assert texts("Title", "Body") == ["Is <b> bold?\nbody", "What is <i>x</i>?\nbody"]
    assert texts("title", "body", html="keep") == ["Is <b> bold?\n<p>body</p>", "What is <i>x</i>?\n<p>body</p>"]
    assert texts("Title", html="strip") == ["Is  bold?", "What is x?"]
    assert texts("Title", "Tags") == ["Is <b> bold?\na b", "What is <i>x</i>?\na b"]
    found, report = read(tmp_path, text_columns=["Body"], id_type="text")
    assert found[0] == Question("4", "body", "2020-01-05T10:00:00.000", "<p>body</p>")
    assert report.notes[-1].endswith("HTML was removed from 2 of 2 texts")


@pytest.mark.parametrize(
    "options", [{"text_columns": ["Title", "Text"]}, {"id_column": "Score"}, {"created_column": "Score"}]
)
def test_unknown_columns_of_a_dump_are_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    dump(tmp_path, {4: "Why?"}, [])
    with pytest.raises(InputError, match="has no column"):
        read(tmp_path, **options)


def test_another_date_of_a_dump_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "Posts.xml").write_text(
        '<posts><row Id="1" PostTypeId="1" Title="Why?" CreationDate="2020-01-01" LastEditDate="2021-01-01" />'
        '<row Id="2" PostTypeId="1" Title="How?" CreationDate="2020-01-02" /></posts>'
    )
    assert [question.created for question in read(tmp_path, created_column="LastEditDate")[0]] == ["2021-01-01", None]


def test_an_id_twice_in_a_dump_is_an_error_that_names_both_lines(tmp_path: Path) -> None:
    row = '<row Id="1" PostTypeId="1" Title="{}" />'
    (tmp_path / "Posts.xml").write_text(f"<posts>\n{row.format('Why?')}\n{row.format('How?')}\n</posts>")
    with pytest.raises(InputError, match=r"Posts\.xml, line 3: the id 1 has two texts \(lines 2 and 3\)"):
        read(tmp_path)


def test_an_id_twice_on_one_line_of_a_dump_is_read_once(tmp_path: Path) -> None:
    row = '<row Id="1" PostTypeId="1" Title="{}" />'
    (tmp_path / "Posts.xml").write_text(f"<posts>{row.format('Why?') * 2}{row.format('How?')}</posts>")
    found, report = read(tmp_path, skip_bad=True)
    assert [question.text for question in found] == ["Why?"]
    assert "hold the same text" in report.reasons[0]
    assert "the id 1 has two texts" in report.reasons[1]
