"""All duplicates of a collection, or between two: copies by hash, candidates by vectors, decisions by the pipeline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dupq.data.text import check_text
from dupq.errors import InputError
from dupq.forum.approximate import approximate_pairs, need_usearch
from dupq.forum.budget import check_budget, judge_candidates
from dupq.forum.candidates import MAX_PAIRS, SimilarPairs
from dupq.forum.copies import copy_prints
from dupq.forum.exact import check_threshold, similar_pairs
from dupq.forum.judging import Decider, Judge, embedder_of
from dupq.forum.results import MiningResult, Questions, id_key
from dupq.forum.store import Id
from dupq.forum.work import StoredRows, between, embedded, knowing
from dupq.models.scorers import Progress, chunks

MIN_COSINE = 0.8
"""Of the duplicates that the shipped scorer flags among pairs it never saw, 99 of 100 lie above it."""
APPROXIMATE_ABOVE = 2_000_000

Told = Callable[[str, int, int], None]
"""Called with (stage, done, total); the stages are "embedding", "searching" and "judging"."""


@dataclass(frozen=True, slots=True)
class MiningSettings:
    """How duplicates are mined.

    Attributes:
        min_cosine: Pairs of vectors below it are no candidates; in (0, 1].
        max_pairs: At most so many candidates, the nearest, are kept; the certificate says where the cut fell.
        judge_at_most: So many candidates, the uncertain ones, are judged by the scorer, and the others by what their
            cosine means among these, for which the threshold promises nothing; at least 100. None: all are judged.
        approximate_above: From this many distinct texts on, candidates are searched by an approximate index.
        base_rate: Share of duplicates among the candidates, in (0, 1), where you know it; None: as the pipeline is
            calibrated, see `find_duplicates`.

    Raises:
        InputError: A cosine, or a number of pairs, that cannot be meant.
    """

    min_cosine: float = MIN_COSINE
    max_pairs: int = MAX_PAIRS
    judge_at_most: int | None = None
    approximate_above: int = APPROXIMATE_ABOVE
    base_rate: float | None = None

    def __post_init__(self) -> None:
        # Told before hours of work, not after them.
        check_threshold(self.min_cosine, self.max_pairs)
        check_budget(self.judge_at_most)


def find_duplicates(
    judge: Judge,
    questions: Sequence[str],
    *,
    against: Sequence[str] | None = None,
    ids: Sequence[Id] | None = None,
    created: Sequence[Any] | None = None,
    settings: MiningSettings | None = None,
    work: str | Path | None = None,
    progress: Told | None = None,
) -> MiningResult:
    """Finds all duplicate pairs within a collection, or between a new collection and an old one.

    Questions that are one text up to case, space and sentence punctuation are found first, by a hash; of the distinct
    texts, all pairs whose vectors are near enough are judged by the pipeline's scorer.

    The share of duplicates among these candidates is not that of the calibration pairs. But they are chosen by their
    texts, for being near, and not by their labels: that changes how often a score occurs, and not what it means
    (covariate shift; Shimodaira 2000). So probabilities stay as calibrated, and their mean is the estimated share of
    duplicates among the candidates; it is told in the result, with the precision to expect of what is flagged. An
    estimate by a shift of labels (`decisions.base_rate`) goes wrong here: it takes near pairs for duplicates. Where you
    know the share in your forum, give it as `settings.base_rate`; or calibrate on verdicts of your own.

    Args:
        judge: A calibrated pipeline with a bi-encoder.
        questions: n texts.
        against: An old collection; pairs are then taken between `questions` and it. None: within `questions`.
        ids: Unique ids of the questions and then of `against`; None: 0, 1, 2, ...
        created: When each was asked, in the same order; anything that sorts, None for not known (counts as youngest).
        settings: None: the defaults.
        work: A folder that holds what is done, for a later run to go on from; it can be deleted afterwards.
        progress: Told of each stage.

    Raises:
        InputError: A bad text (named by its place), ids that are not unique, a pipeline without a bi-encoder, or a
            `work` folder of another run.
        NotCalibratedError: The pipeline has no calibrator or threshold.
    """
    settings = settings or MiningSettings()
    # Refused before hours of work, not after them.
    embedder, decider = embedder_of(judge), Decider.of(judge, settings.base_rate)
    every, sides = _questions(questions, against, ids, created)
    two = against is not None
    if len(every.first) > settings.approximate_above:
        need_usearch(len(every.first))
    copies = _copies(every, len(questions), two)
    folder = None if work is None else Path(work)
    texts = [every.texts[at] for at in every.first.tolist()]
    vectors = embedded(texts, embedder, folder, _stage(progress, "embedding"))
    pairs = _candidates(vectors, sides if two else None, settings, folder, _stage(progress, "searching"))
    left, right = [texts[at] for at in pairs.left.tolist()], [texts[at] for at in pairs.right.tolist()]
    scores, judged = judge_candidates(
        knowing(judge, texts, vectors),
        decider,
        (left, right),
        pairs.cosine,
        limit=settings.judge_at_most,
        folder=folder,
        progress=_stage(progress, "judging"),
    )
    return MiningResult(
        questions=every,
        left=pairs.left,
        right=pairs.right,
        cosine=pairs.cosine,
        score=scores,
        copies_left=copies[0],
        copies_right=copies[1],
        certificate=pairs.certificate,
        judged=judged,
        decider=decider,
        unknown=sum(int((~vectors[part].any(axis=1)).sum()) for part in chunks(len(vectors), 8192)),
    )


def _stage(told: Told | None, stage: str) -> Progress | None:
    return None if told is None else lambda done, total: told(stage, done, total)


def _questions(
    questions: Sequence[str], against: Sequence[str] | None, ids: Sequence[Id] | None, created: Sequence[Any] | None
) -> tuple[Questions, tuple[int, int]]:
    """The questions by distinct texts, and where the texts of the second collection begin and those of the first end.

    Distinct texts are numbered so that those of the first collection alone come first, then those of both, then those
    of the second alone: each collection is one stretch. Within each they go by hash, so that no number, and no
    batch of the networks, depends on the order of the input.
    """
    for name, part in (("questions", questions), ("against", against or ())):
        if isinstance(part, str):
            raise InputError("this is one str, not a sequence of texts", where=name, mend="give a list")
        for number, text in enumerate(part, 1):
            check_text(text, f"{name}, text {number}")
    texts = [*questions, *(against or ())]
    named: Sequence[Id] = range(len(texts)) if ids is None else ids
    for name, given in (("ids", named), ("created", created)):
        if given is not None and len(given) != len(texts):
            raise InputError(f"{len(given)} for {len(texts)} questions", where=name, mend="give one a question")
    if len(set(named)) != len(named):
        twice = next(id_ for id_, count in Counter(named).items() if count > 1)
        raise InputError(f"the id {twice!r} is given twice", where="ids", mend="give each question an id of its own")
    prints, inverse = np.unique(copy_prints(texts), return_inverse=True)
    old = np.arange(len(texts)) >= len(questions)
    in_first, in_second = (np.bincount(inverse[side], minlength=len(prints)) > 0 for side in (~old, old))
    # 0: the first collection alone, 1: both, 2: the second alone.
    kind = np.where(in_first, in_second.astype(np.int64), 2)
    number_of = np.empty(len(prints), np.int64)
    number_of[np.argsort(kind, kind="stable")] = np.arange(len(prints))
    text_of = number_of[inverse]
    by_text = sorted(range(len(texts)), key=lambda at: (texts[at], id_key(named[at])), reverse=True)
    first, second = np.empty(len(prints), np.int64), np.empty(len(prints), np.int64)
    for stands, preferred in ((first, False), (second, against is not None)):
        for wanted in (False, True):
            # The last one written stays: the least text, of the preferred collection if it is there.
            rows = [at for at in by_text if (old[at] == preferred) == wanted]
            stands[text_of[rows]] = rows
    ages = None
    if created is not None:
        place = {value: float(at) for at, value in enumerate(sorted({x for x in created if x is not None}))}
        ages = np.array([place.get(value, np.inf) for value in created])
    every = Questions(named, texts, text_of, first, second, ages)
    return every, (int((kind == 0).sum()), int((kind < 2).sum()))


def _copies(every: Questions, new: int, two: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of questions that are one text: each with the one that stands for it, of the old collection if possible."""
    question = np.arange(len(every))
    stands = every.second[every.text_of]
    copies = question[(question != stands) & ((question < new) if two else True)]
    copies = np.array(sorted(copies.tolist(), key=lambda at: id_key(every.ids[at])), np.int64)
    return (copies, stands[copies]) if two else (stands[copies], copies)


def _candidates(
    vectors: NDArray[np.float32] | StoredRows,
    sides: tuple[int, int] | None,
    settings: MiningSettings,
    folder: Path | None,
    progress: Progress | None,
) -> SimilarPairs:
    n = len(vectors)
    options: dict[str, Any] = {"threshold": settings.min_cosine, "max_pairs": settings.max_pairs, "progress": progress}
    start, stop = (0, n) if sides is None else sides
    left, right = (vectors, None) if sides is None else (between(vectors, 0, stop), between(vectors, start, n))
    if n > settings.approximate_above:
        pairs = approximate_pairs(left, right, **options)
    else:
        resume = None if folder is None else folder / "search.npz"
        pairs = similar_pairs(left, right, resume=resume, **options)
    if sides is None:
        return pairs
    i, j = pairs.left, pairs.right + start
    # A text of both collections meets itself, and two of them meet twice.
    kept = (i < j) | (i < start) | (j >= stop)
    return SimilarPairs(i[kept], j[kept], pairs.cosine[kept], pairs.certificate)
