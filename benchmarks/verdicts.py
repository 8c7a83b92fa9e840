"""Simulate what an index learns from the verdicts of a moderator, on a forum whose truth comes from written labels.

    python -m benchmarks.verdicts [--clusters N] [--seeds N] [--work FOLDER] [--model DIR]

The questions are those of `worlds_dev` and `posts_dev`: a pair within a cluster has its label, a pair of two clusters
is distinct. They are put into an index, judged once (`flag_stored`), and the scores are kept in FOLDER. A question's
reach is drawn for each seed, log-normal, and three times as high where the question has a duplicate: what many people
ask is asked again. A moderator answers the review queue, 25 pairs a day, and errs in 3 of 100 answers. After 50, 200
and 1,000 verdicts the index is calibrated, and the table holds:

- the calibration error against the truth, over five bins of the probability: of the shipped calibrator, of the one
  that `calibrate` fits, of one fitted with plain weights 1 / pi, and of one fitted without weights;
- the bias of the estimated precision and recall of the shipped decisions, with the weights and without, and the share
  of their 95 % intervals that hold the true value. This true value is that of the moderator's own answers to all pairs,
  because no sample of answers shows which of them are wrong; `off` is the difference to the written labels;
- the share of exact 95 % intervals of the precision, from the random audit alone, that hold it.

`careful` has the same figures for a moderator without errors.

`agreement` runs one seed through a SQLite index with `review_queue`, `verdict` and `estimates`. Intervals are 95 %
over seeds. Results go to `benchmarks/results/verdicts.json`.
"""

from __future__ import annotations

import argparse
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.readme import RESULTS
from data_scripts.clusters import read_clusters
from dupq import DuplicatePipeline
from dupq.calibration.calibrators import Calibrator
from dupq.calibration.candidates import fit_candidate_calibrator
from dupq.data.writing import write_json
from dupq.decisions.decider import Decider
from dupq.decisions.threshold_table import lower_bound, upper_bound
from dupq.decisions.thresholds import Policy
from dupq.errors import NotEnoughLabelsError
from dupq.index.calibration_versions import policy_of, read_cosines
from dupq.index.calibrations import BINS, NO_ANSWER, JudgedPairs, fit_calibration
from dupq.index.question_index import QuestionIndex
from dupq.index.sampling import (
    FLAGGED,
    STRATA,
    Progressed,
    estimate_shares,
    inclusion_probabilities,
    stratum_of,
    turn,
    value_of,
)

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
STEPS = (50, 200, 1000)
A_DAY = 25
PART = 64
ERROR = 0.03
AUDIT_SHARE = 0.2
POPULAR = 3.0
TAIL = 0.025


@dataclass(frozen=True, slots=True)
class Forum:
    """Questions with their labels, and the pairs that the index judged.

    Attributes:
        texts: The n questions; their ids are 0, 1, ...
        asked: Number of what each one asks, (n,): two questions are duplicates if theirs is the same.
        one, other: Ids of the m judged pairs, (m,).
        scores, probabilities: By the pipeline, (m,).
        decisions: "duplicate", "review" or "distinct", (m,).
        cosines: Cosines (m,); empty where the calibrator of candidates reads the score alone.
    """

    texts: tuple[str, ...]
    asked: Ints
    one: Ints
    other: Ints
    scores: Floats
    probabilities: Floats
    decisions: NDArray[Any]
    cosines: Floats = field(default_factory=lambda: np.zeros(0))

    @property
    def truth(self) -> NDArray[np.bool_]:
        """True where a judged pair is a duplicate, (m,)."""
        return self.asked[self.one] == self.asked[self.other]


