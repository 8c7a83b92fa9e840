"""Policies: from what one wants of a threshold to a Threshold that carries its promise and its evidence."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dupq.decisions import checks
from dupq.decisions.calibration import Calibrator
from dupq.decisions.evidence import Counts, Evidence
from dupq.errors import InputError, ModelFolderError, NotEnoughLabelsError

Floats = NDArray[np.float64]
PolicyKind = Literal["f1", "accuracy", "cost", "recall", "precision"]
DELTA = 0.05
MOST_TIMES = 64
_WHERE = "threshold"


@dataclass(frozen=True, slots=True)
class Policy:
    """What a threshold is chosen for; made by the functions below, or by `parse`.

    Attributes:
        kind: "f1", "accuracy", "cost", "recall" or "precision".
        level: The least recall or precision; for a cost, that of a false flag over that of a miss; else 0.
        delta: The promise may fail with this probability; None where nothing is promised.
    """

    kind: PolicyKind
    level: float = 0.0
    delta: float | None = None

    @classmethod
    def max_f1(cls) -> Policy:
        return cls("f1")

    @classmethod
    def max_accuracy(cls) -> Policy:
        return cls("accuracy")

    @classmethod
    def min_cost(cls, false_flag: float, miss: float) -> Policy:
        """The least expected cost, where a false flag and a miss cost so much each."""
        if not (0 < false_flag < math.inf and 0 < miss < math.inf):
            raise InputError(f"costs of {false_flag} and {miss}", mend="give two numbers above 0, such as 5 and 1")
        return cls("cost", false_flag / miss)

    @classmethod
    def recall(cls, level: float, delta: float | None = DELTA) -> Policy:
        """The highest threshold that flags a share >= `level` of all duplicates, with confidence 1 - delta.

        With delta None the share is that of the evidence, and nothing is promised.
        """
        return cls(
            "recall",
            checks.checked_rate(level, "recall"),
            None if delta is None else checks.checked_rate(delta, "delta"),
        )

    @classmethod
    def precision(cls, level: float, delta: float | None = DELTA) -> Policy:
        """The lowest threshold whose flagged pairs are duplicates to a share >= `level`, with confidence 1 - delta.

        With delta None the share is that of the evidence, and nothing is promised.
        """
        return cls(
            "precision",
            checks.checked_rate(level, "precision"),
            None if delta is None else checks.checked_rate(delta, "delta"),
        )

    @classmethod
    def parse(cls, text: str, delta: float = DELTA) -> Policy:
        """Reads "f1", "accuracy", "cost=5:1" (false flag : miss), "recall>=0.9" or "precision>=0.95"."""
        plain = text.replace(" ", "").lower()
        if plain in ("f1", "accuracy"):
            return cls("f1" if plain == "f1" else "accuracy")
        number = r"([0-9]*\.?[0-9]+)"
        if found := re.fullmatch(rf"cost={number}:{number}", plain):
            return cls.min_cost(float(found[1]), float(found[2]))
        if found := re.fullmatch(rf"(recall|precision)>={number}", plain):
            return (cls.recall if found[1] == "recall" else cls.precision)(float(found[2]), delta)
        raise InputError(
            f"the policy {text!r} is unknown", mend="give f1, accuracy, cost=5:1, recall>=0.9 or precision>=0.95"
        )

    def __str__(self) -> str:
        if self.kind in ("recall", "precision"):
            return f"{self.kind} >= {self.level:g}"
        names = {"f1": "highest F1", "accuracy": "highest accuracy"}
        return names.get(self.kind) or f"least cost, a false flag costing {self.level:g} misses"


@dataclass(frozen=True, slots=True)
class Threshold:
    """A cut through raw scores, what it promises, and why one may believe it. A pair passes it when score >= `score`.

    The cut is a raw score, so that it stays where it is when probabilities are stated at another base rate.

    What is promised: *precision*: of the pairs that pass, a share >= the policy's level are duplicates; *recall*: of
    all duplicates, a share >= the level pass. Either holds with probability >= 1 - delta over the draw of the question
    groups that the evidence came from, for further pairs drawn like them: for a random pair of a random question group
    by exact bounds, and over all pairs, large groups counting in full, to the approximation of Korn & Graubard (1998);
    the threshold is the furthest at which both hold. At a base rate other than the evidence's it holds where
    duplicates and distinct pairs each score as they did in the evidence, and only their mix differs.

    Attributes:
        score: The cut.
        policy: What it was chosen for.
        base_rate: The share of duplicates the promise speaks of, in (0, 1).
        rebased: Whether that is another one than the evidence's own.
        value: Precision, recall, F1, accuracy or mean cost of all evidence at the cut, at `base_rate`.
        bound: The lower bound that keeps the promise; None where nothing is promised.
        pairs, groups: Labelled pairs and question groups of the evidence.
        passed, errors: Pairs, one per group, that the bound rests on, and those on the wrong side of the cut: flagged
            pairs and false flags for precision, duplicates and misses for recall. All pairs where nothing is promised.
        date: Of the evidence, ISO 8601, UTC.
        data_fingerprint, scorer_fingerprint: Of the evidence's pairs, and of what scored them.
        method: How the bound was made.
    """

    score: float
    policy: Policy
    base_rate: float
    rebased: bool
    value: float
    bound: float | None
    pairs: int
    groups: int
    passed: int
    errors: int
    date: str
    data_fingerprint: str
    scorer_fingerprint: str
    method: str

    @property
    def promise(self) -> str:
        """What is promised and on what evidence, in one line."""
        if self.policy.delta is None:
            rate = f" at base rate {self.base_rate:.3g}" if self.rebased else ""
            return f"no promise: chosen for the {self.policy} on {self.pairs:,} pairs{rate}"
        about = "misses" if self.policy.kind == "recall" else "errors"
        mix = "" if self.policy.kind == "recall" else f" at base rate {self.base_rate:.3g}"
        return (
            f"{self.policy} with confidence {1 - self.policy.delta:g}{mix} "
            f"({self.method}; {self.passed:,} pairs, one per question group, {self.errors:,} {about})"
        )

    def probability(self, calibrator: Calibrator, base_rate: float | None = None) -> float:
        """The cut as a probability at a base rate, or at the calibrator's own."""
        return float(calibrator.probabilities([self.score], base_rate)[0])

    def to_dict(self) -> dict[str, Any]:
        """Plain data that JSON can hold; the promise is in it to be read, and is not read back."""
        return {**asdict(self), "promise": self.promise}

    @classmethod
    def from_dict(cls, data: Any) -> Threshold:
        """Reads what `to_dict` wrote; ModelFolderError where it is damaged."""
        policy = checks.field(data, "policy", dict, _WHERE)
        kind = checks.field(policy, "kind", str, _WHERE)
        if kind not in ("f1", "accuracy", "cost", "recall", "precision"):
            raise ModelFolderError(
                f"the policy {kind!r} is unknown", where=_WHERE, mend="update dupq, or calibrate again"
            )
        delta = None if policy.get("delta") is None else checks.field(policy, "delta", float, _WHERE)
        values: dict[str, Any] = {"policy": Policy(kind, checks.field(policy, "level", float, _WHERE), delta)}
        values |= {name: checks.field(data, name, float, _WHERE) for name in ("score", "base_rate", "value")}
        values |= {name: checks.field(data, name, int, _WHERE) for name in ("pairs", "groups", "passed", "errors")}
        for name in ("date", "data_fingerprint", "scorer_fingerprint", "method"):
            values[name] = checks.field(data, name, str, _WHERE)
        values["rebased"] = checks.field(data, "rebased", bool, _WHERE)
        values["bound"] = None if data.get("bound") is None else checks.field(data, "bound", float, _WHERE)
        return cls(**values)


