"""Make the model that ships with the package, by the commands of `dupq`.

    python -m data_scripts.shipped_model --work DIR --previous DIR --base DIR|ID --pairs FILE --paws FILE --mrpc FILE \\
        --twitter FILE --posts FILE... --other DIR --mined FILE [--elsewhere NAME=PAIRS]...

Five stages: prepare, label, bi-encoder, cross-encoder, fit. The last one writes `dupq/pretrained/` and its card. Run
again after an interruption, it resumes: each stage keeps its files, and training has a checkpoint every few minutes.
See docs/how-to/make-the-shipped-model.md.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_scripts import mix
from data_scripts.starts import start_bi_encoder, start_cross_encoder
from dupq import DuplicatePipeline
from dupq.cli.main import main as dupq
from dupq.data.grouping import holds_trained
from dupq.data.pairs import load_pairs
from dupq.data.text import fingerprints
from dupq.data.writing import write_json, write_rows
from dupq.models.sentence_transformers_io import training_record
from dupq.training.reduction import reduce_dimensions

ROOT = Path(__file__).resolve().parent.parent
PRETRAINED = ROOT / "dupq" / "pretrained"
ABOUT = Path(__file__).with_suffix(".json")
LICENCE = "LICENSE-WEIGHTS"
SCORES = ROOT / "tests" / "shipped_scores.json"
CARD = ROOT / "model_cards" / "dupq-quora-minilm.md"

TEACHER_SHARE = 0.6
"""Share of the teacher's probability in the soft label of a replayed row; the rest is its label."""
PRECISION = ("--precision", "bfloat16")
CROSS_ENCODER = (
    *PRECISION,
    "--soft-labels",
    "soft_label",
    "--epochs",
    "1",
    "--batch-size",
    "64",
    "--max-length",
    "256",
    "--save-steps",
    "300",
)
CROSS_ENCODER_RATE = ("--learning-rate", "1e-4", "--max-steps", "2500")
"""Peak learning rate; the run ends after 160,000 of its rows."""
BI_ENCODER = (
    *PRECISION,
    "--method",
    "ranking-hard",
    "--epochs",
    "1",
    "--batch-size",
    "128",
    "--max-length",
    "128",
    "--save-steps",
    "200",
)
BI_ENCODER_RATE = "1e-4"
AVERAGES: dict[str, tuple[str, ...]] = {"bi-encoder": ("0.5", "0.5"), "cross-encoder": ("0.1", "0.35", "0.55")}
"""Weights in the mean that ships (WiSE-FT, Wortsman et al. 2022): of the start and of the trained network; of the
cross-encoder, that of the teacher before them."""
REDUCTION: dict[str, Any] = {"dimensions": 192, "power": 0.1}
"""Arguments of the bi-encoder's dimension reduction."""
BLENDED = 2_000
"""Pairs of held-out worlds that the blend is fitted on, beside those of held-out posts and Quora's validation split."""
CANDIDATE_RECALL = "0.75"
"""Share of the partners that the candidate rule has to find, of held-out worlds and posts and of Quora together."""
QUORA_PARTNERS = 1_500
"""Pairs of Quora's calibration split whose duplicates are among those partners."""
JUDGED = (
    "--about",
    "pairs of Quora questions that mining found, read by two readers",
    "--allow-trained",
    "--policy",
    "precision>=0.7",
)


def run(*arguments: str | int | Path) -> None:
    """Run one dupq command; exit if it fails."""
    print("$ dupq", *arguments, flush=True)
    if dupq([str(argument) for argument in arguments]):
        sys.exit(1)


def prepare(args: argparse.Namespace) -> mix.Sources:
    """Split the data sets that come in one part by question group, and write the networks that training starts from."""
    work = args.work
    # Rows that are all duplicates shift the base rate, so they only train.
    run("data", "split", args.pairs, "-o", work / "splits", "--held-out-where", "natural=1")
    run("data", "split", args.paws, "-o", work / "paws")
    run("data", "split", args.twitter, "-o", work / "twitter")
    if not (work / "start-bi-encoder").is_dir():
        shutil.rmtree(work / "previous", ignore_errors=True)
        run("model", "to-torch", args.previous, "-o", work / "previous")
        start_cross_encoder(work / "previous" / "cross-encoder", args.base, work / "start-cross-encoder")
        start_bi_encoder(work / "previous" / "bi-encoder", args.base, work / "start-bi-encoder")
    if not (work / "teacher-cross-encoder").is_dir():
        shutil.rmtree(work / "teacher", ignore_errors=True)
        run("model", "to-torch", args.teacher or args.previous, "-o", work / "teacher")
        start_cross_encoder(work / "teacher" / "cross-encoder", args.base, work / "teacher-cross-encoder")
    return mix.Sources(work / "splits", work / "paws", work / "twitter", args.mrpc, args.posts, args.other)


