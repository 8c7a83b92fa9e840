"""Makes the model that ships with the package, by the commands a user has, and nothing else.

    python data_scripts/shipped_model.py --work DIR --base all-MiniLM-L6-v2 --teacher-base all-mpnet-base-v2 \\
        --pairs qqp.tsv.xz --paws paws_wiki_dev.tsv.xz --mrpc mrpc_train.tsv.xz --twitter twitter_url_train.tsv.xz \\
        --posts semeval2016_cqa_train_part1.tsv.xz semeval2016_cqa_train_part2.tsv.xz --elsewhere MRPC=mrpc_test.tsv.xz

`--pairs`: Quora Question Pairs with the columns question1, question2, is_duplicate and natural (see README.md here);
`--paws`, `--mrpc`, `--twitter`, `--posts`: labelled pairs of other worlds, the last of them long. Of PAWS and Twitter
the splits' test parts are kept from training. `--base` and `--teacher-base`: folders or Hub ids of the encoders to
start from. `--work`: where splits, networks and checkpoints go; an interrupted run goes on from there. `--elsewhere`:
labelled pairs of another data set, by the name that it has on the card; may be given several times. The last step
writes `dupq/pretrained/` and its card.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from dupq.cli.main import main as dupq
from dupq.data.reading import read_pairs, read_rows
from dupq.data.splits import load_pairs
from dupq.data.text import fingerprints
from dupq.data.writing import write_rows
from dupq.models.stock import QUESTIONS, read_fingerprints

ROOT = Path(__file__).resolve().parent.parent
PRETRAINED = ROOT / "dupq" / "pretrained"
ABOUT = Path(__file__).with_suffix(".json")
CARD = ROOT / "model_cards" / "dupq-quora-minilm.md"


def run(*arguments: str | Path) -> None:
    """One dupq command; stops at the first that fails."""
    print("$ dupq", *arguments, flush=True)
    if dupq([str(argument) for argument in arguments]):
        sys.exit(1)


def rows_of(path: Path, labelled: bool = True, **where: str) -> list[dict[str, Any]]:
    """The pairs of a file, by the column names that all files here have."""
    pairs = read_pairs(path, labelled=labelled, where=where or None)
    return [{"question1": pair.question1, "question2": pair.question2, "label": pair.label} for pair in pairs]


def write(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """Writes rows of training pairs in an order that is always the same, whatever was there before."""
    shuffled = list(rows)
    random.Random(0).shuffle(shuffled)
    columns = ["question1", "question2", "label", "target"]
    write_rows(path, ({name: row.get(name) for name in columns} for row in shuffled), columns)
    return path


def some(rows: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """So many of the rows, always the same."""
    return random.Random(0).sample(rows, min(count, len(rows)))


def judged_worlds(args: argparse.Namespace, work: Path, tweets: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Whole posts and tweets, labelled and not, with what labels and the untrained teacher's cosine say of them."""
    posts = [row for path in args.posts for row in rows_of(path)]
    judged: dict[str, list[dict[str, Any]]] = {}
    for name, rows, count, seeds in (("posts", posts, "3000", "012"), ("tweets", some(tweets, 12_000), "6000", "0")):
        files = [write(work / f"{name}.jsonl", rows)]
        for seed in seeds:
            files.append(work / f"{name}-{seed}.jsonl")
            which = ("--bi-encoder", args.base, "--count", count, "--seed", seed)
            run("distil", "candidates", files[0], "-o", files[-1], *which)
        told = work / f"judged-{name}.jsonl"
        run("distil", "targets", *files, "-o", told, "--encoder", args.teacher_base, "--trust", "0.5")
        judged[name] = [dict(row) for _, row in read_rows(told)]
    # Posts with a label are few, so they come twice.
    return [*judged["tweets"], *judged["posts"], *(row for row in judged["posts"] if row["label"] is not None)]


