"""Table of counts at candidate thresholds, with confidence bounds.

Two samples of the labelled pairs are counted, since they need not agree:

- *one per group*: one pair drawn from each question group. Groups are independent, so these pairs are too, and binomial
  bounds are exact. They hold for a random pair of a random group: a group of 300 pairs counts as much as a group of
  one.
- *all*: all pairs as they came, large groups counting in full. Bounds are those of survey statistics for clustered
  samples (Korn & Graubard 1998): Clopper-Pearson at the effective sample size. They are approximate.

A guarantee needs both bounds. The first costs recall, since small groups hold fewer duplicates, and one pair a group
wastes the others. An exact alternative that uses all pairs, betting on the mean of a group's errors (Waudby-Smith &
Ramdas 2024), finds a threshold less often.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dupq.calibration.prior_shift import ScoreReference
from dupq.data import checks
from dupq.data.arguments import as_kind, as_seed
from dupq.errors import InputError, ModelFolderError

Floats = NDArray[np.float64]

MAX_CUTS = 400
REFERENCE_BINS = 100
_LOCATION = "threshold table"


def lower_bound(hits: ArrayLike, n: ArrayLike, delta: float) -> Floats:
    """Return the one-sided Clopper-Pearson (1934) lower bound of a share.

    Args:
        hits, n: Counts; fractions are allowed.
        delta: One less the confidence, in (0, 1).
    """
    from scipy.special import betaincinv

    hits, n = np.asarray(hits, dtype=np.float64), np.asarray(n, dtype=np.float64)
    return np.where(hits > 0, betaincinv(np.maximum(hits, 1e-9), n - hits + 1, delta), 0.0)


def upper_bound(hits: ArrayLike, n: ArrayLike, delta: float) -> Floats:
    """Return the one-sided Clopper-Pearson upper bound of a share, see `lower_bound`."""
    return np.asarray(1 - lower_bound(np.asarray(n) - np.asarray(hits), n, delta))


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts of one sample of pairs at k cuts.

    Attributes:
        tp, fp: Duplicates and distinct pairs with score >= cut, (k,).
        duplicates, distinct: Totals.
        effective_flagged, effective_duplicates, effective_distinct: Effective over actual sample size (one over the
            design effect), in (0, 1], of the shares of flagged pairs, of duplicates and of distinct pairs.
    """

    tp: Floats
    fp: Floats
    duplicates: float
    distinct: float
    effective_flagged: Floats | float = 1.0
    effective_duplicates: Floats | float = 1.0
    effective_distinct: Floats | float = 1.0

    @property
    def flagged(self) -> Floats:
        """Pairs with score >= cut, (k,)."""
        return self.tp + self.fp

    def precision_bound(self, delta: float, base_rate: float | None) -> Floats:
        """Return the lower bound of the precision, (k,), at confidence 1 - delta.

        At another base rate it follows from bounds of recall and false-positive rate. The recall gets the smaller part
        of `delta`, a fifth, because its bound matters less.
        """
        if base_rate is None:
            return lower_bound(self.tp * self.effective_flagged, self.flagged * self.effective_flagged, delta)
        true = base_rate * self.recall_bound(delta / 5)
        zeros = self.distinct * self.effective_distinct
        wrong = (1 - base_rate) * upper_bound(self.fp * self.effective_distinct, zeros, 0.8 * delta)
        return np.asarray(true / (true + wrong))

    def recall_bound(self, delta: float) -> Floats:
        """Return the lower bound of the recall, (k,), at confidence 1 - delta."""
        return lower_bound(self.tp * self.effective_duplicates, self.duplicates * self.effective_duplicates, delta)


