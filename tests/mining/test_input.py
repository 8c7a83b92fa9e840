"""What mining takes: sequences of every kind by position, frames, dates, and what it refuses."""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from dupq.decisions.thresholds import Policy
from dupq.errors import InputError, NotCalibratedError
from dupq.mining.find_duplicates import MiningSettings, find_duplicates
from dupq.mining.results import MiningResult
from dupq.pipeline import DuplicatePipeline
from dupq.types import TextWarning
from tests.questions import INTENTS, THINGS

SETTINGS = MiningSettings(min_cosine=0.5)
TEXTS = [phrase.format(thing=thing) for thing in THINGS[:4] for asked in INTENTS for phrase in asked]
IDS = [1000 + 7 * at for at in range(len(TEXTS))]
TEXT_OF = dict(zip(IDS, TEXTS, strict=True))
ORDER = np.random.default_rng(3).permutation(len(TEXTS))


def frame() -> pd.DataFrame:
    """Questions in an order that is not that of their index."""
    return pd.DataFrame({"id": IDS, "question": TEXTS}, index=range(len(TEXTS))).iloc[ORDER]


def pairs_of(result: MiningResult) -> dict[frozenset[Any], float]:
    return {frozenset((row["id1"], row["id2"])): row["probability"] for row in result.rows(all_pairs=True)}


@pytest.fixture(scope="module")
def wanted(pipeline: DuplicatePipeline) -> dict[frozenset[Any], float]:
    found = pairs_of(find_duplicates(pipeline, TEXTS, ids=IDS, settings=SETTINGS))
    assert len(found) > 100
    return found


KINDS: dict[str, Callable[[list[Any]], Any]] = {
    "tuple": tuple,
    "generator": iter,
    "numpy": np.array,
    "numpy objects": lambda values: np.array(values, dtype=object),
    "pandas": pd.Series,
    "pandas, shuffled index": lambda values: pd.Series(values, index=np.random.default_rng(3).permutation(len(values))),
    "pandas index": pd.Index,
    "polars": pl.Series,
    "arrow": pa.array,
}


@pytest.mark.parametrize("kind", KINDS)
def test_sequences_go_by_position(pipeline: DuplicatePipeline, wanted: dict[frozenset[Any], float], kind: str) -> None:
    texts, ids = [TEXTS[at] for at in ORDER], [IDS[at] for at in ORDER]
    result = find_duplicates(pipeline, KINDS[kind](texts), ids=KINDS[kind](ids), settings=SETTINGS)
    assert pairs_of(result) == pytest.approx(wanted)
    groups = result.groups()
    rows = [*result.rows(groups), *result.group_rows(groups)]
    json.dumps([rows, result.summary()], allow_nan=False)
    for row in result.rows():
        assert (type(row["id1"]), type(row["question1"])) == (int, str)
        assert (TEXT_OF[row["id1"]], TEXT_OF[row["id2"]]) == (row["question1"], row["question2"])


@pytest.mark.parametrize("kind", KINDS)
def test_an_older_collection_may_be_of_any_kind(pipeline: DuplicatePipeline, kind: str) -> None:
    made = KINDS[kind]
    result = find_duplicates(
        pipeline, made(TEXTS[:40]), against=made(TEXTS[30:]), ids=made(["n" + t for t in TEXTS[:40]] + TEXTS[30:]),
        created=made([1.6e9 + at for at in range(82)]), settings=SETTINGS,
    )  # fmt: skip
    rows = list(result.rows())
    assert sum(row["kind"] == "copy" for row in rows) == 10
    assert all(row["id1"] == "n" + row["question1"] and row["id2"] == row["question2"] for row in rows)
    json.dumps(rows)


@pytest.mark.parametrize("make", [lambda f: f, pl.from_pandas, lambda f: pa.table(f.reset_index(drop=True))])
def test_frames_give_texts_and_ids(
    pipeline: DuplicatePipeline, wanted: dict[frozenset[Any], float], make: Callable[[Any], Any]
) -> None:
    result = find_duplicates(pipeline, make(frame()), settings=SETTINGS)
    assert pairs_of(result) == pytest.approx(wanted)
    renamed = frame().rename(columns={"id": "key", "question": "heading"}).assign(body=None, asked="2024-05-01")
    named: dict[str, Any] = {"id_column": "key", "text_columns": ["heading", "body"], "created_column": "asked"}
    result = find_duplicates(pipeline, make(renamed), settings=SETTINGS, **named)
    assert pairs_of(result) == pytest.approx(wanted)
    assert result.groups(representative="oldest")


