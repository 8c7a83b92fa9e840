from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from dupq.cli.main import main
from dupq.data.splits import PairTable
from dupq.errors import InputError
from dupq.training.distillation import RANKS
from dupq.training.long_texts import long_pairs
from tests.questions import labelled_table
from tests.training.test_distillation import LetterEmbedder


def parts(text: str, known: set[str]) -> list[str]:
    """The questions that a long text was made of; fails where it was not made of known ones alone."""
    found: list[str] = []
    words, start = text.split(" "), 0
    while start < len(words):
        end = next(end for end in range(len(words), start, -1) if " ".join(words[start:end]) in known)
        found.append(" ".join(words[start:end]))
        start = end
    return found


def test_a_long_text_is_a_question_and_near_neighbours_of_it() -> None:
    pairs = labelled_table()
    texts = sorted({*pairs.left, *pairs.right})
    likeness = LetterEmbedder().embed(texts) @ LetterEmbedder().embed(texts).T
    made = long_pairs(pairs, LetterEmbedder(), 60, sentences=3)
    assert len(made) == 60
    assert (made.labels == -1).all()
    sizes, near = set(), 0
    for pair in zip(made.left, made.right, strict=True):
        (one, *_), (other, *_) = both = [parts(text, set(texts)) for text in pair]
        assert one != other
        near += bool((likeness[texts.index(one)] > likeness[texts.index(one), texts.index(other)]).sum() <= max(RANKS))
        for first, *more in both:
            sizes.add(1 + len(more))
            assert len({first, *more}) == 1 + len(more)
            row = likeness[texts.index(first)]
            assert all((row > row[texts.index(text)] + 1e-6).sum() <= max(RANKS) for text in more)
        assert one not in both[1]
        assert other not in both[0]
    assert sizes == {1, 2, 3}
    assert 60 > near > 40  # a fifth of the second texts begin anywhere
    assert len({parts(text, set(texts))[0] for text in made.left}) == 60


def test_the_same_seed_makes_the_same_long_texts() -> None:
    one, again, other = (long_pairs(labelled_table(), LetterEmbedder(), 20, seed=seed) for seed in (1, 1, 2))
    assert (one.left, one.right) == (again.left, again.right)
    assert one.left != other.left


def test_no_long_text_from_too_little() -> None:
    with pytest.raises(InputError, match="sentences = 1 makes no long text"):
        long_pairs(labelled_table(), LetterEmbedder(), 5, sentences=1)
    few = PairTable(["a b"], ["b c"], np.array([1], dtype=np.int8))
    with pytest.raises(InputError, match="2 questions are too few"):
        long_pairs(few, LetterEmbedder(), 5)


def test_long_texts_by_the_command(tmp_path: Path, tiny_bi_encoder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = labelled_table()
    source, made = tmp_path / "train.jsonl", tmp_path / "long.jsonl"
    rows = zip(table.left, table.right, table.labels.tolist(), strict=True)
    source.write_text("".join(json.dumps({"question1": a, "question2": b, "label": y}) + "\n" for a, b, y in rows))
    command = ["distil", "candidates", str(source), "-o", str(made), "--bi-encoder", str(tiny_bi_encoder)]
    assert main([*command, "--count", "20", "--sentences", "4"]) == 0
    lines = [json.loads(line) for line in made.read_text().splitlines()]
    assert len(lines) == 20
    assert max(len(line["question1"]) for line in lines) > max(map(len, table.left))
    assert main([*command, "--sentences", "0"]) != 0
    assert "--sentences 0" in capsys.readouterr().err
