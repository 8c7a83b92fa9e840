"""Versions of the calibration of an index: read, write, use and roll back.

A version is a row of JSON with calibrator, threshold, guarantee and report. Versions are never changed or deleted;
number 0 stands for the pipeline's own calibration. The log of uses is kept in the store under "calibration_uses".
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from dupq.data.grouping import question_groups
from dupq.decisions.candidate_calibration import CandidateCalibration
from dupq.decisions.decider import Decider, PairScorer
from dupq.decisions.thresholds import Policy
from dupq.errors import InputError, ModelFolderError
from dupq.index.calibrations import (
    NO_ANSWER,
    UNCLEAR,
    CalibrationResult,
    JudgedPairs,
    check_enough,
    evaluate,
    fit_calibration,
)
from dupq.index.review import reviewed_pairs
from dupq.index.sampling import STRATA
from dupq.index.stores.base import Store, StoredCalibration, StoredDecision, encoded_id
from dupq.index.stores.sql import Transaction, View
from dupq.index.verdicts import now
from dupq.models.batching import chunks
from dupq.types import Decision

LOGGER = logging.getLogger(__name__)
USES = "calibration_uses"
PART = 4096
"""Pairs whose vectors are read at a time."""
ANSWER_CODES = {"duplicate": 1, "distinct": 0}


@dataclass(frozen=True, slots=True)
class CalibrationVersion:
    """A version of the calibration of an index.

    Attributes:
        number: Number, from 1.
        at: ISO 8601 date and time in UTC.
        by: Who calibrated.
        scorer: Fingerprint of the pipeline whose scores it reads.
        in_use: True for the version that decides.
        threshold: Probability from which a pair is a duplicate.
        guarantee: The guarantee in one line, or that there is none.
        report: Verdicts and figures before and after; see `CalibrationResult.to_dict`.
    """

    number: int
    at: str
    by: str
    scorer: str
    in_use: bool
    threshold: float
    guarantee: str
    report: dict[str, Any]


class DeciderInUse:
    """The decider of an index: that of the version in use, or else the pipeline's own."""

    def __init__(self) -> None:
        # One assignment of a tuple, so threads may share it; versions never change.
        self._known: tuple[int, str, CandidateCalibration | None] = (0, "", None)

    def decider(self, view: View, pipeline: PairScorer) -> Decider:
        """Return the decider in use.

        A version of another pipeline is not used; a warning is logged.

        Raises:
            NotCalibratedError: The pipeline has no calibrator or threshold.
            InputError: The version in use is damaged.
        """
        own = pipeline.candidate_decider
        number = number_in_use(view)
        if number == 0:
            return own
        known, scorer, calibration = self._known
        if (known, scorer) != (number, pipeline.fingerprint):
            calibration = _calibration(view, pipeline, number)
            self._known = number, pipeline.fingerprint, calibration
        if calibration is None:
            return own
        return decider_with(own, calibration)


def decider_with(own: Decider, calibration: CandidateCalibration) -> Decider:
    """Return a pipeline's decider with another calibration of candidates."""
    base_rate = calibration.calibrator.base_rate
    return replace(own, calibrator=calibration.calibrator, base_rate=base_rate, candidates=calibration, warning=None)


def number_in_use(view: View) -> int:
    """Return the number of the version in use, 0 for the pipeline's own."""
    return int(view.meta("calibration") or 0)


def _calibration(view: View, pipeline: PairScorer, number: int) -> CandidateCalibration | None:
    stored = view.calibration()
    if stored is None or stored.scorer != pipeline.fingerprint:
        LOGGER.warning(
            "%s: calibration %d was fitted to the scores of another pipeline, so the pipeline's own calibration "
            "decides; calibrate again with this pipeline",
            view.location,
            number,
        )
        return None
    return _candidates(view, stored)


def _candidates(view: View, stored: StoredCalibration) -> CandidateCalibration:
    try:
        return CandidateCalibration.from_dict(stored.content.get("candidates"))
    except ModelFolderError as error:
        raise InputError(
            f"calibration {stored.number} is damaged ({error.message})",
            location=view.location,
            hint="go back to the pipeline's own: index.roll_back(0, by=...)",
        ) from error


def read_versions(view: View) -> list[CalibrationVersion]:
    """Return all versions, oldest first.

    Raises:
        InputError: A version is damaged.
    """
    used = number_in_use(view)
    versions = []
    for row in view.calibrations():
        candidates, report = _candidates(view, row), row.content.get("report", {})
        guarantee = str(candidates.guarantee) if candidates.guarantee is not None else "no guarantee"
        by = str(row.content.get("by", ""))
        versions.append(
            CalibrationVersion(
                row.number, row.at, by, row.scorer, row.number == used, candidates.threshold, guarantee, report
            )
        )
    return versions


