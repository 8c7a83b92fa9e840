"""Find likely duplicates within a collection of questions, or between two."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dupq.data.arguments import as_choice, as_int, as_kind, as_list, as_path
from dupq.data.checks import checked_rate
from dupq.decisions.candidate_rule import CandidateRule
from dupq.decisions.decider import PairScorer, check_threshold, embedder_of
from dupq.engine.base import Engine
from dupq.engine.work_folder import WorkFolder
from dupq.errors import InputError
from dupq.mining.active_scoring import MIN_BUDGET, score_candidates
from dupq.mining.candidates import exact_copies
from dupq.mining.checkpoint import Checkpoint
from dupq.mining.question_stream import QuestionStream, stream_questions
from dupq.mining.questions import Columns, OnError, Questions, read_questions
from dupq.mining.results import MiningResult
from dupq.mining.stages import RunPlan, Stages, engine_stages, stages_here
from dupq.search.pairs import MAX_PAIRS
from dupq.types import Progress

APPROXIMATE_ABOVE = 2_000_000

StageProgress = Callable[[str, int, int], None]
"""Called with (stage, done, total); the stages are "reading", "embedding", "searching" and "judging"."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class MiningSettings:
    """Settings of `find_duplicates`.

    Attributes:
        min_cosine: The lowest cosine of a candidate pair, in (0, 1]; None: that of the pipeline's candidate rule, see
            `CandidateRule.at`.
        max_pairs: Keep the `max_pairs` nearest pairs where more are candidates. The result then states the cosine
            above which it is complete, and a warning is logged.
        max_judged: Number of candidates that the scorer scores, the uncertain ones first, and the nearest of equally
            uncertain ones; at least 100. The others get a probability estimated from their cosine, and nothing is
            guaranteed for them. None: all are scored.
        approximate_above: Search by cells, with a certified recall, from one distinct text more than this.
        base_rate: Share of duplicates among the candidates, in (0, 1), if you know it; None: the pipeline's own, see
            `find_duplicates`.
        neighbours: Number of nearest questions of each question that are candidates from `min_cosine` on, beside every
            pair from 0.8 on; 0: every pair from `min_cosine` on is a candidate. None: that of the pipeline's rule.
        threshold: Probability in (0, 1] from which a pair is a duplicate, and near which `max_judged` is spent; None:
            the pipeline's own. `result.at` sets another one where all candidates are scored.

    Raises:
        InputError: A value of the wrong type, or outside its range.
    """

    min_cosine: float | None = None
    max_pairs: int = MAX_PAIRS
    max_judged: int | None = None
    approximate_above: int = APPROXIMATE_ABOVE
    base_rate: float | None = None
    neighbours: int | None = None
    threshold: float | None = None

    def __post_init__(self) -> None:
        # Before hours of work, not after them.
        CandidateRule().at(self.neighbours, self.min_cosine)
        as_int(self.max_pairs, "max_pairs", 1)
        if self.max_judged is not None:
            as_int(
                self.max_judged,
                "max_judged",
                MIN_BUDGET,
                hint=f"give {MIN_BUDGET} or more, or leave it out to score all",
            )
        as_int(self.approximate_above, "approximate_above", 1)
        if self.base_rate is not None:
            checked_rate(self.base_rate)
        check_threshold(self.threshold)