def written_questions(limit: int | None = None) -> tuple[tuple[str, ...], Ints]:
    """Return the questions and posts of the dev files, and a number for what each asks.

    Args:
        limit: Number of clusters of each file; None: all.
    """
    texts: dict[str, tuple[str, int, int]] = {}
    for number, cluster in enumerate(read_clusters("worlds_dev")[:limit]):
        rows = [(text, 0) for text in cluster["s"]]
        rows += [(text, at) for at, (_, text) in enumerate(cluster["d"], 1)]
        for text, ask in rows:
            texts.setdefault(text, ("worlds", number, ask))
    for number, cluster in enumerate(read_clusters("posts_dev")[:limit]):
        rows = [(text, 0) for text in (*cluster["same"], *cluster["titles"])]
        for at, pair in enumerate(zip(cluster["other"], cluster["other_titles"], strict=True), 1):
            rows += [(text, at) for text in pair]
        for text, ask in rows:
            texts.setdefault(text, ("posts", number, ask))
    numbers: dict[tuple[str, int, int], int] = {}
    asked = [numbers.setdefault(ask, len(numbers)) for ask in texts.values()]
    return tuple(texts), np.array(asked, np.int64)


def judge(pipeline: DuplicatePipeline, texts: Sequence[str], asked: Ints, database: Path) -> Forum:
    """Put the questions into an index and decide their pairs by the candidate rule; resumes where it was stopped."""
    marker = database.with_suffix(".judged")
    done = int(marker.read_text()) if marker.exists() and database.exists() else 0
    with QuestionIndex(database, pipeline) as index:
        index.add(range(len(texts)), texts)
        for start in range(done, len(texts), PART):
            index.flag_stored(range(start, min(start + PART, len(texts))))
            marker.write_text(str(start + PART))
        return forum_of(index, texts, asked)


def forum_of(index: QuestionIndex, texts: Sequence[str], asked: Ints) -> Forum:
    """Return the forum with the pairs that an index judged."""
    rows, cosines = index.decisions(), np.zeros(0)
    if index.decider.calibrator.reads_cosines:
        with index._store.reading() as view:
            cosines = read_cosines(view, rows)
    return Forum(
        texts=tuple(texts),
        asked=asked,
        one=np.array([int(row.id) for row in rows], np.int64),
        other=np.array([int(row.other) for row in rows], np.int64),
        scores=np.array([row.score for row in rows]),
        probabilities=np.array([row.probability for row in rows]),
        decisions=np.array([row.decision for row in rows], dtype=object),
        cosines=cosines,
    )


# ---- the moderator --------------------------------------------------------------------------------------------------


def reaches(asked: Ints, rng: np.random.Generator) -> Floats:
    """Draw the reach of each question, (n,), above 0."""
    repeated = np.bincount(asked)[asked] > 1
    return rng.lognormal(1.0, 1.0, len(asked)) * np.where(repeated, POPULAR, 1.0)


@dataclass(frozen=True, slots=True)
class Draws:
    """Strata, values, random numbers and answers of the m judged pairs; see `sampling`."""

    strata: NDArray[Any]
    values: Floats
    drawn: Floats
    answers: NDArray[np.bool_]


def draw(forum: Forum, seed: int, error: float) -> Draws:
    """Draw what is random about one run."""
    rng = np.random.default_rng(seed)
    reach = reaches(forum.asked, rng)
    rows = zip(forum.decisions, forum.probabilities, reach[forum.one], reach[forum.other], strict=True)
    kinds = [(stratum_of(decision, p), value_of(p, a, b)) for decision, p, a, b in rows]
    return Draws(
        strata=np.array([kind for kind, _ in kinds], dtype=object),
        values=np.array([value for _, value in kinds]),
        drawn=rng.random(len(kinds)),
        answers=forum.truth ^ (rng.random(len(kinds)) < error),
    )


def reviewed(draws: Draws, steps: Sequence[int]) -> Iterator[tuple[int, NDArray[np.bool_], Progressed]]:
    """Answer the review queue; yield number of verdicts, pairs with a verdict (m,) and progress, at each step."""
    m = len(draws.drawn)
    orders = {"queue": np.argsort(draws.drawn / draws.values, kind="stable")}
    for stratum in STRATA:
        inside = np.flatnonzero(draws.strata == stratum)
        orders[stratum] = inside[np.argsort(draws.drawn[inside], kind="stable")]
    answered, at = np.zeros(m, bool), dict.fromkeys(orders, 0)

    def head(name: str) -> int | None:
        order = orders[name]
        while at[name] < len(order) and answered[order[at[name]]]:
            at[name] += 1
        return int(order[at[name]]) if at[name] < len(order) else None

    for place in range(min(max(steps), m)):
        first = turn(place, AUDIT_SHARE)
        names = ("queue",) if first == "queue" else (first, *(s for s in STRATA if s != first), "queue")
        chosen = next(pair for pair in map(head, names) if pair is not None)
        answered[chosen] = True
        if place + 1 in steps:
            audits = {s: float(draws.drawn[pair]) for s in STRATA if (pair := head(s)) is not None}
            rest = head("queue")
            queue = np.inf if rest is None else float(draws.drawn[rest] / draws.values[rest])
            yield place + 1, answered.copy(), Progressed(audits, queue)


