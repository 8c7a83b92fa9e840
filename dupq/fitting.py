"""What is fitted around the networks of a pipeline: the blend, the calibrator, the thresholds, the int8 form."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from dupq.data.grouping import refuse_overlap
from dupq.decisions.calibration import fit_calibrator
from dupq.decisions.contrast import contrast_rows
from dupq.decisions.local import refit
from dupq.decisions.policies import DELTA, Policy
from dupq.decisions.report import Report, build_report
from dupq.decisions.thresholds import choose_rule, gather_evidence
from dupq.errors import InputError, NotCalibratedError, NotEnoughLabelsError
from dupq.models.cascade import Band, First, fit_band
from dupq.models.networks import READINGS, STOCK, with_long_texts, with_symmetry
from dupq.models.scorers import BlendScorer, CosineScorer, Progress, fit_weights
from dupq.models.shared_words import SharedWords
from dupq.models.stock import round_weights, training_record

if TYPE_CHECKING:
    from dupq.data.splits import PairTable
    from dupq.decisions.thresholds import DecisionRule
    from dupq.pipeline import DuplicatePipeline

_ONE_PERCENT_OF_CHI_SQUARED = 6.635


def open_networks(
    cross_encoder: str | Path | None,
    bi_encoder: str | Path | None,
    half: bool,
    device: str | None,
    readings: Mapping[str, str],
) -> dict[str, Any]:
    """The keyword arguments of an uncalibrated pipeline; see `DuplicatePipeline.from_networks`."""
    from dupq.models.bi_encoder import BiEncoder
    from dupq.models.cross_encoder import CrossEncoderScorer
    from dupq.sharing.pipeline_folder import resolve
    from dupq.sharing.probe import probe

    parts: dict[str, Any] = {}
    records, questions = {}, []
    _check_readings(readings)
    openers: tuple[tuple[str, str | Path | None, Callable[..., Any], str], ...] = (
        ("cross_encoder", cross_encoder, CrossEncoderScorer, "symmetry"),
        ("bi_encoder", bi_encoder, BiEncoder, "long_texts"),
    )
    for name, source, opener, reading in openers:
        if source is None:
            continue
        folder = resolve(source)
        network = opener(folder, device=device, **{reading: readings[reading]})
        if half:
            round_weights(network.model)
        probe(network, folder)
        parts[name] = network
        record, seen = training_record(folder)
        if record is not None:
            records[name] = record
        if seen is not None:
            questions.append(seen)
    trained_on = np.unique(np.concatenate(questions)) if questions else None
    return {**parts, "trained_on": trained_on, "facts": {"training": records}}


def read_anew(pipeline: DuplicatePipeline, readings: Mapping[str, Any]) -> DuplicatePipeline:
    """See `DuplicatePipeline.with_readings`."""
    _check_readings(readings)
    parts: dict[str, Any] = {}
    if pipeline.cross_encoder is not None:
        parts["cross_encoder"] = with_symmetry(pipeline.cross_encoder, readings["symmetry"])
    if pipeline.bi_encoder is not None:
        parts["bi_encoder"] = with_long_texts(pipeline.bi_encoder, readings["long_texts"])
    return replace(pipeline, **parts, cascade=None, calibrator=None, rule=None, base_rate=None, evaluation=None)


def _check_readings(readings: Mapping[str, str]) -> None:
    for key, value in readings.items():
        if value not in READINGS[key]:
            raise InputError(f"{key} {value!r} is not known", mend=f"give one of {', '.join(READINGS[key])}")


def blend(pipeline: DuplicatePipeline, validation: PairTable, corpus: Iterable[str] | None) -> DuplicatePipeline:
    """See `DuplicatePipeline.with_blend`."""
    if pipeline.cross_encoder is None or pipeline.bi_encoder is None:
        raise InputError("a blend needs both networks", mend="give both, or leave out the blend")
    refuse_overlap(pipeline.trained_on, validation.left, validation.right, "learn how to blend the networks")
    left, right, labels = validation.left, validation.right, validation.labels
    scorers = (pipeline.cross_encoder, CosineScorer(pipeline.bi_encoder))
    members = np.stack([scorer.score(left, right) for scorer in scorers])
    weights, offset = fit_weights(members, labels)
    words = None if corpus is None else SharedWords.of(corpus)
    if words is not None:
        more = np.vstack([members, words.score(left, right)])
        corrected, constant = fit_weights(more, labels, signed=(2,))
        gained = _log_likelihood(np.dot(corrected, more) + constant, labels)
        gained -= _log_likelihood(np.dot(weights, members) + offset, labels)
        # Twice the gain follows chi-squared with one degree of freedom where the words tell nothing (Wilks 1938).
        if 2 * gained > _ONE_PERCENT_OF_CHI_SQUARED:
            weights, offset = corrected, constant
        else:
            words = None
    plain = replace(pipeline, cascade=None, calibrator=None, rule=None, base_rate=None, evaluation=None)
    return replace(plain, blend=(*weights, offset), shared_words=words)


def _log_likelihood(log_odds: NDArray[np.float64], labels: NDArray[Any]) -> float:
    return -float(np.logaddexp(0, np.where(labels == 1, -log_odds, log_odds)).sum())


def calibrate(
    pipeline: DuplicatePipeline,
    pairs: PairTable,
    policy: Policy | None,
    miss_rate: float | None,
    progress: Progress | None,
) -> DuplicatePipeline:
    """See `DuplicatePipeline.calibrate`."""
    refuse_overlap(pipeline.trained_on, pairs.left, pairs.right, "calibrate it")
    scores = pipeline.raw_scores(pairs.left, pairs.right, progress)
    return _decided(pipeline, pairs, scores, policy=policy, miss_rate=miss_rate)


def _decided(
    pipeline: DuplicatePipeline, pairs: PairTable, scores: NDArray[np.float64], **wishes: Any
) -> DuplicatePipeline:
    """Calibrator, thresholds and report from the pipeline's scores of labelled pairs."""
    groups, fingerprints = pairs.groups, _fingerprints(pipeline, pairs)
    calibrator = fit_calibrator(scores, pairs.labels, groups)
    rule = _chosen(scores, pairs, **wishes, **fingerprints)
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