def read_judged(view: View, scorer: str, *, cosines: bool = False) -> tuple[JudgedPairs, dict[str, int]]:
    """Return the pairs that a pipeline judged, with the answers on them.

    Args:
        view: Of the store.
        scorer: Fingerprint of the pipeline.
        cosines: Compute the cosines of the pairs, from the stored vectors.

    Returns:
        The pairs, and reason -> number of verdicts that are left out.
    """
    rows = [row for row in view.decisions() if row.scorer == scorer and row.stratum in STRATA]
    place = {(row.id, row.other): at for at, row in enumerate(rows)}
    n = len(rows)
    answers, inclusion = np.full(n, NO_ANSWER, np.int8), np.zeros(n)
    audited, groups = np.zeros(n, bool), np.zeros(n, np.int64)
    left_out = {"on pairs scored by another pipeline": 0, "outside the sample": 0, "skipped or contested": 0}
    found: list[int] = []
    for pair in reviewed_pairs(view):
        at = place.get((pair.decision.id, pair.decision.other))
        if at is None:
            left_out["on pairs scored by another pipeline"] += 1
            continue
        answers[at] = ANSWER_CODES.get(pair.answer, UNCLEAR)
        audited[at] = pair.audited
        found.append(at)
        if not pair.sampled:
            left_out["outside the sample"] += 1
            continue
        inclusion[at] = pair.probability
        left_out["skipped or contested"] += int(answers[at] == UNCLEAR)
    if found:
        groups[found] = question_groups(*_texts_of([rows[at] for at in found]))
    probability = np.array([row.probability for row in rows])
    decided = np.array([row.decision for row in rows], dtype=object)
    return (
        JudgedPairs(
            scores=np.array([row.score for row in rows], np.float64),
            strata=np.array([row.stratum for row in rows], dtype=object),
            drawn=np.array([row.drawn for row in rows], np.float64),
            answers=answers,
            inclusion=inclusion,
            audited=audited,
            groups=groups,
            # No calibrator reaches 1; an unknown language is what sends a pair above the threshold to review.
            copies=(probability == 1) & (decided == str(Decision.DUPLICATE)),
            held_back=(probability >= np.array([row.threshold for row in rows])) & (decided == str(Decision.REVIEW)),
            cosines=read_cosines(view, rows) if cosines else np.zeros(0),
        ),
        left_out,
    )


def read_cosines(view: View, rows: Sequence[StoredDecision]) -> NDArray[np.float64]:
    """Return the cosines of decided pairs by their stored vectors, (n,).

    The vectors are those of the present model.

    Raises:
        InputError: A question has no vector.
    """
    found, model = np.zeros(len(rows)), view.model()
    for part in chunks(len(rows), PART):
        questions = view.find({id_ for row in rows[part] for id_ in (row.id, row.other)})
        vectors = {} if model is None else view.vectors(model, [question.slot for question in questions.values()])
        for at, row in enumerate(rows[part], part.start):
            pair = [vectors.get(questions[id_].slot) for id_ in (row.id, row.other)]
            if pair[0] is None or pair[1] is None:
                raise InputError(
                    f"the pair {row.id!r}, {row.other!r} has no vectors",
                    location=view.location,
                    hint="run `dupq index verify`",
                )
            found[at] = pair[0].astype(np.float64) @ pair[1].astype(np.float64)
    return np.clip(found, -1, 1)


def _texts_of(rows: Sequence[StoredDecision]) -> tuple[list[str], list[str]]:
    # Ids stand for texts: only which questions share a pair matters here. Hex digits survive every normalisation.
    return [encoded_id(row.id).encode().hex() for row in rows], [encoded_id(row.other).encode().hex() for row in rows]


def policy_of(own: Decider) -> Policy:
    """Return the policy of a pipeline's decider of candidates."""
    return own.candidates.policy if own.candidates is not None else own.rule.duplicate.policy


def calibrate_store(
    store: Store, pipeline: PairScorer, in_use: DeciderInUse, policy: Policy | str | None, by: str, dry_run: bool
) -> CalibrationResult:
    """Fit, evaluate, write and use a new version; see `QuestionIndex.calibrate`."""
    own = pipeline.candidate_decider
    chosen = policy_of(own) if policy is None else Policy.parse(policy)
    with store.reading() as view:
        before, previous = in_use.decider(view, pipeline), number_in_use(view)
        pairs, left_out = read_judged(view, pipeline.fingerprint, cosines=own.calibrator.reads_cosines)
        last_verdict, last_slot = view.last_verdict(), view.position().slot
    check_enough(pairs.labels[pairs.clear], left_out)
    at = now()
    calibration, warning = fit_calibration(own, pairs, chosen, about=f"verdicts of the index until {at[:10]}")
    old, new, change = evaluate(own, before, pairs, chosen)
    result = CalibrationResult(
        number=None,
        previous=previous,
        calibration=calibration,
        verdicts=calibration.pairs,
        duplicates=calibration.duplicates,
        effective_verdicts=calibration.effective_pairs,
        left_out=left_out,
        before=old,
        after=new,
        log_loss_change=change,
        warning=warning,
    )
    if dry_run:
        return result
    content = {
        "key": uuid4().hex,
        "by": by,
        "policy": {"kind": chosen.kind, "level": chosen.level, "delta": chosen.delta},
        "candidates": calibration.to_dict(),
        "report": result.to_dict(),
        "last_verdict": last_verdict,
        "last_slot": last_slot,
        "judged": len(pairs),
    }

    def write(transaction: Transaction) -> int:
        # The store runs this again where it cannot know if a commit went through.
        for row in transaction.calibrations():
            if row.content.get("key") == content["key"]:
                return row.number
        number = transaction.add_calibration(pipeline.fingerprint, at, content)
        _use(transaction, number, by, at)
        return number

    return replace(result, number=store.write(write))


def roll_back_to(transaction: Transaction, number: int, by: str, at: str) -> None:
    """Use another version; 0: the pipeline's own.

    Raises:
        InputError: There is no such version.
    """
    numbers = [row.number for row in transaction.calibrations()]
    if number not in (0, *numbers):
        known = ", ".join(str(found) for found in numbers[-10:]) or "none yet"
        raise InputError(
            f"number must be that of a calibration or 0, got {number}",
            location=transaction.location,
            hint=f"see index.calibrations(); there are: {known}",
        )
    if number != number_in_use(transaction):
        _use(transaction, number, by, at)


def _use(transaction: Transaction, number: int, by: str, at: str) -> None:
    transaction.use_calibration(number)
    uses = json.loads(transaction.meta(USES) or "[]")
    transaction.set_meta(USES, json.dumps([*uses, {"number": number, "by": by, "at": at}]))