# ---- the figures ----------------------------------------------------------------------------------------------------


def calibration_error(p: Floats, truth: NDArray[np.bool_]) -> float:
    """Return the mean absolute difference of probability and share of duplicates, over the bins of `HeldOut`."""
    bins = np.digitize(p, BINS)
    return float(sum(abs(np.sum(p[bins == b] - truth[bins == b])) for b in np.unique(bins)) / len(p))


def judged_pairs(forum: Forum, draws: Draws, answered: NDArray[np.bool_], progress: Progressed) -> JudgedPairs:
    """Return the arrays that a calibration is fitted on."""
    pi = inclusion_probabilities(list(draws.strata), draws.values, progress)
    audits = np.array([progress.audit_probability(stratum) for stratum in draws.strata])
    sampled = (draws.drawn < audits) | (draws.drawn / draws.values < progress.queue)
    m = len(pi)
    return JudgedPairs(
        scores=forum.scores,
        strata=draws.strata,
        drawn=draws.drawn,
        answers=np.where(answered, draws.answers, NO_ANSWER).astype(np.int8),
        inclusion=np.where(sampled, pi, 0.0),
        audited=draws.drawn < audits,
        groups=np.arange(m),
        copies=np.zeros(m, bool),
        held_back=np.zeros(m, bool),
        cosines=forum.cosines,
    )


def fits(forum: Forum, own: Decider, pairs: JudgedPairs) -> dict[str, Floats]:
    """Return the probabilities of all pairs by calibrators fitted in three ways; none for too few verdicts."""
    clear, known = pairs.clear, pairs.answers >= 0
    try:
        calibration, _ = fit_calibration(own, pairs, replace(policy_of(own), delta=None))
    except NotEnoughLabelsError:
        return {}

    def plain(used: NDArray[np.bool_], weights: Floats | None) -> Calibrator:
        cosines = forum.cosines[used] if len(forum.cosines) else None
        scores, labels = pairs.scores[used], pairs.labels[used]
        return fit_candidate_calibrator(own.calibrator, scores, labels, weights, cosines=cosines)

    calibrators = {
        "calibrated": calibration.calibrator,
        "plain weights": plain(clear, 1 / pairs.inclusion[clear]),
        "without weights": plain(known, None),
    }
    return {name: pairs.probabilities(calibrator) for name, calibrator in calibrators.items()}