def choose_threshold(
    policy: Policy, evidence: Evidence, base_rate: float | None = None, *, near: float | None = None
) -> Threshold:
    """The threshold that the policy asks for, on this evidence, at a base rate.

    For a promise, candidates are tested one after the other from the safe end on, each at the level that all before it
    have kept, so that all tests together err with probability <= delta (fixed-sequence testing, Maurer et al. 1995;
    with several starting points among which delta is divided, the fallback procedure of Wiens & Dmitrienko 2005; used
    for risk control by Angelopoulos et al. 2021). The candidates, and where the sequence starts, follow from how many
    pairs each flags, and never from their labels. The furthest candidate that passed is taken.

    Args:
        policy: See `Policy`.
        evidence: See `gather_evidence`.
        base_rate: The share of duplicates where the threshold will be used; the evidence's own if None. At another
            one the precision follows from the recall and the false-positive rate, each bounded (delta/5 and
            4 delta/5), and the other policies weight the labels. The recall does not depend on it.
        near: A raw score that the cut is to stay at, for instance that of the same pairs scored by a slower form of the
            same networks. Of all candidates that passed, whose promises hold together, the nearest is taken; where
            nothing is promised, the nearest of all.

    Raises:
        NotEnoughLabelsError: No candidate keeps the promise; `needed` says how many more labelled pairs would let one,
            if they look like those at hand, or is None where no number would.
    """
    rate = evidence.base_rate if base_rate is None else checks.checked_rate(base_rate)
    values = _values(policy, evidence, rate)
    drawn, every = evidence.drawn(), evidence.all()
    if policy.delta is None:
        if near is None:
            index, method = best_cut(policy, values), "chosen on all pairs, no bound"
        else:
            index, method = _nearest(evidence, range(len(evidence.cuts)), near), "kept from a like rule, no bound"
        bound = None
        passed, errors = evidence.pairs, every.false[index] + every.duplicates - every.found[index]
    else:
        kept = _passed(policy, evidence, base_rate)
        if not kept:
            raise _too_few(policy, evidence, base_rate)
        index = list(kept)[-1] if near is None else _nearest(evidence, kept, near)
        level = kept[index]
        bound = float(_bounds(policy, drawn, every, base_rate, level)[index])
        method = "one-sided Clopper-Pearson, fixed sequence"
        if policy.kind == "recall":
            passed, errors = evidence.drawn_duplicates, drawn.duplicates - drawn.found[index]
        else:
            passed, errors = int(drawn.flagged[index]), drawn.false[index]
            method += "" if base_rate is None else ", recall and false-positive rate bounded apart"
    return Threshold(
        score=evidence.cuts[index],
        policy=policy,
        base_rate=rate,
        rebased=base_rate is not None,
        value=abs(float(values[index])),
        bound=bound,
        pairs=evidence.pairs,
        groups=evidence.groups,
        passed=passed,
        errors=int(errors),
        date=evidence.date,
        data_fingerprint=evidence.data_fingerprint,
        scorer_fingerprint=evidence.scorer_fingerprint,
        method=method,
    )


