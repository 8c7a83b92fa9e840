"""Calibration of candidates: a calibrator and a threshold of their own.

By default the threshold is chosen for an expected precision.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dupq.calibration.calibrators import Calibrator, calibrator_from_dict
from dupq.calibration.candidates import checked_weights, effective_number, fit_candidate_calibrator
from dupq.data import checks
from dupq.decisions.audit import AuditGuarantee
from dupq.decisions.thresholds import Policy, best_cut, policy_values
from dupq.errors import InputError, ModelFolderError

Floats = NDArray[np.float64]

DEFAULT_POLICY = Policy.precision(0.75, delta=None)
MAX_BLOCKS = 200
MIN_BLOCK = 5
_LOCATION = "candidate calibration"


@dataclass(frozen=True, slots=True)
class CandidateCalibration:
    """Calibrator and threshold fitted to judged candidates with their weights.

    Attributes:
        calibrator: Raw score, and cosine where it was fitted with one -> P(duplicate) of a candidate; see
            `fit_candidate_calibrator`.
        policy: Policy that the threshold is chosen by, without a guarantee.
        scores: Raw scores (k,): the means of k <= 200 blocks of judged candidates, the most probable first.
        cosines: Cosines (k,), the means of the same blocks; empty where the calibrator reads the score alone.
        shares: Share of all candidates that each block stands for, (k,), > 0, of sum 1.
        pairs, duplicates: Numbers of judged candidates.
        effective_pairs: Number of candidates of equal weight that are worth as much (Kish 1965).
        about: Origin of the judged candidates, in words; "" if it is not known.
        guarantee: Guarantee of a random audit, whose threshold then decides; None: nothing is guaranteed.
    """

    calibrator: Calibrator
    policy: Policy
    scores: tuple[float, ...]
    shares: tuple[float, ...]
    pairs: int
    duplicates: int
    effective_pairs: float
    about: str = ""
    cosines: tuple[float, ...] = ()
    guarantee: AuditGuarantee | None = None

    @property
    def threshold(self) -> float:
        """The probability from which a candidate is a duplicate.

        The policy is applied to the probabilities of the judged candidates (expected counts). A precision that none of
        them reaches is itself the threshold, so that the mean of what is flagged is never below it. With a guarantee,
        the threshold is the one that it was tested at.
        """
        if self.guarantee is not None:
            return self.guarantee.threshold
        probabilities = self.calibrator.probabilities(self.scores, cosines=self.cosines)
        # The means of two inputs may leave the order of their blocks by a little.
        order = np.argsort(-probabilities, kind="stable")
        probabilities, shares = probabilities[order], np.array(self.shares)[order]
        true, wrong = np.cumsum(shares * probabilities), np.cumsum(shares * (1 - probabilities))
        values = policy_values(self.policy, true / true[-1], wrong / wrong[-1], float(true[-1]))
        cut = best_cut(self.policy, values)
        if self.policy.kind == "precision" and values[cut] < self.policy.level:
            return self.policy.level
        return float(probabilities[cut])

    @property
    def rests_on(self) -> str:
        """The evidence of the probabilities, in words."""
        about = f": {self.about}" if self.about else ""
        return f"{self.pairs:,} judged candidates, {self.duplicates:,} of them duplicates{about}"

    def with_policy(self, policy: Policy) -> CandidateCalibration:
        """Choose another threshold, without a guarantee; a delta of the policy is dropped."""
        return replace(self, policy=replace(policy, delta=None), guarantee=None)

    def to_dict(self) -> dict[str, Any]:
        """Return plain data that JSON can hold; `from_dict` reads it."""
        return {
            "calibrator": self.calibrator.to_dict(),
            "policy": {"kind": self.policy.kind, "level": self.policy.level},
            "scores": list(self.scores),
            "shares": list(self.shares),
            "pairs": self.pairs,
            "duplicates": self.duplicates,
            "effective_pairs": self.effective_pairs,
            "about": self.about,
            **({"cosines": list(self.cosines)} if self.cosines else {}),
            **({} if self.guarantee is None else {"guarantee": self.guarantee.to_dict()}),
        }

    @classmethod
    def from_dict(cls, data: Any) -> CandidateCalibration:
        """Read the data of `to_dict`.

        Raises:
            ModelFolderError: It is damaged.
        """
        policy = checks.field(data, "policy", dict, _LOCATION)
        kind, level = checks.field(policy, "kind", str, _LOCATION), checks.field(policy, "level", float, _LOCATION)
        hint = "calibrate on the judged candidates again"
        try:
            chosen = Policy(kind, level)
        except InputError as error:
            raise ModelFolderError(
                f"its policy cannot be read ({error.message})", location=_LOCATION, hint=hint
            ) from error
        calibrator = calibrator_from_dict(checks.field(data, "calibrator", dict, _LOCATION))
        scores, shares, cosines = (
            np.array(checks.numbers({"cosines": [], **data}, name, _LOCATION))
            for name in ("scores", "shares", "cosines")
        )
        sound = 0 < len(scores) == len(shares) and (shares > 0).all() and abs(shares.sum() - 1) < 1e-6
        if calibrator.reads_cosines:
            sound = sound and len(cosines) == len(scores) and (np.abs(cosines) <= 1).all()
        else:
            sound = sound and not len(cosines) and (np.diff(scores) <= 0).all()
        if not sound:
            raise ModelFolderError("its blocks of scores are damaged", location=_LOCATION, hint=hint)
        return cls(
            calibrator=calibrator,
            policy=chosen,
            scores=tuple(scores.tolist()),
            shares=tuple(shares.tolist()),
            pairs=checks.field(data, "pairs", int, _LOCATION),
            duplicates=checks.field(data, "duplicates", int, _LOCATION),
            effective_pairs=checks.field(data, "effective_pairs", float, _LOCATION),
            about=checks.field(data, "about", str, _LOCATION),
            cosines=tuple(cosines.tolist()),
            guarantee=None if data.get("guarantee") is None else AuditGuarantee.from_dict(data["guarantee"]),
        )


def calibrate_candidates(
    calibrator: Calibrator,
    scores: ArrayLike,
    labels: ArrayLike,
    weights: ArrayLike | None = None,
    *,
    cosines: ArrayLike | None = None,
    policy: Policy | str | None = None,
    about: str = "",
) -> CandidateCalibration:
    """Fit calibrator and threshold of candidates to n judged ones.

    Args:
        calibrator, scores, labels, weights, cosines: As in `fit_candidate_calibrator`.
        policy: Policy of the threshold, without a guarantee; None: an expected precision of 0.75 or more.
        about: Origin of the candidates, in words.

    Raises:
        InputError, NotEnoughLabelsError: As in `fit_candidate_calibrator`, or an unknown policy.
    """
    chosen = DEFAULT_POLICY if policy is None else replace(Policy.parse(policy), delta=None)
    fitted = fit_candidate_calibrator(calibrator, scores, labels, weights, cosines=cosines)
    s, y = checks.checked_scores(scores), checks.as_numbers(labels, "labels")
    w, c = checked_weights(weights, len(s)), np.zeros(0)
    if fitted.reads_cosines:
        c = np.clip(checks.checked_cosines(cosines, len(s)), -1, 1)
    used = np.flatnonzero(w)
    means, shares, middles = score_blocks(fitted, s, w, c)
    return CandidateCalibration(
        calibrator=fitted,
        policy=chosen,
        scores=means,
        shares=shares,
        pairs=len(used),
        duplicates=int(y[used].sum()),
        effective_pairs=effective_number(w),
        about=about,
        cosines=middles,
    )


def score_blocks(
    fitted: Calibrator, s: Floats, w: Floats, c: Floats
) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
    """Summarise candidates in up to 200 blocks, the most probable first.

    Return the mean scores, shares of the weight and mean cosines of the blocks.

    Args:
        fitted: Their calibrator.
        s, w: Scores and weights >= 0, (n,).
        c: Cosines (n,); empty where the calibrator reads the score alone, and so are then those of the blocks.
    """
    used = np.flatnonzero(w)
    rank = fitted.log_odds(s, cosines=c)[used]
    blocks = np.array_split(used[np.argsort(-rank, kind="stable")], max(1, min(MAX_BLOCKS, len(used) // MIN_BLOCK)))
    means = np.array([np.average(s[block], weights=w[block]) for block in blocks])
    if not len(c):
        # The mean of equal scores may round above them.
        means = np.minimum.accumulate(means)
    return (
        tuple(means.tolist()),
        tuple(float(w[block].sum() / w.sum()) for block in blocks),
        tuple(float(np.average(c[block], weights=w[block])) for block in blocks if len(c)),
    )