def find_duplicates(
    pipeline: PairScorer,
    questions: object,
    *,
    against: object = None,
    ids: object = None,
    created: object = None,
    text_columns: str | Sequence[str] = (),
    id_column: str | None = None,
    created_column: str | None = None,
    date_format: str | None = None,
    on_error: OnError = "raise",
    settings: MiningSettings | None = None,
    work: str | Path | WorkFolder | None = None,
    fresh: bool = False,
    engine: Engine | None = None,
    progress: StageProgress | None = None,
) -> MiningResult:
    """Find duplicate pairs within a collection of questions, or between two.

    Copies, which are one text up to case, space and sentence punctuation, are found by a hash. Of the distinct texts,
    the pairs that the pipeline's candidate rule selects by their vectors are candidates, and the pipeline's scorer
    scores them. If there are more than `settings.max_pairs`, the result states the cosine above which it is complete
    (`result.search_guarantee`).

    Candidates are not drawn like labelled pairs: they were selected for their near vectors, so that a score means
    another probability among them. A pipeline that was calibrated on judged candidates (`calibrate_candidates`) decides
    by their calibrator and threshold. Without it, probabilities and thresholds are those of labelled pairs, and neither
    is verified on candidates: readers of mined pairs found fewer duplicates among the flagged than such probabilities
    state. Have a sample of the candidates read, and calibrate on it. If you know the share of duplicates among the
    candidates, give it as `settings.base_rate`. Do not estimate it with `calibration.prior_shift`, which takes near
    pairs for duplicates here.

    With an engine, vectors, search and scores are computed by its workers, as units that read and write parts of the
    `work` folder. Pairs, cosines, scores and groups are those of the same call without an engine; of the guarantee,
    the counts `rescored` and `dropped` may differ. This process holds the candidates and a few bytes a question, but no
    texts, ids and vectors: the result reads ids and texts from the work folder when they are used. An iterator of texts
    is read once, one at a time, with iterators of ids and dates beside it; a list or frame is read and checked first.

    Above `settings.approximate_above` distinct texts the search is by cells: it finds most candidates. Their share is
    certified on sampled texts before the search begins, and stands in `result.search_guarantee`.

    Args:
        pipeline: A calibrated pipeline with a bi-encoder.
        questions: n texts: a list, array, Series or generator, taken by position; or a pandas, polars or Arrow frame.
            With an engine, also a `QuestionStream`, which brings its own ids, dates and old collection.
        against: An old collection to compare `questions` with. None: find pairs within `questions`.
        ids: Unique ids, int or str, of the questions and then of `against`. None: those of the frames, or 0, 1, 2, ...
        created: The date of each question, in the same order, as `parse_dates` takes it; None for an unknown one, which
            counts as youngest.
        text_columns: Text columns of the frames; several are joined by a line break. Default: the usual names.
        id_column: Id column of the frames. None: the usual names, or no ids.
        created_column: Date column of the frames. None: no dates.
        date_format: Format of ambiguous dates; see `parse_dates`.
        on_error: "raise" at the first bad text, or "skip" to leave bad texts out and list them in the result.
        settings: None: the defaults.
        work: A folder that keeps vectors, candidates and scores, so that an interrupted run can be resumed. Files of
            another run in it are deleted, with a warning in the log; a folder with other files is refused. An engine
            needs one that every worker reaches, a path, a URL of fsspec, or a `WorkFolder`, and refuses one of
            other questions or another model.
        fresh: Delete the files of an earlier run instead of resuming it.
        engine: Runs the heavy stages; None: this process.
        progress: Called in each stage.

    Raises:
        InputError: A bad text (named by its place), ids that are not unique, a date that cannot be parsed, an argument
            of the wrong type, a pipeline without a bi-encoder, an engine without a `work` folder, a `work` folder that
            is in use or holds other files, or a search by cells whose recall is below 0.99.
        UnitError: Units of the engine failed repeatedly.
        NotCalibratedError: The pipeline has no calibrator or threshold.
        OutputError: The `work` folder could not be written.
    """
    # Before hours of work, not after them.
    settings = MiningSettings() if settings is None else settings
    as_kind(settings, MiningSettings, "settings", "give MiningSettings(min_cosine=0.8), or leave it out")
    as_choice(on_error, ("raise", "skip"), "on_error")
    as_kind(fresh, bool, "fresh", "give True or False")
    if engine is not None:
        as_kind(engine, Engine, "engine", "give LocalEngine() or RayEngine(), or leave it out")
    folder, shared = None, None
    if engine is None:
        folder = None if work is None else as_path(work, "work")
    elif work is None:
        hint = "give work= a folder that every worker reaches"
        raise InputError("an engine needs a work folder, got none", hint=hint)
    else:
        shared = work if isinstance(work, WorkFolder) else WorkFolder(work)
    embedder_of(pipeline)
    decider = pipeline.candidate_decider.at(threshold=settings.threshold, base_rate=settings.base_rate)
    rule = pipeline.candidate_rule.at(settings.neighbours, settings.min_cosine)
    columns = _checked_columns(text_columns, id_column, created_column)
    reading = {"ids": ids, "created": created, "columns": columns, "date_format": date_format, "on_error": on_error}
    # The threshold chooses which pairs are scored, and scores are kept under their pairs.
    run = f"{replace(settings, threshold=None)!r} {rule!r}"
    if engine is None or shared is None:
        opened = _open_here(pipeline, questions, against, reading, Checkpoint(folder), run, fresh=fresh)
    else:
        opened = _open_engine(engine, shared, pipeline, questions, against, reading, run, fresh=fresh)
    with opened as (every, left_out, stages):
        copies_left, copies_right = exact_copies(every)
        unknown_language, truncated = stages.check(_stage(progress, "reading"))
        stages.embed(_stage(progress, "embedding"))
        pairs = stages.search(
            every.sides,
            rule=rule,
            max_pairs=settings.max_pairs,
            approximate=len(every.first) > settings.approximate_above,
            progress=_stage(progress, "searching"),
        )
        if pairs.search_guarantee.truncated:
            logger.warning(
                "not all pairs are candidates (max_pairs %s): %s", settings.max_pairs, pairs.search_guarantee
            )
        scores, judged = score_candidates(
            lambda rows, name, step: stages.score(pairs.left[rows], pairs.right[rows], name, step),
            decider,
            pairs.cosine,
            limit=settings.max_judged,
            progress=_stage(progress, "judging"),
        )
        unknown = stages.count_unknown()
    return MiningResult(
        questions=every,
        left=pairs.left,
        right=pairs.right,
        cosine=pairs.cosine,
        score=scores,
        judged=judged,
        copies_left=copies_left,
        copies_right=copies_right,
        search_guarantee=pairs.search_guarantee,
        decider=decider,
        unknown_language=unknown_language,
        truncated=truncated,
        unknown=unknown,
        left_out=left_out,
    )