def _nearest(evidence: Evidence, indices: Iterable[int], score: float) -> int:
    return min(indices, key=lambda index: abs(evidence.cuts[index] - score))


def best_cut(policy: Policy, values: Floats) -> int:
    """The best of falling cuts; of those that reach a level, the lowest (precision) or the highest (recall)."""
    reached = np.flatnonzero(values >= policy.level)
    if policy.kind not in ("precision", "recall") or not len(reached):
        return int(np.argmax(values))
    return int(reached[-1] if policy.kind == "precision" else reached[0])


def _values(policy: Policy, evidence: Evidence, rate: float) -> Floats:
    recall, false = np.array(evidence.found) / evidence.duplicates, np.array(evidence.false) / evidence.distinct
    return policy_values(policy, recall, false, rate)


def policy_values(policy: Policy, recall: Floats, false: Floats, rate: float) -> Floats:
    """What the policy wants to be high, at each cut, the labels weighted to the base rate; a cost is negative.

    Args:
        policy: See `Policy`.
        recall, false: Shares of duplicates, and of distinct pairs, at or above each cut, (k,).
        rate: The base rate.
    """
    true, wrong = rate * recall, (1 - rate) * false
    if policy.kind == "recall":
        return recall
    if policy.kind == "precision":
        return np.asarray(true / np.maximum(true + wrong, 1e-300))
    if policy.kind == "f1":
        return np.asarray(2 * true / (true + wrong + rate))
    loss = (policy.level if policy.kind == "cost" else 1.0) * wrong + (rate - true)
    return np.asarray(1 - loss if policy.kind == "accuracy" else -loss)


