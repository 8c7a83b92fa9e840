"""Guarantee a threshold on candidates by a random audit of judged pairs.

The audit draws pairs at random, without replacement and at one rate within each stratum. Only such labels support a
guarantee; labels of pairs that were chosen for their uncertainty do not.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dupq.data import checks
from dupq.decisions.threshold_table import lower_bound, upper_bound
from dupq.decisions.thresholds import Policy
from dupq.errors import InputError, ModelFolderError, NotEnoughLabelsError

Floats = NDArray[np.float64]

MAX_CUTS = 60
MIN_DROPPED = 20
"""Audited pairs below a threshold that a recall is guaranteed at; a threshold that drops nothing needs no guarantee."""
_LOCATION = "audit guarantee"


@dataclass(frozen=True, slots=True)
class AuditGuarantee:
    """Guarantee of a threshold on candidates, from a random audit.

    Attributes:
        kind: "precision" or "recall" of the flagged among the judged pairs.
        level: The share that is guaranteed, in (0, 1).
        delta: Probability with which the guarantee may fail, in (0, 1).
        bound: Lower bound of the share at the threshold, in [level, 1].
        threshold: Probability from which a pair is flagged, in (0, 1).
        flagged: Number of judged pairs that it flags.
        audited: Number of audited pairs that the bound rests on.
        errors: Number of those on the wrong side of the threshold.
    """

    kind: str
    level: float
    delta: float
    bound: float
    threshold: float
    flagged: int
    audited: int
    errors: int

    def __str__(self) -> str:
        wrong = "misses" if self.kind == "recall" else "errors"
        return (
            f"{self.kind} >= {self.level:g} with confidence {1 - self.delta:g} among pairs like those judged, by the "
            f"moderators' answers (stratified Clopper-Pearson on {self.audited:,} pairs of the random audit, "
            f"{self.errors:,} {wrong})"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that JSON can hold; `from_dict` reads it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Any) -> AuditGuarantee:
        """Read the data of `to_dict`.

        Raises:
            ModelFolderError: It is damaged.
        """
        kind = checks.field(data, "kind", str, _LOCATION)
        shares = {name: checks.field(data, name, float, _LOCATION) for name in ("level", "delta", "bound", "threshold")}
        counts = {name: checks.field(data, name, int, _LOCATION) for name in ("flagged", "audited", "errors")}
        sound = all(0 < shares[name] <= 1 for name in shares) and shares["level"] < 1 and shares["delta"] < 1
        if kind not in ("precision", "recall") or not sound:
            raise ModelFolderError("its numbers make no guarantee", location=_LOCATION, hint="calibrate again")
        return cls(kind, **shares, **counts)


def stratified_bounds(
    hits: ArrayLike, audited: ArrayLike, population: ArrayLike, delta: float
) -> tuple[Floats, Floats, int]:
    """Return simultaneous bounds of the number of hits in each stratum.

    With one side per stratum, lower or upper, all bounds hold at once with confidence 1 - delta. They are one-sided
    Clopper-Pearson (1934) bounds of simple random samples, with delta divided among the strata that hold pairs.
    Sampling without replacement makes them conservative. A stratum without an audited pair has the bounds 0 and its
    size.

    Args:
        hits, audited, population: Hits and pairs of the sample, and all pairs, of each stratum, (h,).
        delta: In (0, 1).

    Returns:
        Lower bounds (h,), upper bounds (h,) and the number of strata that hold pairs.
    """
    k, n, size = (np.asarray(x, dtype=np.float64) for x in (hits, audited, population))
    held = int((size > 0).sum())
    part = delta / max(1, held)
    drawn = np.maximum(n, 1)
    lower = np.where(n > 0, lower_bound(k, drawn, part), 0.0)
    upper = np.where(n > 0, upper_bound(np.minimum(k, drawn), drawn, part), 1.0)
    return lower * size, upper * size, held


def precision_interval(
    hits: ArrayLike, audited: ArrayLike, population: ArrayLike, delta: float
) -> tuple[float, float, float]:
    """Estimate the share of hits over all strata, with a two-sided interval.

    The interval has confidence 1 - delta. The estimate weights each stratum by its size. Strata without an audited pair
    are left out of it, but not of the bounds. Without any audited pair the estimate is NaN.

    Args:
        hits, audited, population, delta: As in `stratified_bounds`.
    """
    k, n, size = (np.asarray(x, dtype=np.float64) for x in (hits, audited, population))
    if not (size > 0).any():
        return float("nan"), 0.0, 1.0
    lower, upper, _ = stratified_bounds(k, n, size, delta / 2)
    seen = (n > 0) & (size > 0)
    share = float((k / np.maximum(n, 1) * size)[seen].sum() / size[seen].sum()) if seen.any() else float("nan")
    return share, float(lower.sum() / size.sum()), float(upper.sum() / size.sum())


def choose_audited_threshold(
    policy: Policy, probabilities: ArrayLike, strata: ArrayLike, audited: ArrayLike, labels: ArrayLike
) -> AuditGuarantee:
    """Choose the threshold that a random audit guarantees a policy at.

    Cuts are tested one after the other from the safe end on (the highest for a precision, the lowest for a recall),
    each at delta, until one fails (fixed-sequence testing, Maurer et al. 1995). The cuts, and where the sequence
    starts, follow from counts of pairs, and never from labels. The last that passed is taken.

    Args:
        policy: Policy of a precision or recall with a delta.
        probabilities: Probabilities (n,) of all judged pairs. The calibrator may have been fitted on the same labels:
            it rises with the score, so the order of the pairs, and with it the cuts, do not depend on them.
        strata: Stratum of each pair, (n,).
        audited: True (n,) where the pair was drawn for the audit and has a clear answer.
        labels: 0 or 1 (n,); read where `audited` only.

    Raises:
        NotEnoughLabelsError: The audit cannot support the guarantee; `needed` is the number of further audited flagged
            pairs without an error that a precision takes.
        InputError: The policy guarantees nothing.
    """
    if policy.delta is None or policy.kind not in ("precision", "recall"):
        raise InputError(
            f"policy must be a precision or recall with a delta, got {policy}", hint="give Policy.precision(0.9)"
        )
    p = checks.checked_probabilities(probabilities)
    drawn, y = np.asarray(audited, dtype=bool), np.where(audited, labels, 0).astype(np.float64)
    _, stratum = np.unique(np.asarray(strata), return_inverse=True)
    h = int(stratum.max()) + 1
    cuts = _cuts(p)
    cells = [_cells(p >= cut, stratum, drawn, y, h) for cut in cuts]
    order = range(len(cuts)) if policy.kind == "precision" else range(len(cuts) - 1, -1, -1)
    chosen: AuditGuarantee | None = None
    for at in _from_start(policy, cells, list(order), h):
        hits, n, size = cells[at]
        bound = _bound(policy, hits, n, size, h)
        if bound < policy.level:
            break
        if policy.kind == "recall" and n[h:].sum() < MIN_DROPPED:
            continue
        wrong = (n - hits)[:h].sum() if policy.kind == "precision" else hits[h:].sum()
        chosen = AuditGuarantee(
            kind=policy.kind,
            level=policy.level,
            delta=policy.delta,
            bound=bound,
            threshold=float(cuts[at]),
            flagged=int(size[:h].sum()),
            audited=int((n[:h] if policy.kind == "precision" else n).sum()),
            errors=int(wrong),
        )
    if chosen is not None:
        return chosen
    have = int(drawn.sum())
    needed = None
    if policy.kind == "precision":
        needed = math.ceil(math.log(policy.delta) / math.log(policy.level))
    raise NotEnoughLabelsError(
        f"{have:,} pairs of the random audit cannot support {policy} with confidence {1 - policy.delta:g}",
        needed=needed,
        hint="answer more pairs of the audit among the flagged ones"
        + (f" (at least {needed:,} without an error are needed)" if needed else "")
        + ", or lower the level",
    )


def _cuts(p: Floats) -> Floats:
    """Return up to `MAX_CUTS` cuts between neighbouring probabilities, falling.

    Each is midway between two of them; the last is the lowest probability.
    """
    falling = np.unique(p)[::-1]
    ranks = np.unique(np.round(np.geomspace(1, len(falling), MAX_CUTS)).astype(int))
    below = falling[np.minimum(ranks, len(falling) - 1)]
    cuts = (falling[ranks - 1] + below) / 2
    return np.asarray(np.clip(cuts, np.nextafter(0, 1), np.nextafter(1, 0)))


def _cells(
    flagged: NDArray[np.bool_], stratum: NDArray[np.int64], drawn: NDArray[np.bool_], y: Floats, h: int
) -> tuple[Floats, Floats, Floats]:
    """Count audited duplicates, audited pairs and all pairs in each cell.

    The arrays are (2h,): the flagged cells of the h strata, then the other cells.
    """
    cell = stratum + np.where(flagged, 0, h)
    size = np.bincount(cell, minlength=2 * h).astype(np.float64)
    n = np.bincount(cell[drawn], minlength=2 * h).astype(np.float64)
    hits = np.bincount(cell[drawn], y[drawn], minlength=2 * h).astype(np.float64)
    return hits, n, size


def _bound(policy: Policy, hits: Floats, n: Floats, size: Floats, h: int) -> float:
    delta = policy.delta or 0.0
    if policy.kind == "precision":
        lower, _, _ = stratified_bounds(hits[:h], n[:h], size[:h], delta)
        return float(lower.sum() / max(1.0, size[:h].sum()))
    lower, upper, _ = stratified_bounds(hits, n, size, delta)
    found, missed = float(lower[:h].sum()), float(upper[h:].sum())
    return found / (found + missed) if found > 0 else 0.0


def _from_start(policy: Policy, cells: list[tuple[Floats, Floats, Floats]], order: list[int], h: int) -> list[int]:
    """Return the cuts to be tested, from the first that could pass.

    They start at the first cut that could pass with one error, or else with none.
    """
    for errors in (1.0, 0.0):
        for place, at in enumerate(order):
            _, n, size = cells[at]
            perfect = np.where(np.arange(2 * h) < h, n, 0.0)
            worst = int(np.argmax(n[:h] if policy.kind == "precision" else n[h:]))
            if policy.kind == "precision":
                perfect[worst] = max(0.0, perfect[worst] - errors)
            else:
                perfect[h + worst] = min(n[h + worst], errors)
            if _bound(policy, perfect, n, size, h) >= policy.level:
                return order[place:]
    return []
