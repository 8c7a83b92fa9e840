"""The external sort numbers distinct texts as one machine does."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dupq.engine.local import LocalEngine
from dupq.engine.work_folder import WorkFolder
from dupq.errors import InputError
from dupq.mining import checkpoint, distinct_texts
from dupq.mining.distinct_texts import store_questions
from dupq.mining.question_stream import QuestionStream, SourceQuestion, stream_questions
from dupq.mining.questions import Questions, read_questions
from dupq.mining.stored_questions import Selected, StoredColumn, in_form, take

WORDS = ["chess", "Chess?", "CHESS ", "go", "Go!", "how", "ärger", "C++", "C", "-5", "5", "日本"]


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "PART", 3)
    monkeypatch.setattr(distinct_texts, "RUN", 2)


def assert_same(stored: Questions, expected: Questions) -> None:
    for name in ("text_of", "first", "second"):
        assert getattr(stored, name).tolist() == getattr(expected, name).tolist(), name
        assert getattr(stored, name).dtype == getattr(expected, name).dtype
    assert (stored.new, stored.sides, len(stored)) == (expected.new, expected.sides, len(expected))
    for name in ("ids", "texts", "shown"):
        assert list(getattr(stored, name)) == list(getattr(expected, name))
    assert (stored.ages is None) == (expected.ages is None)
    assert stored.ages is None or np.array_equal(stored.ages, expected.ages)  # type: ignore[arg-type]


def store(folder: Path, stream: QuestionStream) -> Questions:
    return store_questions(LocalEngine(), WorkFolder(folder), stream)[0]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("iterators", [False, True])
def test_numbers_are_those_of_one_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, iterators: bool
) -> None:
    draw = random.Random(seed)
    monkeypatch.setattr(checkpoint, "PART", draw.choice([1, 2, 5, 100]))
    monkeypatch.setattr(distinct_texts, "RUN", draw.choice([1, 2, 50]))
    n, m = draw.randint(0, 40), draw.choice([-1, 0, 25])
    every: list[Any] = [" ".join(draw.choices(WORDS, k=draw.randint(1, 2))) for _ in range(n + max(m, 0))]
    for at in range(0, len(every), 7):
        every[at] = draw.choice(["", None, 3, every[at]])
    ids: Any = [f"q{at}" if draw.random() < 0.5 else at for at in draw.sample(range(10**6), len(every))]
    created: Any = draw.choice([None, [draw.choice([None, "2020-01-05", 1.6e9]) for _ in every]])
    wrap: Any = iter if iterators else list
    options: dict[str, Any] = {"on_error": "skip"}
    old = None if m < 0 else every[n:]
    expected, left_out = read_questions(every[:n], old, ids=ids, created=created, **options)
    stream = stream_questions(
        wrap(every[:n]),
        None if old is None else wrap(old),
        ids=wrap(ids),
        created=None if created is None else wrap(created),
        **options,
    )
    stored = store(tmp_path, stream)
    assert_same(stored, expected)
    assert stream.left_out == [*left_out]
    texts = [expected.texts[at] for at in expected.first.tolist()]
    lines = [path.read_text("ascii").splitlines() for path in sorted(tmp_path.glob("texts/*"))]
    assert [json.loads(line) for part in lines for line in part] == texts
    assert {len(part) for part in lines[:-1]} <= {checkpoint.PART}
    at = np.array(draw.choices(range(len(stored)), k=30) if len(stored) else [], np.int64)
    assert take(stored.texts, at) == take(expected.texts, at) == list(Selected(stored.texts, at))
    assert list(Selected(stored.ids, at)[2:9]) == [expected.ids[row] for row in at[2:9].tolist()]


@pytest.mark.parametrize("form", ["plain", "text", "sides"])
def test_the_form_of_ids_decides_between_equal_texts(tmp_path: Path, form: Any) -> None:
    ids = [10, 9, "8", 7, 30, 4]
    new, old = (ids[:3], ids[3:])

    def questions(of: list[Any]) -> Iterator[SourceQuestion]:
        for id_ in of:
            yield SourceQuestion(id_, "Why?", "<b>Why?</b>" if id_ == 9 else "Why?")

    stored = store(tmp_path, QuestionStream(questions(new), questions(old), finish=lambda ids: form))
    formed = [in_form(id_, form, old=at >= 3) for at, id_ in enumerate(ids)]
    expected, _ = read_questions(["Why?"] * 3, ["Why?"] * 3, ids=formed)
    assert list(stored.ids) == list(expected.ids)
    assert (stored.first.tolist(), stored.second.tolist()) == (expected.first.tolist(), expected.second.tolist())
    assert [stored.shown[1], stored.shown[-1], *stored.texts[:2]] == ["<b>Why?</b>", "Why?", "Why?", "Why?"]
    with pytest.raises(IndexError):
        stored.ids[6]


def test_a_part_is_read_once_for_many_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = store(tmp_path, stream_questions(f"What is {at}?" for at in range(60)))
    assert isinstance(stored.texts, StoredColumn)
    read = list[str]()
    monkeypatch.setattr(WorkFolder, "read", lambda self, name: read.append(name) or (tmp_path / name).read_bytes())
    at = np.array(random.Random(1).choices(range(60), k=200))
    assert take(stored.texts, at) == [f"What is {number}?" for number in at.tolist()]
    assert len(read) == len({*read}) == 20


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        ({"ids": iter([1, 2, 1])}, "ids must be unique, got 1 for questions 1 and 3"),
        ({"ids": iter([1, 2])}, "ids must have one value for each question, got 2 and more questions"),
        ({"ids": iter([1, 2, 3, 4])}, "ids must have one value for each of 3 questions, got more"),
        ({"created": ["2020"]}, "created must have one value for each question, got 1"),
        ({"ids": 5}, "ids must be a sequence"),
        ({"ids": iter([1, None, 3])}, "the id is missing"),
    ],
)
def test_what_is_wrong_beside_an_iterator_gives_one_error(
    tmp_path: Path, arguments: dict[str, Any], printed: str
) -> None:
    with pytest.raises(InputError, match=printed):
        store(tmp_path, stream_questions(iter(["a", "b", "c"]), **arguments))
    with pytest.raises(InputError, match="questions, text 2: the text is blank"):
        store(tmp_path, stream_questions(iter(["a", " ", "c"])))
