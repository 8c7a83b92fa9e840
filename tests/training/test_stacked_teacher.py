"""The teacher that is made of a pipeline's own networks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dupq.cli.main import main
from dupq.data.grouping import holds_trained
from dupq.data.splits import PairTable
from dupq.errors import InputError
from dupq.models.shared_words import SharedWords
from dupq.models.stock import TRAINED_ON, read_fingerprints
from dupq.pipeline import SHIPPED
from dupq.training.distillation import read_targets
from dupq.training.stacked_teacher import stacked_teacher
from tests.fakes import WordEmbedder, WordScorer
from tests.questions import labelled_table

CORPUS = ["Is chess fun?", "Is go fun?", "Is archery dangerous?", "Is chess fun?"]


def test_the_stack_corrects_networks_that_count_words_for_too_much() -> None:
    """Pairs whose label is what the scorer says, less what the shared words say: the stack finds both weights."""
    pairs = labelled_table()
    scorer, shared = WordScorer(), SharedWords.of([*pairs.left, *pairs.right])
    truth = scorer.score(pairs.left, pairs.right) - 30 * shared.score(pairs.left, pairs.right)
    held_out = PairTable(pairs.left, pairs.right, (truth > np.median(truth)).astype(np.int8))
    teacher = stacked_teacher(scorer, WordEmbedder(), held_out, [*pairs.left, *pairs.right])
    told = teacher.score(pairs.left, pairs.right)
    assert ((told > 0) == (held_out.labels == 1)).mean() > 0.95
    assert ((scorer.score(pairs.left, pairs.right) > 0) == (held_out.labels == 1)).mean() < 0.8


def test_labels_of_one_kind_weigh_nothing() -> None:
    pairs = labelled_table()
    with pytest.raises(InputError, match="both labels"):
        stacked_teacher(WordScorer(), WordEmbedder(), pairs.take(pairs.labels == 1), pairs.left)


def test_the_command_judges_by_a_whole_pipeline(tmp_path: Path) -> None:
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
    command = ["distil", "targets", unlabelled, "-o", told, "--pipeline", SHIPPED]
    assert main(list(map(str, command))) == 2  # without pairs that set the weights
    assert main(list(map(str, [*command, "--held-out", held_out]))) == 0
    table = read_targets(told)
    assert len(table.pairs) == len(pairs)
    assert 0 <= table.targets.min() < 0.5 < table.targets.max() <= 1