def test_columns_are_joined_where_they_are_there(pipeline: DuplicatePipeline) -> None:
    table = pd.DataFrame({"id": [1, 2, 3, 4], "title": ["Why?", "How?", None, "What?"], "body": ["so", None, "b", " "]})
    result = find_duplicates(pipeline, table, text_columns=["title", "body"])
    assert result.questions.texts == ["Why?\nso", "How?", "b", "What?"]
    bare = find_duplicates(pipeline, pl.DataFrame({"title": ["Why?", "Why"]}), text_columns="title")
    assert [{row["id1"], row["id2"]} for row in bare.rows()] == [{0, 1}]


def test_two_frames_bring_their_own_ids(pipeline: DuplicatePipeline) -> None:
    new, old = frame()[:40], frame()[30:].assign(id=lambda table: table["id"] + 5000)
    result = find_duplicates(pipeline, new, against=old, settings=SETTINGS)
    assert all(row["id1"] < 5000 <= row["id2"] for row in result.rows())
    with pytest.raises(InputError, match="ids must be unique"):
        find_duplicates(pipeline, new, against=frame())
    with pytest.raises(InputError, match="one collection has ids, the other has none"):
        find_duplicates(pipeline, new, against=TEXTS)


@pytest.mark.parametrize(
    ("created", "oldest"),
    [
        ([pd.Timestamp("2022-05-01"), pd.NaT, pd.Timestamp("2021-12-30")], 2),
        (pd.Series([pd.NaT, pd.Timestamp("2022-05-01"), pd.Timestamp("2021-12-30")]), 2),
        (pl.Series([datetime.date(2022, 5, 1), datetime.date(2021, 12, 30), None]), 1),
        ([1_700_000_000, 999_999_999, 1_600_000_000_000], 1),
        (["2022-05-01", "2021-12-30T12:00:00Z", None], 1),
        (np.array(["2022-05-01", "NaT", "2021-12-30"], "datetime64[s]"), 2),
        ([None, None, 1_700_000_000], 2),
    ],
)
def test_dates_of_every_kind_are_parsed(pipeline: DuplicatePipeline, created: Any, oldest: int) -> None:
    result = find_duplicates(pipeline, ["Why chess?", "why chess", "Why, chess"], created=created)
    (group,) = result.groups(representative="oldest")
    assert group.representative == oldest


def test_ambiguous_dates_need_a_format(pipeline: DuplicatePipeline) -> None:
    texts, dates = ["Why chess?", "why chess"], ["1/5/2022", "30/4/2022"]
    with pytest.raises(InputError, match="created 1"):
        find_duplicates(pipeline, texts, created=dates)
    result = find_duplicates(pipeline, texts, created=dates, date_format="%d/%m/%Y")
    assert result.groups(representative="oldest")[0].representative == 1
    with pytest.raises(InputError, match="needs dates, and no question has one"):
        find_duplicates(pipeline, texts, created=[None, pd.NaT]).groups(representative="oldest")


