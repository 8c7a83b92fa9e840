"""DuplicatePipeline: scorer, embedder and decider as one object.

`dupq.fit` and the modules of `dupq.hub` are imported on use, because scoring does without them.
"""

from __future__ import annotations

import logging
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dupq.calibration.calibrators import Calibrator
from dupq.calibration.candidates import checked_weights
from dupq.calibration.prior_shift import BaseRateEstimate, ScoreReference, estimate_base_rate
from dupq.data.arguments import as_choice, as_int, as_kind, as_list, as_texts
from dupq.data.checks import checked_rate
from dupq.data.grouping import holds_trained, question_groups, refuse_overlap
from dupq.data.pairs import PairTable, as_table
from dupq.data.text import check_text
from dupq.decisions.candidate_calibration import CandidateCalibration, calibrate_candidates
from dupq.decisions.candidate_rule import CandidateRule
from dupq.decisions.decider import Decider
from dupq.decisions.decision_rule import DecisionRule, choose_rule, policies_of
from dupq.decisions.threshold_table import ThresholdTable
from dupq.decisions.thresholds import Policy, same_rate
from dupq.errors import InputError, NotCalibratedError
from dupq.evaluation.report import Report
from dupq.explain.explanation import Explanation
from dupq.hub.push import Pushed
from dupq.models.batching import check_lengths, chunks, part_of
from dupq.models.cascade import MAX_AP_LOSS, Cascade, CascadeThresholds
from dupq.models.ensemble import COSINE_SCALE, BlendScorer, CosineScorer
from dupq.models.fingerprint import combined_fingerprint
from dupq.models.idf_overlap import IdfOverlap
from dupq.models.input_checks import InputChecks
from dupq.models.loading import INT8, StoredEmbedder, StoredScorer
from dupq.models.long_text import LongPairs, LongTexts
from dupq.models.symmetry import Symmetry
from dupq.types import Embedder, PairScore, Progress, QuestionPair, Scorer, TextWarning

SHIPPED = Path(__file__).parent / "pretrained"

_LOG = logging.getLogger("dupq")

_CALIBRATE = "run `dupq calibrate`, or pipeline.calibrate(pairs), on labelled pairs of your own"


