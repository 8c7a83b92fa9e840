"""DuplicatePipeline: networks, calibrator, base rate and thresholds as one object that scores and decides."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dupq.data.text import check_text
from dupq.errors import InputError, NotCalibratedError
from dupq.models.networks import StoredEmbedder, StoredScorer
from dupq.models.scorers import BlendScorer, CosineScorer, Embedder, Progress, Scorer, check_lengths
from dupq.records import PairScore

if TYPE_CHECKING:
    from dupq.data.splits import PairTable
    from dupq.decisions.base_rate import BaseRateEstimate, ScoreReference
    from dupq.decisions.calibration import Calibrator
    from dupq.decisions.explanation import Explanation
    from dupq.decisions.report import Report
    from dupq.decisions.thresholds import DecisionRule, Policy
    from dupq.sharing.hub import Pushed

SHIPPED = Path(__file__).parent / "pretrained"
_CALIBRATE = "run `dupq calibrate`, or pipeline.calibrate(pairs), on labelled pairs of your own"


@dataclass(frozen=True)
class DuplicatePipeline:
    """Scores question pairs, turns scores into calibrated probabilities, and decides.

    It is immutable: what changes it (`calibrate`, `with_base_rate`, ...) returns another one.

    Attributes:
        cross_encoder: The pair classifier, or None.
        bi_encoder: The Siamese network, or None. At least one of the two is there.
        blend: (weight of the cross-encoder, weight of the bi-encoder, offset) where both make the score; None: the
            cross-encoder makes it alone if there is one, else the bi-encoder.
        calibrator: Raw score -> probability at the base rate of its own pairs; None in an uncalibrated pipeline.
        rule: The fitted thresholds; None in an uncalibrated pipeline.
        base_rate: Share of duplicates in (0, 1) among the pairs to be judged; probabilities are stated at it.
        evaluation: The report that came with the calibration, or with a later `evaluate`.
        trained_on: Fingerprints, int64 (m,), of every question that the networks were trained on; None if not known.
        facts: Provenance: settings, versions and data of the training.
    """

    cross_encoder: StoredScorer | None = None
    bi_encoder: StoredEmbedder | None = None
    blend: tuple[float, float, float] | None = None
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

    # ---- networks -------------------------------------------------------------------------------------------------

    @property
    def scorer(self) -> Scorer:
        """What makes the raw score."""
        cosine = CosineScorer(self.bi_encoder) if self.bi_encoder is not None else None
        if self.cross_encoder is None:
            if cosine is None:
                raise InputError("the pipeline holds no network", mend="open it again")
            return cosine
        if self.blend is None or cosine is None:
            return self.cross_encoder
        return BlendScorer((self.cross_encoder, cosine), self.blend[:2], self.blend[2])

    @property
    def embedder(self) -> Embedder | None:
        """The bi-encoder, which mining and the live index search with; None if the pipeline has none."""
        return self.bi_encoder

    @property
    def fingerprint(self) -> str:
        """A hash of all that makes a raw score."""
        return self.scorer.fingerprint

    # ---- scoring --------------------------------------------------------------------------------------------------

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

    def _rate(self) -> float:
        return self.base_rate if self.base_rate is not None else self._calibrated().base_rate

    # ---- what it promises -----------------------------------------------------------------------------------------

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

    def with_base_rate(self, rate: float) -> DuplicatePipeline:
        """The same pipeline for pairs of which another share, in (0, 1), are duplicates.

        Probabilities are re-based exactly (Elkan 2001), and the thresholds chosen anew by their own policies and on
        their own evidence, so that what they promise holds at that rate.

        Raises:
            InputError: A rate that is not between 0 and 1.
            NotEnoughLabelsError: The evidence cannot support the promise at that rate.
        """
        from dupq.decisions.checks import checked_rate

        checked_rate(rate)
        self._calibrated()
        rule = self.rule
        return replace(self, base_rate=rate, rule=rule.at_base_rate(rate) if rule and rule.evidence else rule)

    # ---- fitting: done by `dupq.fitting` -----------------------------------------------------------------------------

    def with_blend(self, validation: PairTable) -> DuplicatePipeline:
        """Both networks joined: their scores stacked by logistic regression on pairs that neither was trained on."""
        from dupq import fitting

        return fitting.blend(self, validation)

    def calibrate(
        self,
        pairs: PairTable,
        *,
        policy: Policy | None = None,
        miss_rate: float | None = None,
        progress: Progress | None = None,
    ) -> DuplicatePipeline:
        """Fits calibrator and thresholds on labelled pairs in their natural class mix.

        Args:
            pairs: Labelled pairs that no network of the pipeline was trained on.
            policy: Of the duplicate threshold; the highest F1 if None, which promises nothing.
            miss_rate: If given, at most this share of all duplicates is dropped as distinct, and what lies between the
                two thresholds goes to review.
            progress: Called with (pairs scored, pairs).

        Raises:
            LeakError: A question of these pairs was trained on.
            InputError, NotEnoughLabelsError: Too few pairs, or one label only.
        """
        from dupq import fitting

        return fitting.calibrate(self, pairs, policy, miss_rate, progress)

    def adapt(self, verdicts: PairTable, progress: Progress | None = None) -> DuplicatePipeline:
        """Fits calibrator and thresholds to a forum's own labels, shrinking to what they were where labels are few.

        The networks stay as they are. See `dupq.decisions.local.refit` for the method; where the local labels cannot
        support a promise, `promise` says so.

        Raises:
            LeakError: A question of these pairs was trained on.
            NotEnoughLabelsError: Fewer than 20 pairs.
        """
        from dupq import fitting

        return fitting.adapt(self, verdicts, progress)

    def export(self, pairs: PairTable, progress: Progress | None = None) -> DuplicatePipeline:
        """The same pipeline on int8 networks, which run without torch and faster.

        The networks' value ranges are taken from these pairs, unlabelled; calibrator and thresholds are fitted anew on
        them by the same policies, since int8 shifts scores.

        Raises:
            InputError: The networks are in that form already, or onnx is not installed.
            LeakError, NotEnoughLabelsError: As of `calibrate`.
        """
        from dupq import fitting

        return fitting.export(self, pairs, progress)

    def evaluate(self, pairs: PairTable, progress: Progress | None = None) -> Report:
        """Measures the pipeline on labelled pairs that nothing of it was fitted on.

        Raises:
            LeakError: A question of these pairs was trained on.
        """
        from dupq import fitting

        return fitting.evaluate(self, pairs, progress)

    def score_reference(self) -> ScoreReference:
        """How the scores of duplicates and of distinct pairs were spread when the thresholds were fitted.

        Raises:
            NotCalibratedError: The thresholds came without their evidence.
        """
        from dupq.decisions.base_rate import ScoreReference

        evidence = self._deciding().evidence
        if evidence is None:
            raise NotCalibratedError("the thresholds of this pipeline came without their evidence", mend=_CALIBRATE)
        return ScoreReference.from_evidence(evidence)

    def estimate_base_rate(
        self, left: Sequence[str], right: Sequence[str], progress: Progress | None = None
    ) -> BaseRateEstimate:
        """The share of duplicates among unlabelled pairs, with an interval, and whether it should be believed.

        See `dupq.decisions.base_rate.estimate_base_rate` (Saerens, Latinne & Decaestecker 2002).

        Raises:
            InputError: Fewer than 50 pairs, or a bad text.
            NotCalibratedError: As of `score_reference`.
        """
        from dupq.data.grouping import question_groups
        from dupq.decisions.base_rate import estimate_base_rate

        reference = self.score_reference()
        scores = self.raw_scores(left, right, progress)
        return estimate_base_rate(scores, reference, groups=question_groups(left, right))

    # ---- the folder -----------------------------------------------------------------------------------------------

    def save(self, folder: str | Path) -> None:
        """Writes the pipeline folder, whole or not at all; an older pipeline folder there is replaced.

        Raises:
            OutputError: It could not be written, or something else is there.
        """
        from dupq.sharing.pipeline_folder import save_pipeline

        save_pipeline(self, folder)

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
        """Puts the pipeline on the Hugging Face Hub: weights, `dupq.json`, card, report and pictures, in one commit.

        Interrupted, it leaves the repository as it was.

        Args:
            name: owner/name, or a name of your own; made if it is not there.
            private: True: made private, and a public repository of that name is refused. None: as the account has it.
            branch: Made if it is not there; the default branch if None.
            tag: Set on the commit; must be new.
            token: Of the Hub; None: HF_TOKEN, or the one that `hf auth login` stored.
            message: Of the commit.

        Returns:
            The repository, and the commit, which `from_pretrained(..., revision=...)` takes.

        Raises:
            OutputError: The Hub does not take it (no token, a wrong one, no network, ...).
        """
        from tempfile import TemporaryDirectory

        from dupq.sharing.hub import push

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
    ) -> DuplicatePipeline:
        """Opens the shipped model, a pipeline folder, or one of the Hugging Face Hub.

        A stock cross-encoder or bi-encoder opens too, as an uncalibrated pipeline: it scores, and refuses to decide.

        Args:
            name: None: the model that ships with the package. Else a folder or a Hub id.
            revision: Branch, tag or commit on the Hub.
            token: Of the Hub, for private and gated repositories; None: HF_TOKEN, or what `hf auth login` stored.
            device: "cpu", "cuda" or None for whatever there is.

        Raises:
            ModelFolderError: It is missing, damaged, altered, unsafe, of a newer format, or the Hub does not give it.
        """
        from dupq.sharing.pipeline_folder import load_pipeline, resolve

        return cls(**load_pipeline(resolve(SHIPPED if name is None else name, revision, token), device))

    @classmethod
    def from_networks(
        cls,
        cross_encoder: str | Path | None = None,
        bi_encoder: str | Path | None = None,
        *,
        half: bool = True,
        device: str | None = None,
    ) -> DuplicatePipeline:
        """An uncalibrated pipeline of trained networks, each a stock folder or Hub id.

        Args:
            cross_encoder, bi_encoder: What `dupq train` wrote, or any other; at least one.
            half: Round the weights to what float16 holds, so that the saved pipeline takes half the space.
            device: "cpu", "cuda" or None for whatever there is.

        Raises:
            ModelFolderError: A network cannot be opened.
        """
        from dupq import fitting

        return cls(**fitting.open_networks(cross_encoder, bi_encoder, half, device))
