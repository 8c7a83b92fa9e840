"""What is fitted around the networks of a pipeline: the blend, the calibrator, the thresholds, the int8 form."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np

from dupq.data.grouping import refuse_overlap
from dupq.decisions.calibration import fit_calibrator
from dupq.decisions.local import refit
from dupq.decisions.report import Report, build_report
from dupq.decisions.thresholds import Policy, fit_rule
from dupq.errors import InputError, NotCalibratedError
from dupq.models.networks import STOCK
from dupq.models.scorers import CosineScorer, Progress, fit_blend
from dupq.models.stock import round_weights, training_record

if TYPE_CHECKING:
    from dupq.data.splits import PairTable
    from dupq.pipeline import DuplicatePipeline


def open_networks(
    cross_encoder: str | Path | None, bi_encoder: str | Path | None, half: bool, device: str | None
) -> dict[str, Any]:
    """The keyword arguments of an uncalibrated pipeline; see `DuplicatePipeline.from_networks`."""
    from dupq.models.bi_encoder import BiEncoder
    from dupq.models.cross_encoder import CrossEncoderScorer
    from dupq.sharing.pipeline_folder import resolve

    parts: dict[str, Any] = {}
    records, questions = {}, []
    for name, source, opener in (
        ("cross_encoder", cross_encoder, CrossEncoderScorer),
        ("bi_encoder", bi_encoder, BiEncoder),
    ):
        if source is None:
            continue
        folder = resolve(source)
        network = opener(folder, device=device)
        if half:
            round_weights(network.model)
        parts[name] = network
        record, seen = training_record(folder)
        if record is not None:
            records[name] = record
        if seen is not None:
            questions.append(seen)
    trained_on = np.unique(np.concatenate(questions)) if questions else None
    return {**parts, "trained_on": trained_on, "facts": {"training": records}}


def blend(pipeline: DuplicatePipeline, validation: PairTable) -> DuplicatePipeline:
    """See `DuplicatePipeline.with_blend`."""
    if pipeline.cross_encoder is None or pipeline.bi_encoder is None:
        raise InputError("a blend needs both networks", mend="give both, or leave out the blend")
    refuse_overlap(pipeline.trained_on, validation.left, validation.right, "learn how to blend the networks")
    members = (pipeline.cross_encoder, CosineScorer(pipeline.bi_encoder))
    fitted = fit_blend(members, validation.left, validation.right, validation.labels)
    weights = (fitted.weights[0], fitted.weights[1], fitted.offset)
    return replace(pipeline, blend=weights, calibrator=None, rule=None, base_rate=None, evaluation=None)


def calibrate(
    pipeline: DuplicatePipeline,
    pairs: PairTable,
    policy: Policy | None,
    miss_rate: float | None,
    progress: Progress | None,
) -> DuplicatePipeline:
    """See `DuplicatePipeline.calibrate`."""
    refuse_overlap(pipeline.trained_on, pairs.left, pairs.right, "calibrate it")
    scores, groups = pipeline.raw_scores(pairs.left, pairs.right, progress), pairs.groups
    calibrator = fit_calibrator(scores, pairs.labels, groups)
    fingerprints = _fingerprints(pipeline, pairs)
    rule = fit_rule(scores, pairs.labels, groups, policy, miss_rate=miss_rate, **fingerprints)
    report = build_report(
        scores,
        calibrator.probabilities(scores),
        pairs.labels,
        groups,
        rule,
        calibrator,
        measured_on="the calibration pairs themselves",
        **fingerprints,
    )
    return replace(pipeline, calibrator=calibrator, rule=rule, base_rate=calibrator.base_rate, evaluation=report)


def adapt(pipeline: DuplicatePipeline, verdicts: PairTable, progress: Progress | None) -> DuplicatePipeline:
    """See `DuplicatePipeline.adapt`."""
    if pipeline.calibrator is None or pipeline.rule is None:
        raise NotCalibratedError("an uncalibrated pipeline has nothing to adapt", mend="use calibrate(pairs)")
    refuse_overlap(pipeline.trained_on, verdicts.left, verdicts.right, "adapt its calibrator")
    local = refit(
        pipeline.calibrator,
        pipeline.rule,
        pipeline.raw_scores(verdicts.left, verdicts.right, progress),
        verdicts.labels,
        verdicts.groups,
        **_fingerprints(pipeline, verdicts),
    )
    rate = local.calibrator.base_rate
    return replace(pipeline, calibrator=local.calibrator, rule=local.rule, base_rate=rate, evaluation=None)


def export(pipeline: DuplicatePipeline, pairs: PairTable, progress: Progress | None) -> DuplicatePipeline:
    """See `DuplicatePipeline.export`."""
    from dupq.models import export as exporting
    from dupq.models.runtime import RuntimeBiEncoder, RuntimeCrossEncoder

    parts: dict[str, Any] = {}
    for name, runtime in (("cross_encoder", RuntimeCrossEncoder), ("bi_encoder", RuntimeBiEncoder)):
        network = getattr(pipeline, name)
        if network is None:
            continue
        if network.form != STOCK:
            raise InputError(f"the {name.replace('_', '-')} is in the int8 form already", mend="export the original")
        with TemporaryDirectory() as folder:
            network.save(Path(folder) / name)
            parts[name] = runtime(exporting.export(Path(folder) / name, pairs.left, pairs.right))
    rule = pipeline.rule
    exported = replace(pipeline, **parts, calibrator=None, rule=None, base_rate=None, evaluation=None)
    if rule is None:
        return exported
    miss_rate = 1 - rule.distinct.policy.level if rule.distinct else None
    return calibrate(exported, pairs, rule.duplicate.policy, miss_rate, progress)


def evaluate(pipeline: DuplicatePipeline, pairs: PairTable, progress: Progress | None) -> Report:
    """See `DuplicatePipeline.evaluate`."""
    if pipeline.calibrator is None or pipeline.rule is None:
        raise NotCalibratedError("an uncalibrated pipeline cannot be evaluated", mend="use calibrate(pairs) first")
    refuse_overlap(pipeline.trained_on, pairs.left, pairs.right, "test it")
    scores = pipeline.raw_scores(pairs.left, pairs.right, progress)
    return build_report(
        scores,
        pipeline.calibrator.probabilities(scores, pipeline.base_rate),
        pairs.labels,
        pairs.groups,
        pipeline.rule,
        pipeline.calibrator,
        measured_on="pairs that nothing of it was fitted on",
        **_fingerprints(pipeline, pairs),
    )


def _fingerprints(pipeline: DuplicatePipeline, pairs: PairTable) -> dict[str, Any]:
    return {"data_fingerprint": pairs.fingerprint, "scorer_fingerprint": pipeline.fingerprint}
