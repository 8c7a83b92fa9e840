"""Details of questions in files, dumps and Discourse exports."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from dupq.data.details import reach_of
from dupq.data.questions import read_discourse, read_questions
from dupq.data.reading import ReadReport
from dupq.errors import InputError


def topic(id_: Any = 7, title: Any = "How do I reset it?", **more: Any) -> dict[str, Any]:
    posts = [
        {"id": 90, "post_number": 1, "raw": "I pressed **everything**.", "created_at": "2024-01-02T03:04:05.000Z"},
        {"id": 91, "post_number": 2, "raw": "Hold the button.", "created_at": "2024-01-03T03:04:05.000Z"},
    ]
    facts = {"created_at": "2024-01-02T03:04:05.000Z", "views": 41, "category_id": 3, "closed": False}
    return {"id": id_, "title": title, **facts, "archetype": "regular", "posts": posts, **more}


def export(folder: Path, *topics: Any) -> Path:
    file = folder / "topic-export.json"
    file.write_text(json.dumps({"users": [{"id": 1, "email": "a@b.c"}], "topics": topics}))
    return file


def test_a_topic_of_discourse(tmp_path: Path) -> None:
    report = ReadReport()
    file = export(tmp_path, topic(), topic(8, archetype="private_message"), topic(9, "Why?", tags=["a-b", "c"]))
    first, second = read_discourse(file, report=report)
    assert (first.id, first.text, first.created) == (7, "How do I reset it?", "2024-01-02T03:04:05.000Z")
    assert first.details == {
        "title": "How do I reset it?",
        "body": "I pressed **everything**.",
        "answers": 1,
        "views": 41,
    }
    assert reach_of(first.details) == 41
    assert second.details is not None
    assert second.details["tags"] == ["a-b", "c"]
    assert any("1 private" in line for line in report.notes)
    assert report.rows == 2
    packed = tmp_path / "export.json.gz"
    packed.write_bytes(gzip.compress(file.read_bytes()))
    both = next(read_discourse(packed, text_columns=["title", "body"], id_type="text"))
    assert (both.id, both.text) == ("7", "How do I reset it?\nI pressed **everything**.")


@pytest.mark.parametrize(
    ("topics", "problem"),
    [
        ([topic(id_=None)], "topic 1, column 'id': the id is missing"),
        ([topic(), topic(8, title=" ")], "topic 2, column 'title': the text is blank"),
        ([topic(), "why"], "topic 2: a topic must be an object"),
        ([topic(posts=["why"])], "topic 1: posts must be a list of objects"),
        ([topic(views=-1)], "topic 1, column 'views': views must be a whole number of at least 0, got -1"),
        ([topic(), topic(title="Another?")], "the id 7 has two texts"),
        ([], "no usable question"),
        ([topic(archetype="private_message")], "no usable question"),
    ],
)
def test_a_bad_topic(tmp_path: Path, topics: list[Any], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        list(read_discourse(export(tmp_path, *topics)))


@pytest.mark.parametrize(
    ("content", "problem"),
    [("id,title\n1,Why?\n", "not valid JSON"), ("[]", "no list of topics"), ('{"topics": {}}', "no list of topics")],
)
def test_a_file_that_is_no_export(tmp_path: Path, content: str, problem: str) -> None:
    file = tmp_path / "export.json"
    file.write_text(content)
    with pytest.raises(InputError, match=problem) as refused:
        list(read_discourse(file))
    assert "export_categories" in str(refused.value)


def test_bad_topics_are_left_out_on_request(tmp_path: Path) -> None:
    report = ReadReport(skip_bad=True)
    found = list(read_discourse(export(tmp_path, topic(), "why", topic(9, views="x")), report=report))
    assert [question.id for question in found] == [7]
    assert (report.rows, report.rejected) == (3, 2)


def test_details_of_a_dump(tmp_path: Path) -> None:
    (tmp_path / "Posts.xml").write_text(
        '<posts><row Id="5" PostTypeId="1" Title="Why?" Body="&lt;p&gt;It &lt;b&gt;is&lt;/b&gt;.&lt;/p&gt;"'
        ' Tags="&lt;a&gt;&lt;b-c&gt;" Score="-2" ViewCount="120" AnswerCount="3" CreationDate="2020-01-01T10:00:00"/>'
        '<row Id="6" PostTypeId="1" Title="How?"/></posts>'
    )
    first, second = read_questions(tmp_path, details=True)
    tags = ["a", "b-c"]
    assert first.details == {"title": "Why?", "body": "It is.", "tags": tags, "answers": 3, "score": -2, "views": 120}
    assert second.details == {"title": "How?"}
    assert reach_of(second.details) == 1
    assert next(read_questions(tmp_path)).details is None


def test_details_of_a_csv(tmp_path: Path) -> None:
    file = tmp_path / "posts.csv"
    file.write_text(
        "ID,Question,Body,Tags,Link,Reply Count,View-Count,likes\n"
        '1,Why?,<p>So</p>,"a, b c",https://forum.example/t/1,2,0,1.5\n'
        "2,How?,,,javascript:alert(1),,,\n"
    )
    first, second = read_questions(file, details=True)
    assert first.details == {
        "body": "So",
        "tags": ["a", "b c"],
        "url": "https://forum.example/t/1",
        "answers": 2,
        "score": 1.5,
        "views": 0,
    }
    assert reach_of(first.details) == 1
    assert second.details == {}


@pytest.mark.parametrize("value", ["many", "1e400", "-3", "2.5", "nan"])
def test_a_bad_number_names_its_row(tmp_path: Path, value: str) -> None:
    file = tmp_path / "posts.csv"
    file.write_text(f"id,text,views\n1,Why?,1\n2,How?,{value}\n")
    with pytest.raises(InputError, match="row 2, column 'views': views must be a whole number of at least 0"):
        list(read_questions(file, details=True))


def test_a_bad_row_does_not_take_the_id_of_a_good_one(tmp_path: Path) -> None:
    file = tmp_path / "posts.csv"
    file.write_text("id,text,views\n1,Why?,many\n1,Why?,7\n2,How?,x\n2,How so?,8\n")
    report = ReadReport(skip_bad=True)
    found = list(read_questions(file, details=True, report=report))
    assert [(question.id, question.details) for question in found] == [("1", {"views": 7}), ("2", {"views": 8})]
    assert (report.rows, report.rejected) == (4, 2)