@contextmanager
def _open_here(
    pipeline: PairScorer,
    questions: object,
    against: object,
    reading: Mapping[str, Any],
    checkpoint: Checkpoint,
    run: str,
    *,
    fresh: bool,
) -> Iterator[tuple[Questions, tuple[str, ...], Stages]]:
    if isinstance(questions, QuestionStream):
        raise InputError("a QuestionStream needs an engine, got none", hint="give engine=LocalEngine() and work=")
    every, left_out = read_questions(questions, against, **reading)
    texts = [every.texts[at] for at in every.first.tolist()]
    plan = RunPlan() if checkpoint.folder is None else RunPlan.of(pipeline, texts, f"{run} {every.sides}")
    with stages_here(checkpoint, pipeline, texts, plan, fresh=fresh) as stages:
        yield every, left_out, stages


@contextmanager
def _open_engine(
    engine: Engine,
    work: WorkFolder,
    pipeline: PairScorer,
    questions: object,
    against: object,
    reading: Mapping[str, Any],
    run: str,
    *,
    fresh: bool,
) -> Iterator[tuple[Questions, tuple[str, ...], Stages]]:
    if isinstance(questions, QuestionStream):
        if any(value is not None for value in (against, reading["ids"], reading["created"])):
            raise InputError("a QuestionStream has ids, dates and an old collection of its own", hint="leave them out")
        stream = questions
    else:
        stream = stream_questions(questions, against, **reading)
    with engine_stages(engine, work, pipeline, stream, run, fresh=fresh) as (every, stages):
        yield every, tuple(stream.left_out), stages


def _checked_columns(text_columns: str | Sequence[str], id_column: str | None, created_column: str | None) -> Columns:
    texts = [text_columns] if isinstance(text_columns, str) else as_list(text_columns, "text_columns")
    named = [("text_columns", texts), ("id_column", [id_column]), ("created_column", [created_column])]
    for name, columns in named:
        for column in columns:
            if column is not None or name == "text_columns":
                as_kind(column, str, name, "give the name of a column of the frame")
    return Columns(tuple(texts), id_column, created_column)


def _stage(progress: StageProgress | None, stage: str) -> Progress | None:
    return None if progress is None else lambda done, total: progress(stage, done, total)
