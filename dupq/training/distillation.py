"""Distillation: a small student learns a strong teacher's probabilities (Hinton, Vinyals, Dean 2015).

Labels say yes or no, and some are wrong; a teacher says how sure it is, of labelled pairs and of any others. So the
student may also learn from pairs that nobody labelled: `candidate_pairs` finds those a bi-encoder confuses (Augmented
SBERT, Thakur et al. 2021), `teacher_targets` has the teacher judge them. A bi-encoder can teach too (`cosine_teacher`):
the untrained one keeps a student from forgetting, on texts of another kind, what its base knew (learning without
forgetting, Li & Hoiem 2016).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dupq.data.reading import LABEL_COLUMNS, read_rows
from dupq.data.splits import PairTable, load_pairs
from dupq.data.text import fingerprint
from dupq.data.writing import write_rows
from dupq.errors import InputError, OutputError
from dupq.models.scorers import (
    COSINE_SCALE,
    CosineScorer,
    Embedder,
    Progress,
    Scorer,
    chunks,
    combined_fingerprint,
    fit_blend,
)

TARGET = "target"
"""The column of a file of pairs that holds the targets."""
RANKS = (1, 2, 4, 8, 16)
"""Which neighbours are candidates: the nearest are mostly duplicates, the farther ones mostly not."""
CHUNK = 2048


@dataclass(frozen=True, slots=True)
class TargetTable:
    """n pairs, and what to learn of them.

    Attributes:
        pairs: Their labels may be unknown (-1).
        targets: float64 array (n,) in [0, 1].
    """

    pairs: PairTable
    targets: NDArray[np.float64]


def candidate_pairs(
    pairs: PairTable,
    embedder: Embedder,
    count: int,
    *,
    least_cosine: float = -1.0,
    per_question: int = 1,
    seed: int = 0,
    progress: Progress | None = None,
) -> PairTable:
    """Draws unlabelled pairs among the questions of labelled ones: each question with some of its near neighbours.

    The ranks of the neighbours are drawn from `RANKS`, so that clear and doubtful cases both occur. Pairs whose label
    is known, and copies up to case and punctuation, are left out.

    Args:
        pairs: Labelled pairs of a training split; no question from elsewhere enters.
        embedder: What finds the neighbours.
        count: How many pairs at most.
        least_cosine: Pairs less alike than this, -1 to 1, are left out: where the time of a teacher is short, those
            that nobody doubts need not be judged.
        per_question: Of how many ranks, 1 to all of them.
        seed: Another seed draws others.
        progress: Called with (questions searched, questions).

    Returns:
        At most `count` pairs, each with the label -1.

    Raises:
        InputError: Fewer questions than `RANKS` reach, no such number of ranks, or no pair is as alike as asked for.
    """
    import torch

    if not 1 <= per_question <= len(RANKS):
        raise InputError(
            f"per_question = {per_question}, and a question has candidates of {len(RANKS)} ranks",
            mend=f"give a number from 1 to {len(RANKS)}",
        )
    texts = sorted({*pairs.left, *pairs.right})
    if len(texts) <= max(RANKS):
        raise InputError(f"{len(texts)} questions are too few to find candidates among", mend="give more pairs")
    prints = {text: fingerprint(text) for text in texts}
    known = {frozenset((prints[a], prints[b])) for a, b in zip(pairs.left, pairs.right, strict=True)}
    vectors = torch.from_numpy(embedder.embed(texts))
    draw = np.random.default_rng(seed)
    order = draw.permutation(len(texts))
    found: dict[frozenset[int], tuple[int, int]] = {}
    for part in chunks(len(order), CHUNK):
        rows = order[part]
        likeness = vectors[torch.from_numpy(rows)] @ vectors.T
        likeness[torch.arange(len(rows)), torch.from_numpy(rows)] = -2.0
        nearest = likeness.topk(max(RANKS), dim=1)
        drawn_ranks = draw.permuted(np.tile(RANKS, (len(rows), 1)), axis=1)[:, :per_question] - 1
        others, cosines = (
            np.take_along_axis(of_rank.numpy(), drawn_ranks, axis=1).ravel().tolist()
            for of_rank in (nearest.indices, nearest.values.float())
        )
        for row, other, cosine in zip(np.repeat(rows, per_question).tolist(), others, cosines, strict=True):
            key = frozenset((prints[texts[row]], prints[texts[other]]))
            if len(key) == 2 and key not in known and cosine >= least_cosine:
                found.setdefault(key, (row, other))
        if progress:
            progress(part.stop, len(order))
        if len(found) >= count:
            break
    if not found and not least_cosine <= -1:
        raise InputError(f"no unlabelled pair has a cosine of {least_cosine:g} or more", mend="ask for a lower one")
    drawn = list(found.values())[:count]
    return PairTable([texts[a] for a, _ in drawn], [texts[b] for _, b in drawn], np.full(len(drawn), -1, dtype=np.int8))


def cosine_teacher(pairs: PairTable, embedder: Embedder) -> Scorer:
    """A bi-encoder as a teacher: its cosine, made a logit by logistic regression (Platt 1999).

    Args:
        pairs: Those with a label, at least 20 of each, say what a cosine is worth; the others are passed over.
        embedder: A bi-encoder, best one that was not trained on these pairs.

    Returns:
        A scorer for `teacher_targets`.

    Raises:
        InputError: Too few labels, or duplicates are no nearer to each other than distinct pairs are.
    """
    known = pairs.take(pairs.labels >= 0)
    fewest = min(int((known.labels == label).sum()) for label in (0, 1))
    if fewest < 20:
        raise InputError(
            f"{fewest} labelled pairs of a class are too few to make a cosine a probability",
            mend="give a file with at least 20 duplicates and 20 distinct pairs among the pairs",
        )
    return fit_blend([CosineScorer(embedder)], known.left, known.right, known.labels)


def teacher_targets(
    pairs: PairTable,
    teacher: Scorer,
    *,
    trust: float = 0.7,
    cosine_of: Embedder | None = None,
    cosine_share: float = 0.2,
    work: str | Path | None = None,
    progress: Progress | None = None,
) -> TargetTable:
    """Has a teacher say how likely each pair is a duplicate.

    Of many pairs a teacher is equally sure, so that it tells little of the order of the best pairs of a whole forum.
    `cosine_of` mixes in what an encoder says that was taught otherwise, the untrained one or an earlier one: it orders
    them still, and keeps what it knows of other texts (learning without forgetting, Li & Hoiem 2016). `GapCoSENTLoss`
    asks for an order by how far two targets are apart.

    Args:
        pairs: n pairs, labelled or not.
        teacher: A scorer whose raw score is a logit of the probability of a duplicate, as of any network trained by
            binary cross-entropy.
        trust: Share of the teacher's probability in the target of a labelled pair, in [0, 1]; the rest is the label's.
            Of an unlabelled pair it is 1.
        cosine_of: A bi-encoder, for targets that another bi-encoder is to learn: they become (1 - cosine_share) ·
            target + cosine_share · max(cosine, 0). None: they stay as they are.
        cosine_share: In (0, 1).
        work: A file that keeps what is done, so that an interrupted run goes on; it is removed when all is done.
        progress: Called with (pairs done, pairs).

    Returns:
        The pairs with their targets.

    Raises:
        InputError: `trust` lies outside [0, 1], or `cosine_share` outside (0, 1).
        OutputError: `work` could not be written.
    """
    if not 0 <= trust <= 1:
        raise InputError(f"trust = {trust} is no share", mend="give a number in [0, 1]")
    if not 0 < cosine_share < 1:
        raise InputError(f"cosine_share = {cosine_share} is no share to mix in", mend="give a number in (0, 1)")
    # In their order, which a table's own fingerprint leaves out: a score is kept by its place.
    identity = combined_fingerprint(teacher.fingerprint, pairs.left, pairs.right)
    scores = _kept(Path(work), identity) if work is not None else []
    for part in chunks(len(pairs), CHUNK):
        if part.start < len(scores):
            continue
        new = teacher.score(pairs.left[part], pairs.right[part]).tolist()
        scores += new
        if work is not None:
            _keep(Path(work), identity, new, first=part.start == 0)
        if progress:
            progress(part.stop, len(pairs))
    probabilities = 1 / (1 + np.exp(-np.asarray(scores, dtype=np.float64)))
    blended = np.where(pairs.labels >= 0, trust * probabilities + (1 - trust) * pairs.labels, probabilities)
    if cosine_of is not None:
        cosines = CosineScorer(cosine_of).score(pairs.left, pairs.right) / COSINE_SCALE
        blended = (1 - cosine_share) * blended + cosine_share * np.clip(cosines, 0, 1)
    if work is not None:
        Path(work).unlink(missing_ok=True)
    return TargetTable(pairs, blended)


def _kept(work: Path, identity: str) -> list[float]:
    """The scores of whole chunks that an interrupted run of the same teacher and pairs left."""
    if not work.is_file():
        return []
    lines = work.read_text(encoding="utf-8").splitlines()
    if not lines or lines[0] != identity:
        return []
    scores: list[float] = []
    for line in lines[1:]:
        try:
            scores += json.loads(line)
        except ValueError:  # the run was stopped in the middle of this line
            break
    return scores[: len(scores) // CHUNK * CHUNK]


def _keep(work: Path, identity: str, scores: Sequence[float], first: bool) -> None:
    try:
        with work.open("w" if first else "a", encoding="utf-8") as stream:
            stream.write((f"{identity}\n" if first else "") + json.dumps(scores) + "\n")
    except OSError as error:
        raise OutputError(
            f"it could not be written ({error.strerror or error})", where=str(work), mend="free space and run again"
        ) from error


def read_mixed(paths: Sequence[str | Path], where: Mapping[str, str] | None = None) -> PairTable:
    """Reads files of pairs as one table; labels are read where a file has a column of them, and are -1 elsewhere.

    Args:
        paths: Files of pairs.
        where: Only such rows, of the files that have these columns.

    Raises:
        InputError: As of `read_pairs`.
    """
    tables: list[PairTable] = []
    for path in paths:
        _, first = next(iter(read_rows(path)), (None, {}))
        tables.append(
            load_pairs(
                path,
                labelled=any(name in first for name in LABEL_COLUMNS),
                where=where if where and set(where) <= set(first) else None,
            )
        )
    return PairTable(
        [text for table in tables for text in table.left],
        [text for table in tables for text in table.right],
        np.concatenate([table.labels for table in tables]),
    )


def write_targets(path: str | Path, table: TargetTable) -> None:
    """Writes pairs and targets as a file of pairs (JSONL, CSV, TSV or Parquet); an unknown label is left empty."""
    columns = ["question1", "question2", "label", TARGET]
    labels = [None if label < 0 else int(label) for label in table.pairs.labels]
    values = zip(table.pairs.left, table.pairs.right, labels, (round(float(t), 5) for t in table.targets), strict=True)
    write_rows(path, (dict(zip(columns, row, strict=True)) for row in values), columns)


def read_targets(path: str | Path, column: str = TARGET, label: str = "label") -> TargetTable:
    """Reads what `write_targets` wrote, or any file of pairs with a column of numbers in [0, 1].

    A row without a target is learned by its label: labelled files may stand below one with targets.

    Raises:
        InputError: Naming file and row: a bad text, a target that is no number in [0, 1], a label other than 0, 1 or
            empty, a row with neither; also when no row has a target.
    """
    rows: list[tuple[str, str, int, float]] = []
    seen = False
    for number, (pair, row) in enumerate(read_rows(path), 1):
        at = f"{path}, row {pair.row or number}"
        said, told = (str("" if row.get(name) is None else row[name]).strip() for name in (label, column))
        if said not in ("", "0", "1"):
            raise InputError(f"the label is {said!r}", where=at, mend="use 1, 0, or leave it empty")
        try:
            target = float(told or said)
        except ValueError:
            target = float("nan")
        if not 0 <= target <= 1:
            raise InputError(f"the target is {told!r}", where=at, mend="give a number in [0, 1], or a label")
        seen = seen or bool(told)
        rows.append((pair.question1, pair.question2, int(said or -1), target))
    if not seen:
        problem = f"no row has a target in the column {column!r}" if rows else "no pairs were read"
        raise InputError(problem, where=str(path), mend="check the file and --targets")
    left, right, labels, targets = zip(*rows, strict=True)
    table = PairTable(list(left), list(right), np.array(labels, dtype=np.int8))
    return TargetTable(table, np.array(targets, dtype=np.float64))