@dataclass(frozen=True, eq=False, repr=False)
class DuplicatePipeline:
    """Pipeline that scores and decides question pairs.

    It is immutable: methods that change it (`calibrate`, `with_base_rate`, ...) return another pipeline. One pipeline
    may be shared between threads.

    Attributes:
        cross_encoder: The pair classifier, or None.
        bi_encoder: The Siamese network, or None. A pipeline has at least one of the two networks.
        blend: (weight of the cross-encoder, weight of the bi-encoder, offset) of the blended score; with `idf_overlap`,
            its weight stands before the offset. None: the cross-encoder alone makes the score if there is one, else
            the bi-encoder.
        idf_overlap: The IDF overlap as a third member of the blend, see `with_blend`; None: no third member.
        cascade: Thresholds below and above which one network settles a pair, see `with_cascade`; None: no cascade.
        calibrator: Raw score -> probability at the base rate of its own pairs; None in an uncalibrated pipeline.
        rule: The fitted thresholds; None in an uncalibrated pipeline.
        base_rate: Share of duplicates in (0, 1) among the pairs to be decided; probabilities are stated at it.
        evaluation: The report of the last calibration or evaluation.
        trained_on: Fingerprints, int64 (m,), of every question the networks were trained on; None if not known.
        facts: Provenance: settings, versions and data of the training.
        calibrated_on: Fingerprints, int64 (m,), of every question that the blend, calibrator, thresholds or cascade
            were fitted on; None if not known.
        allow_unknown_language: Decide "duplicate" also where a text is in a language the networks were not trained on.
            False (default): such a pair goes to review, unless its two texts are equal up to case and space.
        candidate_rule: The rule by which mining and the index select the pairs that they score; see
            `mining.candidate_fit`. Default: every pair with a cosine of at least 0.8.
        candidate_calibration: Calibrator and threshold of candidates, see `calibrate_candidates`; None: candidates are
            decided like labelled pairs.

    Raises:
        InputError: There is no network, or the blend or the cascade does not fit the networks.
    """

    cross_encoder: StoredScorer | None = None
    bi_encoder: StoredEmbedder | None = None
    blend: tuple[float, ...] | None = None
    idf_overlap: IdfOverlap | None = None
    cascade: CascadeThresholds | None = None
    calibrator: Calibrator | None = None
    rule: DecisionRule | None = None
    base_rate: float | None = None
    evaluation: Report | None = None
    trained_on: NDArray[np.int64] | None = field(default=None, repr=False)
    facts: Mapping[str, Any] = field(default_factory=dict, repr=False)
    calibrated_on: NDArray[np.int64] | None = field(default=None, repr=False)
    allow_unknown_language: bool = False
    candidate_rule: CandidateRule = field(default_factory=CandidateRule)
    candidate_calibration: CandidateCalibration | None = None

    def __post_init__(self) -> None:
        if self.cross_encoder is None and self.bi_encoder is None:
            raise InputError("a pipeline needs a cross-encoder or a bi-encoder", hint="give at least one")
        both = self.cross_encoder is not None and self.bi_encoder is not None
        if self.blend is not None and not both:
            raise InputError("a blend needs both networks", hint="give both, or leave blend out")
        members = 2 if self.idf_overlap is None else 3
        if self.blend is None and members > 2:
            raise InputError("idf_overlap needs a blend, and there is none", hint="leave idf_overlap out")
        if self.blend is not None and len(self.blend) != members + 1:
            raise InputError(
                f"a blend of {members} members takes {members + 1} numbers, got {len(self.blend)}",
                hint="give one weight a member, and the offset",
            )
        if self.cascade is not None and not both:
            raise InputError("a cascade needs both networks", hint="give both, or leave cascade out")
        if self.cascade is not None and self.cascade.first == "cross-encoder" and self.blend is None:
            raise InputError("a cascade that begins with the cross-encoder needs a blend", hint="fit it again")
        fitted = self.candidate_calibration
        if fitted is not None and fitted.calibrator.reads_cosines and self.bi_encoder is None:
            raise InputError("candidate_calibration reads cosines, and there is no bi-encoder", hint="fit it again")

    # ---- its parts ------------------------------------------------------------------------------------------------

    @property
    def scorer(self) -> Scorer:
        """The scorer that makes the raw score."""
        cosine = CosineScorer(self.bi_encoder) if self.bi_encoder is not None else None
        if self.cross_encoder is None or cosine is None:
            alone = self.cross_encoder or cosine
            if alone is None:
                raise InputError("the pipeline holds no network", hint="open it again")
            return alone
        full: Scorer = self.cross_encoder
        if self.blend is not None:
            overlap = () if self.idf_overlap is None else (self.idf_overlap,)
            full = BlendScorer((self.cross_encoder, cosine, *overlap), self.blend[:-1], self.blend[-1])
        if self.cascade is None:
            return full
        return Cascade(cosine if self.cascade.first == "bi-encoder" else self.cross_encoder, full, self.cascade)

    @property
    def embedder(self) -> Embedder | None:
        """The bi-encoder, with which mining and the index search; None if there is none."""
        return self.bi_encoder

    @property
    def decider(self) -> Decider:
        """The decider: calibrator, thresholds and base rate.

        Raises:
            NotCalibratedError: The pipeline has no calibrator or no threshold.
        """
        calibrator = self._fitted_calibrator()
        if self.rule is None:
            raise NotCalibratedError("this pipeline has no fitted threshold, so it does not decide", hint=_CALIBRATE)
        return Decider(calibrator, self.rule, self._rate(), allow_unknown_language=self.allow_unknown_language)

    @property
    def candidate_decider(self) -> Decider:
        """The decider of mined and flagged candidates.

        It follows `candidate_calibration`; without one it is `decider`.

        Raises:
            NotCalibratedError: The pipeline has no calibrator or no threshold.
        """
        decider, fitted = self.decider, self.candidate_calibration
        if fitted is None:
            return decider
        return replace(decider, calibrator=fitted.calibrator, base_rate=fitted.calibrator.base_rate, candidates=fitted)

    @property
    def threshold(self) -> float:
        """The probability, at `base_rate`, from which a pair is a duplicate."""
        return self.decider.threshold

    @property
    def guarantee(self) -> str:
        """The guarantee of the thresholds and its evidence, in one line."""
        return self.decider.guarantee

    @property
    def report(self) -> Report:
        """Calibration, thresholds and measured quality, as data; `str()` gives a table.

        Raises:
            NotCalibratedError: The pipeline was never calibrated.
        """
        if self.evaluation is None:
            raise NotCalibratedError("this pipeline has no report: it was never calibrated", hint=_CALIBRATE)
        return self.evaluation

    @property
    def is_int8(self) -> bool:
        """True where all its networks are in the int8 form."""
        return all(network.form == INT8 for network in self._networks)

    @property
    def fingerprint(self) -> str:
        """A hash of all that makes a raw score."""
        return self.scorer.fingerprint

    @property
    def languages(self) -> tuple[str, ...] | None:
        """ISO 639 codes of the training languages, from `facts`; None if not known."""
        card = self.facts.get("card")
        given = self.facts.get("languages") or (card.get("languages") if isinstance(card, Mapping) else None)
        if not isinstance(given, (list, tuple)) or not all(isinstance(code, str) for code in given):
            return None
        return tuple(code.partition("-")[0].lower() for code in given) or None

    @property
    def _networks(self) -> list[StoredScorer | StoredEmbedder]:
        return [network for network in (self.cross_encoder, self.bi_encoder) if network is not None]

    def _fitted_calibrator(self) -> Calibrator:
        if self.calibrator is None:
            raise NotCalibratedError(
                "this pipeline is uncalibrated: it returns raw scores, but no probability and no decision",
                hint=_CALIBRATE,
            )
        return self.calibrator

    def _rate(self) -> float:
        return self.base_rate if self.base_rate is not None else self._fitted_calibrator().base_rate

    def _table(self) -> ThresholdTable:
        table = self.decider.rule.table
        if table is None:
            raise NotCalibratedError("the thresholds of this pipeline came without their evidence", hint=_CALIBRATE)
        return table

    @cached_property
    def identity(self) -> str:
        """A hash of all that decides."""
        networks = [network and network.fingerprint for network in (self.cross_encoder, self.bi_encoder)]
        decisive = (self.cascade, self.calibrator, self.rule, self.candidate_rule, self.candidate_calibration)
        parts = [part and _without_dates(part.to_dict()) for part in decisive]
        overlap = self.idf_overlap and self.idf_overlap.fingerprint
        rest = self.blend, overlap, self.base_rate, self.languages, self.allow_unknown_language
        return combined_fingerprint(networks, parts, *rest)

    def __eq__(self, other: object) -> bool:
        return self.identity == other.identity if isinstance(other, DuplicatePipeline) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.identity)

    def __repr__(self) -> str:
        parts = [f"cross-encoder {self.cross_encoder.form}"] if self.cross_encoder is not None else []
        if self.bi_encoder is not None:
            parts.append(f"bi-encoder {self.bi_encoder.form}, {self.bi_encoder.dimensions} dimensions")
        if self.calibrator is None:
            parts.append("uncalibrated")
        else:
            cut = "no threshold" if self.rule is None else f"duplicate from {self.threshold:.4g}"
            parts.append(f"calibrated at base rate {self._rate():.4g}, {cut}")
        return f"{type(self).__name__}({'; '.join(parts)})"

    # ---- scoring and deciding -------------------------------------------------------------------------------------

    def raw_scores(
        self, left: Sequence[str], right: Sequence[str], progress: Progress | None = None
    ) -> NDArray[np.float64]:
        """Return raw logits, float64 (n,): higher = more alike.

        They are symmetric in the pair, and need no calibrator.

        Args:
            left, right: n texts each, in lists, arrays or Series. Long texts are truncated, see `text_warnings`.
            progress: Called with (done, total).

        Raises:
            InputError: The lengths differ, or a text is missing, blank or broken; names the pair.
        """
        lefts, rights = _same_lengths(left, right)
        _check_pairs(lefts, rights)
        return self._raw_scores(lefts, rights, progress)

    def _raw_scores(self, left: list[str], right: list[str], progress: Progress | None) -> NDArray[np.float64]:
        return self.scorer.score(left, right, progress) if left else np.zeros(0)

    def probabilities(
        self, left: Sequence[str], right: Sequence[str], progress: Progress | None = None
    ) -> NDArray[np.float64]:
        """Return the calibrated P(duplicate) at `base_rate`: float64 (n,).

        Args:
            left, right, progress: As in `raw_scores`.

        Raises:
            NotCalibratedError: The pipeline has no calibrator.
            InputError: As in `raw_scores`.
        """
        calibrator = self._fitted_calibrator()
        return calibrator.probabilities(self.raw_scores(left, right, progress), self._rate())

    def candidate_probabilities(
        self, left: Sequence[str], right: Sequence[str], progress: Progress | None = None
    ) -> NDArray[np.float64]:
        """Return the calibrated P(duplicate) of n candidates: float64 (n,).

        Candidates are pairs that a search picked for their near vectors. The values are those of `probabilities` where
        the pipeline was not calibrated on judged candidates. Where the candidates' calibrator reads the cosine of a
        pair, the texts are embedded once more for it.

        Args:
            left, right, progress: As in `raw_scores`.

        Raises:
            NotCalibratedError: The pipeline has no calibrator or no threshold.
            InputError: As in `raw_scores`.
        """
        decider = self.candidate_decider
        lefts, rights = as_texts(left, "left"), as_texts(right, "right")
        scores = self.raw_scores(lefts, rights, progress)
        return decider.probabilities(scores, self._cosines(lefts, rights) if decider.calibrator.reads_cosines else None)

    def _cosines(self, left: Sequence[str], right: Sequence[str]) -> NDArray[np.float64] | None:
        """Return the cosines of n pairs, (n,); None without both networks.

        With one network the score holds no more than the cosine, or there is no cosine.
        """
        if self.cross_encoder is None or self.bi_encoder is None:
            return None
        return CosineScorer(self.bi_encoder).score(left, right) / COSINE_SCALE

    def text_warnings(self, texts: Sequence[str]) -> list[tuple[TextWarning, ...]]:
        """Return the warnings about each of n texts, one tuple a text; most are empty.

        A text longer than the networks read is "truncated"; one in a script or language they were not trained on is of
        an "unknown_language". In a pair the cross-encoder may read less of a text: see `PairScore.warnings`.

        Raises:
            InputError: A text is missing, blank or broken.
        """
        return self._checks().of_texts(as_texts(texts, "texts"))

    def _checks(self) -> InputChecks:
        return InputChecks(self.bi_encoder, self.cross_encoder, self.languages)

    def score(self, question1: str, question2: str) -> PairScore:
        """Score and decide one pair.

        Raises:
            NotCalibratedError: The pipeline has no calibrator or no threshold.
            InputError: A text is missing, blank or broken.
        """
        for side, text in (("first", question1), ("second", question2)):
            check_text(text, f"the {side} question")
        return self._scored([question1], [question2], None)[0]

    @overload
    def score_pairs(
        self,
        left: Sequence[str],
        right: Sequence[str],
        progress: Progress | None = None,
        *,
        columns: tuple[str, str] | None = None,
        on_error: Literal["raise"] = "raise",
        batch_size: int | None = None,
    ) -> list[PairScore]: ...

    @overload
    def score_pairs(
        self,
        left: Sequence[str],
        right: Sequence[str],
        progress: Progress | None = None,
        *,
        columns: tuple[str, str] | None = None,
        on_error: Literal["raise", "skip"],
        batch_size: int | None = None,
    ) -> list[PairScore | None]: ...

    @overload
    def score_pairs(
        self,
        left: Any,
        right: None = None,
        progress: Progress | None = None,
        *,
        columns: tuple[str, str] | None = None,
        on_error: Literal["raise", "skip"] = "raise",
        batch_size: int | None = None,
    ) -> Any: ...

    def score_pairs(
        self,
        left: Any,
        right: Sequence[str] | None = None,
        progress: Progress | None = None,
        *,
        columns: tuple[str, str] | None = None,
        on_error: Literal["raise", "skip"] = "raise",
        batch_size: int | None = None,
    ) -> Any:
        """Score and decide n pairs, in their order and with the texts unaltered.

        The log "dupq" gets one line with the counts of truncated texts, texts in an unknown language and skipped pairs.

        Args:
            left, right: n texts each, in lists, arrays or Series. Or, as `left` alone, a frame of pandas, polars or
                Arrow with two columns of texts.
            progress: Called with (done, total).
            columns: Names of the two columns of a frame; None: the usual names, such as question1 and question2.
            on_error: "raise" (default): a missing, blank or broken text is an error that names its pair. "skip": the
                result of its pair is None, and the others are scored.
            batch_size: Pairs scored at a time, 1 or more, to bound the memory; None: all.

        Returns:
            A list of n results. For a frame: a frame of the same library with the same rows, order and index, and the
            further columns score, probability, decision and warnings; the last holds the kinds, joined by "; ".

        Raises:
            NotCalibratedError: The pipeline has no calibrator or no threshold.
            InputError: As in `raw_scores`; an unknown `on_error` or column, or a frame that has such a column already.
        """
        _ = self.decider
        _check_on_error(on_error)
        size = None if batch_size is None else as_int(batch_size, "batch_size")
        if right is None:
            from dupq.data.frames import text_columns, with_results

            lefts, rights = text_columns(left, columns)
            return with_results(left, self.score_pairs(lefts, rights, progress, on_error=on_error, batch_size=size))
        if columns is not None:
            raise InputError("columns are for a frame, got two sequences", hint="leave columns out")
        return self._scored_in_batches(*_same_lengths(left, right), on_error, size, progress)

    def score_iter(
        self,
        pairs: Iterable[tuple[str, str] | QuestionPair],
        *,
        on_error: Literal["raise", "skip"] = "raise",
        batch_size: int = 4096,
    ) -> Iterator[PairScore | None]:
        """Score and decide pairs from any iterable, one batch in memory at a time.

        Args:
            pairs: Tuples of two texts, or records such as `read_pairs` returns.
            on_error: As in `score_pairs`.
            batch_size: Pairs read and scored at a time, 1 or more.

        Returns:
            The results, in the order of the pairs.

        Raises:
            NotCalibratedError, InputError: As in `score_pairs`; bad arguments at once, and a bad pair when it comes.
        """
        _ = self.decider
        size = as_int(batch_size, "batch_size")
        _check_on_error(on_error)
        scalar = getattr(pairs, "ndim", 1) == 0
        if isinstance(pairs, (str, bytes, Mapping)) or not isinstance(pairs, Iterable) or scalar:
            raise InputError(f"pairs must be an iterable of pairs, got {type(pairs).__name__}", hint="give a generator")
        return self._score_iter(iter(pairs), on_error, size)

    def _score_iter(
        self, pairs: Iterator[Any], on_error: Literal["raise", "skip"], size: int
    ) -> Iterator[PairScore | None]:
        before = 0
        while batch := [
            _two_texts(pair, before + at) for at, pair in enumerate(islice(pairs, min(size, sys.maxsize)), 1)
        ]:
            lefts, rights = [pair[0] for pair in batch], [pair[1] for pair in batch]
            yield from self._scored_in_batches(lefts, rights, on_error, None, None, before)
            before += len(batch)

    def _scored_in_batches(
        self,
        left: list[Any],
        right: list[Any],
        on_error: Literal["raise", "skip"],
        size: int | None,
        progress: Progress | None,
        before: int = 0,
    ) -> list[PairScore | None]:
        """Return the results of n pairs, None for a skipped one.

        `before` pairs of the stream came earlier.
        """
        good = list(range(len(left)))
        if on_error == "raise":
            _check_pairs(left, right, before)
        else:
            bad = dict(_bad_pairs(left, right, before))
            good = [row for row in good if row not in bad]
            _log_skipped(list(bad.values()), len(left))
        results: list[PairScore | None] = [None] * len(left)
        for part in chunks(len(good), size or max(1, len(good))):
            rows = good[part]
            batch_progress = part_of(progress, part.start, len(rows), len(good))
            scored = self._scored([left[row] for row in rows], [right[row] for row in rows], batch_progress)
            for row, result in zip(rows, scored, strict=True):
                results[row] = result
        _log_warnings(results)
        return results

    def _scored(self, left: list[str], right: list[str], progress: Progress | None) -> list[PairScore]:
        """Return the results of n pairs of usable texts."""
        decider = self.decider
        scores = self._raw_scores(left, right, progress)
        warnings = self._checks().of_pairs(left, right)
        unknown = np.array(
            [
                any(warning.kind == "unknown_language" for warning in warned) and not _same_text(a, b)
                for a, b, warned in zip(left, right, warnings, strict=True)
            ],
            dtype=bool,
        )
        threshold = decider.threshold
        return [
            PairScore(a, b, float(score), float(probability), decision, threshold, decider.base_rate, warned)
            for a, b, score, probability, decision, warned in zip(
                left,
                right,
                scores,
                decider.probabilities(scores),
                decider.decide(scores, unknown),
                warnings,
                strict=True,
            )
        ]

    def explain(self, question1: str, question2: str) -> Explanation:
        """Align the words of two questions: matches, differences and conflicts.

        It describes the words, and not how the score came about. It carries the score if the pipeline decides. Where
        the cross-encoder has the pair head `TemplateMatching`, it has the span of a long text in which the other
        question is asked.

        Raises:
            InputError: A text is missing, blank or broken.
        """
        from dupq.explain.explanation import explain
        from dupq.models.cross_encoder import CrossEncoderScorer

        decides = self.calibrator is not None and self.rule is not None
        embed = None if self.embedder is None else self.embedder.embed
        locate = self.cross_encoder.response_map if isinstance(self.cross_encoder, CrossEncoderScorer) else None
        return explain(question1, question2, embed, self.score(question1, question2) if decides else None, locate)

    def score_reference(self) -> ScoreReference:
        """Return the score distributions of the calibration pairs, by label.

        Raises:
            NotCalibratedError: The pipeline has no threshold table.
        """
        return self._table().score_reference()

    def estimate_base_rate(
        self, left: Sequence[str], right: Sequence[str], progress: Progress | None = None
    ) -> BaseRateEstimate:
        """Estimate the share of duplicates among unlabelled pairs.

        See `dupq.calibration.prior_shift.estimate_base_rate` (Saerens, Latinne & Decaestecker 2002).

        Raises:
            InputError: Fewer than 50 pairs, or a bad text.
            NotCalibratedError: As in `score_reference`.
        """
        reference = self.score_reference()
        lefts, rights = as_texts(left, "left"), as_texts(right, "right")
        scores = self.raw_scores(lefts, rights, progress)
        return estimate_base_rate(scores, reference, groups=question_groups(lefts, rights))

    # ---- other settings, same networks ----------------------------------------------------------------------------

    def with_base_rate(self, rate: float) -> DuplicatePipeline:
        """Return the pipeline for pairs of which another share, in (0, 1), are duplicates.

        Probabilities are adjusted exactly (Elkan 2001). The thresholds are chosen again by their own policies on their
        own evidence, so that their guarantees hold at that rate. Without that evidence the thresholds stay where they
        are, and `guarantee` states what is no longer guaranteed.

        Raises:
            InputError: A rate that is not between 0 and 1.
            NotEnoughLabelsError: The evidence cannot support the guarantee at that rate.
            NotCalibratedError: The pipeline has no calibrator.
        """
        rate, calibrator, rule = checked_rate(rate), self._fitted_calibrator(), self.rule
        if same_rate(rate, self._rate()):
            return self
        own = same_rate(rate, calibrator.base_rate)
        return replace(self, base_rate=rate, rule=rule.at_base_rate(None if own else rate) if rule else None)

    def with_policy(
        self, policy: Policy | str, miss_rate: float | None = None, *, delta: float | None = None
    ) -> DuplicatePipeline:
        """Choose other thresholds on the pipeline's own evidence; needs no labels.

        Args:
            policy: Policy of the duplicate threshold, or its text, such as "precision>=0.9"; see `Policy.parse`.
            miss_rate: If given, at most this share of all duplicates is dropped as distinct; the rest is review.
            delta: Each guarantee may fail with this probability, in (0, 1); None: the policy's own, or 0.05.

        Judged candidates (`calibrate_candidates`) are decided by the same policy, applied to their own probabilities
        and without a guarantee.

        Raises:
            InputError: An argument is out of its range.
            NotEnoughLabelsError: The evidence cannot support the guarantee.
            NotCalibratedError: The pipeline has no threshold table.
        """
        wanted = Policy.parse(policy, delta)
        # The calibrator's rate and the table's may differ where the labels are few; both are that of those pairs.
        rate = None if same_rate(self._rate(), self._fitted_calibrator().base_rate) else self._rate()
        rule = choose_rule(self._table(), wanted, miss_rate=miss_rate, delta=delta, base_rate=rate)
        fitted = self.candidate_calibration
        return replace(self, rule=rule, candidate_calibration=fitted and fitted.with_policy(wanted))

    def with_languages(
        self, languages: Sequence[str] | None = None, *, allow_unknown: bool | None = None
    ) -> DuplicatePipeline:
        """Set the training languages, or allow decisions in unknown ones.

        Args:
            languages: ISO 639 codes, such as ["en"], of the training; a text in another language gets a warning.
                None: as they are.
            allow_unknown: Sets `allow_unknown_language`; None: as it is.

        Raises:
            InputError: A language is no code of letters, or `allow_unknown` is no bool.
        """
        changed = self
        if languages is not None:
            codes = as_list(languages, "languages")
            if not codes or not all(isinstance(code, str) and code.partition("-")[0].isalpha() for code in codes):
                raise InputError(f"languages must be ISO 639 codes, got {codes!r:.60}", hint='give such as ["en"]')
            changed = replace(changed, facts={**changed.facts, "languages": codes})
        if allow_unknown is not None:
            if not isinstance(allow_unknown, bool):
                raise InputError(f"allow_unknown must be a bool, got {allow_unknown!r:.60}", hint="give True or False")
            changed = replace(changed, allow_unknown_language=allow_unknown)
        return changed

    def with_embedder(self, bi_encoder: StoredEmbedder) -> DuplicatePipeline:
        """Replace the bi-encoder by one that makes the same vectors, such as a cache."""
        return replace(self, bi_encoder=bi_encoder)

    def with_candidate_rule(self, rule: CandidateRule) -> DuplicatePipeline:
        """Set the rule by which mining and the index select candidates.

        See `mining.candidate_fit` for fitting one.

        Raises:
            InputError: It is of another class.
        """
        as_kind(rule, CandidateRule, "rule", "give CandidateRule(10, 0.4), or fit one")
        return replace(self, candidate_rule=rule)

    def with_options(
        self,
        symmetry: Symmetry = "adaptive",
        long_texts: LongTexts = "lead",
        long_pairs: LongPairs | None = None,
    ) -> DuplicatePipeline:
        """Set the scoring options; the result is uncalibrated, its blend as it is.

        Args:
            symmetry: Orders in which the cross-encoder reads a pair, see `dupq.models.symmetry.Symmetry`.
            long_texts: How the bi-encoder embeds a long text, see `dupq.models.long_text.LongTexts`.
            long_pairs: How the cross-encoder reads a long text, see `dupq.models.long_text.LongPairs`; None: as it
                does now. Use "head_and_tail" for a network trained on such texts.

        Raises:
            InputError: An unknown value.
        """
        from dupq import fit

        options = symmetry, long_texts, long_pairs
        return self._uncalibrated(fit.set_options(self.cross_encoder, self.bi_encoder, *options))

    # ---- fitting --------------------------------------------------------------------------------------------------

    def with_blend(self, validation: PairTable, corpus: Iterable[str] | None = None) -> DuplicatePipeline:
        """Fit the weights of both networks' scores (stacking, Wolpert 1992).

        Args:
            validation: Labelled pairs that neither network was trained on.
            corpus: Questions from which the IDF of words is computed, such as the training questions. With them, the
                IDF overlap of the two questions is a third member (`dupq.models.idf_overlap`), which may have a
                negative weight; it is left out where a likelihood ratio test at 1 % does not support it. Use it for
                pairs that were sampled as the validation pairs were, and not for mining, where it ranks worse.

        Returns:
            An uncalibrated pipeline.

        Raises:
            InputError: A network is missing, or neither scores duplicates higher than distinct pairs.
            LeakError: A question of these pairs was trained on.
        """
        from dupq import fit

        validation = as_table(validation, "validation")
        refuse_overlap(self.trained_on, validation.left, validation.right, "fit the blend")
        blend, idf_overlap = fit.fit_blend_weights(self.cross_encoder, self.bi_encoder, validation, corpus)
        # Nothing else is fitted then, so earlier fits no longer count.
        plain = replace(self, **_UNCALIBRATED, calibrated_on=fit.questions(validation), facts=fit.all_known(self.facts))
        return replace(plain, blend=blend, idf_overlap=idf_overlap)

    def calibrate(
        self,
        pairs: PairTable,
        *,
        policy: Policy | str | None = None,
        miss_rate: float | None = None,
        delta: float | None = None,
        progress: Progress | None = None,
    ) -> DuplicatePipeline:
        """Fit calibrator and thresholds on labelled pairs in their natural class mix.

        Args:
            pairs: Labelled pairs that no network of the pipeline was trained on.
            policy: Policy of the duplicate threshold, as in `with_policy`; None: the highest F1, with no guarantee.
            miss_rate: If given, at most this share of all duplicates is dropped as distinct, and pairs between the two
                thresholds go to review.
            delta: Each guarantee may fail with this probability, in (0, 1); None: the policy's own, or 0.05.
            progress: Called with (pairs scored, pairs).

        Raises:
            LeakError: A question of these pairs was trained on.
            InputError, NotEnoughLabelsError: Too few pairs, or one label only.
        """
        pairs = as_table(pairs)
        duplicate, distinct = policies_of(policy, miss_rate, delta)
        refuse_overlap(self.trained_on, pairs.left, pairs.right, "calibrate it")
        scores = self.raw_scores(pairs.left, pairs.right, progress)
        return self._with_decisions(pairs, scores, duplicate=duplicate, distinct=distinct)

    def adapt(self, verdicts: PairTable, progress: Progress | None = None) -> DuplicatePipeline:
        """Adapt calibrator and thresholds to a few local labels.

        The present ones are the prior. The networks stay as they are. See `dupq.calibration.adaptation` and
        `dupq.decisions.adapted_rule` for the method; where the local labels cannot support a guarantee, `guarantee`
        states it.

        Args:
            verdicts: Labelled pairs of the forum, in the mix that will be decided; 20 or more.
            progress: Called with (pairs scored, pairs).

        Raises:
            LeakError: A question of these pairs was trained on.
            NotEnoughLabelsError: Fewer than 20 pairs.
            NotCalibratedError: The pipeline has no calibrator or no threshold.
        """
        from dupq import fit

        verdicts, decider = as_table(verdicts, "verdicts"), self.decider
        refuse_overlap(self.trained_on, verdicts.left, verdicts.right, "adapt its calibrator")
        scores = self.raw_scores(verdicts.left, verdicts.right, progress)
        adapted = fit.adapt_decisions(decider.calibrator, decider.rule, scores, verdicts, self.fingerprint)
        # The present calibrator is a part of the adapted one.
        return replace(self, **adapted, **self._calibrated_on_too(verdicts, keeps_fits=True))

    def calibrate_candidates(
        self,
        pairs: PairTable,
        weights: ArrayLike | None = None,
        *,
        policy: Policy | str | None = None,
        about: str = "",
        allow_trained: bool = False,
        progress: Progress | None = None,
    ) -> DuplicatePipeline:
        """Fit the calibrator and threshold of mining and flagging on judged candidates.

        The calibrator reads the raw score and, in a pipeline of two networks, the cosine of the pair; in one of one
        network the score alone.

        Probabilities, thresholds and guarantees of other pairs stay as they are. The prior is the present calibrator of
        candidates, or that of labelled pairs. See `dupq.calibration.candidates` for the method. `evaluate` measures the
        decisions on other pairs, so the judged ones do not join `calibrated_on`.

        Args:
            pairs: Candidates of mining or of flags that people labelled, 20 or more, with both labels; draw them at
                random over the whole range of probabilities. Pairs of unknown label are left out.
            weights: Candidates that each judged one stands for, >= 0, (n,); None: all the same.
            policy: Policy of the threshold, applied to the candidates' probabilities without a guarantee; None: an
                expected precision of 0.75 or more.
            about: Origin of the candidates, in words, for the statements of results.
            allow_trained: Accept pairs that hold a training question, whose scores may be too good. Such a pair must
                have no label in the training data.
            progress: Called with (pairs scored, pairs).

        Raises:
            LeakError: A question of these pairs was trained on, and `allow_trained` is False.
            NotEnoughLabelsError: Fewer than 20 labels, or none of one kind.
            NotCalibratedError: The pipeline has no calibrator or no threshold.
            InputError: A weight is negative or not finite, or an argument is of a wrong kind.
        """
        every, decider = as_table(pairs), self.candidate_decider
        as_kind(allow_trained, bool, "allow_trained", "give True or False")
        as_kind(about, str, "about", "describe the candidates in words")
        weight, known = checked_weights(weights, len(every)), every.labels >= 0
        judged = every.take(known)
        if not allow_trained:
            refuse_overlap(self.trained_on, judged.left, judged.right, "calibrate candidates")
        scores = self.raw_scores(judged.left, judged.right, progress)
        fitted = calibrate_candidates(
            decider.calibrator,
            scores,
            judged.labels,
            weight[known],
            cosines=self._cosines(judged.left, judged.right),
            policy=policy,
            about=about,
        )
        return replace(self, candidate_calibration=fitted)

    def export(
        self, pairs: PairTable, progress: Progress | None = None, *, word_bits: Literal[4, 8] = 8
    ) -> DuplicatePipeline:
        """Return the pipeline with int8 networks, which run without torch and faster.

        The value ranges of the networks are taken from these pairs. Because int8 shifts scores, calibrator, thresholds
        and cascade are fitted again on them, by the same policies. On the pairs that this pipeline was calibrated on,
        its thresholds stay as near as their guarantees allow. An adjusted base rate stays. The calibration on
        candidates does not; see `calibrate_candidates`.

        Args:
            pairs: Labelled pairs that no network was trained on.
            progress: Called with (pairs done, pairs).
            word_bits: Bits per weight of the word embeddings, 4 or 8 (default).

        Raises:
            InputError: The networks are in that form already, or onnx is not installed.
            LeakError, NotEnoughLabelsError: As in `calibrate`.
        """
        from dupq import fit

        pairs, rule = as_table(pairs), self.rule
        exported = self._uncalibrated(fit.to_int8(self.cross_encoder, self.bi_encoder, pairs, word_bits))
        exported = replace(exported, **exported._calibrated_on_too(pairs, keeps_fits=exported.blend is not None))
        if rule is None:
            return exported
        refuse_overlap(self.trained_on, pairs.left, pairs.right, "calibrate it")
        options = fit.refit_options(rule)
        if rule.duplicate.data_fingerprint != pairs.fingerprint or rule.duplicate.rebased:
            del options["near"]  # other pairs, or another base rate, may well ask for another threshold
        scores = exported.raw_scores(pairs.left, pairs.right, progress)
        exported = exported._with_decisions(pairs, scores, **options)
        if self.cascade is not None:
            wanted = {"min_agreement": self.cascade.min_agreement, "max_ap_loss": self.cascade.max_ap_loss}
            exported = exported.with_cascade(pairs, **wanted, progress=progress)
        return exported.with_base_rate(self._rate()) if self._is_rebased() else exported

    def to_torch(self) -> DuplicatePipeline:
        """Convert int8 networks to torch networks, to train on; uncalibrated.

        The rounding errors of int8 remain; prefer the pipeline that was exported if you have it.

        Raises:
            InputError: It holds no int8 network, or onnx is not installed.
            ModelFolderError: A network is not as `export` makes it.
        """
        from dupq import fit

        return self._uncalibrated(fit.to_torch(self.cross_encoder, self.bi_encoder))

    def with_cascade(
        self,
        pairs: PairTable,
        *,
        min_agreement: float = 0.999,
        max_ap_loss: float = MAX_AP_LOSS,
        progress: Progress | None = None,
    ) -> DuplicatePipeline:
        """Fit a cascade: one network settles clear pairs, and only the rest goes to both.

        The bi-encoder goes first; in a blend, the network that settles more pairs. The cascade is fitted so that a
        share of all decisions equals this pipeline's; see `dupq.models.cascade.fit_cascade`. Calibrator and guarantees
        are fitted again on the cascade's own scores; thresholds stay as near as the guarantees allow, and a calibration
        on candidates is dropped. Fit it last:
        later changes of the thresholds keep their guarantees, but not that share.

        Args:
            pairs: Labelled pairs in their natural class mix that no network was trained on, such as those of
                `calibrate`.
            min_agreement: Target share, in (0, 1), of decisions equal to this pipeline's.
            max_ap_loss: Maximum loss of average precision on these pairs, in [0, 1]. A larger one also settles likely
                duplicates, which are then ranked by the first network alone.
            progress: Called with (done, total).

        Raises:
            InputError: A network is missing, the base rate was adjusted, `min_agreement` or `max_ap_loss` is out of its
                range, or no cascade meets both on these pairs.
            NotCalibratedError: The pipeline does not decide yet.
            LeakError, NotEnoughLabelsError: As in `calibrate`.
        """
        from dupq import fit

        pairs = as_table(pairs)
        fit.check_cascade(min_agreement, max_ap_loss)
        cross_encoder, bi_encoder = fit.both_networks(self.cross_encoder, self.bi_encoder, "a cascade")
        rule = self.decider.rule
        if self._is_rebased():
            raise InputError(
                "the base rate of the pipeline is not that of its labels", hint="fit the cascade first, then adjust it"
            )
        refuse_overlap(self.trained_on, pairs.left, pairs.right, "fit a cascade")
        full = replace(self, cascade=None).scorer
        cascade, scores = fit.fit_best_cascade(
            cross_encoder, bi_encoder, full, rule, pairs, min_agreement, max_ap_loss, progress
        )
        cascaded = replace(self, cascade=cascade, candidate_calibration=None)
        return cascaded._with_decisions(pairs, scores, **fit.refit_options(rule))

    def evaluate(self, pairs: PairTable, progress: Progress | None = None) -> Report:
        """Measure the pipeline on labelled pairs that no part of it was fitted on.

        Args:
            pairs: Labelled pairs.
            progress: Called with (pairs scored, pairs).

        Raises:
            LeakError: The networks were trained, or the blend, calibrator, thresholds or cascade fitted, on a question
                of these pairs.
            NotCalibratedError: The pipeline has no calibrator or no threshold.
        """
        from dupq import fit

        pairs, decider = as_table(pairs), self.decider
        measured_on = fit.check_unseen(
            pairs, "test it", trained_on=self.trained_on, calibrated_on=self.calibrated_on, rule=self.rule,
            facts=self.facts,
        )  # fmt: skip
        scores = self.raw_scores(pairs.left, pairs.right, progress)
        facts = {"measured_on": measured_on, "stated_at": self.base_rate}
        return fit.evaluate_decider(decider, scores, pairs, self.fingerprint, **facts)

    def seen_pairs(self, pairs: PairTable) -> NDArray[np.bool_]:
        """Return a mask (n,) of the pairs that it was trained or calibrated on.

        A pair counts if one of its questions is known to be among them.
        """
        seen = (holds_trained(known, pairs.left, pairs.right) for known in (self.trained_on, self.calibrated_on))
        return np.logical_or(*seen)

    def _with_decisions(self, pairs: PairTable, scores: NDArray[np.float64], **options: Any) -> DuplicatePipeline:
        from dupq import fit

        fitted = fit.fit_decisions(scores, pairs, self.fingerprint, **options)
        return replace(self, **fitted, **self._calibrated_on_too(pairs))

    def _calibrated_on_too(self, pairs: PairTable, keeps_fits: bool = False) -> dict[str, Any]:
        """Return `calibrated_on` and `facts` after a fit on these pairs.

        Earlier fits count where a part of them stays: a blend, a cascade, value ranges of int8, or `keeps_fits`.
        """
        from dupq import fit

        int8 = any(network.form == INT8 for network in self._networks)
        stays = keeps_fits or int8 or self.blend is not None or self.cascade is not None
        return fit.add_questions(pairs, self.calibrated_on, self.facts, stays)

    def _uncalibrated(self, networks: Mapping[str, Any]) -> DuplicatePipeline:
        """Replace the networks; only the blend stays, and the questions of its fit."""
        known = None if self.blend is None else self.calibrated_on
        return replace(self, **networks, **_UNCALIBRATED, calibrated_on=known)

    def _is_rebased(self) -> bool:
        """Return True where the base rate is another one than that of its labels."""
        return self.calibrator is not None and not same_rate(self._rate(), self.calibrator.base_rate)

    # ---- to a folder and the Hub ----------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> None:
        """Write the pipeline folder, whole or not at all.

        An older pipeline folder there is replaced.

        Raises:
            OutputError: It could not be written, or something else is there.
        """
        from dupq.hub.save_load import save_parts

        parts = {part.name: getattr(self, part.name) for part in fields(self)}
        del parts["allow_unknown_language"]  # chosen by who decides, and not a property of the model
        save_parts(folder, **parts, fingerprint=self.fingerprint)

    def push_to_hub(
        self,
        name: str,
        *,
        private: bool | None = None,
        branch: str | None = None,
        tag: str | None = None,
        token: str | bool | None = None,
        message: str | None = None,
    ) -> Pushed:
        """Push the pipeline to the Hugging Face Hub in one commit.

        It holds weights, `dupq.json`, card, report and plots. A push that is interrupted before its commit leaves all
        files as they were.

        Args:
            name: owner/name, or a name of your own; made if it is not there.
            private: True: made private, and a public repository of that name is refused. None: the account's default.
            branch: Made if it is not there; None: the default branch.
            tag: Tag to set on the commit; must be new, and a valid name in git.
            token: Token of the Hub; None: HF_TOKEN, or the one that `hf auth login` stored.
            message: Message of the commit.

        Returns:
            The repository, and the commit, which `from_pretrained(..., revision=...)` takes.

        Raises:
            InputError: The tag is no valid name in git.
            OutputError: The Hub refuses it (no token, a wrong one, no network, ...).
        """
        from dupq.hub.push import push

        with TemporaryDirectory(prefix="dupq-") as parent:
            folder = Path(parent) / "pipeline"
            self.save(folder)
            return push(folder, name, private=private, branch=branch, tag=tag, token=token, message=message)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path | None = None,
        *,
        revision: str | None = None,
        token: str | bool | None = None,
        device: str | None = None,
        threads: int | None = None,
    ) -> DuplicatePipeline:
        """Open the shipped model, a pipeline folder, or a pipeline of the Hub.

        A cross-encoder or bi-encoder of sentence-transformers opens too, as an uncalibrated pipeline: it scores, and
        refuses to decide.

        Args:
            name: A folder or a Hub id; None: the model that ships with the package.
            revision: Branch, tag or commit on the Hub.
            token: Token of the Hub, for private and gated repositories; None: HF_TOKEN, or the stored one.
            device: "cpu"; "cuda", where torch networks compute in float16 and int8 ones do not run; None: float32 on
                the device that is available.
            threads: Processor threads; None: all that this process may use.

        Raises:
            InputError: The device is not available, or not for these networks.
            ModelFolderError: It is missing, damaged, altered, unsafe, of another format, or the Hub refuses it.
        """
        from dupq.hub.save_load import load_parts, resolve

        return cls(**load_parts(resolve(SHIPPED if name is None else name, revision, token), device, threads))

    @classmethod
    def from_networks(
        cls,
        cross_encoder: str | Path | None = None,
        bi_encoder: str | Path | None = None,
        *,
        half: bool = True,
        device: str | None = None,
        symmetry: Symmetry = "adaptive",
        long_texts: LongTexts = "lead",
        long_pairs: LongPairs = "whole",
    ) -> DuplicatePipeline:
        """Make an uncalibrated pipeline from trained networks of sentence-transformers.

        Args:
            cross_encoder, bi_encoder: Folders, such as `dupq train` writes, or Hub ids; at least one.
            half: Round the weights to float16 precision, so that the saved pipeline takes half the space.
            device: "cpu", "cuda", or None for the device that is available.
            symmetry: Orders in which the cross-encoder reads a pair, see `dupq.models.symmetry.Symmetry`.
            long_texts: How the bi-encoder embeds a long text, see `dupq.models.long_text.LongTexts`.
            long_pairs: How the cross-encoder reads a long text, see `dupq.models.long_text.LongPairs`.

        Raises:
            InputError: An argument is unknown or of a wrong kind.
            ModelFolderError: A network cannot be opened.
        """
        from dupq import fit

        options = symmetry, long_texts, long_pairs
        return cls(**fit.open_networks(cross_encoder, bi_encoder, half, device, *options))


