"""Choose a threshold by a policy, with its guarantee and the evidence for it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from dupq.calibration.calibrators import Calibrator
from dupq.data import checks
from dupq.data.arguments import as_kind, is_number
from dupq.decisions.threshold_table import Counts, ThresholdTable
from dupq.errors import InputError, ModelFolderError, NotEnoughLabelsError

Floats = NDArray[np.float64]
PolicyKind = Literal["f1", "accuracy", "cost", "recall", "precision"]
DELTA = 0.05
MAX_TIMES = 64
SAME_RATE = 1e-9
"""Relative difference up to which two base rates are one: far above the rounding of a share that was written to JSON
or computed in another order (1e-15), far below the share of one pair among a million (1e-6)."""
_LOCATION = "threshold"
EXPECTED = "expected by the local calibrator, no bound"
"""Method of a threshold chosen from expected counts."""
_POLICIES = "give f1, accuracy, cost=5:1, recall>=0.9 or precision>=0.95"


@dataclass(frozen=True, slots=True)
class Policy:
    """Policy that a threshold is chosen by.

    The class methods below and `parse` make one.

    Attributes:
        kind: "f1", "accuracy", "cost", "recall" or "precision".
        level: Minimum recall or precision, in (0, 1); for "cost", the cost of a false flag over that of a miss, above
            0; else 0.
        delta: The guarantee may fail with this probability, in (0, 1); None: no guarantee. Always None for "f1",
            "accuracy" and "cost", which guarantee nothing.

    Raises:
        InputError: An unknown kind, or a level or delta out of its range.
    """

    kind: PolicyKind
    level: float = 0.0
    delta: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.kind, str) or self.kind not in get_args(PolicyKind):
            raise InputError(
                f"kind must be one of {', '.join(get_args(PolicyKind))}, got {self.kind!r}",
                location="policy",
                hint=_POLICIES,
            )
        if self.kind in ("recall", "precision"):
            checks.checked_rate(self.level, self.kind)
            if self.delta is not None:
                checks.checked_rate(self.delta, "delta")
            return
        sound = is_number(self.level) and (0 < self.level < math.inf if self.kind == "cost" else self.level == 0)
        if not sound:
            wanted = "a number above 0" if self.kind == "cost" else "0"
            raise InputError(
                f"level must be {wanted} for the policy {self.kind!r}, got {self.level!r}",
                location="policy",
                hint="use Policy.min_cost(5, 1), Policy.max_f1() or Policy.max_accuracy()",
            )
        if self.delta is not None:
            raise InputError(
                f"delta must be None for the policy {self.kind!r}, which guarantees nothing, got {self.delta!r}",
                location="policy",
                hint="leave it out, or use Policy.recall or Policy.precision",
            )

    @classmethod
    def max_f1(cls) -> Policy:
        """Return the policy of the highest F1; it guarantees nothing."""
        return cls("f1")

    @classmethod
    def max_accuracy(cls) -> Policy:
        """Return the policy of the highest accuracy; it guarantees nothing."""
        return cls("accuracy")

    @classmethod
    def min_cost(cls, false_flag: float, miss: float) -> Policy:
        """Return the policy of the lowest expected cost; it guarantees nothing.

        Args:
            false_flag, miss: Cost of one false flag and of one missed duplicate, above 0.

        Raises:
            InputError: A cost is not a number above 0.
        """
        for name, cost in (("false_flag", false_flag), ("miss", miss)):
            if not (is_number(cost) and 0 < cost < math.inf):
                raise InputError(
                    f"{name} must be a number above 0, got {cost!r}", hint="give two costs, such as 5 and 1"
                )
        return cls("cost", float(false_flag) / float(miss))

    @classmethod
    def recall(cls, level: float, delta: float | None = DELTA) -> Policy:
        """Return the policy of the highest threshold with a recall of `level` or more.

        Args:
            level: Minimum share of all duplicates that are flagged, in (0, 1).
            delta: The guarantee may fail with this probability, in (0, 1); None: the share holds on the evidence, and
                nothing is guaranteed.

        Raises:
            InputError: A value out of its range.
        """
        return cls("recall", checks.checked_rate(level, "recall"), delta)

    @classmethod
    def precision(cls, level: float, delta: float | None = DELTA) -> Policy:
        """Return the policy of the lowest threshold with a precision of `level` or more.

        Args:
            level: Minimum share of duplicates among flagged pairs, in (0, 1).
            delta: As in `recall`.

        Raises:
            InputError: A value out of its range.
        """
        return cls("precision", checks.checked_rate(level, "precision"), delta)

    @classmethod
    def parse(cls, text: str | Policy, delta: float | None = None) -> Policy:
        """Parse a policy from its text.

        Args:
            text: "f1", "accuracy", "cost=5:1" (false flag : miss), "recall>=0.9" or "precision>=0.95"; or a policy.
            delta: Failure probability of a recall or precision guarantee, in (0, 1); None: that of the given policy,
                else 0.05. A policy that guarantees nothing stays as it is.

        Raises:
            InputError: The text names no policy, or a number is out of its range.
        """
        if delta is not None:
            checks.checked_rate(delta, "delta")
        if isinstance(text, Policy):
            return text if delta is None or text.delta is None else replace(text, delta=float(delta))
        if not isinstance(text, str):
            raise InputError(f"policy must be a text or a Policy, got {type(text).__name__}", hint=_POLICIES)
        plain = re.sub(r"\s+", "", text).lower()
        if plain == "f1":
            return cls.max_f1()
        if plain == "accuracy":
            return cls.max_accuracy()
        number = r"([0-9]*\.?[0-9]+|[0-9]+\.)"
        if found := re.fullmatch(rf"cost={number}:{number}", plain):
            return cls.min_cost(float(found[1]), float(found[2]))
        if found := re.fullmatch(rf"(recall|precision)>={number}", plain):
            return (cls.recall if found[1] == "recall" else cls.precision)(
                float(found[2]), DELTA if delta is None else float(delta)
            )
        raise InputError(f"unknown policy {text!r}", hint=_POLICIES)

    def __str__(self) -> str:
        if self.kind in ("recall", "precision"):
            return f"{self.kind} >= {self.level:g}"
        names = {"f1": "highest F1", "accuracy": "highest accuracy"}
        return names.get(self.kind) or f"least cost, a false flag costing {self.level:g} misses"


@dataclass(frozen=True, slots=True)
class Threshold:
    """Threshold on raw scores with its guarantee; pairs with score >= `score` pass.

    It is a raw score, so that it stays where it is when probabilities are stated at another base rate.

    The guarantee is on *precision*: a share >= the policy's level of the pairs that pass are duplicates; or on
    *recall*: a share >= the level of all duplicates pass. It holds with probability >= 1 - delta over the draw of the
    question groups of the evidence, for further pairs drawn like them: for a random pair of a random question group by
    exact bounds, and over all pairs, large groups counting in full, to the approximation of Korn & Graubard (1998). The
    threshold is the furthest at which both hold. At another base rate than the evidence's it holds where duplicates and
    distinct pairs each score as they did in the evidence, and only their mix differs.

    Attributes:
        score: The threshold, a raw score.
        policy: The policy it was chosen by.
        base_rate: The share of duplicates the guarantee holds for, in (0, 1).
        rebased: True where that is another one than the evidence's own.
        value: Precision, recall, F1, accuracy or mean cost of all evidence at the threshold, at `base_rate`.
        bound: The lower bound of precision or recall; None where nothing is guaranteed.
        pairs, groups: Labelled pairs and question groups of the evidence.
        n_evaluated, n_errors: Pairs, one per group, that the bound is computed from, and those on the wrong side of the
            threshold: flagged pairs and false flags for precision, duplicates and misses for recall. All pairs where
            nothing is guaranteed.
        date: Date of the evidence, ISO 8601, UTC.
        data_fingerprint, scorer_fingerprint: Fingerprints of the evidence's pairs and of their scorer.
        method: Method of the bound.
        used_at: The base rate of use, where that differs from `base_rate` and the evidence was not kept; else None.
        wanted: The policy that was asked for, where the evidence could not support its guarantee; else None.
    """

    score: float
    policy: Policy
    base_rate: float
    rebased: bool
    value: float
    bound: float | None
    pairs: int
    groups: int
    n_evaluated: int
    n_errors: int
    date: str
    data_fingerprint: str
    scorer_fingerprint: str
    method: str
    used_at: float | None = None
    wanted: Policy | None = None

    @property
    def expected(self) -> bool:
        """True where it was chosen from expected counts, for too few labels to count."""
        return self.method == EXPECTED

    @property
    def guaranteed(self) -> bool:
        """True where the policy's level is guaranteed at the base rate of use."""
        # The recall does not depend on the base rate.
        return self.policy.delta is not None and (self.used_at is None or self.policy.kind == "recall")

    @property
    def guarantee(self) -> str:
        """The guarantee and its evidence, in one line."""
        if self.used_at is not None and not self.guaranteed:
            lack = "it rests on expected counts" if self.expected else "its evidence was not kept"
            return (
                f"no guarantee at base rate {self.used_at:.3g}: the threshold was chosen for the {self.policy} at "
                f"{self.base_rate:.3g}, and {lack}"
            )
        if self.policy.delta is None:
            rate = f" at base rate {self.base_rate:.3g}" if self.rebased else ""
            return f"no guarantee: chosen for the {self.policy} on {self.pairs:,} pairs{rate}"
        about = "misses" if self.policy.kind == "recall" else "errors"
        mix = "" if self.policy.kind == "recall" else f" at base rate {self.base_rate:.3g}"
        return (
            f"{self.policy} with confidence {1 - self.policy.delta:g}{mix} "
            f"({self.method}; {self.n_evaluated:,} pairs, one per question group, {self.n_errors:,} {about})"
        )

    def probability(self, calibrator: Calibrator, base_rate: float | None = None) -> float:
        """Return the threshold as a probability; base rate None: the calibrator's."""
        return float(calibrator.probabilities([self.score], base_rate)[0])

    def without_evidence_at(self, base_rate: float) -> Threshold:
        """Return the threshold for use at a base rate without evidence."""
        return replace(self, used_at=None if same_rate(base_rate, self.base_rate) else base_rate)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that JSON can hold; `from_dict` ignores the guarantee text."""
        data = {**asdict(self), "guarantee": self.guarantee, "guaranteed": self.guaranteed}
        if self.wanted is None:
            del data["wanted"]
        return data

    @classmethod
    def from_dict(cls, data: Any) -> Threshold:
        """Read the data of `to_dict`.

        Raises:
            ModelFolderError: It is damaged.
        """
        values: dict[str, Any] = {"policy": _policy_of(data, "policy")}
        values["wanted"] = None if data.get("wanted") is None else _policy_of(data, "wanted")
        values |= {name: checks.field(data, name, float, _LOCATION) for name in ("score", "base_rate", "value")}
        values |= {
            name: checks.field(data, name, int, _LOCATION) for name in ("pairs", "groups", "n_evaluated", "n_errors")
        }
        for name in ("date", "data_fingerprint", "scorer_fingerprint", "method"):
            values[name] = checks.field(data, name, str, _LOCATION)
        values["rebased"] = checks.field(data, "rebased", bool, _LOCATION)
        for name in ("bound", "used_at"):
            values[name] = None if data.get(name) is None else checks.field(data, name, float, _LOCATION)
        return cls(**values)


def _policy_of(data: Any, name: str) -> Policy:
    policy = checks.field(data, name, dict, _LOCATION)
    kind = checks.field(policy, "kind", str, _LOCATION)
    level = checks.field(policy, "level", float, _LOCATION)
    delta = None if policy.get("delta") is None else checks.field(policy, "delta", float, _LOCATION)
    try:
        return Policy(kind, level, delta)
    except InputError as error:
        raise ModelFolderError(
            f"its policy cannot be read ({error.message})",
            location=_LOCATION,
            hint="update dupq, or calibrate again",
        ) from error


def same_rate(one: float, other: float) -> bool:
    """Return True where two base rates are equal up to rounding; see `SAME_RATE`."""
    return math.isclose(one, other, rel_tol=SAME_RATE)


def choose_threshold(
    policy: Policy | str, table: ThresholdTable, base_rate: float | None = None, *, near: float | None = None
) -> Threshold:
    """Choose the threshold of a policy from a table of counts, at a base rate.

    For a guarantee, candidates are tested one after the other from the safe end on, each at the level that all before
    it have kept, so that all tests together err with probability <= delta (fixed-sequence testing, Maurer et al. 1995;
    with several starting points among which delta is divided, the fallback procedure of Wiens & Dmitrienko 2005; used
    for risk control by Angelopoulos et al. 2021). The candidates, and where the sequence starts, follow from how many
    pairs each flags, and never from their labels. The furthest candidate that passed is taken.

    Args:
        policy: A policy, or its text.
        table: See `build_threshold_table`.
        base_rate: The share of duplicates where the threshold will be used; None, or the table's own rate up to
            rounding: the table's own. At another one the precision follows from the recall and the false-positive rate,
            each bounded (delta/5 and 4 delta/5), and the other policies weight the labels. The recall does not depend
            on it.
        near: A raw score to stay near, for instance the threshold of a slower form of the same networks on the same
            pairs. The nearest of all candidates that passed is taken, since their guarantees hold together; where
            nothing is guaranteed, the nearest of all.

    Raises:
        NotEnoughLabelsError: No candidate has the guarantee; `needed` is the number of further labelled pairs that
            would suffice if they look like these, or None where no number would.
        InputError: An argument is unknown or out of its range.
    """
    policy = Policy.parse(policy)
    as_kind(table, ThresholdTable, "table", "give that of build_threshold_table")
    if near is not None:
        near = float(checks.checked_scores([near], "near")[0])
    rate = table.base_rate if base_rate is None else checks.checked_rate(base_rate)
    if same_rate(rate, table.base_rate):
        # The bound of the precision itself is tighter than one from bounds of recall and false-positive rate.
        rate, base_rate = table.base_rate, None
    values = _values(policy, table, rate)
    one, every = table.one_per_group(), table.all_pairs()
    if policy.delta is None:
        if near is None:
            index, method = best_cut(policy, values), "chosen on all pairs, no bound"
        else:
            index, method = _nearest(table, range(len(table.cuts)), near), "kept near an earlier threshold, no bound"
        bound = None
        n_evaluated, n_errors = table.pairs, every.fp[index] + every.duplicates - every.tp[index]
    else:
        kept = _passed(policy, table, base_rate)
        if not kept:
            raise _too_few(policy, table, base_rate)
        index = list(kept)[-1] if near is None else _nearest(table, kept, near)
        level = kept[index]
        bound = float(_bounds(policy, one, every, base_rate, level)[index])
        method = "one-sided Clopper-Pearson, fixed sequence"
        if policy.kind == "recall":
            n_evaluated, n_errors = table.one_per_group_duplicates, one.duplicates - one.tp[index]
        else:
            n_evaluated, n_errors = int(one.flagged[index]), one.fp[index]
            method += "" if base_rate is None else ", recall and false-positive rate bounded apart"
    return Threshold(
        score=table.cuts[index],
        policy=policy,
        base_rate=rate,
        rebased=base_rate is not None,
        value=abs(float(values[index])),
        bound=bound,
        pairs=table.pairs,
        groups=table.groups,
        n_evaluated=n_evaluated,
        n_errors=int(n_errors),
        date=table.date,
        data_fingerprint=table.data_fingerprint,
        scorer_fingerprint=table.scorer_fingerprint,
        method=method,
    )


def _nearest(table: ThresholdTable, indices: Iterable[int], score: float) -> int:
    return min(indices, key=lambda index: abs(table.cuts[index] - score))


def best_cut(policy: Policy, values: Floats) -> int:
    """Return the index of the best cut.

    Where cuts reach the level, it is the lowest (precision) or the highest (recall) of them.

    Args:
        policy: A policy.
        values: What `policy_values` returns, (k,), at falling cuts.
    """
    reached = np.flatnonzero(values >= policy.level)
    if policy.kind not in ("precision", "recall") or not len(reached):
        return int(np.argmax(values))
    return int(reached[-1] if policy.kind == "precision" else reached[0])


def _values(policy: Policy, table: ThresholdTable, rate: float) -> Floats:
    recall, false_positive_rate = np.array(table.tp) / table.duplicates, np.array(table.fp) / table.distinct
    return policy_values(policy, recall, false_positive_rate, rate)


def policy_values(policy: Policy, recall: Floats, false_positive_rate: Floats, rate: float) -> Floats:
    """Compute the figure that the policy maximises, (k,), at a base rate.

    A cost is negative.

    Args:
        policy: A policy.
        recall, false_positive_rate: Shares of duplicates, and of distinct pairs, at or above each cut, (k,).
        rate: The base rate.
    """
    true, wrong = rate * recall, (1 - rate) * false_positive_rate
    if policy.kind == "recall":
        return recall
    if policy.kind == "precision":
        return np.asarray(true / np.maximum(true + wrong, 1e-300))
    if policy.kind == "f1":
        return np.asarray(2 * true / (true + wrong + rate))
    loss = (policy.level if policy.kind == "cost" else 1.0) * wrong + (rate - true)
    return np.asarray(1 - loss if policy.kind == "accuracy" else -loss)


def _bounds(policy: Policy, one: Counts, every: Counts, base_rate: float | None, level: float) -> Floats:
    """Return the lower of the two samples' bounds at each cut."""
    if policy.kind == "recall":
        return np.minimum(one.recall_bound(level), every.recall_bound(level))
    return np.minimum(one.precision_bound(level, base_rate), every.precision_bound(level, base_rate))