def label(args: argparse.Namespace, sources: mix.Sources) -> Path:
    """Write the training rows; the soft labels of replayed rows hold the teacher's probability."""
    file = Path(args.work / "rows.jsonl")
    if not file.is_file():
        rows = mix.replayed_rows(sources)
        teacher = DuplicatePipeline.from_pretrained(args.teacher or args.previous)
        left, right = ([row[name] for row in rows] for name in ("question1", "question2"))
        for row, probability in zip(rows, teacher.probabilities(left, right).tolist(), strict=True):
            row["soft_label"] = round(TEACHER_SHARE * probability + (1 - TEACHER_SHARE) * row["label"], 4)
        mix.write(file, [*rows, *mix.new_rows(sources)])
    return file


def train(kind: str, rows: Path, network: Path, base: Path, *options: str) -> Path:
    """Train a network."""
    run("train", kind, rows, "-o", network, "--base", base, *options)
    return network


def average(kind: str, network: Path, *networks: Path) -> Path:
    """Average networks, again if the output exists: it takes a second."""
    shutil.rmtree(network, ignore_errors=True)
    run("model", "average", kind, *networks, "-o", network, "--weights", *AVERAGES[kind])
    return network


def train_bi_encoder(args: argparse.Namespace, labelled: Path) -> Path:
    """Train the bi-encoder on the rows that suit it, average it with its start, and halve its dimensions."""
    work = args.work
    rows, start = work / "bi-encoder.jsonl", work / "start-bi-encoder"
    if not rows.is_file():
        mix.write(rows, mix.bi_encoder_rows(mix.read(labelled)))
    trained = train("bi-encoder", rows, work / "bi-encoder-1", start, *BI_ENCODER, "--learning-rate", BI_ENCODER_RATE)
    averaged = average("bi-encoder", work / "bi-encoder-mean", start, trained)
    shutil.rmtree(work / "bi-encoder", ignore_errors=True)
    texts = mix.forum_texts(mix.table_rows(load_pairs(work / "splits" / "train.jsonl"), "quora"))
    reduce_dimensions(averaged, texts, work / "bi-encoder", **REDUCTION)
    return Path(work / "bi-encoder")


def train_cross_encoder(args: argparse.Namespace, labelled: Path) -> Path:
    """Train the cross-encoder, and average it with its start and the teacher's."""
    start, options = args.work / "start-cross-encoder", (*CROSS_ENCODER, *CROSS_ENCODER_RATE)
    network = train("cross-encoder", labelled, args.work / "cross-encoder-1", start, *options)
    return average("cross-encoder", args.work / "cross-encoder", args.work / "teacher-cross-encoder", start, network)


def training_questions(networks: Iterable[Path]) -> NDArray[np.int64]:
    """Return the fingerprints of all questions that networks were trained on."""
    return np.concatenate([seen for _, seen in map(training_record, networks) if seen is not None])


def held_out(splits: Path, networks: Iterable[Path], folder: Path, fitted: mix.Rows) -> Path:
    """Write the splits without the question groups of any training question, nor the test split those of `fitted`.

    A rewritten question, or one of another data set, may equal a training question.
    """
    blended = fingerprints([row[name] for row in fitted for name in ("question1", "question2")])
    seen = training_questions(networks)
    for name in ("validation", "calibration", "test"):
        pairs = load_pairs(splits / f"{name}.jsonl")
        excluded = np.concatenate([seen, blended]) if name == "test" else seen
        met = holds_trained(excluded, pairs.left, pairs.right)
        kept = pairs.take(~np.isin(pairs.groups, pairs.groups[met]))
        print(f"{name}: {len(pairs) - len(kept):,} of {len(pairs):,} pairs left out: groups seen in training")
        rows = zip(kept.left, kept.right, kept.labels.tolist(), strict=True)
        columns = ["question1", "question2", "label"]
        write_rows(folder / f"{name}.jsonl", (dict(zip(columns, row, strict=True)) for row in rows), columns)
    return folder


def fit(args: argparse.Namespace, bi_encoder: Path, cross_encoder: Path) -> tuple[Path, Path]:
    """Write a pipeline of both networks in int8, and the splits without their training questions."""
    stock, int8 = args.work / "pipeline", args.work / "pipeline-int8"
    elsewhere = [*mix.sample(mix.cluster_rows(True), BLENDED), *mix.post_rows(True)]
    splits = held_out(args.work / "splits", (bi_encoder, cross_encoder), args.work / "held-out", elsewhere)
    # On questions of other forums the cosine ranks worse than on Quora's, so its weight is fitted on both.
    quora = mix.labelled_rows(splits / "validation.jsonl", "quora")
    blend = mix.write(args.work / "blend.jsonl", [*quora, *elsewhere])
    pairs = load_pairs(blend)
    met = holds_trained(training_questions((bi_encoder, cross_encoder)), pairs.left, pairs.right)
    mix.write(blend, mix.table_rows(pairs.take(~met), "blend"))
    networks = ("--bi-encoder", bi_encoder, "--cross-encoder", cross_encoder, "--long-pairs", "head_and_tail")
    run("calibrate", splits, "-o", stock, *networks, "--validation", blend, "--miss-rate", "0.05")
    run("model", "export", stock, splits, "-o", int8, "--embedding-bits", "4")
    return int8, splits