_UNCALIBRATED: dict[str, Any] = dict.fromkeys(
    ("cascade", "calibrator", "rule", "base_rate", "evaluation", "candidate_calibration")
)


def _without_dates(value: Any) -> Any:
    """Return JSON data without its dates, which decide nothing."""
    if isinstance(value, dict):
        return {key: _without_dates(part) for key, part in value.items() if key != "date"}
    return [_without_dates(part) for part in value] if isinstance(value, (list, tuple)) else value


def _check_on_error(on_error: object) -> None:
    as_choice(on_error, ("raise", "skip"), "on_error")


def _same_lengths(left: object, right: object) -> tuple[list[Any], list[Any]]:
    lefts, rights = as_texts(left, "left"), as_texts(right, "right")
    check_lengths(lefts, rights)
    return lefts, rights


def _check_pairs(left: list[Any], right: list[Any], before: int = 0) -> None:
    for side, texts in (("left", left), ("right", right)):
        for number, text in enumerate(texts, before + 1):
            check_text(text, f"{side} text of pair {number}")


def _bad_pairs(left: list[Any], right: list[Any], before: int) -> Iterator[tuple[int, InputError]]:
    """Yield the row and the first error of each pair with an unusable text."""
    for row, pair in enumerate(zip(left, right, strict=True)):
        try:
            _check_pairs([pair[0]], [pair[1]], before + row)
        except InputError as error:
            yield row, error


