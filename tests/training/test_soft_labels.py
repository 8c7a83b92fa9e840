from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sentence_transformers import CrossEncoder
from sklearn.linear_model import LogisticRegression

from dupq.cli.main import main
from dupq.data.pairs import PairTable
from dupq.data.text import normalise
from dupq.errors import InputError
from dupq.models.ensemble import CosineScorer
from dupq.training import teacher
from dupq.training.teacher import (
    RANKS,
    candidate_pairs,
    compute_soft_labels,
    cosine_teacher,
    read_mixed,
    read_soft_labels,
    write_soft_labels,
)
from dupq.training.trainer import TrainSettings, train
from tests.questions import labelled_table


class LetterEmbedder:
    """Counts letters: a likeness one can follow by hand."""

    fingerprint = "letters"
    dimensions = 26

    def embed(self, texts: list[str], progress: Any = None) -> NDArray[np.float32]:
        counts = np.array([[text.lower().count(letter) for letter in "abcdefghijklmnopqrstuvwxyz"] for text in texts])
        return (counts / np.linalg.norm(counts, axis=1, keepdims=True)).astype(np.float32)


class LengthTeacher:
    """Says logit = difference of lengths; can be told to stop after so many calls."""

    fingerprint = "lengths"

    def __init__(self, stop_after: int | None = None) -> None:
        self.calls = 0
        self.stop_after = stop_after

    def score(self, left: Any, right: Any, progress: Any = None) -> NDArray[np.float64]:
        if self.calls == self.stop_after:
            raise KeyboardInterrupt
        self.calls += 1
        return np.array([len(a) - len(b) for a, b in zip(left, right, strict=True)], dtype=np.float64)


def test_candidates_are_near_neighbours_that_nobody_labelled() -> None:
    pairs = labelled_table()
    found = candidate_pairs(pairs, LetterEmbedder(), 40)
    assert 20 <= len(found) <= 40
    assert (found.labels == -1).all()
    known = {frozenset(map(normalise, pair)) for pair in zip(pairs.left, pairs.right, strict=True)}
    drawn = [frozenset(map(normalise, pair)) for pair in zip(found.left, found.right, strict=True)]
    assert not known & set(drawn)
    assert len(set(drawn)) == len(drawn)
    assert all(len(pair) == 2 for pair in drawn)
    texts = sorted({*pairs.left, *pairs.right})
    likeness = LetterEmbedder().embed(texts) @ LetterEmbedder().embed(texts).T
    for a, b in zip(found.left, found.right, strict=True):
        row = likeness[texts.index(a)]
        assert (row > row[texts.index(b)] + 1e-6).sum() <= max(RANKS)  # the question itself is nearer too


def test_another_seed_draws_other_candidates_and_the_same_seed_the_same() -> None:
    pairs = labelled_table()
    one, again, other = (candidate_pairs(pairs, LetterEmbedder(), 30, seed=seed) for seed in (1, 1, 2))
    assert one.left == again.left
    assert one.right == again.right
    assert (one.left, one.right) != (other.left, other.right)


