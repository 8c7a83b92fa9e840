"""What labelled pairs say of every candidate threshold, and exact bounds on what is not seen.

Two mixes of pairs are kept apart, since they need not agree:

- *drawn*: one pair drawn from each question group. Groups are independent, so these pairs are too, and binomial bounds
  are exact. They speak of a random pair of a random group: a group of 300 pairs counts as much as a group of one.
- *all*: all pairs as they came, large groups counting in full. Here bounds are those of survey statistics for clustered
  samples (Korn & Graubard 1998): Clopper-Pearson at the effective sample size. They are approximate.

A promise is made only where both bounds keep it. The first costs recall, since small groups hold fewer duplicates, and
one pair a group wastes the others; but what is exact and uses them all, bets on the mean of a group's errors
(Waudby-Smith & Ramdas 2024), pays more for its generality than it gains: it finds a threshold less often.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dupq.decisions import checks
from dupq.errors import ModelFolderError

Floats = NDArray[np.float64]

MOST_CUTS = 400
_WHERE = "threshold evidence"


def lower_bound(hits: ArrayLike, n: ArrayLike, delta: float) -> Floats:
    """The one-sided Clopper-Pearson (1934) lower bound of a share, at confidence 1 - delta; counts may be fractions."""
    from scipy.special import betaincinv

    hits, n = np.asarray(hits, dtype=np.float64), np.asarray(n, dtype=np.float64)
    return np.where(hits > 0, betaincinv(np.maximum(hits, 1e-9), n - hits + 1, delta), 0.0)


def upper_bound(hits: ArrayLike, n: ArrayLike, delta: float) -> Floats:
    """The one-sided Clopper-Pearson upper bound of a share, at confidence 1 - delta."""
    return np.asarray(1 - lower_bound(np.asarray(n) - np.asarray(hits), n, delta))


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts of one mix of pairs at k cuts.

    Attributes:
        found, false: Duplicates and distinct pairs with score >= cut, (k,).
        duplicates, distinct: How many there are in all.
        of_flagged, of_duplicates, of_distinct: Effective over actual size, in (0, 1], of what each share is taken of.
    """

    found: Floats
    false: Floats
    duplicates: float
    distinct: float
    of_flagged: Floats | float = 1.0
    of_duplicates: Floats | float = 1.0
    of_distinct: Floats | float = 1.0

    @property
    def flagged(self) -> Floats:
        return self.found + self.false

    def precision_bound(self, delta: float, base_rate: float | None) -> Floats:
        """Lower bound of the precision, (k,); at another base rate from bounds of both rates, `delta` split 1 : 4.

        The smaller part goes to the recall, whose bound matters less than that of the false-positive rate.
        """
        if base_rate is None:
            return lower_bound(self.found * self.of_flagged, self.flagged * self.of_flagged, delta)
        true = base_rate * self.recall_bound(delta / 5)
        zeros = self.distinct * self.of_distinct
        wrong = (1 - base_rate) * upper_bound(self.false * self.of_distinct, zeros, 0.8 * delta)
        return np.asarray(true / (true + wrong))

    def recall_bound(self, delta: float) -> Floats:
        """Lower bound of the share of duplicates that are flagged, (k,)."""
        return lower_bound(self.found * self.of_duplicates, self.duplicates * self.of_duplicates, delta)