def _chosen(
    scores: NDArray[np.float64],
    pairs: PairTable,
    policy: Policy | None,
    miss_rate: float | None = None,
    delta: float = DELTA,
    near: DecisionRule | None = None,
    **fingerprints: Any,
) -> DecisionRule:
    cuts = near.evidence.cuts if near and near.evidence else None
    evidence = gather_evidence(scores, pairs.labels, pairs.groups, cuts=cuts, **fingerprints)
    return choose_rule(evidence, policy, miss_rate=miss_rate, delta=delta, near=near)


def cascade(
    pipeline: DuplicatePipeline, pairs: PairTable, share: float, most_lost: float, progress: Progress | None
) -> DuplicatePipeline:
    """See `DuplicatePipeline.with_cascade`."""
    if not 0 <= most_lost <= 1:
        raise InputError(f"an average precision of {most_lost} cannot be lost", mend="give one such as 0.002")
    rule, full = pipeline.rule, replace(pipeline, cascade=None).scorer
    if pipeline.cross_encoder is None or pipeline.bi_encoder is None:
        raise InputError("a cascade needs both networks", mend="calibrate a pipeline of a bi-encoder and cross-encoder")
    if rule is None:
        raise NotCalibratedError("a cascade keeps decisions, and this pipeline takes none", mend="use calibrate(pairs)")
    if _moved(pipeline):
        raise InputError(
            "the pipeline was moved to another base rate than its labels'", mend="fit the cascade first, then move it"
        )
    refuse_overlap(pipeline.trained_on, pairs.left, pairs.right, "fit a cascade")
    both = BlendScorer((pipeline.cross_encoder, CosineScorer(pipeline.bi_encoder)), (1.0, 1.0))
    members = (full if isinstance(full, BlendScorer) else both).members(pairs.left, pairs.right, progress)
    cross, bi = members[:2]
    firsts: dict[First, NDArray[np.float64]] = {"bi-encoder": bi}
    scores = cross
    if isinstance(full, BlendScorer):
        firsts["cross-encoder"], scores = cross, full.combine(members)
    wishes = _wishes(rule)
    band = _best_band(firsts, scores, rule, pairs, share, most_lost, wishes)
    own = _settled(band, firsts[band.first], scores)
    return _decided(replace(pipeline, cascade=band), pairs, own, **wishes)