def _bounds(policy: Policy, drawn: Counts, every: Counts, base_rate: float | None, level: float) -> Floats:
    """The lower of the two mixes' bounds at each cut."""
    if policy.kind == "recall":
        return np.minimum(drawn.recall_bound(level), every.recall_bound(level))
    return np.minimum(drawn.precision_bound(level, base_rate), every.precision_bound(level, base_rate))


def _passed(policy: Policy, evidence: Evidence, base_rate: float | None, factor: float = 1.0) -> dict[int, float]:
    """The candidates that passed, the furthest last, and the level that each was tested at."""
    drawn, every = evidence.drawn(factor), evidence.all(factor)
    delta = policy.delta or DELTA
    if policy.kind == "recall":
        order, starts = range(len(evidence.cuts) - 1, -1, -1), {len(evidence.cuts) - 1: 1.0}
    else:
        order, starts = range(len(evidence.cuts)), _starts(policy.level, drawn, base_rate, delta)
    found: dict[int, float] = {}
    share = 0.0
    passes: dict[float, NDArray[np.bool_]] = {}
    for index in order:
        share += starts.get(index, 0.0)
        if share == 0:
            continue
        if share not in passes:
            passes[share] = _bounds(policy, drawn, every, base_rate, share * delta) >= policy.level
        if passes[share][index]:
            found[index] = share * delta
        else:
            share = 0.0
    return found


def _starts(level: float, drawn: Counts, base_rate: float | None, delta: float) -> dict[int, float]:
    """Where the tests of a precision begin, and the share of delta that each beginning brings.

    A sixth of delta goes to the first candidate that could make one error and pass; a third, a third and a sixth to
    those that flag a 50th, a 20th and an 8th of all pairs, in case the very top of the ranking is noisy, or to the
    first where that flags more. A sequence that never fails has all of delta from the last start on.
    """
    flagged, ones, zeros = drawn.flagged, drawn.duplicates, drawn.distinct
    first = len(flagged) - 1
    for errors in (1.0, 0.0):
        true = np.clip(flagged - errors, 0, ones)
        false = np.full_like(true, min(errors, zeros))
        could = Counts(true, false, ones, zeros).precision_bound(delta / 2, base_rate) >= level
        if could.any():
            first = int(np.argmax(could))
            break
    starts: dict[int, float] = {first: 1 / 6}
    for part, share in ((1 / 50, 1 / 3), (1 / 20, 1 / 3), (1 / 8, 1 / 6)):
        index = max(first, int(np.searchsorted(flagged, part * (ones + zeros))))
        starts[index] = starts.get(index, 0.0) + share
    return starts


def _too_few(policy: Policy, evidence: Evidence, base_rate: float | None) -> NotEnoughLabelsError:
    """The error, with the least number of further labels that would let some cut pass if shares stay as they are."""

    def enough(factor: float) -> bool:
        return bool(_passed(policy, evidence, base_rate, factor))

    low, high = 1.0, 2.0
    while high <= MOST_TIMES and not enough(high):
        low, high = high, high * 2
    at = "" if base_rate is None else f" at base rate {base_rate:.3g}"
    what = f"{policy} with confidence {1 - (policy.delta or DELTA):g}{at}"
    have = f"{evidence.pairs:,} labelled pairs of {evidence.groups:,} question groups"
    if high > MOST_TIMES:
        best = max(_values(policy, evidence, evidence.base_rate if base_rate is None else base_rate))
        return NotEnoughLabelsError(
            f"{what} is out of reach of these scores ({have}; the best of all thresholds has {best:.3f})",
            needed=None,
            mend="promise less, or use a more accurate network",
        )
    while high - low > 0.01 * low:
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    needed = max(1, math.ceil((high - 1) * evidence.pairs))
    return NotEnoughLabelsError(
        f"{have} cannot support the promise of {what}",
        needed=needed,
        mend=f"label about {needed:,} more pairs, in as many question groups as you can, or promise less",
    )
