"""Fit what stands around the networks: blend, calibrator, rule, cascade, int8."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dupq.calibration.adaptation import adapt_calibrator
from dupq.calibration.calibrators import Calibrator, fit_calibrator
from dupq.data.arguments import as_choice, as_kind, as_number
from dupq.data.checks import checked_labels
from dupq.data.grouping import holds_trained, refuse_overlap
from dupq.data.pairs import PairTable
from dupq.data.text import fingerprints
from dupq.decisions.adapted_rule import adapt_rule
from dupq.decisions.decider import Decider
from dupq.decisions.decision_rule import DecisionRule, choose_by
from dupq.decisions.threshold_table import build_threshold_table
from dupq.decisions.thresholds import Policy
from dupq.errors import InputError, LeakError, NotEnoughLabelsError
from dupq.evaluation.contrast_slices import contrast_rows
from dupq.evaluation.metrics import average_precision
from dupq.evaluation.report import Report, evaluate
from dupq.hub.external_results import UNSEEN
from dupq.hub.save_load import resolve
from dupq.hub.smoke_test import smoke_test
from dupq.models.cascade import CascadeThresholds, First, fit_cascade
from dupq.models.ensemble import BlendScorer, CosineScorer, fit_weights
from dupq.models.idf_overlap import IdfOverlap
from dupq.models.loading import STOCK, NetworkKind, StoredEmbedder, StoredScorer, check_running, require_kind
from dupq.models.long_text import LongPairs, LongTexts
from dupq.models.scoring_options import SCORING_OPTIONS, with_long_pairs, with_long_texts, with_symmetry
from dupq.models.sentence_transformers_io import round_weights, training_record
from dupq.models.symmetry import Symmetry
from dupq.types import Progress, Scorer

Floats = NDArray[np.float64]

NOT_KNOWN = "earlier_fit_not_known"
"""Fact of a pipeline that was fitted further after it was saved without the questions of an earlier fit."""
CHI_SQUARED_AT_1_PERCENT = 6.635
"""Quantile of chi-squared with one degree of freedom."""

# ---- networks -----------------------------------------------------------------------------------------------------


def open_networks(
    cross_encoder: str | Path | None,
    bi_encoder: str | Path | None,
    half: bool,
    device: str | None,
    symmetry: Symmetry,
    long_texts: LongTexts,
    long_pairs: LongPairs,
) -> dict[str, Any]:
    """Open trained networks and their training records.

    See `DuplicatePipeline.from_networks`.

    Returns:
        The networks under "cross_encoder" and "bi_encoder", "trained_on" and "facts".

    Raises:
        InputError: An argument is unknown or of a wrong kind.
        ModelFolderError: A network cannot be opened.
    """
    from dupq.models.bi_encoder import BiEncoder
    from dupq.models.cross_encoder import CrossEncoderScorer

    _check_options(symmetry=symmetry, long_texts=long_texts, long_pairs=long_pairs)
    as_kind(half, bool, "half", "give True or False")
    sources: tuple[tuple[NetworkKind, str | Path | None], ...] = (
        ("cross-encoder", cross_encoder),
        ("bi-encoder", bi_encoder),
    )
    folders = {kind: resolve(source) for kind, source in sources if source is not None}
    for kind, folder in folders.items():
        require_kind(folder, kind)
        check_running(STOCK, folder, device, None)
    parts: dict[str, Any] = {}
    records, questions_seen = {}, []
    for kind, folder in folders.items():
        network: Any
        if kind == "cross-encoder":
            network = CrossEncoderScorer(folder, device=device, symmetry=symmetry, long_pairs=long_pairs)
        else:
            network = BiEncoder(folder, device=device, long_texts=long_texts)
        if half:
            round_weights(network.model)
        smoke_test(network, folder)
        name = kind.replace("-", "_")
        parts[name] = network
        record, seen = training_record(folder)
        if record is not None:
            records[name] = record
        if seen is not None:
            questions_seen.append(seen)
    trained_on = np.unique(np.concatenate(questions_seen)) if questions_seen else None
    return {**parts, "trained_on": trained_on, "facts": {"training": records}}


def set_options(
    cross_encoder: StoredScorer | None,
    bi_encoder: StoredEmbedder | None,
    symmetry: Symmetry,
    long_texts: LongTexts,
    long_pairs: LongPairs | None,
) -> dict[str, Any]:
    """Set the scoring options of networks; return them by name.

    `long_pairs` None: it stays as it is.

    Raises:
        InputError: An unknown value.
    """
    _check_options(
        symmetry=symmetry, long_texts=long_texts, **({} if long_pairs is None else {"long_pairs": long_pairs})
    )
    parts: dict[str, Any] = {}
    if cross_encoder is not None:
        changed = with_symmetry(cross_encoder, symmetry)
        parts["cross_encoder"] = changed if long_pairs is None else with_long_pairs(changed, long_pairs)
    if bi_encoder is not None:
        parts["bi_encoder"] = with_long_texts(bi_encoder, long_texts)
    return parts


def _check_options(**options: str) -> None:
    for name, value in options.items():
        as_choice(value, SCORING_OPTIONS[name], name)


def to_int8(
    cross_encoder: StoredScorer | None, bi_encoder: StoredEmbedder | None, pairs: PairTable, word_bits: Literal[4, 8]
) -> dict[str, Any]:
    """Export networks to int8, with value ranges from these pairs.

    Raises:
        InputError: A network is in that form already, or onnx is not installed.
    """
    from dupq.models.onnx.export import export
    from dupq.models.onnx.runtime import RuntimeBiEncoder, RuntimeCrossEncoder

    parts: dict[str, Any] = {}
    runtimes = (
        ("cross_encoder", cross_encoder, RuntimeCrossEncoder, ("symmetry", "long_pairs")),
        ("bi_encoder", bi_encoder, RuntimeBiEncoder, ("long_texts",)),
    )
    for name, network, runtime, options in runtimes:
        if network is None:
            continue
        if network.form != STOCK:
            raise InputError(f"the {name.replace('_', '-')} is in the int8 form already", hint="export the original")
        with TemporaryDirectory() as folder:
            network.save(Path(folder) / name)
            exported = export(Path(folder) / name, pairs.left, pairs.right, word_bits)
            parts[name] = runtime(exported, **{option: getattr(network, option) for option in options})
    return parts


def to_torch(cross_encoder: StoredScorer | None, bi_encoder: StoredEmbedder | None) -> dict[str, Any]:
    """Return torch networks with the weights of the int8 ones, by name.

    Raises:
        InputError: No network is in int8, or onnx is not installed.
        ModelFolderError: A network is not as `to_int8` makes it.
    """
    from dupq.models.bi_encoder import BiEncoder
    from dupq.models.cross_encoder import CrossEncoderScorer
    from dupq.models.onnx.runtime import RuntimeBiEncoder, RuntimeCrossEncoder
    from dupq.models.onnx.to_torch import to_torch as write_stock

    parts: dict[str, Any] = {}
    with TemporaryDirectory() as folder:
        if isinstance(cross_encoder, RuntimeCrossEncoder):
            write_stock(cross_encoder.network, Path(folder) / "cross")
            options: dict[str, Any] = {"symmetry": cross_encoder.symmetry, "long_pairs": cross_encoder.long_pairs}
            parts["cross_encoder"] = CrossEncoderScorer(Path(folder) / "cross", **options)
        if isinstance(bi_encoder, RuntimeBiEncoder):
            write_stock(bi_encoder.network, Path(folder) / "bi")
            parts["bi_encoder"] = BiEncoder(Path(folder) / "bi", long_texts=bi_encoder.long_texts)
    if not parts:
        raise InputError("the networks are torch networks already", hint="train on them as they are")
    return parts


def both_networks(
    cross_encoder: StoredScorer | None, bi_encoder: StoredEmbedder | None, purpose: str
) -> tuple[StoredScorer, StoredEmbedder]:
    """Return both networks; raise InputError where one is missing.

    `purpose` names their use, such as "a blend".
    """
    if cross_encoder is None or bi_encoder is None:
        raise InputError(f"{purpose} needs both networks", hint="use a pipeline of a cross-encoder and a bi-encoder")
    return cross_encoder, bi_encoder


# ---- blend --------------------------------------------------------------------------------------------------------


def fit_blend_weights(
    cross_encoder: StoredScorer | None,
    bi_encoder: StoredEmbedder | None,
    pairs: PairTable,
    corpus: Iterable[str] | None,
) -> tuple[tuple[float, ...], IdfOverlap | None]:
    """Fit the weights of two networks' scores, and of the IDF overlap.

    See `DuplicatePipeline.with_blend`.

    Returns:
        Weights with the offset last, and the IDF overlap; None where there is no corpus, or the pairs do not support
        it.

    Raises:
        InputError: A network is missing, or neither scores duplicates higher than distinct pairs.
    """
    cross_encoder, bi_encoder = both_networks(cross_encoder, bi_encoder, "a blend")
    left, right, labels = pairs.left, pairs.right, pairs.labels
    members = np.stack([scorer.score(left, right) for scorer in (cross_encoder, CosineScorer(bi_encoder))])
    weights, offset = fit_weights(members, labels)
    if corpus is None:
        return (*weights, offset), None
    overlap = IdfOverlap.of(corpus)
    three = np.vstack([members, overlap.score(left, right)])
    three_weights, three_offset = fit_weights(three, labels, signed=(2,))
    gain = _log_likelihood(np.dot(three_weights, three) + three_offset, labels)
    gain -= _log_likelihood(np.dot(weights, members) + offset, labels)
    # Twice the gain follows chi-squared with one degree of freedom where the true weight is 0 (Wilks 1938).
    if 2 * gain <= CHI_SQUARED_AT_1_PERCENT:
        return (*weights, offset), None
    return (*three_weights, three_offset), overlap


def _log_likelihood(log_odds: Floats, labels: NDArray[Any]) -> float:
    return -float(np.logaddexp(0, np.where(labels == 1, -log_odds, log_odds)).sum())


# ---- calibrator and thresholds ------------------------------------------------------------------------------------


def fit_decisions(
    scores: Floats,
    pairs: PairTable,
    scorer_fingerprint: str,
    duplicate: Policy,
    distinct: Policy | None = None,
    near: DecisionRule | None = None,
) -> dict[str, Any]:
    """Fit calibrator and thresholds to scores of labelled pairs, and measure them.

    Args:
        scores: Raw scores (n,).
        pairs: The n labelled pairs.
        scorer_fingerprint: Fingerprint of the scorer, kept with the thresholds.
        duplicate, distinct, near: As in `choose_by`.

    Returns:
        "calibrator", "rule", "base_rate" and "evaluation" of a pipeline.

    Raises:
        InputError, NotEnoughLabelsError: Too few pairs, or one label only.
    """
    prints: dict[str, Any] = {"data_fingerprint": pairs.fingerprint, "scorer_fingerprint": scorer_fingerprint}
    calibrator = fit_calibrator(scores, pairs.labels, pairs.groups)
    rule = _choose(scores, pairs, duplicate, distinct, near, **prints)
    report = evaluate(
        scores,
        calibrator.probabilities(scores),
        pairs.labels,
        pairs.groups,
        rule,
        calibrator,
        measured_on="the calibration pairs themselves",
        **_contradictions(pairs),
        **prints,
    )
    return {"calibrator": calibrator, "rule": rule, "base_rate": calibrator.base_rate, "evaluation": report}


def refit_options(rule: DecisionRule) -> dict[str, Any]:
    """Return the `fit_decisions` options that refit a rule with cuts close to it."""
    distinct = None if rule.distinct is None else rule.distinct.policy
    return {"duplicate": rule.duplicate.policy, "distinct": distinct, "near": rule}


def _choose(
    scores: Floats,
    pairs: PairTable,
    duplicate: Policy,
    distinct: Policy | None,
    near: DecisionRule | None,
    **prints: Any,
) -> DecisionRule:
    cuts = near.table.cuts if near and near.table else None
    table = build_threshold_table(scores, pairs.labels, pairs.groups, cuts=cuts, **prints)
    return choose_by(table, duplicate, distinct, near=near)


def adapt_decisions(
    calibrator: Calibrator, rule: DecisionRule, scores: Floats, pairs: PairTable, scorer_fingerprint: str
) -> dict[str, Any]:
    """Adapt calibrator and rule to the scores (n,) of n local labelled pairs.

    Returns:
        "calibrator", "rule", "base_rate" and "evaluation" (None) of a pipeline.

    Raises:
        NotEnoughLabelsError: Fewer than 20 labels.
    """
    adapted = adapt_calibrator(calibrator, scores, pairs.labels, pairs.groups)
    local_rule = adapt_rule(
        rule,
        adapted,
        scores,
        pairs.labels,
        pairs.groups,
        data_fingerprint=pairs.fingerprint,
        scorer_fingerprint=scorer_fingerprint,
    )
    return {"calibrator": adapted, "rule": local_rule, "base_rate": adapted.base_rate, "evaluation": None}


def evaluate_decider(
    decider: Decider, scores: Floats, pairs: PairTable, scorer_fingerprint: str, **facts: Any
) -> Report:
    """Measure a decider on the scores (n,) of n labelled pairs."""
    groups = pairs.groups
    flagged = scores >= decider.rule.duplicate.score
    return evaluate(
        scores,
        decider.probabilities(scores),
        pairs.labels,
        groups,
        decider.rule,
        decider.calibrator,
        conflicts=[row.to_dict() for row in contrast_rows(pairs.left, pairs.right, pairs.labels, flagged, groups)],
        **facts,
        **_contradictions(pairs),
        data_fingerprint=pairs.fingerprint,
        scorer_fingerprint=scorer_fingerprint,
    )


def _contradictions(pairs: PairTable) -> dict[str, Any]:
    """Return a fact for the report where pairs stand with both labels."""
    clash = pairs.contradictions
    return {"contradictions": clash.text(pairs.rows)} if clash else {}


# ---- cascade ------------------------------------------------------------------------------------------------------


def check_cascade(min_agreement: float, max_ap_loss: float) -> None:
    """Raise InputError for an agreement outside (0, 1), or a loss outside [0, 1]."""
    as_number(min_agreement, "min_agreement", 0, 1, above=True, below=True, hint="give one such as 0.999")
    as_number(max_ap_loss, "max_ap_loss", 0, 1, hint="give an average precision such as 0.002")


def fit_best_cascade(
    cross_encoder: StoredScorer,
    bi_encoder: StoredEmbedder,
    full: Scorer,
    rule: DecisionRule,
    pairs: PairTable,
    min_agreement: float,
    max_ap_loss: float,
    progress: Progress | None,
) -> tuple[CascadeThresholds, Floats]:
    """Fit the cascade that settles the most pairs.

    See `DuplicatePipeline.with_cascade`. Candidates differ in the first network, in the sides they settle and in how
    tight they are. Thresholds are refitted on the scores of each candidate, and the agreement with the full scorer is
    measured with them. The two networks cost about the same, as a pair is about as long as its two texts.

    Args:
        cross_encoder, bi_encoder: The networks.
        full: The scorer without a cascade: the cross-encoder, or a blend.
        rule: The thresholds on its scores.
        pairs: n labelled pairs.
        min_agreement: Target share of equal decisions.
        max_ap_loss: Maximum loss of average precision.
        progress: Called with (done, total).

    Returns:
        The cascade and its scores, (n,).

    Raises:
        InputError: Too few pairs, one label only, or no cascade meets both targets on these pairs.
    """
    labels = checked_labels(pairs.labels, len(pairs))
    both = BlendScorer((cross_encoder, CosineScorer(bi_encoder)), (1.0, 1.0))
    members = (full if isinstance(full, BlendScorer) else both).members(pairs.left, pairs.right, progress)
    firsts: dict[First, Floats] = {"bi-encoder": members[1]}
    scores = members[0]
    if isinstance(full, BlendScorer):
        firsts["cross-encoder"], scores = members[0], full.combine(members)
    cuts = [cut.score for cut in (rule.duplicate, rule.distinct) if cut is not None]
    decided, precision = rule.codes(scores), average_precision(labels, scores)
    found: list[tuple[CascadeThresholds, Floats]] = []
    for first, duplicates, tighter in product(firsts, (False, True), (1, 1.2, 1.5, 2, 3, 4, 8)):
        sides = 2 if duplicates else 1
        if sides * tighter > 1 and (1 - min_agreement) / (sides * tighter) * (len(pairs) + 1) < 1:
            continue  # too few pairs for a tighter agreement than the target
        cascade = fit_cascade(firsts[first], scores, cuts, 1 - (1 - min_agreement) / tighter, duplicates)
        settled = cascade.settle(firsts[first])
        own = np.where(np.isnan(settled), scores, settled)
        try:
            refitted = _choose(own, pairs, **refit_options(rule))
        except NotEnoughLabelsError:
            continue
        agreement = float((refitted.codes(own) == decided).mean())
        ap_loss = float(precision - average_precision(labels, own))
        if cascade.settled and agreement >= min_agreement and ap_loss <= max_ap_loss:
            measured: dict[str, Any] = {"agreement": agreement, "max_ap_loss": max_ap_loss, "ap_loss": ap_loss}
            found.append((replace(cascade, min_agreement=min_agreement, first=first, **measured), own))
    if not found:
        raise InputError(
            f"no cascade keeps {min_agreement:.2%} of the decisions, the guarantees and the average precision",
            hint="give more pairs, allow a smaller agreement or a larger loss, or use the pipeline as it is",
        )
    return max(found, key=lambda candidate: candidate[0].settled)


# ---- questions that were fitted on --------------------------------------------------------------------------------


def questions(pairs: PairTable) -> NDArray[np.int64]:
    """Return the fingerprints of the distinct questions, int64 (m,), rising."""
    return np.unique(fingerprints([*pairs.left, *pairs.right]))


def all_known(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return facts of a pipeline of which every fit is known."""
    return {key: value for key, value in facts.items() if key != NOT_KNOWN}


