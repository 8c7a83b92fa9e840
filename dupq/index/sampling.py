"""Draw pairs for review, and estimate shares from the verdicts on them.

Each pair is drawn with a known probability. The method is order sampling with permanent random numbers (sequential
Poisson sampling: Ohlsson 1998; bottom-k: Cohen & Kaplan 2007; priority sampling: Duffield, Lund & Thorup 2007). Each
judged pair has a random number u in (0, 1), a stratum h and a value v > 0, fixed when it is first decided. The audit of
a stratum presents pairs by ascending u, the queue by ascending u / v. With t_h the smallest u of a pair of stratum h
without a verdict, and tau the smallest u / v of a pair without a verdict, the pairs with u < pi = max(t_h, min(1, tau
v)) are a sample with inclusion probabilities pi, in whatever order their verdicts came.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from dupq.decisions.threshold_table import lower_bound, upper_bound
from dupq.errors import InputError
from dupq.index.stores.base import StoredDecision, encoded_id, ordered_pair
from dupq.types import Decision, Id

Floats = NDArray[np.float64]

NEAR = 0.05
"""Probability from which a distinct pair is of the stratum "near"."""
FLAGGED = "duplicate"
STRATA = (FLAGGED, "review", "near", "distinct")
"""The strata of the audit: by decision, and distinct pairs by probability."""
MIN_UNCERTAINTY = 0.01
"""Uncertainty of a pair that the pipeline is sure of; 1 is that of even odds."""
MIN_PAIRS = 10
"""Fewest pairs with an answer that a share is estimated from."""
MIN_CELL = 5
"""Fewest pairs with an answer in a part of the sample that is estimated by itself."""
TAIL = 0.025
"""Probability of each side outside of a 95 % interval."""
DRAWS = 4000
"""Simulated populations of an interval."""


# ---- draws ----------------------------------------------------------------------------------------------------------


def drawn_number(database: str, one: Id, other: Id) -> float:
    """Return the random number of a pair in (0, 1), the same for (a, b) and (b, a).

    Args:
        database: Name of the store, so that each store draws other pairs.
        one, other: The two ids.
    """
    ids = ordered_pair(encoded_id(one), encoded_id(other))
    digest = hashlib.blake2b("\0".join((database, *ids)).encode("utf-8"), digest_size=8).digest()
    return ((int.from_bytes(digest, "big") >> 12) + 0.5) / 2**52


def stratum_of(decision: str, probability: float) -> str:
    """Return the stratum of the audit, one of `STRATA`."""
    if decision != Decision.DISTINCT:
        return str(decision)
    return "near" if probability >= NEAR else "distinct"


def value_of(probability: float, reach: float, other_reach: float) -> float:
    """Return the value of a verdict: uncertainty times reach, above 0.

    Uncertainty is 4 p (1 - p), at least `MIN_UNCERTAINTY`; reach counts as log2(1 + the sum of both).
    """
    return max(4 * probability * (1 - probability), MIN_UNCERTAINTY) * math.log2(1 + reach + other_reach)


def with_draw(decision: StoredDecision, database: str, reach: float, other_reach: float) -> StoredDecision:
    """Return a decision with its stratum, value and draw."""
    return replace(
        decision,
        stratum=stratum_of(decision.decision, decision.probability),
        value=value_of(decision.probability, reach, other_reach),
        drawn=drawn_number(database, decision.id, decision.other),
    )


@dataclass(frozen=True, slots=True)
class Progressed:
    """Limits up to which the audits and the queue were answered.

    Attributes:
        audits: Stratum -> smallest u of a pair without a verdict; a stratum that is missing has no such pair.
        queue: Smallest u / v of a pair without a verdict; infinite if there is none.
    """

    audits: Mapping[str, float] = field(default_factory=dict)
    queue: float = math.inf

    def audit_probability(self, stratum: str) -> float:
        """Return the inclusion probability t_h of a stratum in the random audit.

        It is in (0, 1].
        """
        return self.audits.get(stratum, 1.0)

    def probability(self, stratum: str, value: float) -> float:
        """Return the probability pi with which a pair is in the sample, in (0, 1]."""
        return max(self.audit_probability(stratum), min(1.0, self.queue * value))

    def sampled(self, stratum: str, value: float, drawn: float) -> bool:
        """Return True if a pair is in the sample: u < t_h, or u / v < tau.

        `drawn` is the draw u of the pair, and `value` its value v.
        """
        return drawn < self.audit_probability(stratum) or drawn / value < self.queue


def inclusion_probabilities(strata: Sequence[str], values: Sequence[float] | Floats, progressed: Progressed) -> Floats:
    """Return the inclusion probabilities pi of n pairs, (n,), in (0, 1].

    Args:
        strata: Their strata, n.
        values: Their values v, (n,), above 0.
        progressed: How far the review has got.
    """
    names, places = np.unique(np.asarray(strata, str), return_inverse=True)
    audits = np.array([progressed.audit_probability(str(name)) for name in names], np.float64)[places]
    return np.maximum(audits, np.minimum(1.0, progressed.queue * np.asarray(values, np.float64)))


def turn(place: int, audit_share: float) -> str:
    """Return the order that a place of the review takes its pair from.

    The order is "queue" or a stratum of the audit. A share `audit_share` of all places is of the audit; half of these
    are of the stratum "duplicate", and the other strata take turns in the other half.

    Args:
        place: Counted from 0.
        audit_share: In [0, 1].
    """
    number = math.floor(place * audit_share + 1e-9)
    if number == math.floor((place + 1) * audit_share + 1e-9):
        return "queue"
    return FLAGGED if number % 2 == 0 else STRATA[1 + number // 2 % (len(STRATA) - 1)]


# ---- estimates ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Estimate:
    """A share with its 95 % interval.

    Attributes:
        value: The share in [0, 1]; None where the verdicts are too few.
        low, high: Its interval; 0 and 1 where the verdicts are too few.
        pairs: Number of pairs with an answer that it rests on.
        note: Why there is no value; "" if there is one.
    """

    value: float | None
    low: float
    high: float
    pairs: int
    note: str = ""

    def __str__(self) -> str:
        if self.value is None:
            return self.note
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f}, {self.pairs} pairs)"


def too_few(pairs: int, of: str) -> Estimate:
    """Return the estimate of a share that the verdicts are too few for."""
    return Estimate(None, 0.0, 1.0, pairs, f"too few: {pairs} {of} with an answer, at least {MIN_PAIRS} are needed")


@dataclass(frozen=True, slots=True)
class Shares:
    """Precision, recall and base rate among the pairs that an index judged.

    Attributes:
        precision: Share of duplicates among the pairs that are decided "duplicate".
        recall: Share of the duplicates that are decided "duplicate".
        base_rate: Share of duplicates among all judged pairs.
    """

    precision: Estimate
    recall: Estimate
    base_rate: Estimate


def estimate_shares(
    strata: Sequence[str],
    decided: Sequence[bool] | NDArray[np.bool_],
    answers: Sequence[bool] | NDArray[np.bool_],
    probabilities: Floats,
    counts: Mapping[tuple[str, bool], int],
) -> Shares:
    """Estimate precision, recall and base rate from a weighted sample.

    The sample has known, unequal inclusion probabilities. Judged pairs are split into cells by stratum and decision; a
    cell with fewer than `MIN_CELL` answers is joined to its neighbour with the same decision. The share of duplicates
    of a cell is estimated by the weighted mean with weights 1 / pi (Hájek 1971), and cells are added up by their known
    sizes. An interval is that of simulated populations, in which the share of each cell has the Jeffreys distribution
    (Brown, Cai & DasGupta 2001) of a sample of the effective size (sum w)^2 / sum w^2 (1 - pi) (Kish 1965). It stays
    wide where no duplicate was found.

    Args:
        strata: Strata of the n sampled pairs that have an answer.
        decided: True where the pair is decided "duplicate" at present, (n,).
        answers: True where the answer is "duplicate", (n,).
        probabilities: Inclusion probabilities pi, (n,), in (0, 1].
        counts: (Stratum, decided "duplicate") -> number of judged pairs, sampled or not.

    Raises:
        InputError: A probability is not in (0, 1].
    """
    flagged, labels = np.asarray(decided, bool), np.asarray(answers, np.float64)
    pi = np.asarray(probabilities, np.float64)
    if pi.size and not (pi.min() > 0 and pi.max() <= 1):
        raise InputError("probabilities must be in (0, 1]", hint="give the inclusion probabilities of the sample")
    kinds = np.array(strata, object)
    generator = np.random.default_rng(0)
    sides: dict[bool, tuple[float, Floats, int, int]] = {}
    for side in (True, False):
        total, simulated, pairs, size = 0.0, np.zeros(DRAWS), 0, 0
        for joined in _joined_cells(kinds[flagged == side], side, counts):
            inside = (flagged == side) & np.isin(kinds, joined)
            count = sum(counts.get((stratum, side), 0) for stratum in joined)
            share, simulations = _cell(labels[inside], pi[inside], generator)
            total, simulated = total + count * share, simulated + count * simulations
            pairs, size = pairs + int(inside.sum()), size + count
        sides[side] = total, simulated, pairs, size
    (found, simulated_found, pairs, size), (missed, simulated_missed, others, rest) = sides[True], sides[False]
    enough, all_enough = pairs >= MIN_PAIRS, (pairs >= MIN_PAIRS or not size) and (others >= MIN_PAIRS or not rest)
    precision = too_few(pairs, "pairs that are decided duplicate")
    recall = base_rate = too_few(min(pairs, others), "pairs on one side of the threshold")
    if enough and size:
        precision = _estimate(found / size, simulated_found / size, pairs)
    if all_enough and size + rest:
        base_rate = _estimate(
            (found + missed) / (size + rest), (simulated_found + simulated_missed) / (size + rest), pairs + others
        )
        if found + missed > 0:
            simulated_all = np.maximum(simulated_found + simulated_missed, 1e-300)
            recall = _estimate(found / (found + missed), simulated_found / simulated_all, pairs + others)
        else:
            recall = Estimate(None, 0.0, 1.0, pairs + others, "too few: no duplicate among the sampled pairs")
    return Shares(precision, recall, base_rate)


def _joined_cells(kinds: NDArray[np.object_], side: bool, counts: Mapping[tuple[str, bool], int]) -> list[list[str]]:
    """Return the strata that are estimated together, one list for each cell.

    Each list has at least `MIN_CELL` answers if there are that many.
    """
    cells: list[list[str]] = []
    waiting: list[str] = []
    answered = 0
    for stratum in STRATA:
        if not counts.get((stratum, side), 0):
            continue
        waiting.append(stratum)
        answered += int((kinds == stratum).sum())
        if answered >= MIN_CELL:
            cells.append(waiting)
            waiting, answered = [], 0
    if waiting and cells:
        cells[-1] += waiting
    elif waiting:
        cells.append(waiting)
    return cells


def _cell(labels: Floats, pi: Floats, generator: np.random.Generator) -> tuple[float, Floats]:
    """Return the weighted share of duplicates of a cell and `DRAWS` simulated ones."""
    if not labels.size:
        return 0.0, generator.beta(0.5, 0.5, DRAWS)
    weights = 1 / pi
    share = float((weights * labels).sum() / weights.sum())
    spread = float((weights**2 * (1 - pi)).sum())
    if not spread:  # all pairs have a verdict
        return share, np.full(DRAWS, share)
    effective = float(weights.sum()) ** 2 / spread
    return share, generator.beta(share * effective + 0.5, (1 - share) * effective + 0.5, DRAWS)


def _estimate(value: float, simulated: Floats, pairs: int) -> Estimate:
    low, high = np.quantile(simulated, [TAIL, 1 - TAIL])
    return Estimate(value, min(float(low), value), max(float(high), value), pairs)


def audited_share(answers: Sequence[bool] | NDArray[np.bool_]) -> Estimate:
    """Estimate a share from a simple random sample.

    The interval is the exact binomial one (Clopper & Pearson 1934).

    Args:
        answers: True where the answer is "duplicate", (n,).
    """
    n, hits = len(answers), int(np.sum(np.asarray(answers, bool)))
    if n < MIN_PAIRS:
        return too_few(n, "audited pairs that are decided duplicate")
    return Estimate(hits / n, float(lower_bound(hits, n, TAIL)), float(upper_bound(hits, n, TAIL)), n)