def _passed(policy: Policy, table: ThresholdTable, base_rate: float | None, factor: float = 1.0) -> dict[int, float]:
    """Return the candidates that passed, the furthest last, with their levels."""
    one, every = table.one_per_group(factor), table.all_pairs(factor)
    delta = policy.delta or DELTA
    if policy.kind == "recall":
        order, starts = range(len(table.cuts) - 1, -1, -1), {len(table.cuts) - 1: 1.0}
    else:
        order, starts = range(len(table.cuts)), _starts(policy.level, one, base_rate, delta)
    found: dict[int, float] = {}
    share = 0.0
    passes: dict[float, NDArray[np.bool_]] = {}
    for index in order:
        share += starts.get(index, 0.0)
        if share == 0:
            continue
        if share not in passes:
            passes[share] = _bounds(policy, one, every, base_rate, share * delta) >= policy.level
        if passes[share][index]:
            found[index] = share * delta
        else:
            share = 0.0
    return found


def _starts(level: float, one: Counts, base_rate: float | None, delta: float) -> dict[int, float]:
    """Return where the tests of a precision start, and the share of delta of each.

    A sixth of delta goes to the first candidate that could make one error and pass; a third, a third and a sixth to
    those that flag a 50th, a 20th and an 8th of all pairs, in case the very top of the ranking is noisy, or to the
    first where that flags more. A sequence that never fails has all of delta from the last start on.
    """
    flagged, ones, zeros = one.flagged, one.duplicates, one.distinct
    first = len(flagged) - 1
    for errors in (1.0, 0.0):
        true = np.clip(flagged - errors, 0, ones)
        could = (
            Counts(true, np.full_like(true, min(errors, zeros)), ones, zeros).precision_bound(delta / 2, base_rate)
            >= level
        )
        if could.any():
            first = int(np.argmax(could))
            break
    starts: dict[int, float] = {first: 1 / 6}
    for part, share in ((1 / 50, 1 / 3), (1 / 20, 1 / 3), (1 / 8, 1 / 6)):
        index = max(first, int(np.searchsorted(flagged, part * (ones + zeros))))
        starts[index] = starts.get(index, 0.0) + share
    return starts