def held_out(splits: Path, networks: Iterable[Path], folder: Path) -> Path:
    """The splits that were not trained on, less the groups a question of which has been met in training all the same.

    A rewritten question, or one of another data set, may happen to be one of theirs.
    """
    seen = np.concatenate([read_fingerprints(network / QUESTIONS) for network in networks])
    for name in ("validation", "calibration", "test"):
        pairs = load_pairs(splits / f"{name}.jsonl")
        met = np.isin(fingerprints(pairs.left), seen) | np.isin(fingerprints(pairs.right), seen)
        kept = pairs.take(~np.isin(pairs.groups, pairs.groups[met]))
        print(f"{name}: {len(pairs) - len(kept):,} of {len(pairs):,} pairs left out: their groups were met", flush=True)
        rows = zip(kept.left, kept.right, kept.labels.tolist(), strict=True)
        columns = ["question1", "question2", "label"]
        write_rows(folder / f"{name}.jsonl", (dict(zip(columns, row, strict=True)) for row in rows), columns)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("pairs", "paws", "mrpc", "twitter"):
        parser.add_argument(f"--{name}", required=True, type=Path)
    parser.add_argument("--posts", required=True, nargs="+", type=Path)
    parser.add_argument("--base", required=True)
    parser.add_argument("--teacher-base", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--elsewhere", action="append", default=[], metavar="NAME=PAIRS")
    args = parser.parse_args()
    others = [told.partition("=")[::2] for told in args.elsewhere]
    if not all(name and Path(pairs).is_file() for name, pairs in others):  # told now, not after hours of training
        parser.error("--elsewhere takes NAME=PAIRS, PAIRS being a file")
    work = args.work
    splits, paws, twitter = (work / name for name in ("splits", "paws", "twitter"))
    teacher, start, labelled, bi_encoder, first, second, cross_encoder = (
        work / name for name in ("teacher", "start", "bi-encoder-1", "bi-encoder", "first", "second", "cross-encoder")
    )
    stock, shipped = work / "pipeline", work / "pipeline-int8"
    # Rows that are all duplicates shift the base rate: they train the bi-encoder, and never calibrate or test.
    run("split", args.pairs, "-o", splits, "--held-out-where", "natural=1")
    run("split", args.paws, "-o", paws)
    run("split", args.twitter, "-o", twitter)
    train, validation = splits / "train.jsonl", ("--validation", splits / "validation.jsonl")
    natural, only_duplicates = rows_of(train, natural="1"), rows_of(train, natural="0")
    word_order, news = rows_of(paws / "train.jsonl"), rows_of(args.mrpc)
    tweets = some(rows_of(twitter / "train.jsonl"), 8000)

    # A teacher three times as deep and wide, on all that is labelled naturally.
    lessons = write(work / "teacher.jsonl", [*natural, *word_order, *word_order, *news, *tweets])
    slow = ("--epochs", "1", "--learning-rate", "4e-5", "--freeze-layers", "4", "--max-length", "160")
    run("train", "cross-encoder", lessons, "-o", teacher, "--base", args.teacher_base, *slow, *validation)
    # What it says of the natural rows, and of pairs that nobody labelled.
    candidates, contrast, judged = (work / name for name in ("candidates.jsonl", "contrast.jsonl", "judged.jsonl"))
    run("distil", "candidates", train, "-o", candidates, "--bi-encoder", args.base, "--count", "40000")
    run("distil", "contrast", train, "-o", contrast, "--per-kind", "1000")
    run("distil", "targets", train, candidates, "-o", judged, "--teacher", teacher, "--where", "natural=1")
    soft = [dict(row) for _, row in read_rows(judged)]

    # The cross-encoder starts from a bi-encoder that learned the same. That one is worse alone, on calibration pairs,
    # than one that learned from the labels, so the latter ships, averaged with the untrained one: on texts of another
    # kind it then forgets less.
    lessons = write(work / "start.jsonl", [*soft, *only_duplicates, *news, *tweets])
    student, base = ("--targets", "target", *validation), ("--base", args.base, "--batch-size", "128")
    run("train", "bi-encoder", lessons, "-o", start, *base, "--epochs", "1", *student)
    run("train", "bi-encoder", splits, "-o", labelled, *base, "--epochs", "2")
    run("average", "bi-encoder", args.base, labelled, "-o", bi_encoder, "--weights", "0.25", "0.75")
    also = [*word_order, *word_order, *news, *tweets, *rows_of(contrast), *some(only_duplicates, 15_000)]
    lessons = write(work / "first.jsonl", [*soft, *also])
    run("train", "cross-encoder", lessons, "-o", first, "--base", start, "--epochs", "1", *student)
    # It goes on for two epochs, with the teacher's word on a part of the duplicates too, and with more of what it finds
    # hard: word order, and contrast pairs of twice the number.
    judged_duplicates, contrast = work / "judged-duplicates.jsonl", work / "more-contrast.jsonl"
    lessons = write(work / "duplicates.jsonl", only_duplicates[:22_528])
    run("distil", "targets", lessons, "-o", judged_duplicates, "--teacher", teacher)
    run("distil", "contrast", train, "-o", contrast, "--per-kind", "2000")
    soft += [dict(row) for _, row in read_rows(judged_duplicates)]
    lessons = write(work / "second.jsonl", [*soft, *word_order * 4, *news, *tweets, *rows_of(contrast)])
    longer = (*student, "--epochs", "2", "--learning-rate", "6e-5")
    run("train", "cross-encoder", lessons, "-o", second, "--base", first, *longer)
    # And for two more: with pairs that the bi-encoder confuses, judged by the teacher, and with tweets and whole posts,
    # of which the untrained teacher's cosine is told beside the labels: of texts unlike Quora's it knows more.
    confused, again = work / "confused.jsonl", work / "yet-more-contrast.jsonl"
    run("distil", "candidates", train, "-o", confused, "--bi-encoder", labelled, "--count", "24576", "--seed", "1")
    run("distil", "targets", confused, "-o", work / "judged-confused.jsonl", "--teacher", teacher)
    run("distil", "contrast", train, "-o", again, "--per-kind", "2000", "--seed", "1")
    soft += [dict(row) for _, row in read_rows(work / "judged-confused.jsonl")]
    harder = [row for kind in ("opposite", "gender") for row in rows_of(again, kind=kind)]
    worlds = judged_worlds(args, work, rows_of(twitter / "train.jsonl"))
    lessons = [*soft, *worlds, *word_order * 5, *news, *rows_of(contrast), *harder]
    lessons = write(work / "cross-encoder.jsonl", lessons)
    run("train", "cross-encoder", lessons, "-o", cross_encoder, "--base", second, *longer, "--max-length", "192")

    splits = held_out(splits, (bi_encoder, cross_encoder), work / "held-out")
    networks = ("--bi-encoder", bi_encoder, "--cross-encoder", cross_encoder)
    run("calibrate", splits, "-o", stock, *networks, "--miss-rate", "0.05")
    run("export", stock, splits, "-o", shipped)
    run("evaluate", shipped, splits, "--attach")
    reports: list[str] = []
    parts = [("PAWS-Wiki, held-out part", paws), ("Twitter URL, held-out part", twitter)]
    for number, (name, pairs) in enumerate([*parts, *others]):
        report = args.work / f"elsewhere-{number}.json"
        run("evaluate", shipped, pairs, "-o", report, "--skip-bad", "--unseen")
        reports += ["--elsewhere", f"{name}={report}"]
    run("card", shipped, "--about", ABOUT, *reports)
    shutil.rmtree(PRETRAINED, ignore_errors=True)
    shutil.copytree(shipped, PRETRAINED)
    run("card", PRETRAINED, "-o", CARD)


if __name__ == "__main__":
    main()