def add_questions(
    pairs: PairTable, calibrated_on: NDArray[np.int64] | None, facts: Mapping[str, Any], earlier_fits_stay: bool
) -> dict[str, Any]:
    """Return "calibrated_on" and "facts" of a pipeline after a fit on these pairs.

    Args:
        pairs: The pairs of the fit.
        calibrated_on: Fingerprints of the questions of earlier fits; None if not known.
        facts: Facts of the pipeline.
        earlier_fits_stay: True: a part that was fitted earlier remains in the pipeline.
    """
    if not earlier_fits_stay:
        return {"calibrated_on": questions(pairs), "facts": all_known(facts)}
    if calibrated_on is None:
        return {"calibrated_on": questions(pairs), "facts": {**facts, NOT_KNOWN: True}}
    return {"calibrated_on": np.union1d(calibrated_on, questions(pairs)), "facts": facts}


def check_unseen(
    pairs: PairTable,
    purpose: str,
    *,
    trained_on: NDArray[np.int64] | None,
    calibrated_on: NDArray[np.int64] | None,
    rule: DecisionRule | None,
    facts: Mapping[str, Any],
) -> str:
    """Refuse pairs that the networks were trained on, or another part fitted on.

    Args:
        pairs: The pairs to be used.
        purpose: Their use, for the error, such as "test it".
        trained_on, calibrated_on, rule, facts: Parts of the pipeline that is measured.

    Returns:
        A statement on the pairs. Where the questions of the training or calibration are not known, only the same set of
        pairs is recognised, and the statement contains this.

    Raises:
        LeakError: Some were seen; states how many pairs and questions.
    """
    refuse_overlap(trained_on, pairs.left, pairs.right, purpose)
    seen = holds_trained(calibrated_on, pairs.left, pairs.right)
    if seen.any() and calibrated_on is not None:
        shared = int(np.isin(questions(pairs), calibrated_on).sum())
        raise LeakError(
            f"{shared:,} questions of these pairs, in {int(seen.sum()):,} of {len(pairs):,} pairs (first: pair "
            f"{int(np.flatnonzero(seen)[0]) + 1}), are among those that its blend, calibrator or thresholds were "
            f"fitted on, so they cannot serve to {purpose}",
            hint="use the test split, which `dupq data split` keeps apart, or leave these pairs out",
        )
    fitted = () if rule is None else (rule.duplicate, rule.distinct, rule.table)
    if pairs.fingerprint in {part.data_fingerprint for part in fitted if part is not None}:
        raise LeakError(
            f"these {len(pairs):,} pairs are those that its thresholds were fitted on, and cannot serve to {purpose}",
            hint="use the test split, which `dupq data split` keeps apart",
        )
    unknown = []
    if trained_on is None:
        unknown.append("trained on")
    if calibrated_on is None or facts.get(NOT_KNOWN):
        unknown.append("calibrated on")
    if not unknown:
        return UNSEEN
    return f"other pairs than those of its thresholds; not known: which questions it was {' and '.join(unknown)}"