def test_bad_texts_can_be_left_out(pipeline: DuplicatePipeline, wanted: dict[frozenset[Any], float]) -> None:
    bad = [None, " ", float("nan"), 7, "\ud800"]
    texts, ids = [*bad[:3], *TEXTS[:40], *bad[3:], *TEXTS[40:]], [*range(3), *IDS[:40], 3, 4, *IDS[40:]]
    with pytest.raises(InputError, match="questions, text 1"):
        find_duplicates(pipeline, texts, ids=ids, settings=SETTINGS)
    dates = [1.6e9 + at for at in range(len(texts))]
    result = find_duplicates(pipeline, texts, ids=ids, created=dates, settings=SETTINGS, on_error="skip")
    assert pairs_of(result) == pytest.approx(wanted)
    summary = result.summary()
    assert (summary["questions"], summary["left_out"]) == (len(TEXTS), 5)
    places = [line.split(":")[0] for line in summary["left_out_rows"]]
    assert places == [f"questions, text {number}" for number in (1, 2, 3, 44, 45)]
    both = find_duplicates(pipeline, ["Why?", None], against=["", "why"], on_error="skip")
    assert [(row["id1"], row["id2"]) for row in both.rows()] == [(0, 3)]
    assert both.left_out[1].startswith("against, text 1")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"questions": "Why?"}, "questions must be a sequence, got one str"),
        ({"questions": {"Why?": 1}}, "questions must be a sequence, got dict"),
        ({"questions": 7}, "questions must be a sequence, got int"),
        ({"against": "Why?"}, "against must be a sequence, got one str"),
        ({"ids": "ab"}, "ids must be a sequence, got one str"),
        ({"ids": [1.0, 2.0]}, "ids 1"),
        ({"ids": [None, 2]}, "ids 1"),
        ({"ids": np.array([5, 5])}, "ids must be unique, got 5 for questions 1 and 2"),
        ({"ids": [1]}, "ids must have one value for each of 2 questions, got 1"),
        ({"created": ["2024-01-01"]}, "created must have one value for each of 2 questions, got 1"),
        ({"created": ["yesterday", None]}, "created 1"),
        ({"settings": {}}, "settings must be of class MiningSettings, got dict"),
        ({"settings": {"min_cosine": 0.5}}, "settings must be of class MiningSettings"),
        ({"settings": 0}, "settings must be of class MiningSettings, got int"),
        ({"on_error": "ignore"}, "on_error must be"),
        ({"text_columns": "title"}, "columns need a frame"),
        ({"questions": pd.DataFrame({"x": ["Why?"]})}, "no column of questions was found"),
        ({"questions": pd.DataFrame({"text": ["Why?"]}), "id_column": "key"}, "there is no column 'key'"),
        ({"questions": pl.DataFrame({"text": ["Why?"]}).lazy()}, "frame.collect"),
        ({"questions": pd.DataFrame([["Why?", "How?"]], columns=["text", "text"])}, "two columns have one name"),
        ({"questions": pd.DataFrame([["Why?", "How?"]])}, "column names must be str"),
        ({"questions": pd.DataFrame({"text": [7, 8]})}, "questions, text 1"),
        ({"questions": pd.DataFrame({"text": ["Why?"], "id": [0.5]})}, "ids 1"),
        ({"work": 7}, "work must be a path, got int"),
    ],
)
def test_what_cannot_be_meant_is_one_clear_error(
    pipeline: DuplicatePipeline, arguments: dict[str, Any], told: str
) -> None:
    given = {"questions": ["Why?", "How?"], **arguments}
    with pytest.raises(InputError) as error:
        find_duplicates(pipeline, given.pop("questions"), **given)
    assert told in str(error.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"min_cosine": "0.8"},
        {"min_cosine": True},
        {"min_cosine": float("nan")},
        {"max_pairs": 1.5},
        {"max_pairs": "many"},
        {"max_judged": "all"},
        {"approximate_above": None},
        {"approximate_above": 0},
        {"base_rate": 0},
        {"base_rate": 1.0},
        {"base_rate": "half"},
    ],
)
def test_settings_of_a_wrong_type_or_range_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        MiningSettings(**settings)


@pytest.mark.parametrize(
    "choice", [{"linkage": "nonsense"}, {"linkage": None}, {"representative": "x"}, {"representative": 1}]
)
def test_groups_name_their_choices(pipeline: DuplicatePipeline, choice: dict[str, Any]) -> None:
    for texts in (TEXTS[:9], []):
        result = find_duplicates(pipeline, texts, settings=SETTINGS)
        with pytest.raises(InputError, match="must be one of") as error:
            result.groups(**choice)
        assert ("average, complete, connected" if "linkage" in choice else "central, oldest") in str(error.value)


@pytest.mark.parametrize("against", [None, TEXTS[10:60], TEXTS])
@pytest.mark.parametrize("max_pairs", [1, 20, 60])
@pytest.mark.parametrize("above", [10, 10_000])
@pytest.mark.parametrize("neighbours", [0, 3])
def test_what_was_left_out_is_stated_from_below(
    pipeline: DuplicatePipeline,
    against: list[str] | None,
    max_pairs: int,
    above: int,
    neighbours: int,
    caplog: pytest.LogCaptureFixture,
) -> None:
    ids, wanted = range(len(TEXTS) + len(against or ())), replace(SETTINGS, neighbours=neighbours)
    whole, cut = (
        find_duplicates(pipeline, TEXTS, against=against, ids=ids, settings=replace(wanted, **limit))
        for limit in ({}, {"max_pairs": max_pairs, "approximate_above": above})
    )
    summary = cut.summary()
    assert summary["truncated"]
    assert [record.name for record in caplog.records] == ["dupq.mining.find_duplicates"]
    assert len(cut.left) == max_pairs
    assert 0 < summary["dropped_at_least"] <= len(whole.left) - len(cut.left)
    complete = {pair for pair, cosine in cosines(whole).items() if cosine >= summary["complete_above"]}
    if summary["exact"]:
        assert complete <= cosines(cut).keys()


def cosines(result: MiningResult) -> dict[frozenset[Any], float]:
    return {
        frozenset((row["id1"], row["id2"])): row["cosine"]
        for row in result.rows(all_pairs=True)
        if row["kind"] != "copy"
    }


# ---- languages ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reading(DuplicatePipeline):
    """Warns of texts that are not ASCII."""

    def text_warnings(self, texts: Any) -> Any:
        return [() if text.isascii() else (TextWarning("unknown_language", "not ASCII"),) for text in texts]


def reading(pipeline: DuplicatePipeline, allowed: bool = False) -> Reading:
    values = {field.name: getattr(pipeline, field.name) for field in fields(pipeline)}
    return Reading(**{**values, "allow_unknown_language": allowed})