@dataclass(frozen=True, slots=True)
class Evidence:
    """Counts at candidate cuts, from which any policy can choose at any base rate; no scores of single pairs.

    Attributes:
        cuts: Raw scores, falling, chosen without a look at the labels: midway between neighbours at ranks spaced
            evenly, and more densely at the top; the last is the lowest score, which flags all.
        drawn_found, drawn_false: Duplicates and distinct pairs at or above each cut, of one pair a group.
        found, false: The same of all pairs.
        of_flagged, of_duplicates, of_distinct: Effective over actual size of all pairs, see `Counts`.
        of_pairs: The same of the share of all pairs that each cut flags.
        drawn_duplicates, drawn_distinct, duplicates, distinct: Totals.
        seed: Of the draw.
        date: When it was gathered, ISO 8601, UTC.
        data_fingerprint, scorer_fingerprint: Of the pairs, and of what scored them; "" where not told.
    """

    cuts: tuple[float, ...]
    drawn_found: tuple[int, ...]
    drawn_false: tuple[int, ...]
    found: tuple[int, ...]
    false: tuple[int, ...]
    of_flagged: tuple[float, ...]
    of_duplicates: tuple[float, ...]
    of_distinct: tuple[float, ...]
    of_pairs: tuple[float, ...]
    drawn_duplicates: int
    drawn_distinct: int
    duplicates: int
    distinct: int
    seed: int
    date: str
    data_fingerprint: str = ""
    scorer_fingerprint: str = ""

    @property
    def pairs(self) -> int:
        return self.duplicates + self.distinct

    @property
    def groups(self) -> int:
        return self.drawn_duplicates + self.drawn_distinct

    @property
    def base_rate(self) -> float:
        """The share of duplicates among all pairs."""
        return self.duplicates / self.pairs

    @property
    def drawn_base_rate(self) -> float:
        """The share of duplicates among the pairs drawn one a group."""
        return self.drawn_duplicates / self.groups

    def drawn(self, factor: float = 1.0) -> Counts:
        """Counts of the pairs drawn one a group; as if `factor` times as many labels had shown the same shares."""
        found, false = (np.array(x) * factor for x in (self.drawn_found, self.drawn_false))
        return Counts(found, false, self.drawn_duplicates * factor, self.drawn_distinct * factor)

    def all(self, factor: float = 1.0) -> Counts:
        """Counts of all pairs."""
        found, false = (np.array(x) * factor for x in (self.found, self.false))
        effective = (np.array(x) for x in (self.of_flagged, self.of_duplicates, self.of_distinct))
        return Counts(found, false, self.duplicates * factor, self.distinct * factor, *effective)

    def rates(self, cut: float) -> tuple[float, float]:
        """The share of duplicates, and of distinct pairs, with score >= cut, among all pairs; straight between cuts."""
        rising = np.array(self.cuts[::-1])
        ones = np.interp(cut, rising, np.array(self.found[::-1]) / self.duplicates)
        zeros = np.interp(cut, rising, np.array(self.false[::-1]) / self.distinct)
        return float(ones), float(zeros)

    def to_dict(self) -> dict[str, Any]:
        """Plain data that JSON can hold."""
        return {name: list(x) if isinstance(x, tuple) else x for name, x in asdict(self).items()}

    @classmethod
    def from_dict(cls, data: Any) -> Evidence:
        """Reads what `to_dict` wrote; ModelFolderError where it is damaged."""
        values: dict[str, Any] = {}
        for name in ("cuts", "of_flagged", "of_duplicates", "of_distinct", "of_pairs"):
            values[name] = checks.numbers(data, name, _WHERE)
        for name in ("drawn_found", "drawn_false", "found", "false"):
            values[name] = tuple(int(x) for x in checks.numbers(data, name, _WHERE))
        sizes = {len(values[name]) for name in values}
        for name in ("drawn_duplicates", "drawn_distinct", "duplicates", "distinct", "seed"):
            values[name] = checks.field(data, name, int, _WHERE)
        for name in ("date", "data_fingerprint", "scorer_fingerprint"):
            values[name] = checks.field(data, name, str, _WHERE)
        if len(sizes) != 1 or 0 in sizes or values["duplicates"] < 1 or values["distinct"] < 1:
            raise ModelFolderError("its counts do not fit together", where=_WHERE, mend="calibrate again")
        return cls(**values)


def gather_evidence(
    scores: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike | None = None,
    *,
    cuts: Sequence[float] | None = None,
    seed: int = 0,
    date: str | None = None,
    data_fingerprint: str = "",
    scorer_fingerprint: str = "",
) -> Evidence:
    """Counts what labelled pairs say of up to 400 candidate cuts.

    Args:
        scores: Raw scores (n,), higher = more alike; neither the network nor the calibrator may have seen their labels
            if a promise is to hold.
        labels: 0 or 1 (n,), in the natural mix.
        groups: Question group keys (n,); None: each pair is its own group.
        cuts: The candidates, falling, chosen without a look at these labels; None: by rank, see `Evidence`.
        seed: Of the draw of one pair from each group.
        date: ISO 8601; now, if not given.
        data_fingerprint, scorer_fingerprint: Kept with the evidence.

    Raises:
        InputError: Scores that are not finite, lengths that differ, labels other than 0 and 1 or only one of them.
    """
    s = checks.checked_scores(scores)
    y = checks.checked_labels(labels, len(s))
    g = checks.checked_groups(groups, len(s))
    drawn = one_per_group(g, seed)
    candidates = _candidate_cuts(s) if cuts is None else np.append(cuts[:-1], min(cuts[-1], s.min()))
    ones, zeros = y == 1, y == 0
    order = np.argsort(-s, kind="stable")
    y_ranked, g_ranked = y[order], g[order]
    of_flagged = _effective_precision(y_ranked, g_ranked)
    of_duplicates = _effective_flagged(g_ranked[y_ranked == 1])
    of_distinct = _effective_flagged(g_ranked[y_ranked == 0])
    found, false = _at_or_above(s[ones], candidates), _at_or_above(s[zeros], candidates)
    flagged = np.array(found) + np.array(false)
    return Evidence(
        cuts=tuple(candidates.tolist()),
        drawn_found=_at_or_above(s[drawn & ones], candidates),
        drawn_false=_at_or_above(s[drawn & zeros], candidates),
        found=found,
        false=false,
        of_flagged=_taken(of_flagged, flagged),
        of_duplicates=_taken(of_duplicates, np.array(found)),
        of_distinct=_taken(of_distinct, np.array(false)),
        of_pairs=_taken(_effective_flagged(g_ranked), flagged),
        drawn_duplicates=int((drawn & ones).sum()),
        drawn_distinct=int((drawn & zeros).sum()),
        duplicates=int(ones.sum()),
        distinct=int(zeros.sum()),
        seed=seed,
        date=date or datetime.now(timezone.utc).isoformat(timespec="seconds"),
        data_fingerprint=data_fingerprint,
        scorer_fingerprint=scorer_fingerprint,
    )


