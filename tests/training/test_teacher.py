"""The teacher that is made of a pipeline's own networks."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from dupq.cli.main import main
from dupq.data.grouping import holds_trained
from dupq.data.pairs import PairTable
from dupq.data.text import fingerprints
from dupq.errors import InputError
from dupq.models.idf_overlap import IdfOverlap
from dupq.models.sentence_transformers_io import (
    QUESTIONS,
    TRAINED_ON,
    read_fingerprints,
    write_fingerprints,
)
from dupq.pipeline import SHIPPED
from dupq.training.teacher import fit_stacked_teacher, read_soft_labels
from dupq.types import Progress
from tests.fakes import WordEmbedder, WordScorer
from tests.questions import labelled_table

CORPUS = ["Is chess fun?", "Is go fun?", "Is archery dangerous?", "Is chess fun?"]


def test_the_stack_corrects_networks_that_count_words_for_too_much() -> None:
    """Pairs whose label is what the scorer says, less what the shared words say: the stack finds both weights."""
    pairs = labelled_table()
    scorer, shared = WordScorer(), IdfOverlap.of([*pairs.left, *pairs.right])
    truth = scorer.score(pairs.left, pairs.right) - 30 * shared.score(pairs.left, pairs.right)
    held_out = PairTable(pairs.left, pairs.right, (truth > np.median(truth)).astype(np.int8))
    teacher = fit_stacked_teacher(scorer, WordEmbedder(), held_out, [*pairs.left, *pairs.right])
    told = teacher.score(pairs.left, pairs.right)
    assert ((told > 0) == (held_out.labels == 1)).mean() > 0.95
    assert ((scorer.score(pairs.left, pairs.right) > 0) == (held_out.labels == 1)).mean() < 0.8


class Shifted:
    """Knows every label to within noise, but was trained on too many duplicates: its logit is three too high."""

    fingerprint = "shifted"

    def __init__(self, pairs: PairTable) -> None:
        noisy = 4.0 * pairs.labels - 2.0 + 2.0 * np.random.default_rng(0).standard_normal(len(pairs)) + 3.0
        self.scores = dict(zip(zip(pairs.left, pairs.right, strict=True), noisy.tolist(), strict=True))

    def score(self, left: Sequence[str], right: Sequence[str], progress: Progress | None = None) -> NDArray[np.float64]:
        return np.array([self.scores[pair] for pair in zip(left, right, strict=True)])


def test_a_larger_network_joins_and_its_prior_is_taken_off() -> None:
    pairs = labelled_table()
    other, alone = Shifted(pairs), fit_stacked_teacher(WordScorer(), WordEmbedder(), pairs, pairs.left)
    teacher = fit_stacked_teacher(WordScorer(), WordEmbedder(), pairs, pairs.left, others=[other])
    told, without = (by.score(pairs.left, pairs.right) for by in (teacher, alone))
    assert average_precision_score(pairs.labels, told) > average_precision_score(pairs.labels, without) + 0.1
    probability, raw = (1 / (1 + np.exp(-logits)) for logits in (told, other.score(pairs.left, pairs.right)))
    assert probability.mean() == pytest.approx(pairs.labels.mean(), abs=0.02)
    assert raw.mean() > pairs.labels.mean() + 0.1


def test_labels_of_one_kind_weigh_nothing() -> None:
    pairs = labelled_table()
    with pytest.raises(InputError, match="both labels"):
        fit_stacked_teacher(WordScorer(), WordEmbedder(), pairs.take(pairs.labels == 1), pairs.left)


def test_the_command_judges_by_a_whole_pipeline(
    tiny_bi_encoder: Path, tiny_cross_encoder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    every = labelled_table()
    every = every.take(np.arange(0, len(every), 7))
    pairs = every.take(~holds_trained(read_fingerprints(SHIPPED / TRAINED_ON), every.left, every.right))
    rows = [
        json.dumps({"question1": a, "question2": b, "label": y}) + "\n"
        for a, b, y in zip(pairs.left, pairs.right, pairs.labels.tolist(), strict=True)
    ]
    held_out, unlabelled, told = (tmp_path / f"{name}.jsonl" for name in ("held-out", "unlabelled", "told"))
    held_out.write_text("".join(rows))
    bare = [{"question1": a, "question2": b} for a, b in zip(pairs.left, pairs.right, strict=True)]
    unlabelled.write_text("".join(json.dumps(row) + "\n" for row in bare))
    command = ["distill", "soft-labels", unlabelled, "-o", told, "--pipeline", SHIPPED]
    assert main(list(map(str, command))) == 2  # without pairs that set the weights
    command += ["--held-out", held_out]
    assert main(list(map(str, [*command, "--encoder", tiny_bi_encoder]))) == 2  # and with one judge too many
    assert "--encoder excludes" in capsys.readouterr().err
    assert main(list(map(str, command))) == 0
    table = read_soft_labels(told)
    assert len(table.pairs) == len(pairs)
    assert 0 <= table.soft_labels.min() < 0.5 < table.soft_labels.max() <= 1
    # Labels that a larger network has learned cannot weigh it; one that has not met these questions joins.
    large = shutil.copytree(tiny_cross_encoder, tmp_path / "large")
    write_fingerprints(large / QUESTIONS, fingerprints(pairs.left[:1]))
    assert main(list(map(str, [*command, "--teacher", large]))) == 2
    assert "weigh the teacher" in capsys.readouterr().err
    write_fingerprints(large / QUESTIONS, fingerprints(["What is not among them?"]))
    assert main(list(map(str, [*command, "--teacher", large]))) == 0
    assert len(read_soft_labels(told).pairs) == len(pairs)
