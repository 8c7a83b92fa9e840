"""What a pipeline does with pairs: raw scores, probabilities, decisions, and what it promises of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dupq.data.text import check_text
from dupq.errors import InputError, NotCalibratedError
from dupq.models.cascade import Band, Cascade
from dupq.models.networks import INT8, StoredEmbedder, StoredScorer
from dupq.models.scorers import BlendScorer, CosineScorer, Embedder, Progress, Scorer, check_lengths
from dupq.models.shared_words import SharedWords
from dupq.records import PairScore

if TYPE_CHECKING:
    from dupq.decisions.calibration import Calibrator
    from dupq.decisions.evidence import Evidence
    from dupq.decisions.explanation import Explanation
    from dupq.decisions.report import Report
    from dupq.decisions.thresholds import DecisionRule

_CALIBRATE = "run `dupq calibrate`, or pipeline.calibrate(pairs), on labelled pairs of your own"


@dataclass(frozen=True)
class Scoring:
    """Networks, calibrator, base rate and thresholds, and what they say of pairs; see `DuplicatePipeline`.

    Attributes:
        cross_encoder: The pair classifier, or None.
        bi_encoder: The Siamese network, or None. At least one of the two is there.
        blend: (weight of the cross-encoder, weight of the bi-encoder, offset) where both make the score, and before
            the offset the weight of `shared_words` where there are any; None: the cross-encoder makes the score alone
            if there is one, else the bi-encoder.
        shared_words: What corrects the networks, see `with_blend`; None: nothing.
        cascade: Which pairs one network settles alone, see `dupq.models.cascade`; None: none.
        calibrator: Raw score -> probability at the base rate of its own pairs; None in an uncalibrated pipeline.
        rule: The fitted thresholds; None in an uncalibrated pipeline.
        base_rate: Share of duplicates in (0, 1) among the pairs to be judged; probabilities are stated at it.
        evaluation: The report that came with the calibration, or with a later `evaluate`.
        trained_on: Fingerprints, int64 (m,), of every question that the networks were trained on; None if not known.
        facts: Provenance: settings, versions and data of the training.
    """

    cross_encoder: StoredScorer | None = None
    bi_encoder: StoredEmbedder | None = None
    blend: tuple[float, ...] | None = None
    shared_words: SharedWords | None = None
    cascade: Band | None = None
    calibrator: Calibrator | None = None
    rule: DecisionRule | None = None
    base_rate: float | None = None
    evaluation: Report | None = None
    trained_on: NDArray[np.int64] | None = field(default=None, repr=False)
    facts: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.cross_encoder is None and self.bi_encoder is None:
            raise InputError("a pipeline needs a cross-encoder or a bi-encoder", mend="give at least one")
        if self.blend is not None and (self.cross_encoder is None or self.bi_encoder is None):
            raise InputError("a blend needs both networks", mend="give both, or leave blend out")
        members = 2 if self.shared_words is None else 3
        if self.blend is None and members > 2:
            raise InputError("shared words correct a blend, and there is none", mend="leave them out")
        if self.blend is not None and len(self.blend) != members + 1:
            raise InputError(
                f"a blend of {members} takes {members + 1} numbers, not {len(self.blend)}",
                mend="give a weight of each, and the offset",
            )
        if self.cascade is not None:
            if self.cross_encoder is None or self.bi_encoder is None:
                raise InputError("a cascade needs both networks", mend="give both, or leave cascade out")
            if self.cascade.first == "cross-encoder" and self.blend is None:
                raise InputError("a cascade that begins with the cross-encoder needs a blend", mend="fit it again")

    @property
    def scorer(self) -> Scorer:
        """What makes the raw score."""
        cosine = CosineScorer(self.bi_encoder) if self.bi_encoder is not None else None
        if self.cross_encoder is None:
            if cosine is None:
                raise InputError("the pipeline holds no network", mend="open it again")
            return cosine
        if cosine is None:
            return self.cross_encoder
        full: Scorer = self.cross_encoder
        if self.blend is not None:
            words = () if self.shared_words is None else (self.shared_words,)
            full = BlendScorer((self.cross_encoder, cosine, *words), self.blend[:-1], self.blend[-1])
        if self.cascade is None:
            return full
        return Cascade(cosine if self.cascade.first == "bi-encoder" else self.cross_encoder, full, self.cascade)

    @property
    def is_int8(self) -> bool:
        """Whether all its networks are in the int8 form."""
        return all(network.form == INT8 for network in (self.cross_encoder, self.bi_encoder) if network is not None)

    @property
    def embedder(self) -> Embedder | None:
        """The bi-encoder, which mining and the live index search with; None if the pipeline has none."""
        return self.bi_encoder

    @property
    def fingerprint(self) -> str:
        """A hash of all that makes a raw score."""
        return self.scorer.fingerprint

    def raw_scores(
        self, left: Sequence[str], right: Sequence[str], progress: Progress | None = None
    ) -> NDArray[np.float64]:
        """Raw logits, float64 (n,): higher = more alike, symmetric in the pair, no calibrator needed.

        Raises:
            InputError: Unequal lengths, or a text that is missing, blank, too long or broken; names the pair.
        """
        check_lengths(left, right)
        for side, texts in (("left", left), ("right", right)):
            for index, text in enumerate(texts):
                check_text(text, f"{side} text of pair {index + 1}")
        if len(left) == 0:
            return np.zeros(0)
        return self.scorer.score(list(left), list(right), progress)

    def probabilities(
        self, left: Sequence[str], right: Sequence[str], progress: Progress | None = None
    ) -> NDArray[np.float64]:
        """Calibrated P(duplicate) at `base_rate`: float64 (n,).

        Raises:
            NotCalibratedError: The pipeline has no calibrator.
            InputError: As of `raw_scores`.
        """
        self._calibrated()
        return self._probabilities(self.raw_scores(left, right, progress))

    def score(self, question1: str, question2: str) -> PairScore:
        """Scores and decides one pair; see `score_pairs`."""
        for side, text in (("first", question1), ("second", question2)):
            check_text(text, f"the {side} question")
        return self.score_pairs([question1], [question2])[0]

    def score_pairs(
        self, left: Sequence[str], right: Sequence[str], progress: Progress | None = None
    ) -> list[PairScore]:
        """Scores and decides n pairs; the results come in the order of the pairs, with the texts as they were given.

        Raises:
            NotCalibratedError: The pipeline has no calibrator or no threshold.
            InputError: As of `raw_scores`.
        """
        rule = self._deciding()
        scores = self.raw_scores(left, right, progress)
        probabilities = self._probabilities(scores)
        threshold, rate = self.threshold, self._rate()
        return [
            PairScore(a, b, float(score), float(probability), decision, threshold, rate)
            for a, b, score, probability, decision in zip(
                left, right, scores, probabilities, rule.decide(scores), strict=True
            )
        ]

    def explain(self, question1: str, question2: str) -> Explanation:
        """Lays the words of two questions side by side: what matches, what does not, and what conflicts.

        It describes the words and is not what makes the score, which it carries if the pipeline decides.

        Raises:
            InputError: A text is missing, blank, too long or broken.
        """
        from dupq.decisions.explanation import explain

        decides = self.calibrator is not None and self.rule is not None
        return explain(
            question1,
            question2,
            None if self.embedder is None else self.embedder.embed,
            self.score(question1, question2) if decides else None,
        )

    def _probabilities(self, scores: NDArray[np.float64]) -> NDArray[np.float64]:
        from dupq.decisions.base_rate import rebase

        calibrator = self._calibrated()
        return rebase(calibrator.probabilities(scores), calibrator.base_rate, self._rate())

    def _calibrated(self) -> Calibrator:
        if self.calibrator is None:
            raise NotCalibratedError(
                "this pipeline is uncalibrated: it gives raw scores, but no probability and no decision",
                mend=_CALIBRATE,
            )
        return self.calibrator

    def _deciding(self) -> DecisionRule:
        self._calibrated()
        if self.rule is None:
            raise NotCalibratedError("this pipeline has no fitted threshold, so it does not decide", mend=_CALIBRATE)
        return self.rule

    def _evidence(self) -> Evidence:
        evidence = self._deciding().evidence
        if evidence is None:
            raise NotCalibratedError("the thresholds of this pipeline came without their evidence", mend=_CALIBRATE)
        return evidence

    def _rate(self) -> float:
        return self.base_rate if self.base_rate is not None else self._calibrated().base_rate

    @property
    def threshold(self) -> float:
        """The probability, at `base_rate`, from which a pair is called a duplicate."""
        return float(self._probabilities(np.array([self._deciding().duplicate.score]))[0])

    @property
    def promise(self) -> str:
        """What the threshold promises, and on what evidence, in one line."""
        return self._deciding().promise

    @property
    def report(self) -> Report:
        """Calibration, thresholds and measured quality, as data; `str()` is a readable table.

        Raises:
            NotCalibratedError: The pipeline was never calibrated.
        """
        if self.evaluation is None:
            raise NotCalibratedError("this pipeline has no report: it was never calibrated", mend=_CALIBRATE)
        return self.evaluation