def _too_few(policy: Policy, table: ThresholdTable, base_rate: float | None) -> NotEnoughLabelsError:
    """Return the error, with the number of further labels that would suffice."""

    def enough(factor: float) -> bool:
        return bool(_passed(policy, table, base_rate, factor))

    low, high = 1.0, 2.0
    while high <= MAX_TIMES and not enough(high):
        low, high = high, high * 2
    at = "" if base_rate is None else f" at base rate {base_rate:.3g}"
    what = f"{policy} with confidence {1 - (policy.delta or DELTA):g}{at}"
    have = f"{table.pairs:,} labelled pairs of {table.groups:,} question groups"
    if high > MAX_TIMES:
        best = max(_values(policy, table, table.base_rate if base_rate is None else base_rate))
        return NotEnoughLabelsError(
            f"{what} is out of reach of these scores ({have}; the best of all thresholds has {best:.3f})",
            needed=None,
            hint="ask for a lower level, or use a more accurate network",
        )
    while high - low > 0.01 * low:
        middle = (low + high) / 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    needed = max(1, math.ceil((high - 1) * table.pairs))
    return NotEnoughLabelsError(
        f"{have} cannot support the guarantee of {what}",
        needed=needed,
        hint=f"label about {needed:,} more pairs, in as many question groups as you can, or ask for a lower level",
    )