def _wishes(rule: DecisionRule) -> dict[str, Any]:
    """What a rule was chosen for, and that its like is to stay near it."""
    wishes: dict[str, Any] = {"policy": rule.duplicate.policy, "near": rule}
    if rule.distinct is not None:
        policy = rule.distinct.policy
        wishes |= {"miss_rate": 1 - policy.level, "delta": policy.delta or DELTA}
    return wishes


def _best_band(
    firsts: Mapping[First, NDArray[np.float64]],
    scores: NDArray[np.float64],
    rule: DecisionRule,
    pairs: PairTable,
    share: float,
    most_lost: float,
    wishes: Mapping[str, Any],
) -> Band:
    """The band that settles the most pairs, of those that keep the share and the average precision.

    Thresholds are fitted anew on what a band makes of the scores, near the old, and the share is counted with them. The
    two networks cost about the same, as a pair is about as long as its two texts.
    """
    from sklearn.metrics import average_precision_score

    thresholds = [cut.score for cut in (rule.duplicate, rule.distinct) if cut is not None]
    decided, ranked = rule.codes(scores), average_precision_score(pairs.labels, scores)
    found: list[Band] = []
    for first, duplicates, tighter in product(firsts, (False, True), (1, 1.2, 1.5, 2, 3, 4, 8)):
        sides = 2 if duplicates else 1
        if sides * tighter > 1 and (1 - share) / (sides * tighter) * (len(pairs) + 1) < 1:
            continue  # too few pairs for more than was asked for
        band = fit_band(firsts[first], scores, thresholds, 1 - (1 - share) / tighter, duplicates)
        own = _settled(band, firsts[first], scores)
        try:
            again = _chosen(own, pairs, **wishes)
        except NotEnoughLabelsError:
            continue
        equal = float((again.codes(own) == decided).mean())
        lost = float(ranked - average_precision_score(pairs.labels, own))
        if band.settled and equal >= share and lost <= most_lost:
            found.append(replace(band, share=share, first=first, equal=equal, most_lost=most_lost, lost=lost))
    if not found:
        raise InputError(
            f"no cascade keeps {share:.2%} of the decisions, the promises and the average precision on these pairs",
            mend="give more pairs, allow a smaller share or a larger loss, or use the pipeline as it is",
        )
    return max(found, key=lambda band: band.settled)


def _settled(band: Band, cheap: NDArray[np.float64], full: NDArray[np.float64]) -> NDArray[np.float64]:
    """The cascade's scores, (n,)."""
    scores = band.settle(cheap)
    return np.where(np.isnan(scores), full, scores)


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