def row_of(forum: Forum, own: Decider, draws: Draws, answered: NDArray[np.bool_], now: Progressed) -> dict[str, Any]:
    """Return the figures of one seed after some verdicts; an interval that holds the truth counts 1."""
    truth, flagged, given = forum.truth, forum.decisions == FLAGGED, draws.answers
    pairs = judged_pairs(forum, draws, answered, now)
    true = {"precision": given[flagged].mean(), "recall": (given & flagged).sum() / given.sum()}
    written = {"precision": truth[flagged].mean(), "recall": (truth & flagged).sum() / truth.sum()}
    row: dict[str, Any] = {"shipped error": calibration_error(forum.probabilities, truth)}
    for name, p in fits(forum, own, pairs).items():
        row[f"{name} error"] = calibration_error(p, truth)
    clear = pairs.clear
    counts = {(s, side): int(((draws.strata == s) & (flagged == side)).sum()) for s in STRATA for side in (True, False)}
    shares = estimate_shares(
        list(draws.strata[clear]), flagged[clear], draws.answers[clear], pairs.inclusion[clear], counts
    )
    labels, shown = draws.answers[answered], flagged[answered]
    naive = {
        "precision": (int((labels & shown).sum()), int(shown.sum())),
        "recall": (int((labels & shown).sum()), int(labels.sum())),
    }
    for name in ("precision", "recall"):
        estimate = getattr(shares, name)
        if estimate.value is not None:
            row[f"{name} bias"] = estimate.value - true[name]
            row[f"{name} off"] = estimate.value - written[name]
            row[f"{name} holds"] = float(estimate.low <= true[name] <= estimate.high)
            row[f"{name} width"] = estimate.high - estimate.low
        hits, n = naive[name]
        if n:
            row[f"{name} bias without weights"] = hits / n - true[name]
            low, high = float(lower_bound(hits, n, TAIL)), float(upper_bound(hits, n, TAIL))
            row[f"{name} holds without weights"] = float(low <= true[name] <= high)
    audited = pairs.audited & answered & flagged & (draws.strata == FLAGGED)
    hits, n = int(draws.answers[audited].sum()), int(audited.sum())
    row["audited"] = float(n)
    if n:
        row["audit holds"] = float(lower_bound(hits, n, TAIL) <= true["precision"] <= upper_bound(hits, n, TAIL))
    return row


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, float] | None]:
    """Return the mean of each figure over seeds with its 95 % interval; None where no seed has it."""
    found: dict[str, dict[str, float] | None] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = np.array([row.get(name, np.nan) for row in rows], np.float64)
        values = values[np.isfinite(values)]
        if not len(values):
            found[name] = None
            continue
        mean, half = values.mean(), 1.96 * values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0.0
        found[name] = {"value": float(mean), "low": float(mean - half), "high": float(mean + half)}
    return found


def measure(
    forum: Forum, own: Decider, *, steps: Sequence[int] = STEPS, seeds: int = 40, error: float = ERROR
) -> dict[str, Any]:
    """Simulate the forum for some seeds; return the table by number of verdicts."""
    rows: dict[int, list[dict[str, Any]]] = {}
    for seed in range(seeds):
        draws = draw(forum, seed, error)
        for count, answered, now in reviewed(draws, steps):
            rows.setdefault(count, []).append(row_of(forum, own, draws, answered, now))
    truth, flagged = forum.truth, forum.decisions == FLAGGED
    return {
        "questions": len(forum.texts),
        "pairs": len(truth),
        "duplicates": int(truth.sum()),
        "flagged": int(flagged.sum()),
        "precision": float(truth[flagged].mean()),
        "recall": float((truth & flagged).sum() / truth.sum()),
        "moderator_error": error,
        "verdicts_a_day": A_DAY,
        "seeds": seeds,
        "steps": {str(count): summary(found) for count, found in rows.items()},
    }


# ---- one run through a real index -----------------------------------------------------------------------------------


def through_index(
    pipeline: DuplicatePipeline, forum: Forum, database: Path, *, verdicts: int, error: float = ERROR
) -> dict[str, Any]:
    """Answer the review queue of a SQLite index; return its estimates and those of the arrays, which must agree.

    Args:
        pipeline: Pipeline that the index was judged with.
        forum: The forum.
        database: A judged index, which is changed.
        verdicts: Number of verdicts.
        error: Share of wrong answers.
    """
    rng, wrong = np.random.default_rng(0), 0
    with QuestionIndex(database, pipeline) as index:
        rows = index.decisions()
        place = {(int(row.id), int(row.other)): at for at, row in enumerate(rows)}
        truth = forum.truth
        answers = truth ^ (rng.random(len(rows)) < error)
        given = 0
        while given < verdicts:
            items = index.review_queue(min(A_DAY, verdicts - given), audit_share=AUDIT_SHARE)
            if not items:
                break
            for item in items:
                one, other = int(item.question.id), int(item.other.id)
                at = place.get((one, other), place.get((other, one), -1))
                wrong += bool(answers[at] != truth[at])
                answer = "duplicate" if answers[at] else "distinct"
                index.verdict(one, other, answer, by="simulator", chosen=item.chosen, sampled=item.sampled)
                given += 1
        found = index.estimates()
        draws = Draws(
            strata=np.array([row.stratum for row in rows], dtype=object),
            values=np.array([row.value for row in rows]),
            drawn=np.array([row.drawn for row in rows]),
            answers=answers,
        )
        _, answered, now = next(reviewed(draws, [given]))
        pairs, flagged = judged_pairs(forum, draws, answered, now), forum.decisions == FLAGGED
        counts = {
            (s, side): int(((draws.strata == s) & (flagged == side)).sum()) for s in STRATA for side in (True, False)
        }
        clear = pairs.clear
        shares = estimate_shares(
            list(draws.strata[clear]), flagged[clear], answers[clear], pairs.inclusion[clear], counts
        )
        result: dict[str, Any] = {"verdicts": given, "wrong": wrong, "sampled": found.sampled}
        for name in ("precision", "recall", "base_rate"):
            result[name] = {"index": getattr(found, name).value, "arrays": getattr(shares, name).value}
        try:
            version = index.calibrate(by="simulator", policy=Policy.precision(0.5))
            own = pipeline.candidate_decider
            fitted, _ = fit_calibration(own, replace(pairs, groups=np.arange(len(rows))), Policy.precision(0.5))
            points = np.linspace(-4, 4, 9) if not len(forum.cosines) else forum.scores[:9]
            cosines = forum.cosines[:9]
            result["calibrated"] = {
                "index": version.calibration.calibrator.log_odds(points, cosines=cosines).tolist(),
                "arrays": fitted.calibrator.log_odds(points, cosines=cosines).tolist(),
                "conclusion": version.conclusion,
                "guarantee": version.guarantee,
            }
        except NotEnoughLabelsError as refused:
            result["calibrated"] = {"refused": refused.message}
        return result