def _two_texts(pair: Any, number: int) -> tuple[Any, Any]:
    if isinstance(pair, QuestionPair):
        return pair.question1, pair.question2
    if not isinstance(pair, (tuple, list)) or len(pair) != 2:
        got = f"{len(pair)} parts" if isinstance(pair, (tuple, list)) else type(pair).__name__
        raise InputError(f"a pair must be two texts, got {got}", location=f"pair {number}", hint="give (text, text)")
    return pair[0], pair[1]


def _same_text(left: str, right: str) -> bool:
    """Return True for two texts that are equal up to case, space and Unicode form."""
    one, other = (" ".join(unicodedata.normalize("NFKC", text).casefold().split()) for text in (left, right))
    return one == other


def _log_skipped(errors: list[InputError], n: int) -> None:
    if errors:
        shown = "; ".join(f"{error.location}: {error.message}" for error in errors[:5])
        more = f"; and {len(errors) - 5:,} more" if len(errors) > 5 else ""
        _LOG.warning("%s of %s pairs are skipped: %s%s", f"{len(errors):,}", f"{n:,}", shown, more)


def _log_warnings(results: Sequence[PairScore | None]) -> None:
    counts = Counter(warning.kind for result in results if result for warning in result.warnings)
    n = f"{2 * len(results):,}"
    if counts["truncated"]:
        _LOG.warning("%s of %s texts are truncated for the networks", f"{counts['truncated']:,}", n)
    if counts["unknown_language"]:
        _LOG.warning(
            "%s of %s texts are in a language that the model was not trained on", f"{counts['unknown_language']:,}", n
        )