def fit_candidates(args: argparse.Namespace, pipeline: Path, splits: Path) -> Path:
    """Write the pipeline with a candidate rule, by recall, and with the calibrator of mined candidates."""
    work, ruled, judged = args.work, args.work / "pipeline-ruled", args.work / "pipeline-judged"
    quora = mix.labelled_rows(splits / "calibration.jsonl", "quora")
    rows = [*mix.cluster_rows(True), *mix.post_rows(True), *mix.sample(quora, QUORA_PARTNERS)]
    partners = mix.write(work / "partners.jsonl", [row for row in rows if row["label"] == 1])
    pairs = load_pairs(partners)
    trained_on = DuplicatePipeline.from_pretrained(pipeline).trained_on
    unseen = pairs.take(~holds_trained(trained_on, pairs.left, pairs.right))
    mix.write(partners, mix.table_rows(unseen, "partners"))
    texts = mix.forum_texts(quora)
    questions = ({"id": number, "question": text} for number, text in enumerate(texts))
    write_rows(work / "among.jsonl", questions, ["id", "question"])
    rule = ("--candidates-from", partners, "--among", work / "among.jsonl", "--candidate-recall", CANDIDATE_RECALL)
    run("calibrate", "--model", pipeline, *rule, "-o", ruled)
    run("calibrate", "--model", ruled, "--candidates", args.mined, *JUDGED, "-o", judged)
    return judged


def ship(args: argparse.Namespace, pipeline: Path, splits: Path) -> None:
    """Evaluate the pipeline, and write the shipped folder and its card."""
    work = args.work
    run("evaluate", pipeline, splits, "--attach")
    reports: list[str] = []
    parts = [("PAWS-Wiki, held-out part", work / "paws"), ("Twitter URL, held-out part", work / "twitter")]
    for number, (name, pairs) in enumerate([*parts, *args.elsewhere]):
        report = work / f"elsewhere-{number}.json"
        run("evaluate", pipeline, pairs, "-o", report, "--skip-bad", "--unseen")
        reports += ["--elsewhere", f"{name}={report}"]
    run("model", "card", pipeline, "--about", ABOUT, *reports)
    # The licence is no file of a pipeline; it stays.
    for path in PRETRAINED.glob("*"):
        if path.name != LICENCE:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(pipeline, PRETRAINED, dirs_exist_ok=True)
    run("model", "card", PRETRAINED, "-o", CARD)
    write_scores(SCORES)


def write_scores(path: Path) -> None:
    """Score the pairs of a file again, by which a test holds the arithmetic of the release."""
    rows = json.loads(path.read_text(encoding="utf-8"))
    left, right = ([row[name] for row in rows] for name in ("question1", "question2"))
    pipeline = DuplicatePipeline.from_pretrained(PRETRAINED)
    scored = zip(rows, pipeline.raw_scores(left, right), pipeline.probabilities(left, right), strict=True)
    write_json(path, [row | {"score": float(score), "probability": float(p)} for row, score, p in scored])


def name_and_pairs(value: str) -> tuple[str, Path]:
    """Parse NAME=PAIRS."""
    name, _, pairs = value.partition("=")
    if not name or not Path(pairs).is_file():
        raise argparse.ArgumentTypeError(f"must be NAME=PAIRS with a file PAIRS, got {value!r}")
    return name, Path(pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of splits, networks and checkpoints")
    parser.add_argument("--previous", type=Path, required=True, help="pipeline folder of the previous release")
    parser.add_argument("--teacher", type=Path, help="pipeline folder of the soft labels (default: that of --previous)")
    parser.add_argument("--base", required=True, help="folder or Hub id of all-MiniLM-L6-v2")
    parser.add_argument("--pairs", required=True, type=Path, help="Quora pairs, with a column natural")
    for name in ("paws", "mrpc", "twitter"):
        parser.add_argument(f"--{name}", required=True, type=Path, help="labelled pairs of this data set")
    parser.add_argument("--posts", required=True, nargs="+", type=Path, help="labelled pairs of forum posts")
    parser.add_argument("--other", required=True, type=Path, help="folder of the sets in `mix.OTHER_SETS`")
    parser.add_argument("--mined", required=True, type=Path, help="judged candidates with their weights")
    parser.add_argument("--elsewhere", action="append", default=[], type=name_and_pairs, metavar="NAME=PAIRS")
    args = parser.parse_args()
    sources = prepare(args)
    labelled = label(args, sources)
    bi_encoder, cross_encoder = train_bi_encoder(args, labelled), train_cross_encoder(args, labelled)
    pipeline, splits = fit(args, bi_encoder, cross_encoder)
    ship(args, fit_candidates(args, pipeline, splits), splits)


if __name__ == "__main__":
    main()