def test_candidates_may_have_to_be_alike() -> None:
    pairs = labelled_table()
    every = candidate_pairs(pairs, LetterEmbedder(), 10_000)
    found = (LetterEmbedder().embed(every.left) * LetterEmbedder().embed(every.right)).sum(axis=1)
    distinct = np.unique(found.round(4))
    # Between two cosines, so that rounding decides nothing.
    least = float(distinct[len(distinct) // 2 - 1 :][:2].mean())
    alike = candidate_pairs(pairs, LetterEmbedder(), 10_000, min_cosine=least)
    kept = found >= least
    assert 0 < kept.sum() < len(kept)
    assert list(zip(alike.left, alike.right, strict=True)) == [
        pair for pair, keep in zip(zip(every.left, every.right, strict=True), kept.tolist(), strict=True) if keep
    ]
    with pytest.raises(InputError, match="no unlabelled pair has a cosine of"):
        candidate_pairs(pairs, LetterEmbedder(), 30, min_cosine=1.0)
    for too_much in (1.5, float("nan")):
        with pytest.raises(InputError, match="min_cosine must be a number in"):
            candidate_pairs(pairs, LetterEmbedder(), 30, min_cosine=too_much)


def test_a_question_may_have_candidates_of_all_ranks() -> None:
    pairs = labelled_table()
    one, all_ranks = (candidate_pairs(pairs, LetterEmbedder(), 10_000, per_question=n) for n in (1, len(RANKS)))
    known = {frozenset(map(normalise, pair)) for pair in zip(pairs.left, pairs.right, strict=True)}
    texts = sorted({*pairs.left, *pairs.right})
    likeness = LetterEmbedder().embed(texts) @ LetterEmbedder().embed(texts).T
    np.fill_diagonal(likeness, -2.0)
    # By a slow loop; several texts have the same letters, so that a rank is known by its cosine alone.
    expected = [[np.sort(row)[::-1][rank - 1] for rank in RANKS] for row in likeness]
    drawn = [frozenset((a, b)) for a, b in zip(all_ranks.left, all_ranks.right, strict=True)]
    assert len(set(drawn)) == len(drawn) > len(one)
    assert not known & {frozenset(map(normalise, pair)) for pair in drawn}
    for a, b in drawn:
        first, second = texts.index(a), texts.index(b)
        assert np.isclose(likeness[first, second], [*expected[first], *expected[second]], atol=1e-6).any()
    for wrong in (0, len(RANKS) + 1):
        with pytest.raises(InputError, match=f"per_question must be an integer between 1 and 5, got {wrong}"):
            candidate_pairs(pairs, LetterEmbedder(), 30, per_question=wrong)


def test_too_few_questions_for_candidates() -> None:
    few = PairTable(["a b"], ["b c"], np.array([1], dtype=np.int8))
    with pytest.raises(InputError, match="2 questions are too few"):
        candidate_pairs(few, LetterEmbedder(), 5)


def test_a_soft_label_is_a_mean_of_the_teacher_and_the_label() -> None:
    pairs = PairTable(["aaa", "a", "aa"], ["a", "a", "aaa"], np.array([0, 1, -1], dtype=np.int8))
    table = compute_soft_labels(pairs, LengthTeacher(), teacher_weight=0.75)
    sure = 1 / (1 + np.exp(-2))
    assert table.soft_labels == pytest.approx([0.75 * sure, 0.75 * 0.5 + 0.25, 1 / (1 + np.exp(1))])
    with pytest.raises(InputError, match=r"teacher_weight must be .* got 1\.5"):
        compute_soft_labels(pairs, LengthTeacher(), teacher_weight=1.5)


def test_a_bi_encoder_teaches_by_what_the_labels_say_its_cosine_is_worth() -> None:
    pairs = labelled_table().take(np.arange(200))
    hidden = pairs.labels.copy()
    hidden[100:] = -1
    mixed = PairTable(pairs.left, pairs.right, hidden)
    table = compute_soft_labels(mixed, cosine_teacher(mixed, LetterEmbedder()), teacher_weight=1)
    cosines = CosineScorer(LetterEmbedder()).score(pairs.left, pairs.right)
    by_hand = LogisticRegression(C=1e6, max_iter=10_000).fit(cosines[:100, None], pairs.labels[:100])
    assert table.soft_labels == pytest.approx(by_hand.predict_proba(cosines[:, None])[:, 1], abs=2e-3)
    assert (np.diff(table.soft_labels[np.argsort(cosines)]) >= 0).all()


def test_a_cosine_cannot_teach_without_labels() -> None:
    pairs = labelled_table().take(np.arange(100))
    bare = PairTable(pairs.left, pairs.right, np.full(100, -1, dtype=np.int8))
    with pytest.raises(InputError, match="0 labelled pairs of a class are too few"):
        cosine_teacher(bare, LetterEmbedder())


@pytest.mark.parametrize("torn", [False, True])
def test_an_interrupted_teacher_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, torn: bool) -> None:
    monkeypatch.setattr(teacher, "CHUNK", 16)
    pairs, work = labelled_table().take(np.arange(100)), tmp_path / "work"
    with pytest.raises(KeyboardInterrupt):
        compute_soft_labels(pairs, LengthTeacher(stop_after=3), checkpoint=work)
    if torn:
        work.write_text(work.read_text()[:-5])  # as a crash in the middle of a line leaves it
    second = LengthTeacher()
    table = compute_soft_labels(pairs, second, checkpoint=work)
    assert second.calls == (5 if torn else 4)
    assert (table.soft_labels == compute_soft_labels(pairs, LengthTeacher()).soft_labels).all()
    assert not work.exists()


def test_what_another_teacher_left_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher, "CHUNK", 16)
    pairs, work = labelled_table().take(np.arange(40)), tmp_path / "work"
    with pytest.raises(KeyboardInterrupt):
        compute_soft_labels(pairs, LengthTeacher(stop_after=1), checkpoint=work)
    other = LengthTeacher()
    monkeypatch.setattr(other, "fingerprint", "another", raising=False)
    compute_soft_labels(pairs, other, checkpoint=work)
    assert other.calls == 3