def one_per_group(groups: NDArray[np.int64], seed: int) -> NDArray[np.bool_]:
    """A mask (n,) that is true for one pair of each group, each pair of a group being as likely as any other."""
    order = np.random.default_rng(seed).permutation(len(groups))
    _, first = np.unique(groups[order], return_index=True)
    mask = np.zeros(len(groups), dtype=bool)
    mask[order[first]] = True
    return mask


def _candidate_cuts(s: Floats) -> Floats:
    distinct = np.unique(s)
    chosen = distinct
    if len(distinct) > MOST_CUTS:
        ranks = np.concatenate([np.geomspace(1, len(s), MOST_CUTS // 2), np.linspace(1, len(s), MOST_CUTS // 2)])
        chosen = np.unique(-np.sort(-s)[np.round(ranks).astype(int) - 1])
    below = distinct[np.maximum(np.searchsorted(distinct, chosen) - 1, 0)]
    return np.asarray(((chosen + below) / 2)[::-1])


def _at_or_above(s: Floats, cuts: Floats) -> tuple[int, ...]:
    return tuple((len(s) - np.searchsorted(np.sort(s), cuts, side="left")).tolist())


def _taken(running: Floats, counts: NDArray[Any]) -> tuple[float, ...]:
    """The running figure where so many pairs are flagged; where none is, it is that of the first."""
    return tuple(running[np.maximum(counts, 1) - 1].tolist())


def _before(groups: NDArray[np.int64], count: NDArray[Any] | None = None) -> Floats:
    """How many earlier pairs of its own group each pair has, (n,); or how many of those that `count` marks by 1."""
    marks = np.ones(len(groups)) if count is None else np.asarray(count, dtype=np.float64)
    order = np.argsort(groups, kind="stable")
    running = np.cumsum(marks[order]) - marks[order]
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    found = np.empty(len(groups))
    found[order] = running - np.repeat(running[starts], np.diff(np.append(starts, len(groups))))
    return found


def _effective_precision(y: NDArray[Any], groups: NDArray[np.int64]) -> Floats:
    """Effective over actual size of the mean of y over the first 1, 2, ... n pairs: (n,); see `effective_size`."""
    k = np.arange(1, len(y) + 1, dtype=np.float64)
    hits, sizes = _before(groups, y), _before(groups)
    squares = np.cumsum(2 * sizes + 1)
    mean = np.cumsum(y) / k
    spread = np.cumsum(y * (2 * hits + 1)) - 2 * mean * np.cumsum(hits + y * (sizes + 1)) + mean**2 * squares
    return _shares(k, mean, np.cumsum(sizes == 0), spread, squares)


def _effective_flagged(groups: NDArray[np.int64]) -> Floats:
    """The same of the share of all n pairs that are among the first 1, 2, ... n."""
    n = len(groups)
    totals = np.bincount(groups).astype(np.float64)
    mean = np.arange(1, n + 1) / n
    squares = float(totals @ totals)
    spread = np.cumsum(2 * _before(groups) + 1) - 2 * mean * np.cumsum(totals[groups]) + mean**2 * squares
    return _shares(np.full(n, float(n)), mean, np.full(n, float((totals > 0).sum())), spread, np.full(n, squares))


def _shares(n: Floats, mean: Floats, groups: NDArray[Any], spread: Floats, squares: Floats) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        effect = spread / n**2 * groups / (groups - 1) * (n - 1) / (mean * (1 - mean))
    usual = np.where(groups > 1, 1 / np.maximum(1.0, effect), 1 / n)
    return np.where((mean == 0) | (mean == 1), n / squares, usual)