@dataclass(frozen=True, slots=True)
class ThresholdTable:
    """Counts at candidate cuts, for any policy and base rate.

    It holds no scores of single pairs.

    Attributes:
        cuts: Raw scores, falling, chosen without the labels: midway between neighbours at ranks spaced evenly, and more
            densely at the top; the last is the lowest score, which flags all.
        one_per_group_tp, one_per_group_fp: Duplicates and distinct pairs at or above each cut, of one pair per group.
        tp, fp: The same of all pairs.
        effective_flagged, effective_duplicates, effective_distinct: Effective over actual size of all pairs, see
            `Counts`.
        effective_pairs: The same of the share of all pairs that each cut flags.
        one_per_group_duplicates, one_per_group_distinct, duplicates, distinct: Totals.
        seed: Seed of the draw of one pair per group.
        date: Date of the count, ISO 8601, UTC.
        data_fingerprint, scorer_fingerprint: Fingerprints of the pairs and of the scorer; "" where not known.
    """

    cuts: tuple[float, ...]
    one_per_group_tp: tuple[int, ...]
    one_per_group_fp: tuple[int, ...]
    tp: tuple[int, ...]
    fp: tuple[int, ...]
    effective_flagged: tuple[float, ...]
    effective_duplicates: tuple[float, ...]
    effective_distinct: tuple[float, ...]
    effective_pairs: tuple[float, ...]
    one_per_group_duplicates: int
    one_per_group_distinct: int
    duplicates: int
    distinct: int
    seed: int
    date: str
    data_fingerprint: str = ""
    scorer_fingerprint: str = ""

    @property
    def pairs(self) -> int:
        """The number of labelled pairs."""
        return self.duplicates + self.distinct

    @property
    def groups(self) -> int:
        """The number of question groups."""
        return self.one_per_group_duplicates + self.one_per_group_distinct

    @property
    def base_rate(self) -> float:
        """The share of duplicates among all pairs."""
        return self.duplicates / self.pairs

    def one_per_group(self, factor: float = 1.0) -> Counts:
        """Return the counts of one pair per group.

        They are scaled as if `factor` times as many labels had the same shares.
        """
        tp, fp = (np.array(x) * factor for x in (self.one_per_group_tp, self.one_per_group_fp))
        return Counts(tp, fp, self.one_per_group_duplicates * factor, self.one_per_group_distinct * factor)

    def all_pairs(self, factor: float = 1.0) -> Counts:
        """Return the counts of all pairs, scaled in the same way."""
        tp, fp = (np.array(x) * factor for x in (self.tp, self.fp))
        sizes = (self.effective_flagged, self.effective_duplicates, self.effective_distinct)
        return Counts(tp, fp, self.duplicates * factor, self.distinct * factor, *(np.array(x) for x in sizes))

    def rates(self, cut: float) -> tuple[float, float]:
        """Return recall and false-positive rate at a cut, linear between cuts."""
        rising = np.array(self.cuts[::-1])
        recall = np.interp(cut, rising, np.array(self.tp[::-1]) / self.duplicates)
        false_positive_rate = np.interp(cut, rising, np.array(self.fp[::-1]) / self.distinct)
        return float(recall), float(false_positive_rate)

    def score_reference(self) -> ScoreReference:
        """Return the score distributions of both labels.

        They have 100 bins of equal mass, or fewer.

        Raises:
            InputError: All scores are the same.
        """
        rising = np.array(self.cuts[::-1])
        ones, zeros = np.array(self.tp[::-1], dtype=np.int64), np.array(self.fp[::-1], dtype=np.int64)
        wanted = np.linspace(0, self.pairs, REFERENCE_BINS + 1)[1:-1]
        keep = np.unique(np.searchsorted(self.pairs - (ones + zeros), wanted).clip(1, len(rising) - 1))
        if len(rising) < 2:
            raise InputError("all scores of the reference are the same", hint="calibrate on pairs whose scores differ")
        above = np.append(keep, len(rising))

        def counts(at_or_above: NDArray[np.int64], total: int) -> tuple[int, ...]:
            return tuple((-np.diff(np.concatenate([[total], np.append(at_or_above, 0)[above]]))).tolist())

        middle = len(rising) // 2
        return ScoreReference(
            edges=tuple(rising[keep].tolist()),
            duplicates=counts(ones, self.duplicates),
            distinct=counts(zeros, self.distinct),
            effective_duplicates=self.effective_duplicates[middle],
            effective_distinct=self.effective_distinct[middle],
            effective_pairs=self.effective_pairs[middle],
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that JSON can hold."""
        return {name: list(x) if isinstance(x, tuple) else x for name, x in asdict(self).items()}

    @classmethod
    def from_dict(cls, data: Any) -> ThresholdTable:
        """Read the data of `to_dict`.

        Raises:
            ModelFolderError: It is damaged.
        """
        values: dict[str, Any] = {}
        for name in ("cuts", "effective_flagged", "effective_duplicates", "effective_distinct", "effective_pairs"):
            values[name] = checks.numbers(data, name, _LOCATION)
        for name in ("one_per_group_tp", "one_per_group_fp", "tp", "fp"):
            values[name] = tuple(int(x) for x in checks.numbers(data, name, _LOCATION))
        sizes = {len(column) for column in values.values()}
        for name in ("one_per_group_duplicates", "one_per_group_distinct", "duplicates", "distinct", "seed"):
            values[name] = checks.field(data, name, int, _LOCATION)
        for name in ("date", "data_fingerprint", "scorer_fingerprint"):
            values[name] = checks.field(data, name, str, _LOCATION)
        if len(sizes) != 1 or 0 in sizes or values["duplicates"] < 1 or values["distinct"] < 1:
            raise ModelFolderError("its counts do not fit together", location=_LOCATION, hint="calibrate again")
        return cls(**values)


def build_threshold_table(
    scores: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    cuts: Sequence[float] | None = None,
    seed: int = 0,
    date: str | None = None,
    data_fingerprint: str = "",
    scorer_fingerprint: str = "",
) -> ThresholdTable:
    """Count labelled pairs at up to 400 candidate cuts.

    Args:
        scores: Raw scores (n,), higher = more alike. For a guarantee, neither the network nor the calibrator may have
            been fitted on these labels.
        labels: 0 or 1 (n,), in the natural mix.
        groups: Question group keys (n,); None: each pair is its own group.
        cuts: The candidates, falling, chosen without these labels; None: by rank, see `ThresholdTable`.
        seed: Seed of the draw of one pair per group.
        date: ISO 8601; None: now.
        data_fingerprint, scorer_fingerprint: Kept with the table.

    Raises:
        InputError: Scores that are not finite, lengths that differ, labels other than 0 and 1 or only one of them, or
            cuts that do not fall.
    """
    s = checks.checked_scores(scores)
    y = checks.checked_labels(labels, len(s))
    g = checks.checked_groups(groups, len(s))
    as_seed(seed)
    about = provenance(date, data_fingerprint, scorer_fingerprint)
    if cuts is not None and not len(cuts := checks.checked_scores(cuts, "cuts").tolist()):
        raise InputError("cuts must hold one cut or more", hint="leave them out")
    if cuts is not None and not (np.diff(cuts) < 0).all():
        raise InputError("cuts must fall from each to the next", hint="sort them in descending order, without repeats")
    one = draw_one_per_group(g, seed)
    candidates = _candidate_cuts(s) if cuts is None else np.append(cuts[:-1], min(cuts[-1], s.min()))
    ones, zeros = y == 1, y == 0
    order = np.argsort(-s, kind="stable")
    y_ranked, g_ranked = y[order], g[order]
    tp, fp = _at_or_above(s[ones], candidates), _at_or_above(s[zeros], candidates)
    flagged = np.array(tp) + np.array(fp)
    return ThresholdTable(
        cuts=tuple(candidates.tolist()),
        one_per_group_tp=_at_or_above(s[one & ones], candidates),
        one_per_group_fp=_at_or_above(s[one & zeros], candidates),
        tp=tp,
        fp=fp,
        effective_flagged=_at_counts(_effective_precision(y_ranked, g_ranked), flagged),
        effective_duplicates=_at_counts(_effective_flagged(g_ranked[y_ranked == 1]), np.array(tp)),
        effective_distinct=_at_counts(_effective_flagged(g_ranked[y_ranked == 0]), np.array(fp)),
        effective_pairs=_at_counts(_effective_flagged(g_ranked), flagged),
        one_per_group_duplicates=int((one & ones).sum()),
        one_per_group_distinct=int((one & zeros).sum()),
        duplicates=int(ones.sum()),
        distinct=int(zeros.sum()),
        seed=seed,
        **about,
    )


def provenance(date: str | None, data_fingerprint: str, scorer_fingerprint: str) -> dict[str, Any]:
    """Return date (None: now) and fingerprints; raise InputError for no text."""
    about = {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds") if date is None else date,
        "data_fingerprint": data_fingerprint,
        "scorer_fingerprint": scorer_fingerprint,
    }
    return {name: as_kind(value, str, name, "give a text") for name, value in about.items()}


def draw_one_per_group(groups: NDArray[np.int64], seed: int) -> NDArray[np.bool_]:
    """Draw one pair of each group, all equally likely: a mask (n,)."""
    order = np.random.default_rng(seed).permutation(len(groups))
    _, first = np.unique(groups[order], return_index=True)
    mask = np.zeros(len(groups), dtype=bool)
    mask[order[first]] = True
    return mask


def _candidate_cuts(s: Floats) -> Floats:
    distinct = np.unique(s)
    chosen = distinct
    if len(distinct) > MAX_CUTS:
        ranks = np.concatenate([np.geomspace(1, len(s), MAX_CUTS // 2), np.linspace(1, len(s), MAX_CUTS // 2)])
        chosen = np.unique(-np.sort(-s)[np.round(ranks).astype(int) - 1])
    below = distinct[np.maximum(np.searchsorted(distinct, chosen) - 1, 0)]
    return np.asarray(((chosen + below) / 2)[::-1])


def _at_or_above(s: Floats, cuts: Floats) -> tuple[int, ...]:
    return tuple((len(s) - np.searchsorted(np.sort(s), cuts, side="left")).tolist())


def _at_counts(running: Floats, counts: NDArray[Any]) -> tuple[float, ...]:
    """Look up the running statistic at each number of flagged pairs (at least one)."""
    return tuple(running[np.maximum(counts, 1) - 1].tolist())


def _earlier_in_group(groups: NDArray[np.int64], marked: NDArray[Any] | None = None) -> Floats:
    """Count the earlier (marked) pairs of each pair's own group, (n,)."""
    marks = np.ones(len(groups)) if marked is None else np.asarray(marked, dtype=np.float64)
    order = np.argsort(groups, kind="stable")
    running = np.cumsum(marks[order]) - marks[order]
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    found = np.empty(len(groups))
    found[order] = running - np.repeat(running[starts], np.diff(np.append(starts, len(groups))))
    return found


def _effective_precision(y: NDArray[Any], groups: NDArray[np.int64]) -> Floats:
    """Return effective over actual size of the mean of the first 1, ..., n of y."""
    k = np.arange(1, len(y) + 1, dtype=np.float64)
    hits, sizes = _earlier_in_group(groups, y), _earlier_in_group(groups)
    squares = np.cumsum(2 * sizes + 1)
    mean = np.cumsum(y) / k
    spread = np.cumsum(y * (2 * hits + 1)) - 2 * mean * np.cumsum(hits + y * (sizes + 1)) + mean**2 * squares
    return _inverse_design_effect(k, mean, np.cumsum(sizes == 0), spread, squares)


def _effective_flagged(groups: NDArray[np.int64]) -> Floats:
    """Return effective over actual size of the shares 1/n, ..., n/n of all pairs."""
    n = len(groups)
    totals = np.bincount(groups).astype(np.float64)
    mean = np.arange(1, n + 1) / n
    squares = float(totals @ totals)
    spread = np.cumsum(2 * _earlier_in_group(groups) + 1) - 2 * mean * np.cumsum(totals[groups]) + mean**2 * squares
    return _inverse_design_effect(
        np.full(n, float(n)), mean, np.full(n, float((totals > 0).sum())), spread, np.full(n, squares)
    )


def _inverse_design_effect(n: Floats, mean: Floats, groups: NDArray[Any], spread: Floats, squares: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        effect = spread / n**2 * groups / (groups - 1) * (n - 1) / (mean * (1 - mean))
    usual = np.where(groups > 1, 1 / np.maximum(1.0, effect), 1 / n)
    return np.where((mean == 0) | (mean == 1), n / squares, usual)