STRANGE = ["caf\u00e9 au lait o\u00f9 donc ici", "caf\u00e9 au lait o\u00f9 donc", "caf\u00e9 au lait o\u00f9 ici"]


@pytest.mark.parametrize("linkage", ["average", "complete", "connected"])
def test_a_text_of_an_unknown_language_is_no_duplicate_unless_allowed(
    pipeline: DuplicatePipeline, linkage: Any
) -> None:
    texts = [*STRANGE, STRANGE[1].upper(), *TEXTS[:18]]
    held, free = (find_duplicates(reading(pipeline, allowed), texts, settings=SETTINGS) for allowed in (False, True))
    of_strange = {
        frozenset((row["id1"], row["id2"])) for row in free.rows() if row["id1"] < 4 and row["kind"] != "copy"
    }
    assert len(of_strange) == 3
    for result in (held, held.at(threshold=0.2), held.at(base_rate=0.5), held.fold(), held.at(threshold=0.01)):
        rows = [row for row in result.rows() if row["id1"] < 4 and row["kind"] != "copy"]
        assert {row["decision"] for row in rows} == {"review"}
        groups = [group for group in result.groups(linkage=linkage) if min(group.members) < 4]
        assert [sorted(group.members) for group in groups] == [[1, 3]]  # a copy stays one
    assert [sorted(group.members) for group in free.groups(linkage=linkage) if min(group.members) < 4] == [[0, 1, 2, 3]]
    assert held.summary()["decisions"]["review"] == free.summary()["decisions"]["review"] + 3
    assert held.summary()["held_back_for_language"] == 3
    assert (held.summary()["unknown_language"], free.summary()["held_back_for_language"]) == (3, 0)
    english = [row for row in held.rows() if row["id1"] >= 4]
    assert [row["decision"] for row in english] == [row["decision"] for row in free.rows() if row["id1"] >= 4]
    assert {row["warnings"] for row in english} == {""}


# ---- thresholds and base rates ------------------------------------------------------------------------------------


def test_nothing_is_guaranteed_at_a_base_rate_without_evidence(pipeline: DuplicatePipeline) -> None:
    assert pipeline.rule is not None
    bare = replace(pipeline, rule=replace(pipeline.rule, table=None))
    decider = bare.decider.at(base_rate=0.001)
    assert decider.guarantee.startswith("no guarantee at base rate 0.001")
    result = find_duplicates(bare, TEXTS[:18], settings=replace(SETTINGS, base_rate=0.001))
    assert result.summary()["guarantee"].startswith(decider.guarantee)
    assert bare.decider.guarantee == pipeline.rule.guarantee
    with pytest.raises(NotCalibratedError):
        _ = replace(pipeline, rule=None).decider


def test_nothing_is_guaranteed_where_the_evidence_is_too_small(pipeline: DuplicatePipeline) -> None:
    strict = pipeline.with_policy(Policy.precision(0.5))
    assert strict.rule is not None
    decider = strict.decider.at(base_rate=2e-5)
    assert decider.guarantee.startswith("nothing is guaranteed at a base rate of 0.002%")
    assert strict.rule.guarantee not in decider.guarantee
    assert decider.rule is strict.rule  # flagging goes on
    result = find_duplicates(strict, TEXTS[:18], settings=replace(SETTINGS, base_rate=2e-5))
    assert result.summary()["guarantee"] == decider.guarantee
    own = find_duplicates(strict, TEXTS[:18], settings=SETTINGS).summary()["guarantee"]
    assert own == f"{strict.guarantee} (computed on the labelled calibration pairs, not on mined candidates)"
    assert decider.at(base_rate=2e-5).warning == decider.warning
    assert decider.at(base_rate=strict.decider.base_rate).warning is None


def test_a_threshold_by_hand_is_a_probability_at_the_given_base_rate(pipeline: DuplicatePipeline) -> None:
    result = find_duplicates(pipeline, TEXTS, settings=SETTINGS)
    moved = result.at(threshold=0.3, base_rate=0.05)
    assert ((moved.probabilities >= 0.3) == (moved.codes == 2)).all()
    assert moved.probabilities == pytest.approx(result.at(base_rate=0.05).probabilities)
    assert (moved.codes == 2).sum() < (result.at(threshold=0.3).codes == 2).sum()
    for wrong in ({"threshold": 0}, {"threshold": float("nan")}, {"threshold": "0.5"}, {"base_rate": 1.0}):
        with pytest.raises(InputError):
            result.at(**wrong)  # type: ignore[arg-type]


def test_a_result_is_short_to_look_at(pipeline: DuplicatePipeline) -> None:
    result = find_duplicates(pipeline, TEXTS, settings=SETTINGS)
    assert len(repr(result)) < 200
    assert "72 questions" in repr(result)
    assert result != find_duplicates(pipeline, TEXTS, settings=SETTINGS)