def table(results: dict[str, Any]) -> str:
    """Return the results as a table in Markdown."""

    def cell(figures: dict[str, Any], name: str, percent: bool = False) -> str:
        figure = figures.get(name)
        if figure is None:
            return "-"
        half = (figure["high"] - figure["low"]) / 2
        if percent:
            return f"{100 * figure['value']:.0f} %"
        return f"{figure['value']:+.3f} ± {half:.3f}" if "bias" in name else f"{figure['value']:.4f} ± {half:.4f}"

    lines = [
        "| verdicts | calibration error, shipped | calibrated | plain weights | without weights |"
        " precision bias with weights | without | recall bias with weights | without |"
        " intervals that hold: precision | recall | audit |",
        "|" + "--:|" * 12,
    ]
    for count, figures in results["steps"].items():
        lines.append(
            "| "
            + " | ".join(
                [
                    f"{int(count):,}",
                    *(
                        cell(figures, f"{name} error")
                        for name in ("shipped", "calibrated", "plain weights", "without weights")
                    ),
                    *(cell(figures, f"precision bias{kind}") for kind in ("", " without weights")),
                    *(cell(figures, f"recall bias{kind}") for kind in ("", " without weights")),
                    *(cell(figures, name, True) for name in ("precision holds", "recall holds", "audit holds")),
                ]
            )
            + " |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="pipeline folder (default: the shipped model)")
    parser.add_argument("--clusters", type=int, help="clusters of each file (default: all)")
    parser.add_argument("--seeds", type=int, default=40, help="seeds of the simulation (default: 40)")
    parser.add_argument("--work", help="folder of the judged index, kept for a later run (default: a temporary one)")
    parser.add_argument("--output", default=str(RESULTS / "verdicts.json"), help="file of the results")
    args = parser.parse_args()
    pipeline = DuplicatePipeline.from_pretrained(args.model) if args.model else DuplicatePipeline.from_pretrained()
    start = time.perf_counter()
    texts, asked = written_questions(args.clusters)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(args.work or temporary)
        work.mkdir(parents=True, exist_ok=True)
        forum = judge(pipeline, texts, asked, work / "judged.db")
        results = measure(forum, pipeline.candidate_decider, seeds=args.seeds)
        results["careful"] = measure(forum, pipeline.candidate_decider, seeds=args.seeds, error=0.0)
        with tempfile.TemporaryDirectory() as copies:
            copy = Path(copies) / "forum.db"
            with closing(sqlite3.connect(work / "judged.db")) as judged, closing(sqlite3.connect(copy)) as target:
                judged.backup(target)
            results["agreement"] = through_index(pipeline, forum, copy, verdicts=200)
    results["seconds"] = time.perf_counter() - start
    write_json(Path(args.output), results)
    print(table(results))


if __name__ == "__main__":
    main()
