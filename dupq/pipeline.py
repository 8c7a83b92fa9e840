"""DuplicatePipeline: networks, calibrator, base rate and thresholds as one object that scores and decides."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dupq.models.cascade import MOST_LOST
from dupq.models.scorers import Progress
from dupq.scoring import Scoring

if TYPE_CHECKING:
    from dupq.data.splits import PairTable
    from dupq.decisions.base_rate import BaseRateEstimate, ScoreReference
    from dupq.decisions.report import Report
    from dupq.decisions.thresholds import Policy
    from dupq.forum.mining import MiningSettings
    from dupq.forum.results import MiningResult
    from dupq.models.heads import LongTexts
    from dupq.models.orders import Symmetry
    from dupq.sharing.hub import Pushed

SHIPPED = Path(__file__).parent / "pretrained"


@dataclass(frozen=True)
class DuplicatePipeline(Scoring):
    """Scores question pairs, turns scores into calibrated probabilities, and decides.

    It is immutable: what changes it (`calibrate`, `with_base_rate`, ...) returns another one.

    Attributes:
        cross_encoder: The pair classifier, or None.
        bi_encoder: The Siamese network, or None. At least one of the two is there.
        blend: (weight of the cross-encoder, weight of the bi-encoder, offset) where both make the score, and before
            the offset the weight of `shared_words` where there are any; None: the cross-encoder makes the score alone
            if there is one, else the bi-encoder.
        shared_words: What corrects the networks, see `with_blend`; None: nothing.
        cascade: Which pairs one network settles alone, see `with_cascade`; None: none.
        calibrator: Raw score -> probability at the base rate of its own pairs; None in an uncalibrated pipeline.
        rule: The fitted thresholds; None in an uncalibrated pipeline.
        base_rate: Share of duplicates in (0, 1) among the pairs to be judged; probabilities are stated at it.
        evaluation: The report that came with the calibration, or with a later `evaluate`.
        trained_on: Fingerprints, int64 (m,), of every question that the networks were trained on; None if not known.
        facts: Provenance: settings, versions and data of the training.
    """

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

    def with_policy(self, policy: Policy, miss_rate: float | None = None) -> DuplicatePipeline:
        """The same pipeline with its thresholds chosen anew, on the evidence it carries; no labels are needed.

        Args:
            policy: Of the duplicate threshold.
            miss_rate: If given, at most this share of all duplicates is dropped as distinct; the rest is review.

        Raises:
            NotEnoughLabelsError: The evidence cannot support what is asked.
            NotCalibratedError: The thresholds came without their evidence.
        """
        from dupq.decisions.thresholds import choose_rule

        rule = choose_rule(self._evidence(), policy, miss_rate=miss_rate, base_rate=self.base_rate)
        return replace(self, rule=rule)

    def with_readings(self, symmetry: Symmetry = "doubtful", long_texts: LongTexts = "head") -> DuplicatePipeline:
        """The same networks, which read in another way: uncalibrated, and with the blend as it is.

        Args:
            symmetry: In which order the cross-encoder reads a pair, see `dupq.models.orders.Symmetry`.
            long_texts: How the bi-encoder embeds a long text, see `dupq.models.heads.LongTexts`.

        Raises:
            InputError: A value that is not known.
        """
        from dupq import fitting

        return fitting.read_anew(self, {"symmetry": symmetry, "long_texts": long_texts})

    def with_blend(self, validation: PairTable, corpus: Iterable[str] | None = None) -> DuplicatePipeline:
        """Both networks joined: their scores stacked by logistic regression on pairs that neither was trained on.

        Args:
            validation: Those pairs, labelled.
            corpus: Questions that tell which words are rare, such as those trained on. With them, the rare words that
                two questions share are a third member (`dupq.models.shared_words`), which may count against the
                networks; it is left out where the pairs do not support it (a likelihood ratio test at 1 %). For pairs
                that are picked as the validation pairs were, and not for mining, where it ranks worse.

        Raises:
            InputError: A network is missing, or neither knows duplicates from distinct pairs.
            LeakError: A question of these pairs was trained on.
        """
        from dupq import fitting

        return fitting.blend(self, validation, corpus)

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

    def export(
        self, pairs: PairTable, progress: Progress | None = None, *, word_bits: Literal[4, 8] = 8
    ) -> DuplicatePipeline:
        """The same pipeline on int8 networks, which run without torch and faster.

        The networks' value ranges are taken from these pairs, unlabelled; calibrator and thresholds are fitted anew on
        them by the same policies, since int8 shifts scores; a cascade too. Where they are the pairs that this pipeline
        was calibrated on, its thresholds stay where they are as far as their promises allow. A base rate that it was
        moved to, it keeps.

        Args:
            pairs: Labelled pairs that no network was trained on.
            progress: Told how many pairs are done, of how many.
            word_bits: Of the word embeddings: with 4, a small network's files are a quarter smaller.

        Raises:
            InputError: The networks are in that form already, or onnx is not installed.
            LeakError, NotEnoughLabelsError: As of `calibrate`.
        """
        from dupq import fitting

        return fitting.export(self, pairs, progress, word_bits)

    def dequantise(self) -> DuplicatePipeline:
        """The same pipeline on stock networks with the weights of the int8 ones, to train on; uncalibrated.

        What rounding lost stays lost; the pipeline that an export was made of is the better start where it is at hand.

        Raises:
            InputError: It holds no network in int8, or onnx is not installed.
            ModelFolderError: A network is not as `export` makes it.
        """
        from dupq import fitting

        return fitting.dequantise(self)

    def with_cascade(
        self,
        pairs: PairTable,
        *,
        share: float = 0.999,
        most_lost: float = MOST_LOST,
        progress: Progress | None = None,
    ) -> DuplicatePipeline:
        """The same pipeline, faster: one network settles the pairs that it can, and only the rest goes to both.

        The bi-encoder goes first; where the two are blended, whichever of them settles more. Which pairs it settles is
        fitted so that a share of all decisions equals this pipeline's; see `dupq.models.cascade.fit_band`. Calibrator
        and promises are fitted anew on the cascade's own scores; thresholds stay near these as far as the promises
        allow. Fit it last: what moves the thresholds later keeps its promises, but not that share, which
        `cascade.equal` tells of these pairs.

        Args:
            pairs: Labelled pairs in their natural class mix that no network was trained on: those of `calibrate` do.
            share: In (0, 1): of decisions that have to equal this pipeline's.
            most_lost: In [0, 1]: of the average precision on these pairs; more lets it settle likely duplicates too,
                whose order among themselves is then the first network's.
            progress: Called with (done, total).

        Raises:
            InputError: A network is missing, the base rate was moved, a share or a loss outside its range, or no
                cascade of these pairs keeps both.
            NotCalibratedError: The pipeline does not decide yet.
            LeakError, NotEnoughLabelsError: As of `calibrate`.
        """
        from dupq import fitting

        return fitting.cascade(self, pairs, share, most_lost, progress)

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

        return ScoreReference.from_evidence(self._evidence())

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

    def find_duplicates(
        self,
        questions: Sequence[str],
        *,
        against: Sequence[str] | None = None,
        ids: Sequence[int | str] | None = None,
        settings: MiningSettings | None = None,
    ) -> MiningResult:
        """All duplicate pairs and groups among n questions, or between them and an older collection.

        See `dupq.forum.mining.find_duplicates` for what it does, what it returns and what it raises.
        """
        from dupq.forum.mining import find_duplicates

        return find_duplicates(self, questions, against=against, ids=ids, settings=settings)

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
        threads: int | None = None,
    ) -> DuplicatePipeline:
        """Opens the shipped model, a pipeline folder, or one of the Hugging Face Hub.

        A stock cross-encoder or bi-encoder opens too, as an uncalibrated pipeline: it scores, and refuses to decide.

        Args:
            name: None: the model that ships with the package. Else a folder or a Hub id.
            revision: Branch, tag or commit on the Hub.
            token: Of the Hub, for private and gated repositories; None: HF_TOKEN, or what `hf auth login` stored.
            device: "cpu"; "cuda", where stock networks compute in float16 and int8 ones do not run; None: float32 on
                whatever there is.
            threads: Of the processor; None for all that this process may use.

        Raises:
            InputError: The device is not there, or not for these networks.
            ModelFolderError: It is missing, damaged, altered, unsafe, of a newer format, or the Hub does not give it.
        """
        from dupq.sharing.pipeline_folder import load_pipeline, resolve

        return cls(**load_pipeline(resolve(SHIPPED if name is None else name, revision, token), device, threads))

    @classmethod
    def from_networks(
        cls,
        cross_encoder: str | Path | None = None,
        bi_encoder: str | Path | None = None,
        *,
        half: bool = True,
        device: str | None = None,
        symmetry: Symmetry = "doubtful",
        long_texts: LongTexts = "head",
    ) -> DuplicatePipeline:
        """An uncalibrated pipeline of trained networks, each a stock folder or Hub id.

        Args:
            cross_encoder, bi_encoder: What `dupq train` wrote, or any other; at least one.
            half: Round the weights to what float16 holds, so that the saved pipeline takes half the space.
            device: "cpu", "cuda" or None for whatever there is.
            symmetry: In which order the cross-encoder reads a pair, see `dupq.models.orders.Symmetry`.
            long_texts: How the bi-encoder embeds a long text, see `dupq.models.heads.LongTexts`.

        Raises:
            ModelFolderError: A network cannot be opened.
        """
        from dupq import fitting

        readings = {"symmetry": symmetry, "long_texts": long_texts}
        return cls(**fitting.open_networks(cross_encoder, bi_encoder, half, device, readings))