def export(
    pipeline: DuplicatePipeline, pairs: PairTable, progress: Progress | None, word_bits: Literal[4, 8]
) -> DuplicatePipeline:
    """See `DuplicatePipeline.export`."""
    from dupq.models import export as exporting
    from dupq.models.runtime import RuntimeBiEncoder, RuntimeCrossEncoder

    parts: dict[str, Any] = {}
    runtimes = (("cross_encoder", RuntimeCrossEncoder, "symmetry"), ("bi_encoder", RuntimeBiEncoder, "long_texts"))
    for name, runtime, reading in runtimes:
        network = getattr(pipeline, name)
        if network is None:
            continue
        if network.form != STOCK:
            raise InputError(f"the {name.replace('_', '-')} is in the int8 form already", mend="export the original")
        with TemporaryDirectory() as folder:
            network.save(Path(folder) / name)
            made = exporting.export(Path(folder) / name, pairs.left, pairs.right, word_bits)
            parts[name] = runtime(made, **{reading: getattr(network, reading)})
    rule = pipeline.rule
    exported = replace(pipeline, **parts, cascade=None, calibrator=None, rule=None, base_rate=None, evaluation=None)
    if rule is None:
        return exported
    refuse_overlap(pipeline.trained_on, pairs.left, pairs.right, "calibrate it")
    wishes = _wishes(rule)
    if rule.duplicate.data_fingerprint != pairs.fingerprint or rule.duplicate.rebased:
        del wishes["near"]  # other pairs, or another base rate, may well ask for another threshold
    decided = _decided(exported, pairs, exported.raw_scores(pairs.left, pairs.right, progress), **wishes)
    if band := pipeline.cascade:
        decided = cascade(decided, pairs, band.share, band.most_lost, progress)
    # The rate of the stream that it was moved to is no matter of the networks' form.
    return decided.with_base_rate(pipeline.base_rate) if pipeline.base_rate and _moved(pipeline) else decided


def dequantise(pipeline: DuplicatePipeline) -> DuplicatePipeline:
    """See `DuplicatePipeline.dequantise`."""
    from dupq.models.bi_encoder import BiEncoder
    from dupq.models.cross_encoder import CrossEncoderScorer
    from dupq.models.dequantise import dequantise as stock_form
    from dupq.models.runtime import RuntimeBiEncoder, RuntimeCrossEncoder

    parts: dict[str, Any] = {}
    with TemporaryDirectory() as folder:
        if isinstance(pipeline.cross_encoder, RuntimeCrossEncoder):
            stock_form(pipeline.cross_encoder.network, Path(folder) / "cross")
            symmetry = pipeline.cross_encoder.symmetry
            parts["cross_encoder"] = CrossEncoderScorer(Path(folder) / "cross", symmetry=symmetry)
        if isinstance(pipeline.bi_encoder, RuntimeBiEncoder):
            stock_form(pipeline.bi_encoder.network, Path(folder) / "bi")
            parts["bi_encoder"] = BiEncoder(Path(folder) / "bi", long_texts=pipeline.bi_encoder.long_texts)
    if not parts:
        raise InputError("its networks are in their stock form already", mend="train on them as they are")
    return replace(pipeline, **parts, cascade=None, calibrator=None, rule=None, base_rate=None, evaluation=None)


def evaluate(pipeline: DuplicatePipeline, pairs: PairTable, progress: Progress | None) -> Report:
    """See `DuplicatePipeline.evaluate`."""
    if pipeline.calibrator is None or pipeline.rule is None:
        raise NotCalibratedError("an uncalibrated pipeline cannot be evaluated", mend="use calibrate(pairs) first")
    refuse_overlap(pipeline.trained_on, pairs.left, pairs.right, "test it")
    scores, groups = pipeline.raw_scores(pairs.left, pairs.right, progress), pairs.groups
    flagged = scores >= pipeline.rule.duplicate.score
    conflicts = contrast_rows(pairs.left, pairs.right, pairs.labels, flagged, groups)
    return build_report(
        scores,
        pipeline.calibrator.probabilities(scores, pipeline.base_rate),
        pairs.labels,
        groups,
        pipeline.rule,
        pipeline.calibrator,
        conflicts=[row.to_dict() for row in conflicts],
        measured_on="pairs that nothing of it was fitted on",
        stated_at=pipeline.base_rate,
        **_fingerprints(pipeline, pairs),
    )


def _moved(pipeline: DuplicatePipeline) -> bool:
    """Whether its probabilities are stated at another base rate than that of its labels."""
    return pipeline.calibrator is not None and pipeline.base_rate not in (None, pipeline.calibrator.base_rate)


def _fingerprints(pipeline: DuplicatePipeline, pairs: PairTable) -> dict[str, Any]:
    return {"data_fingerprint": pairs.fingerprint, "scorer_fingerprint": pipeline.fingerprint}