def test_scores_of_the_same_pairs_in_another_order_are_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(teacher, "CHUNK", 16)
    pairs, work = labelled_table().take(np.arange(40)), tmp_path / "work"
    with pytest.raises(KeyboardInterrupt):
        compute_soft_labels(pairs, LengthTeacher(stop_after=1), checkpoint=work)
    turned = pairs.take(np.arange(40)[::-1])
    soft_labels = compute_soft_labels(turned, LengthTeacher(), checkpoint=work).soft_labels
    assert (soft_labels == compute_soft_labels(turned, LengthTeacher()).soft_labels).all()


def test_soft_labels_survive_the_file(tmp_path: Path) -> None:
    pairs = PairTable(["One?", "Two?"], ["1?", "Zwei?"], np.array([1, -1], dtype=np.int8))
    table = teacher.SoftLabelTable(pairs, np.array([0.25, 1.0]))
    for name in ("t.jsonl", "t.csv"):
        write_soft_labels(tmp_path / name, table)
        back = read_soft_labels(tmp_path / name)
        assert back.pairs.left == pairs.left
        assert back.pairs.labels.tolist() == [1, -1]
        assert back.soft_labels.tolist() == [0.25, 1.0]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"soft_label": 1.5}, "soft_label must be a number in .*got '1.5'"),
        ({"soft_label": "much"}, "soft_label must be a number in .*got 'much'"),
        ({"soft_label": None}, "soft_label must be a number in .*got ''"),
        ({"soft_label": float("nan"), "label": 1}, "soft_label must be a number in .*got 'nan'"),
        ({"soft_label": 0.5, "label": 2}, "the label must be 0, 1 or empty, got '2'"),
    ],
)
def test_a_bad_soft_label_names_its_row(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    path = tmp_path / "t.jsonl"
    good = {"question1": "a", "question2": "b", "label": 1, "soft_label": 0.5}
    path.write_text(json.dumps(good) + "\n" + json.dumps({"question1": "a", "question2": "b", **row}) + "\n")
    with pytest.raises(InputError, match=message) as caught:
        read_soft_labels(path)
    assert "row 2" in str(caught.value)


def test_a_row_without_a_soft_label_is_learned_by_its_label(tmp_path: Path) -> None:
    path = tmp_path / "t.jsonl"
    rows = [{"label": 1, "soft_label": 0.25}, {"label": 0}, {"label": 1, "soft_label": None}]
    path.write_text("".join(json.dumps({"question1": "a", "question2": "b", **row}) + "\n" for row in rows))
    assert read_soft_labels(path).soft_labels.tolist() == [0.25, 0, 1]
    with pytest.raises(InputError, match="no row has a soft label in the column 'soft'"):
        read_soft_labels(path, "soft")


def test_files_with_and_without_labels_are_read_together(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"question1": "a", "question2": "b", "label": 1, "natural": 0}\n' * 2)
    (tmp_path / "b.csv").write_text("question1,question2\nc,d\n")
    table = read_mixed([tmp_path / "a.jsonl", tmp_path / "b.csv"])
    assert table.labels.tolist() == [1, 1, -1]
    with pytest.raises(InputError, match="no pairs were read"):
        read_mixed([tmp_path / "a.jsonl"], {"natural": "1"})


def test_a_student_learns_the_soft_labels_not_the_labels(tiny_base: Path, tmp_path: Path) -> None:
    pairs = labelled_table()
    settings = TrainSettings(
        base=str(tiny_base), epochs=2, batch_size=32, learning_rate=3e-3, precision="float32", max_length=32
    )
    # Of the labels, 60 % are 1; the soft labels say that a fifth of those are duplicates.
    soft_labels = np.where((pairs.labels == 1) & (np.arange(len(pairs)) % 5 == 0), 1.0, 0.0)
    train("cross-encoder", pairs, tmp_path / "student", settings, soft_labels=soft_labels)
    model = CrossEncoder(str(tmp_path / "student"), device="cpu")
    scores = model.predict(list(zip(pairs.left, pairs.right, strict=True)))
    assert scores.mean() == pytest.approx(soft_labels.mean(), abs=0.06)


@pytest.mark.parametrize("soft_labels", [np.zeros(3), np.full(10, 2.0), np.full(10, 0.9), np.full(10, np.nan)])
def test_soft_labels_that_cannot_be_learned(tiny_base: Path, tmp_path: Path, soft_labels: NDArray[np.float64]) -> None:
    with pytest.raises(InputError, match=r"soft.labels"):
        train(
            "cross-encoder",
            labelled_table().take(np.arange(10)),
            tmp_path / "student",
            TrainSettings(base=str(tiny_base)),
            soft_labels=soft_labels,
        )


def test_frozen_layers_stay_as_they_are(tiny_base: Path, tmp_path: Path) -> None:
    settings = TrainSettings(
        base=str(tiny_base), max_steps=2, batch_size=8, freeze_layers=1, precision="float32", max_length=32
    )
    train("cross-encoder", labelled_table(), tmp_path / "network", settings)
    before = CrossEncoder(str(tiny_base), num_labels=1, device="cpu").state_dict()
    after = CrossEncoder(str(tmp_path / "network"), device="cpu").state_dict()
    name = next(name for name in after if "layer.0.output.dense.weight" in name)
    assert torch.equal(before[name], after[name])
    assert not torch.equal(before[name.replace("layer.0", "layer.1")], after[name.replace("layer.0", "layer.1")])


def test_freezing_every_layer_is_refused(tiny_base: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="below the 2 layers of this base, got 2"):
        train(
            "bi-encoder",
            labelled_table(),
            tmp_path / "n",
            TrainSettings(base=str(tiny_base), freeze_layers=2, max_length=32),
        )


def test_the_commands_from_pairs_to_a_student(
    tiny_base: Path, tiny_bi_encoder: Path, tiny_cross_encoder: Path, tmp_path: Path
) -> None:
    pairs = labelled_table()
    rows = zip(pairs.left, pairs.right, pairs.labels.tolist(), strict=True)
    source = tmp_path / "pairs.jsonl"
    source.write_text("".join(json.dumps({"question1": a, "question2": b, "label": y}) + "\n" for a, b, y in rows))
    candidates, soft = tmp_path / "candidates.jsonl", tmp_path / "soft.jsonl"
    find = ["distill", "candidates", source, "-o", candidates, "--bi-encoder", tiny_bi_encoder, "--count", "20"]
    contrast = tmp_path / "contrast.jsonl"
    make = ["distill", "contrast", source, "-o", contrast, "--per-kind", "3"]
    judge = ["distill", "soft-labels", source, candidates, "-o", soft, "--teacher", tiny_cross_encoder]
    student = tmp_path / "student"
    learn = ["train", "cross-encoder", soft, "--soft-labels", "soft_label", "--base", tiny_base, "-o", student]
    for command in (find, make, judge):
        assert main(list(map(str, command))) == 0
    soft.write_text(soft.read_text() + contrast.read_text())
    assert main(list(map(str, [*learn, "--max-steps", "2", "--batch-size", "8", "--max-length", "32"]))) == 0
    table = read_soft_labels(soft)
    made = read_mixed([contrast])
    assert len(table.pairs) == len(pairs) + 20 + len(made)
    assert (table.pairs.labels[len(pairs) :][:20] == -1).all()
    assert (table.soft_labels[-len(made) :] == made.labels).all()
    assert CrossEncoder(str(student), device="cpu").num_labels == 1
    assert not list(tmp_path.glob(".*"))
