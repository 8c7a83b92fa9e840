"""Distillation: a student learns a teacher's probabilities (Hinton et al. 2015).

A teacher's probability holds more than a label of 0 or 1, and an unlabelled pair can have one too: `candidate_pairs`
draws pairs that a bi-encoder finds alike (Augmented SBERT, Thakur et al. 2021), and `compute_soft_labels` scores them
with a teacher. A teacher is any scorer whose raw score is a logit: a larger cross-encoder, a bi-encoder
(`cosine_teacher`), or several networks stacked (`fit_stacked_teacher`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dupq.calibration.numerics import expit
from dupq.data.arguments import as_int, as_number, as_seed
from dupq.data.pairs import PairTable, load_pairs
from dupq.data.reading import LABEL_COLUMNS, Columns, FileOptions, ReadReport, read_rows
from dupq.data.text import fingerprint
from dupq.data.writing import write_rows
from dupq.errors import InputError, OutputError
from dupq.models.batching import chunks
from dupq.models.ensemble import BlendScorer, CosineScorer, fit_blend, fit_weights
from dupq.models.fingerprint import combined_fingerprint
from dupq.models.idf_overlap import IdfOverlap
from dupq.types import Embedder, Progress, Scorer

SOFT_LABEL = "soft_label"
"""Default column of soft labels in a file of pairs."""
RANKS = (1, 2, 4, 8, 16)
"""Neighbour ranks of candidates: near neighbours are mostly duplicates, far ones mostly distinct."""
CHUNK = 2048
"""Questions per matrix product, and pairs between two writes of a checkpoint."""


@dataclass(frozen=True, slots=True)
class SoftLabelTable:
    """n pairs with their soft labels.

    Attributes:
        pairs: The pairs; an unknown label is -1.
        soft_labels: float64 array (n,) in [0, 1].
    """

    pairs: PairTable
    soft_labels: NDArray[np.float64]


def candidate_pairs(
    pairs: PairTable,
    embedder: Embedder,
    count: int,
    *,
    min_cosine: float = -1.0,
    per_question: int = 1,
    seed: int = 0,
    progress: Progress | None = None,
) -> PairTable:
    """Draw unlabelled pairs of near neighbours among the questions of labelled pairs.

    The rank of each neighbour is drawn from `RANKS`, so that easy and hard pairs both occur. Pairs with a known label
    and exact duplicates are left out.

    Args:
        pairs: Labelled pairs of a training split.
        embedder: Bi-encoder that finds the neighbours.
        count: Maximum number of pairs.
        min_cosine: Minimum cosine of a pair, in [-1, 1]. A high one saves the teacher the easy pairs.
        per_question: Number of ranks drawn for each question, from 1 to len(RANKS).
        seed: Seed of the draw.
        progress: Called with (questions searched, questions).

    Returns:
        At most `count` pairs, with the label -1.

    Raises:
        InputError: An argument is out of range, there are too few questions, or no pair reaches `min_cosine`.
    """
    import torch

    check_candidate_options(count, min_cosine, per_question, seed)
    texts = sorted({*pairs.left, *pairs.right})
    if len(texts) <= max(RANKS):
        raise InputError(f"{len(texts)} questions are too few to find candidates among", hint="give more pairs")
    prints = {text: fingerprint(text) for text in texts}
    labelled = {frozenset((prints[a], prints[b])) for a, b in zip(pairs.left, pairs.right, strict=True)}
    vectors = torch.from_numpy(embedder.embed(texts))
    draw = np.random.default_rng(seed)
    order = draw.permutation(len(texts))
    found: dict[frozenset[int], tuple[int, int]] = {}
    for part in chunks(len(order), CHUNK):
        rows = order[part]
        cosines = vectors[torch.from_numpy(rows)] @ vectors.T
        cosines[torch.arange(len(rows)), torch.from_numpy(rows)] = -2.0
        nearest = cosines.topk(max(RANKS), dim=1)
        ranks = draw.permuted(np.tile(RANKS, (len(rows), 1)), axis=1)[:, :per_question] - 1
        neighbours, drawn_cosines = (
            np.take_along_axis(values.numpy(), ranks, axis=1).ravel().tolist()
            for values in (nearest.indices, nearest.values.float())
        )
        for row, other, cosine in zip(np.repeat(rows, per_question).tolist(), neighbours, drawn_cosines, strict=True):
            key = frozenset((prints[texts[row]], prints[texts[other]]))
            if len(key) == 2 and key not in labelled and cosine >= min_cosine:
                found.setdefault(key, (row, other))
        if progress:
            progress(part.stop, len(order))
        if len(found) >= count:
            break
    if not found and min_cosine > -1:
        raise InputError(f"no unlabelled pair has a cosine of {min_cosine:g} or more", hint="lower min_cosine")
    drawn = list(found.values())[:count]
    return PairTable([texts[a] for a, _ in drawn], [texts[b] for _, b in drawn], np.full(len(drawn), -1, dtype=np.int8))


def check_candidate_options(count: int, min_cosine: float, per_question: int, seed: int) -> None:
    """Raise InputError for an option of `candidate_pairs` that is out of range."""
    as_int(count, "count", 1)
    as_number(min_cosine, "min_cosine", -1, 1)
    as_int(per_question, "per_question", 1, len(RANKS), f"candidates have {len(RANKS)} ranks")
    as_seed(seed)


def cosine_teacher(pairs: PairTable, embedder: Embedder) -> Scorer:
    """Fit a teacher on a bi-encoder's cosine, by logistic regression (Platt 1999).

    An encoder that was not trained on these pairs keeps a student from forgetting other kinds of text (learning
    without forgetting, Li & Hoiem 2016).

    Args:
        pairs: Pairs of which at least 20 duplicates and 20 distinct pairs have a label; unlabelled ones are ignored.
        embedder: Bi-encoder.

    Returns:
        A scorer for `compute_soft_labels`.

    Raises:
        InputError: Too few labels, or duplicates are no nearer to each other than distinct pairs.
    """
    labelled = pairs.take(pairs.labels >= 0)
    fewest = min(int((labelled.labels == label).sum()) for label in (0, 1))
    if fewest < 20:
        raise InputError(
            f"{fewest} labelled pairs of a class are too few to fit a probability to a cosine",
            hint="give at least 20 duplicates and 20 distinct pairs with labels",
        )
    return fit_blend([CosineScorer(embedder)], labelled.left, labelled.right, labelled.labels)


def fit_stacked_teacher(
    cross_encoder: Scorer,
    bi_encoder: Embedder,
    held_out: PairTable,
    corpus: Iterable[str],
    *,
    others: Sequence[Scorer] = (),
) -> Scorer:
    """Stack a cross-encoder, a cosine and the IDF overlap (Wolpert 1992).

    The weights are those of a logistic regression. No larger network is needed: teaching a network by an ensemble that
    holds it is self-distillation (Born-Again Neural Networks, Furlanello et al. 2018). The weight of the IDF overlap
    may be negative, because networks overestimate pairs that share most of their words.

    Args:
        cross_encoder: First member; use one that scores both orders.
        bi_encoder: Second member, by its cosine.
        held_out: Pairs of both labels that no member was trained on. Only the weights are fitted to them.
        corpus: Texts in which the document frequencies are counted.
        others: Further members, such as a larger cross-encoder. One trained at another base rate may join: its logit
            is off by a constant (Prentice & Pyke 1979), which the fitted offset removes.

    Returns:
        A scorer for `compute_soft_labels`; its score is the logit of P(duplicate).

    Raises:
        InputError: The held-out pairs are of one label, or duplicates do not score above distinct pairs.
    """
    if set(held_out.labels.tolist()) != {0, 1}:
        raise InputError(
            "the held-out pairs must have both labels, 0 and 1", hint="give the validation pairs of a split"
        )
    members = (cross_encoder, CosineScorer(bi_encoder), IdfOverlap.of(corpus), *others)
    stack = BlendScorer(members, (1.0,) * len(members))
    weights, offset = fit_weights(stack.members(held_out.left, held_out.right), held_out.labels, signed=(2,))
    return BlendScorer(members, weights, offset)


def compute_soft_labels(
    pairs: PairTable,
    teacher: Scorer,
    *,
    teacher_weight: float = 0.7,
    checkpoint: str | Path | None = None,
    progress: Progress | None = None,
) -> SoftLabelTable:
    """Compute the soft label of each pair from a teacher's probability p.

    A labelled pair gets teacher_weight · p + (1 - teacher_weight) · label, an unlabelled one p.

    Args:
        pairs: n pairs, labelled or not.
        teacher: Scorer whose raw score is a logit of P(duplicate).
        teacher_weight: Weight of p for labelled pairs, in [0, 1].
        checkpoint: File of finished scores, from which an interrupted run resumes; removed at the end.
        progress: Called with (pairs done, pairs).

    Returns:
        The pairs with their soft labels.

    Raises:
        InputError: `teacher_weight` is out of range.
        OutputError: The checkpoint could not be written.
    """
    as_number(teacher_weight, "teacher_weight", 0, 1, hint="give a share such as 0.7")
    path = None if checkpoint is None else Path(checkpoint)
    # PairTable.fingerprint ignores the order of rows, and the checkpoint stores scores by row.
    identity = combined_fingerprint(teacher.fingerprint, pairs.left, pairs.right)
    scores = [] if path is None else _read_checkpoint(path, identity)
    for part in chunks(len(pairs), CHUNK):
        if part.start < len(scores):
            continue
        new = teacher.score(pairs.left[part], pairs.right[part]).tolist()
        scores += new
        if path is not None:
            _append_checkpoint(path, identity, new, first=part.start == 0)
        if progress:
            progress(part.stop, len(pairs))
    p = expit(np.asarray(scores, dtype=np.float64))
    soft_labels = np.where(pairs.labels >= 0, teacher_weight * p + (1 - teacher_weight) * pairs.labels, p)
    if path is not None:
        path.unlink(missing_ok=True)
    return SoftLabelTable(pairs, soft_labels)


def _read_checkpoint(path: Path, identity: str) -> list[float]:
    """Return the scores of the complete chunks of an interrupted run.

    Its teacher and pairs must be the same.
    """
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    if not lines or lines[0] != identity:
        return []
    scores: list[float] = []
    for line in lines[1:]:
        try:
            scores += json.loads(line)
        except ValueError:  # the run stopped while it wrote this line
            break
    return scores[: len(scores) // CHUNK * CHUNK]


def _append_checkpoint(path: Path, identity: str, scores: Sequence[float], first: bool) -> None:
    try:
        with path.open("w" if first else "a", encoding="utf-8") as stream:
            stream.write((f"{identity}\n" if first else "") + json.dumps(scores) + "\n")
    except OSError as error:
        raise OutputError(
            f"it could not be written ({error.strerror or error})", location=str(path), hint="free space and run again"
        ) from error


def read_mixed(
    paths: Sequence[str | Path],
    where: Mapping[str, str] | None = None,
    *,
    columns: Columns | None = None,
    options: FileOptions | None = None,
    report: ReadReport | None = None,
) -> PairTable:
    """Read labelled and unlabelled files of pairs as one table.

    Labels are -1 without a label column.

    Args:
        paths: Files of pairs.
        where: Column values that select rows; applied to the files that have these columns.
        columns, options, report: As for `read_pairs`, for every file.

    Returns:
        The pairs, file by file.

    Raises:
        InputError: As for `read_pairs`.
    """
    tables: list[PairTable] = []
    wanted = columns or Columns()
    unlabelled, names = replace(wanted, label=None), (wanted.label,) if wanted.label else LABEL_COLUMNS
    for path in paths:
        first_row = ReadReport(skip_bad=report is not None and report.skip_bad)
        rows = read_rows(path, columns=unlabelled, options=options, report=first_row)
        _, first = next(iter(rows), (None, {}))
        labelled = any(name in first for name in names)
        tables.append(
            load_pairs(
                path,
                columns=wanted if labelled else unlabelled,
                labelled=labelled,
                options=options,
                report=report,
                where=where if where and set(where) <= set(first) else None,
            )
        )
    return PairTable(
        [text for table in tables for text in table.left],
        [text for table in tables for text in table.right],
        np.concatenate([table.labels for table in tables]),
    )


def write_soft_labels(path: str | Path, table: SoftLabelTable) -> None:
    """Write pairs and soft labels as JSONL, CSV, TSV or Parquet.

    An unknown label is left empty.

    Raises:
        InputError: The file name has another ending.
        OutputError: The file could not be written.
    """
    columns = ["question1", "question2", "label", SOFT_LABEL]
    labels = [None if label < 0 else int(label) for label in table.pairs.labels]
    rounded = [round(float(value), 5) for value in table.soft_labels]
    values = zip(table.pairs.left, table.pairs.right, labels, rounded, strict=True)
    write_rows(path, (dict(zip(columns, row, strict=True)) for row in values), columns, escape_formulas=False)


def read_soft_labels(path: str | Path, column: str = SOFT_LABEL, label: str = "label") -> SoftLabelTable:
    """Read a file of pairs with a column of soft labels.

    The soft label of a row without one is its label, so that labelled files can be appended.

    Args:
        path: File of pairs, such as `write_soft_labels` writes.
        column: Column of soft labels in [0, 1].
        label: Column of labels.

    Returns:
        The pairs with their soft labels.

    Raises:
        InputError: A row has a bad text, a soft label outside [0, 1], a label other than 0, 1 or empty, or neither of
            both (with file and row); or no row has a soft label.
    """
    rows: list[tuple[str, str, int, float]] = []
    any_soft = False
    for number, (pair, row) in enumerate(read_rows(path), 1):
        at = f"{path}, row {pair.row or number}"
        hard, soft = (str("" if row.get(name) is None else row[name]).strip() for name in (label, column))
        if hard not in ("", "0", "1"):
            raise InputError(f"the label must be 0, 1 or empty, got {hard!r}", location=at, hint="correct this row")
        try:
            value = float(soft or hard)
        except ValueError:
            value = float("nan")
        if not 0 <= value <= 1:
            raise InputError(
                f"{column} must be a number in [0, 1], got {soft!r}", location=at, hint="give a number or a label"
            )
        any_soft = any_soft or bool(soft)
        rows.append((pair.question1, pair.question2, int(hard or -1), value))
    if not any_soft:
        message = f"no row has a soft label in the column {column!r}" if rows else "no pairs were read"
        raise InputError(message, location=str(path), hint="check the file and the name of the column")
    left, right, labels, soft_labels = zip(*rows, strict=True)
    table = PairTable(list(left), list(right), np.array(labels, dtype=np.int8))
    return SoftLabelTable(table, np.array(soft_labels, dtype=np.float64))
