"""Writes what the family's figures answer, each sentence chosen by its interval."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from benchmarks.family import picture, sets
from benchmarks.family.results import (
    CLOSE_AUC,
    POSTS_AUC,
    QUORA_AP,
    WORLDS_AUC,
    Floats,
    Found,
    Measure,
    Row,
    balanced,
    bounds,
    class_difference,
    drawn,
    of_trainings,
    order_change,
    overlap_auc,
    pooled,
    signed,
    spread,
    stacked,
    wrong,
)
from benchmarks.family.runs import MADE_OF, NAMES, is_fixed, setup_of
from benchmarks.family.stages import LINES, STAGES, stage_of
from benchmarks.readme import ROOT

PAGE = ROOT / "docs" / "explanation" / "family.md"
TRAINED = {sets.QUORA: "Quora rows", sets.MIXED: "Quora rows and near misses"}
MEASURES = {
    QUORA_AP: "average precision on Quora",
    WORLDS_AUC: "ROC AUC on near misses",
    CLOSE_AUC: "ROC AUC where few words decide",
    POSTS_AUC: "ROC AUC on posts",
}
NOT_YET = "not measured yet"
A_CLASS = 3
"""Methods of a stage from which it is compared with another."""


def page(folders: Sequence[Path]) -> str:
    count = sum(sets.is_close(pair) for pair in sets.measured_pairs(sets.WORLDS))
    overlap, close = overlap_auc()
    parts = [
        "# Which similarity networks learn meaning",
        "",
        "Two questions can share nearly all words and ask different things. This page compares the methods of `dupq "
        "train --list-methods` on such near misses. Each is trained on Quora rows alone, and on as many rows of which "
        "half are near misses of other subjects, with the same encoder, steps and seeds.",
        "",
        *(f"- **{stage}**: {LINES[stage]}." for stage in STAGES),
        "",
        f"Few words decide in the {count:,} near misses of `worlds_dev` whose texts differ in at most {sets.FEW_WORDS} "
        "words; their ROC AUC is against all paraphrases. The overlap of words alone (Jaccard index) has a ROC AUC of "
        f"{overlap:.3f} on all near misses and {close:.3f} on these. A run decides at the threshold that is best on "
        "its own validation rows. Intervals are 95 %, over seeds and question groups or clusters. Posts are read up to "
        "their first 128 tokens. `benchmarks/family.md` has all figures; `python -m benchmarks.family` measures them "
        "and writes this page.",
        "",
    ]
    for folder in folders:
        parts += encoder_part(folder)
    return "\n".join(parts)


def encoder_part(folder: Path) -> list[str]:
    found = of_trainings(folder)
    if not any(found.values()):
        return [f"## From {folder.name}", "", f"It is {NOT_YET}.", ""]
    drawing = picture.picture(folder)
    target = os.path.relpath(picture.place(folder.name), PAGE.parent)
    return [
        f"## From {folder.name}",
        "",
        setup_line(found),
        "",
        *([f"![{picture.TITLE}, from {folder.name}]({target})", ""] if drawing else []),
        *short_part(found),
        "### Does comparing early beat comparing late where few words decide?",
        "",
        *early_part(found),
        "",
        "### Does the order of the family change with the training set?",
        "",
        *order_part(found),
        "",
        "### Which method is best?",
        "",
        *best_part(found),
        "",
        "### Figures",
        "",
        *table(found),
        "",
    ]


def setup_line(found: dict[str, Found]) -> str:
    setup = setup_of(next(rows[0] for results in found.values() for rows in results.values()))
    seeds = {row["seed"] for results in found.values() for rows in results.values() for row in rows}
    return (
        f"{setup['rows']:,} training pairs, {setup['steps']:,} steps of {setup['batch_size']}, learning rate "
        f"{setup['learning_rate']:g}, {setup['precision']}, {len(seeds)} seed{'s' * (len(seeds) > 1)}."
    )


def short_part(found: dict[str, Found]) -> list[str]:
    """Return what near misses in training change, and the recommended methods; nothing before both are measured."""
    alone, mixed = found[sets.QUORA], found[sets.MIXED]
    names = [name for name in trained(mixed) if name in alone]
    if len(names) < A_CLASS:
        return []
    seeds = seeds_of([alone, mixed], names)
    gains = {}
    for measure in (WORLDS_AUC, QUORA_AP):
        before, after = (only(stacked(rows, names, drawn(measure)), rows, names, seeds) for rows in (alone, mixed))
        gains[measure] = signed(class_difference(after - before, np.zeros_like(before)))
    chosen = {"to decide a pair": names, "to search by stored vectors": of_stage(mixed, "late")}
    lines = [
        "### In short",
        "",
        f"- Near misses in training change the ROC AUC on near misses by {gains[WORLDS_AUC]} and average precision on "
        f"Quora by {gains[QUORA_AP]}, mean over {len(names)} methods.",
    ]
    for use, of in chosen.items():
        if not of:
            continue
        best, *close = undecided(mixed, of, both)
        figures = ", ".join(f"{MEASURES[m]} {pooled(mixed[best], m).mean():.3f}" for m in (QUORA_AP, WORLDS_AUC))
        beside = f" Undecided against it: {', '.join(f'`{name}`' for name in close)}." if close else ""
        lines.append(f"- Recommended {use}: `{best}` ({figures}).{beside}")
    return [*lines, "", "Both are trained on near misses too, and have the highest mean of the two figures.", ""]


def both(row: Row) -> Floats:
    """Return the draws of the mean of average precision on Quora and ROC AUC on near misses."""
    return (drawn(QUORA_AP)(row) + drawn(WORLDS_AUC)(row)) / 2


def undecided(found: Found, names: Sequence[str], measure: str | Measure) -> list[str]:
    """Return the best method, and those whose difference from it has an interval that holds 0."""
    first, *others = sorted(names, key=lambda name: -pooled(found[name], measure).mean())
    close = [first]
    for name in others:
        # A method that was run once has the draws of the other's first seed.
        rows = [found[first], found[name]]
        count = min(len(one) for one in rows)
        one, other = (pooled(each[:count], measure) for each in rows)
        if bounds(one - other)[1] <= 0:
            close.append(name)
    return close


def trained(found: Found) -> list[str]:
    """Return the methods whose networks depend on a seed, without what is put together of several."""
    return [name for name in found if name not in MADE_OF and not is_fixed(name)]


def seeds_of(found: Sequence[Found], names: Sequence[str]) -> set[int]:
    """Return the seeds that all methods have in all training sets."""
    shared = [{row["seed"] for row in results[name]} for results in found for name in names]
    return set.intersection(*shared) if shared else set()


def of_stage(found: Found, stage: str) -> list[str]:
    """Return the trained methods of a stage."""
    return [name for name in trained(found) if stage_of(name) == stage]


def contrast(found: Found, measure: Measure, stages: tuple[str, str] = ("early", "late")) -> Floats | None:
    """Return the draws of one stage less another; None with too few methods of either to stand for their class."""
    sides = [of_stage(found, stage) for stage in stages]
    if min(map(len, sides)) < A_CLASS:
        return None
    every = stacked(found, [*sides[0], *sides[1]], measure)
    return class_difference(every[: len(sides[0])], every[len(sides[0]) :]) if every.shape[1] else None


def compared_stages(found: dict[str, Found]) -> tuple[str, str]:
    """Return early and late; merged and late where too few early methods were measured to stand for their class."""
    few = [len(of_stage(results, "early")) < A_CLASS <= len(of_stage(results, "merged")) for results in found.values()]
    return ("merged" if all(few) else "early", "late")


def early_part(found: dict[str, Found]) -> list[str]:
    """The answer by ROC AUC, and errors by kind of near miss."""
    lines = []
    for training, results in found.items():
        draws, every = (contrast(results, drawn(measure)) for measure in (CLOSE_AUC, WORLDS_AUC))
        if draws is None or every is None:
            few = ", ".join(f"`{name}`" for name in of_stage(results, "early"))
            answer = f"**not answered**; too few early methods were measured ({few})" if few else NOT_YET
            lines.append(f"- Trained on {TRAINED[training]}: {answer}.")
        else:
            _, low, high = bounds(draws)
            answer = "yes" if low > 0 else "no, late beats early" if high < 0 else "undecided"
            numbers = [len(of_stage(results, stage)) for stage in ("early", "late")]
            lines.append(
                f"- Trained on {TRAINED[training]}: **{answer}**. Mean ROC AUC of {numbers[0]} early methods less that "
                f"of {numbers[1]} late ones: {signed(draws)}; over all near misses {signed(every)}."
            )
        for stages in (("merged", "late"), ("early", "merged")):
            rest = contrast(results, drawn(CLOSE_AUC), stages)
            if rest is not None:
                lines[-1] += f" {stages[0].capitalize()} less {stages[1]}: {signed(rest)}."
    lines += ["", "The interval is also over methods, for each class stands for more than were tried.", ""]
    return lines + kinds_tables(found)


def kinds_tables(found: dict[str, Found]) -> list[str]:
    """Return the ROC AUC of each kind of near miss against paraphrases, and the share decided wrongly."""
    near_misses = [pair.kind for pair in sets.measured_pairs(sets.WORLDS) if pair.label == 0]
    kinds = sorted({*near_misses} - {sets.TWO_NEAR_MISSES}, key=lambda kind: -near_misses.count(kind))

    def auc(kind: str) -> Measure:
        return drawn(f"{sets.WORLDS} {kind}")

    def difference(kind: str) -> Measure:
        return wrong(kind) if kind == sets.PARAPHRASE else balanced(kind)

    return [
        "ROC AUC of each kind of near miss against all paraphrases, mean over methods. Bold: the interval of the "
        "difference excludes 0.",
        "",
        *by_kind(found, kinds, auc, auc, better=1),
        "",
        "Share decided wrongly at a run's own threshold. A method can decide fewer near misses wrongly by flagging "
        "less: the difference is of the mean of this share and that of paraphrases, and in the last row of paraphrases "
        "alone.",
        "",
        *by_kind(found, [*kinds, sets.PARAPHRASE], wrong, difference, better=-1),
    ]


def by_kind(
    found: dict[str, Found],
    kinds: Sequence[str],
    shown: Callable[[str], Measure],
    compared: Callable[[str], Measure],
    better: int,
) -> list[str]:
    """Return a table of a measure by kind of change and stage, with the difference between two stages.

    Args:
        found: Results by training set.
        kinds: The rows.
        shown, compared: Measures of a kind in the cells, and in the difference.
        better: 1 if a higher value is better, else -1.
    """
    stages = compared_stages(found)
    head = ["kind of change", "pairs"]
    for training in found:
        head += [f"{stage}, {TRAINED[training]}" for stage in STAGES] + [" less ".join(stages)]
    lines = [f"| {' | '.join(head)} |", f"|---|{'--:|' * (len(head) - 1)}"]
    for kind in kinds:
        cells = [kind, f"{sum(pair.kind == kind for pair in sets.measured_pairs(sets.WORLDS)):,}"]
        for results in found.values():
            for stage in STAGES:
                means = [pooled(results[name], shown(kind)).mean() for name in of_stage(results, stage)]
                cells.append(f"{np.mean(means):.2f}" if means else NOT_YET)
            draws = contrast(results, compared(kind), stages)
            cells.append(NOT_YET if draws is None else signed(draws, 2) + verdict_mark(better * draws, stages))
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def verdict_mark(advantage: Floats, stages: tuple[str, str]) -> str:
    """Return the stage that is better by draws of the advantage of the first, or "" where it is undecided."""
    _, low, high = bounds(advantage)
    return f" **{stages[0]}**" if low > 0 else f" **{stages[1]}**" if high < 0 else ""


def order_part(found: dict[str, Found]) -> list[str]:
    alone, mixed = found[sets.QUORA], found[sets.MIXED]
    names = [name for name in trained(alone) if name in mixed]
    seeds = seeds_of([alone, mixed], names)
    if len(names) < 3 or len(seeds) < 2:
        return [f"It is {NOT_YET}: three methods with two seeds of both training sets are needed."]
    lines = []
    for measure, line in MEASURES.items():
        a, b = (only(stacked(results, names, drawn(measure)), results, names, seeds) for results in (alone, mixed))
        across, within = order_change(a, b)
        _, low, high = bounds(within - across)
        answer = "the order changes" if low > 0 else "no change is seen" if high < 0 else "undecided"
        lines.append(
            f"- {line}: **{answer}**. Rank correlation {across.mean():.2f} ({spread(across, 2)}) between the training "
            f"sets, {within.mean():.2f} ({spread(within, 2)}) between two seeds of one: a loss of "
            f"{signed(within - across, 2)}."
        )
    without = "Spearman's coefficient over the {:,} methods whose networks depend on a seed."
    return [*lines, "", without.format(len(names))]


def only(values: Floats, found: Found, names: Sequence[str], seeds: set[int]) -> Floats:
    """The seeds that both training sets have."""
    own = sorted(set.intersection(*({row["seed"] for row in found[name]} for name in names)))
    return values[:, [own.index(seed) for seed in sorted(seeds)]]


def best_part(found: dict[str, Found]) -> list[str]:
    """The best by each measure, and those that are not shown to be worse."""
    lines = []
    for training, results in found.items():
        if not results:
            lines.append(f"- Trained on {TRAINED[training]}: {NOT_YET}.")
        for measure, line in MEASURES.items() if results else ():
            first, *close = undecided(results, list(results), measure)
            value = f"{pooled(results[first], measure).mean():.3f}"
            others = ", ".join(f"`{name}`" for name in close)
            beside = f"; undecided against {others}" if close else "; all others are worse"
            lines.append(f"- {line}, trained on {TRAINED[training]}: `{first}` ({value}){beside}.")
    return lines


def table(found: dict[str, Found]) -> list[str]:
    head = ["method", "compares", "seeds"]
    head += [f"{line}, {TRAINED[training]}" for line in MEASURES.values() for training in found]
    lines = [f"| {' | '.join(head)} |", f"|---|---|--:|{'--:|' * (len(head) - 3)}"]

    def height(name: str) -> float:
        values = [pooled(results[name], WORLDS_AUC).mean() for results in found.values() if name in results]
        return float(values[-1]) if values else -1.0

    measured = [name for name in NAMES if any(name in results for results in found.values())]
    for name in sorted(measured, key=lambda name: (-height(name), name)):
        counts = [len(results.get(name, ())) for results in found.values()]
        cells = [f"`{name}`", stage_name(name), " and ".join(dict.fromkeys(map(str, counts)))]
        for measure in MEASURES:
            for results in found.values():
                values = pooled(results[name], measure) if name in results else None
                cells.append(NOT_YET if values is None else f"{values.mean():.3f} ({spread(values)})")
        lines.append(f"| {' | '.join(cells)} |")
    missing = [f"`{name}`" for name in NAMES if name not in measured]
    if len(missing) > len(measured):
        return [*lines, "", f"The other {len(missing)} methods were not measured with this encoder."]
    return [*lines, *(["", f"Not measured: {', '.join(missing)}."] if missing else [])]


def stage_name(name: str) -> str:
    return "-" if name in MADE_OF else stage_of(name)
