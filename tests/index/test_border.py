"""What comes in over the border of the index: ids, texts, dates and options of every type."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest

from dupq.errors import InputError
from dupq.index.question_index import QuestionIndex
from dupq.pipeline import DuplicatePipeline
from dupq.types import Decision, TextWarning
from tests.fakes import WordEmbedder, WordScorer
from tests.index.stored import IDS, TEXTS

# ---- ids and texts ------------------------------------------------------------------------------------------------


def stored(index: QuestionIndex) -> dict[Any, str]:
    return {flag.id: flag.text for flag in index.flag("Who invented chess?", k=1000).flags}


@pytest.mark.parametrize("bad", ["12", b"12", 12, None, {"1": 1}, np.array([["1", "2"]])])
def test_what_is_no_sequence_of_ids_removes_nothing(path: Path, pipeline: DuplicatePipeline, bad: Any) -> None:
    with QuestionIndex(path, pipeline) as index:
        index.add(["1", "2", "12", 1, 2, 12], TEXTS[:6])
        for use in (index.remove, index.flag_stored):
            with pytest.raises(InputError, match="id must"):
                use(bad)
        assert len(index) == 6
        assert index.remove(["12"]) == 1
        assert set(stored(index)) == {"1", "2", 1, 2, 12}


@pytest.mark.parametrize(
    ("ids", "texts"),
    [(["a", "b", "c"], "abc"), ("abc", ["Why?", "How?", "Who?"]), ("a", "b"), ([1], "Why?"), (7, ["Why?"])],
)
def test_a_str_is_no_sequence_of_ids_or_texts(path: Path, pipeline: DuplicatePipeline, ids: Any, texts: Any) -> None:
    with QuestionIndex(path, pipeline) as index:
        with pytest.raises(InputError, match="must be a sequence"):
            index.add(ids, texts)
        with pytest.raises(InputError, match="must be a sequence"):
            index.flag_all("Why?")
        assert len(index) == 0


SHUFFLED = [3, 0, 2, 1]


@pytest.mark.parametrize(
    "ids",
    [
        np.array([30, 0, 20, 10]),
        np.array([30, 0, 20, 10], np.uint8),
        np.array([30, 0, 20, 10], object),
        pandas.Series([30, 0, 20, 10], index=SHUFFLED),
        pandas.Series([30, 0, 20, 10], index=SHUFFLED, dtype="Int64"),
        pandas.Index([30, 0, 20, 10]),
        (np.int64(number) for number in (30, 0, 20, 10)),
        [np.int16(30), 0, np.uint64(20), 10],
    ],
    ids=lambda ids: type(ids).__name__,
)
def test_ids_of_arrays_and_frames_go_by_position(path: Path, pipeline: DuplicatePipeline, ids: Any) -> None:
    texts = pandas.Series([TEXTS[3], TEXTS[0], TEXTS[2], TEXTS[1]], index=SHUFFLED)
    with QuestionIndex(path, pipeline) as index:
        assert index.add(ids, texts).added == 4
        assert stored(index) == {10 * at: TEXTS[at] for at in range(4)}
        assert all(type(id_) is int for id_ in stored(index))
        assert [report.question for report in index.flag_all(texts)] == texts.tolist()
        assert [r.question for r in index.flag_stored(np.array([20, 10]))] == [TEXTS[2], TEXTS[1]]
        assert index.remove(pandas.Series([10, 30], index=[9, 8])) == 2
        assert set(stored(index)) == {0, 20}
        assert np.int64(20) in index
        assert "20" not in index


@pytest.mark.parametrize("ids", [np.array(["x", "y"]), pandas.Series(["x", "y"], dtype="string"), [np.str_("x"), "y"]])
def test_text_ids_of_arrays_become_str(path: Path, pipeline: DuplicatePipeline, ids: Any) -> None:
    with QuestionIndex(path, pipeline) as index:
        index.add(ids, np.array(TEXTS[:2]))
        assert stored(index) == {"x": TEXTS[0], "y": TEXTS[1]}
        assert all(type(id_) is str for id_ in stored(index))


@pytest.mark.parametrize(
    "bad", [1.0, np.float32(2), True, np.bool_(True), np.nan, pandas.NA, None, 2**64, "a\ud800", ()]
)
def test_an_id_of_another_type_is_refused_everywhere(filled: QuestionIndex, bad: Any) -> None:
    for use in (lambda: filled.add([bad], ["Why?"]), lambda: filled.remove([bad]), lambda: filled.flag_stored([bad])):
        with pytest.raises(InputError, match="id 1: the id"):
            use()
    assert len(filled) == len(TEXTS)


def test_an_id_that_is_given_twice_is_named_with_its_places(path: Path, pipeline: DuplicatePipeline) -> None:
    with QuestionIndex(path, pipeline) as index:
        index.add([5], ["Who eats iron?"])
        ids, count = [*range(1000), 5, 7, 7], 1003
        written = index.add(ids, [f"Who has the number {at}?" for at in range(count)])
        assert written.repeated == {5: (6, 1001), 7: (8, 1002, 1003)}
        assert (written.added, written.replaced, written.unchanged) == (999, 1, 0)
        assert sum(len(places) - 1 for places in written.repeated.values()) + 1000 == count
        texts = {flag.id: flag.text for flag in index.flag("Who has the number?", k=2000).flags}
        assert (texts[5], texts[7]) == ("Who has the number 1000?", "Who has the number 1002?")
        assert index.add([5, "5"], ["Who has the number 1000?", "Who?"]).repeated == {}


# ---- dates --------------------------------------------------------------------------------------------------------

DAY = "2022-05-01T00:00:00+00:00"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (pandas.Timestamp("2022-05-01"), DAY),
        (pandas.Timestamp("2022-05-01 02:00", tz="Europe/Berlin"), DAY),
        (np.datetime64("2022-05-01"), DAY),
        (datetime(2022, 5, 1), DAY),
        (datetime(2022, 5, 1, 5, tzinfo=timezone(timedelta(hours=5))), DAY),
        (date(2022, 5, 1), DAY),
        (1651363200, DAY),
        (1651363200000, DAY),
        ("2022-05-01T00:00:00Z", DAY),
        ("2022-05-01", DAY),
        (pandas.NaT, None),
        (float("nan"), None),
        (None, None),
        ("", None),
    ],
)
def test_dates_of_any_kind_are_stored_in_utc(path: Path, pipeline: DuplicatePipeline, given: Any, kept: Any) -> None:
    with QuestionIndex(path, pipeline) as index:
        index.add([1], ["Who invented chess?"], created=[given])
        index.add([2], ["Who invented go?"], created=pandas.Series([given], index=[7], dtype=object))
        with index._store.reading() as view:
            assert [row.created for row, _ in view.rows()] == [kept, kept]


@pytest.mark.parametrize("bad", ["1/5/2022", "yesterday", 3, -99_999_999_999, object()])
def test_what_is_no_date_is_no_damage(path: Path, pipeline: DuplicatePipeline, bad: Any) -> None:
    with QuestionIndex(path, pipeline) as index:
        with pytest.raises(InputError, match="date") as refused:
            index.add([1, 2], ["Who invented chess?", "Who invented go?"], created=[None, bad])
        assert "damaged" not in str(refused.value)
        assert len(index) == 0


# ---- reach and details --------------------------------------------------------------------------------------------


def columns(index: QuestionIndex) -> dict[Any, tuple[Any, ...]]:
    with index._store.reading() as view:
        return {row.id: (row.slot, row.created, row.reach, row.details) for row, _ in view.rows()}


def test_reach_and_details_are_stored_and_change_without_a_new_text(path: Path, pipeline: DuplicatePipeline) -> None:
    shown = {"title": "Chess", "tags": ("a", None), "answers": 3, "body": "a\0b 𝄞"}
    kept = shown | {"tags": ["a", None]}
    with QuestionIndex(path, pipeline) as index:
        index.add(
            [1, 2, "3"], TEXTS[:3], created=["2022-05-01"] * 3, reach=np.array([1, 2.5, 1e6]), details=[shown, None, {}]
        )
        assert columns(index) == {1: (1, DAY, 1.0, kept), 2: (2, DAY, 2.5, None), "3": (3, DAY, 1e6, {})}
        assert index.add([1, 2, "3"], TEXTS[:3]).unchanged == 3
        assert columns(index)[1] == (1, DAY, 1.0, kept)
        embedded = len(stored(index))
        counts = index.add([1, 2, 1], [TEXTS[0], TEXTS[1], TEXTS[0]], reach=pandas.Series([9, 8, 7], index=[2, 1, 0]))
        assert (counts.added, counts.replaced, counts.unchanged) == (0, 0, 2)
        assert counts.repeated == {1: (1, 3)}
        assert columns(index) == {1: (1, DAY, 7.0, kept), 2: (2, DAY, 8.0, None), "3": (3, DAY, 1e6, {})}
        index.add([2], [TEXTS[1]], created=["2023-05-01"], details=[{"url": "x"}])
        assert columns(index)[2] == (2, "2023-05-01T00:00:00+00:00", 8.0, {"url": "x"})
        assert index.add([1], ["Who eats glass?"], details=[{}]).replaced == 1
        assert columns(index)[1] == (4, DAY, 7.0, {})
        assert len(stored(index)) == embedded == 3
        assert index.verify() == []


@pytest.mark.parametrize("bad", [0, -1.0, float("nan"), float("inf"), "7", None, True, 10**400])
def test_a_wrong_reach_is_named_by_its_row(filled: QuestionIndex, bad: Any) -> None:
    with pytest.raises(InputError, match=r"reach 2 \(id 'b'\) must be a number above 0, got"):
        filled.add(["a", "b"], ["Who?", "How?"], reach=[1.0, bad])
    assert len(filled) == len(TEXTS)


LOOP: list[Any] = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ("text", "be a mapping, got str"),
        ([("a", 1)], "be a mapping, got list"),
        ({"a": float("nan")}, "what JSON can hold"),
        ({"a": {1, 2}}, "what JSON can hold"),
        ({"a": np.float32(1)}, "what JSON can hold"),
        ({"a": datetime(2022, 5, 1)}, "what JSON can hold"),
        ({"a": "x\ud800"}, "what JSON can hold"),
        ({("a", "b"): 1}, "what JSON can hold"),
        ({"a": LOOP}, "what JSON can hold"),
        ({1: "a"}, "keys of class str only"),
        ({"a": [{"b": {None: 1}}]}, "keys of class str only"),
    ],
)
def test_wrong_details_are_named_by_their_row(filled: QuestionIndex, bad: Any, told: str) -> None:
    with pytest.raises(InputError, match=rf"details 2 \(id 'b'\): details must .*{told}") as refused:
        filled.add(["a", "b"], ["Who?", "How?"], details=[{}, bad])
    assert refused.value.hint
    assert len(filled) == len(TEXTS)


@pytest.mark.parametrize("name", ["created", "reach", "details"])
def test_columns_of_another_length_are_refused(filled: QuestionIndex, name: str) -> None:
    with pytest.raises(InputError, match=f"{name} must have one value for each of 2 texts, got 1"):
        filled.add(["a", "b"], ["Who?", "How?"], **{name: [{}]})  # type: ignore[arg-type]
    assert len(filled) == len(TEXTS)


def test_a_nul_character_is_named_by_its_row(filled: QuestionIndex) -> None:
    with pytest.raises(InputError, match=r"text 2 \(id 'b'\): the text must not hold a NUL character"):
        filled.add(["a", "b"], ["Who?", "How\0?"])
    with pytest.raises(InputError, match="id 2: the id must not hold a NUL character"):
        filled.add(["a", "b\0"], ["Who?", "How?"])
    for use in (lambda: filled.remove(["q1", "\0a"]), lambda: filled.flag_stored(["\0a"]), lambda: "a\0" in filled):
        with pytest.raises(InputError, match="the id must not hold a NUL character"):
            use()
    assert len(filled) == len(TEXTS)


# ---- a closed index, and wrong options ----------------------------------------------------------------------------

USES: dict[str, Callable[[QuestionIndex], object]] = {
    "add": lambda index: index.add(["new"], ["Who eats glass?"]),
    "remove": lambda index: index.remove(["q1"]),
    "flag": lambda index: index.flag("Who invented chess?"),
    "flag_stored": lambda index: index.flag_stored(["q1"]),
    "len": len,
    "in": lambda index: "q1" in index,
    "stats": lambda index: index.stats(),
    "decisions": lambda index: index.decisions(),
    "compact": lambda index: index.compact(),
}


@pytest.mark.parametrize("use", USES)
def test_a_closed_index_is_not_called_damaged(filled: QuestionIndex, use: str) -> None:
    filled.close()
    with pytest.raises(InputError, match="the index is closed") as refused:
        USES[use](filled)
    assert "open it again" in str(refused.value)
    assert "backup" not in str(refused.value)


def test_a_closed_index_is_not_verified(filled: QuestionIndex) -> None:
    filled.close()
    (line,) = filled.verify()
    assert "the index is closed" in line


@pytest.mark.parametrize("k", [0, -1, "2", 2.0, True, [3]])
def test_a_wrong_k_is_found_before_a_network_reads(path: Path, pipeline: DuplicatePipeline, k: Any) -> None:
    class Unused(WordEmbedder):
        def embed(self, texts: Any, progress: Any = None) -> Any:
            raise AssertionError(texts)

    index = QuestionIndex(path, replace(pipeline, bi_encoder=Unused()))
    with pytest.raises(InputError, match="k must be an integer of at least 1"):
        index.flag("Why?", k=k)


def test_k_may_be_a_number_of_numpy(filled: QuestionIndex) -> None:
    assert len(filled.flag("Who invented chess?", k=np.int32(3)).flags) == 3


@pytest.mark.parametrize(
    ("path_", "options", "told"),
    [
        (None, {}, "path must be"),
        ("forum.db", {"wait": -1}, "wait must be 0 or more"),
        ("forum.db", {"wait": "60"}, "wait must be 0 or more"),
        ("forum.db", {"wait": float("nan")}, "wait must be 0 or more"),
        ("forum.db", {"vectors": "int8"}, "vectors must be one of float16, float32, got 'int8'"),
        ("forum.db", {"vectors": np.dtype("<f2")}, "vectors must be one of"),
        ("forum.db", {"pipeline": "a-model"}, "pipeline must be a DuplicatePipeline, got str"),
    ],
)
def test_wrong_arguments_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path_: Any, options: Any, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=told):
        QuestionIndex(path_, **options)
    assert list(tmp_path.iterdir()) == []


# ---- warnings -----------------------------------------------------------------------------------------------------

STRANGE = TextWarning("unknown_language", "it is in a script that the model did not learn")
LONG = TextWarning("truncated", "only a part of it is read")


class Warned(DuplicatePipeline):
    """Warns of texts that are not of ASCII, and of long ones."""

    def text_warnings(self, texts: Any) -> Any:
        found: list[tuple[TextWarning, ...]] = []
        for text in texts:
            found.append((*([STRANGE] if not text.isascii() else []), *([LONG] if len(text) > 500 else [])))
        return found


@pytest.mark.parametrize("allowed", [False, True])
def test_a_language_that_was_not_learned_goes_to_review(path: Path, pipeline: DuplicatePipeline, allowed: bool) -> None:
    judge = Warned(
        WordScorer(),
        WordEmbedder(),
        calibrator=pipeline.calibrator,
        rule=pipeline.rule,
        allow_unknown_language=allowed,
    )
    decided = Decision.DUPLICATE if allowed else Decision.REVIEW
    asked = "когда начинается турнир по шахматам в городе"
    with QuestionIndex(path, judge) as index:
        index.add([1, 2], [f"{asked} завтра", "Who invented chess?"])
        new, copy, plain, long = index.flag_all(
            [asked, f"{asked} завтра?", "Who was it that invented chess?", "Who invented chess? " * 40]
        )
        assert new.warnings == (STRANGE,)
        assert (new.flags[0].id, new.flags[0].decision, new.flags[0].warnings) == (1, decided, (STRANGE,))
        assert new.at(threshold=0.01).flags[0].decision is decided
        assert copy.flags[0].decision is Decision.DUPLICATE
        assert plain.warnings == ()
        assert (plain.flags[0].id, plain.flags[0].warnings) == (2, ())
        # The stored question's language counts as much as the new one's.
        assert plain.at(threshold=1e-9).flags[-1].decision is decided
        assert plain.at(threshold=1e-9).flags[0].decision is Decision.DUPLICATE
        assert long.warnings == (LONG,)
        assert long.at(threshold=0.01).warnings == (LONG,)


def test_long_texts_are_stored_and_flagged_whole(path: Path, pipeline: DuplicatePipeline) -> None:
    post = "Who invented chess? " * 8000
    with QuestionIndex(path, pipeline) as index:
        index.add([1, 2], [post, "Who invented go?"])
        report = index.flag(f"{post} ", k=1)
        assert (report.flags[0].id, report.flags[0].copy, report.flags[0].text) == (1, True, post)


def test_the_index_of_the_tests_is_what_it_was(filled: QuestionIndex) -> None:
    assert stored(filled) == dict(zip(IDS, TEXTS, strict=True))


@pytest.mark.parametrize("form", ["float16", "float32"])
def test_vectors_keep_the_form_that_a_new_index_was_given(path: Path, pipeline: DuplicatePipeline, form: Any) -> None:
    other = "float32" if form == "float16" else "float16"
    for number, given in enumerate([form, form, None]):
        with QuestionIndex(path, pipeline, vectors=given) as index:
            index.add([number], [TEXTS[number]])
            assert index.add([number], [TEXTS[number]]).unchanged == 1
    with QuestionIndex(path, pipeline) as index, index._store.reading() as view:
        (model,) = view.models()
        assert model.form == form
        np.testing.assert_array_equal(view.changes(None).vectors, WordEmbedder().embed(TEXTS[:3]).astype(form))
    for given in (pipeline, None):
        with pytest.raises(InputError, match=f"vectors must be {form}, as this index stores them, got {other}"):
            QuestionIndex(path, given, vectors=other)
