"""Makes the model that ships with the package, by the commands a user has, and nothing else.

    python data_scripts/shipped_model.py --work DIR --base all-MiniLM-L6-v2 --cross-base ms-marco-MiniLM-L12-v2 \\
        --teacher-base all-mpnet-base-v2 --pairs qqp.tsv.xz --paws paws_wiki_dev.tsv.xz --mrpc mrpc_train.tsv.xz \\
        --twitter twitter_url_train.tsv.xz \\
        --posts semeval2016_cqa_train_part1.tsv.xz semeval2016_cqa_train_part2.tsv.xz --elsewhere MRPC=mrpc_test.tsv.xz

`--pairs`: Quora Question Pairs with the columns question1, question2, is_duplicate and natural (see README.md here);
`--paws`, `--mrpc`, `--twitter`, `--posts`: labelled pairs of other worlds, the last of them long. Of PAWS and Twitter
the splits' test parts are kept from training. `--base`, `--cross-base` and `--teacher-base`: folders or Hub ids of what
the bi-encoder, the last cross-encoder and the teachers start from. `--go-on-from`: a pipeline in int8, such as one that
shipped: only the last stage is trained, from its bi-encoder, which that pipeline teaches. With `--train-nothing` its
networks stay as they are, and all that is fitted around them is fitted anew: the blend, the calibrator, the thresholds.
`--work`: where splits, networks and checkpoints go; interrupted training goes on from there. `--elsewhere`: labelled
pairs of another data set, by the name that it has on the card; may be given several times. The last step writes
`dupq/pretrained/` and its card.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file
from steps import by_rule, held_out, judge, judged, judged_world, learn, mean, read, rows_of, run, some, write

from dupq.models.stock import QUESTIONS, training_record, write_fingerprints
from dupq.models.words import Words

ROOT = Path(__file__).resolve().parent.parent
PRETRAINED = ROOT / "dupq" / "pretrained"
ABOUT = Path(__file__).with_suffix(".json")
CARD = ROOT / "model_cards" / "dupq-quora-minilm.md"
JUDGED_FIRST = 22_528
"""Of the rows that are all duplicates: how many the teacher judges before the others."""
LEFT_OUT = (5, 9)
"""Of the last cross-encoder's base: the layers that it does without."""
NEAR = ("--least-cosine", "0.74", "--per-question", "5")
"""Of the pairs that a bi-encoder finds alike: those that are worth a teacher's time."""
GOES_ON = ("--targets", "target", "--method", "cosent", "--epochs", "1", "--batch-size", "128", "--max-length", "64")
"""How the bi-encoder is trained on."""
REDUCED = ("--dimensions", "192", "--power", "0.1")
"""How few dimensions it has in the end."""


def split(args: argparse.Namespace) -> None:
    """Parts that share no question group, of the data sets that have no parts of their own."""
    # Rows that are all duplicates shift the base rate: they train the bi-encoder, and never calibrate or test.
    run("split", args.pairs, "-o", args.work / "splits", "--held-out-where", "natural=1")
    run("split", args.paws, "-o", args.work / "paws")
    run("split", args.twitter, "-o", args.work / "twitter")


def train_networks(args: argparse.Namespace) -> tuple[Path, Path]:
    """A bi-encoder and a cross-encoder, taught by a large teacher."""
    work = args.work
    splits, paws, twitter = (work / name for name in ("splits", "paws", "twitter"))
    teacher, start, first, second, third, fourth, cross_encoder = (
        work / name for name in ("teacher", "start", "first", "second", "third", "fourth", "cross-encoder-4")
    )
    labelled, averaged, taught, bi_encoder = (
        work / name for name in ("bi-encoder-1", "bi-encoder-2", "bi-encoder-3", "bi-encoder-4")
    )
    train, validation = splits / "train.jsonl", ("--validation", splits / "validation.jsonl")
    natural, only_duplicates = rows_of(train, natural="1"), rows_of(train, natural="0")
    word_order, news = rows_of(paws / "train.jsonl"), rows_of(args.mrpc)
    tweets, posts = some(rows_of(twitter / "train.jsonl"), 8000), [row for path in args.posts for row in rows_of(path)]

    # A teacher three times as deep and wide, on all that is labelled naturally.
    slow = ("--epochs", "1", "--learning-rate", "4e-5", "--freeze-layers", "4", "--max-length", "160", *validation)
    learn("cross-encoder", [*natural, *word_order, *word_order, *news, *tweets], teacher, args.teacher_base, *slow)
    # What it says of the natural rows, and of pairs that nobody labelled.
    candidates, contrast, judged = (work / name for name in ("candidates.jsonl", "contrast.jsonl", "judged.jsonl"))
    run("distil", "candidates", train, "-o", candidates, "--bi-encoder", args.base, "--count", "40000")
    run("distil", "contrast", train, "-o", contrast, "--per-kind", "1000")
    run("distil", "targets", train, candidates, "-o", judged, "--teacher", teacher, "--where", "natural=1")
    soft = read(judged)

    # The cross-encoder starts from a bi-encoder that learned the same. The one that ships learned from the labels first
    # and was averaged with the untrained one: on texts of another kind it then forgets less.
    batch, student = ("--batch-size", "128"), ("--targets", "target", *validation)
    learn("bi-encoder", [*soft, *only_duplicates, *news, *tweets], start, args.base, *batch, *student, "--epochs", "1")
    run("train", "bi-encoder", splits, "-o", labelled, "--base", args.base, *batch, *validation, "--epochs", "2")
    mean("bi-encoder", averaged, args.base, labelled, weights=("0.25", "0.75"))
    also = [*word_order, *word_order, *news, *tweets, *rows_of(contrast), *some(only_duplicates, 15_000)]
    learn("cross-encoder", [*soft, *also], first, start, "--epochs", "1", *student)
    # It goes on for two epochs, with the teacher's word on a part of the duplicates too, and with more of what it finds
    # hard: word order, and contrast pairs of twice the number.
    slower = (*student, "--learning-rate", "6e-5")
    duplicates = write(work / "duplicates.jsonl", only_duplicates[:JUDGED_FIRST])
    soft_too = judge(work / "judged-duplicates.jsonl", teacher, duplicates)
    run("distil", "contrast", train, "-o", contrast, "--per-kind", "2000")
    also = [*word_order * 4, *news, *tweets, *rows_of(contrast)]
    learn("cross-encoder", [*soft, *soft_too, *also], second, first, "--epochs", "2", *slower)
    # And for two more: with pairs that the bi-encoder confuses, judged by the teacher, and with tweets and whole posts,
    # of which the untrained teacher's cosine is told beside the labels: of texts unlike Quora's it knows more.
    longer = (*slower, "--max-length", "192")
    confused, opposites = work / "confused.jsonl", work / "opposites.jsonl"
    run("distil", "candidates", train, "-o", confused, "--bi-encoder", labelled, "--count", "24576", "--seed", "1")
    soft_too += judge(work / "judged-confused.jsonl", teacher, confused)
    run("distil", "contrast", train, "-o", opposites, "--per-kind", "2000", "--seed", "1")
    judged_tweets = judged_world(
        args, "tweets", some(rows_of(twitter / "train.jsonl"), 12_000), 6000, "0", args.teacher_base
    )
    judged_posts = judged_world(args, "posts", posts, 3000, "012", args.teacher_base)
    # Posts with a label are few, so they come twice.
    worlds = [*judged_tweets, *judged_posts, *(row for row in judged_posts if row["label"] is not None)]
    harder = [row for kind in ("opposite", "gender") for row in rows_of(opposites, kind=kind)]
    also = [*worlds, *word_order * 5, *news, *rows_of(contrast), *harder]
    learn("cross-encoder", [*soft, *soft_too, *also], third, second, "--epochs", "2", *longer)

    # The bi-encoder learns for one epoch what the teachers say, of more posts too. Of either network the mean of before
    # and after the last epoch ships: it keeps most of what either was better at (model soups, Wortsman et al. 2022).
    judged_posts = judged_world(args, "posts", posts, 3000, "01234567", args.teacher_base)
    also = [*some(judged_tweets, 10_000), *some(judged_posts, 12_000), *news]
    gently = (*student, *batch, "--epochs", "1", "--learning-rate", "5e-5", "--max-length", "128")
    learn("bi-encoder", [*some(soft, 60_000), *some(soft_too, 30_000), *also], taught, averaged, *gently)
    mean("bi-encoder", bi_encoder, averaged, taught)
    # What the cross-encoder was told several times, it has by heart: the last epoch is mostly of pairs new to it.
    fresh, duplicates = work / "fresh.jsonl", write(work / "more-duplicates.jsonl", only_duplicates[JUDGED_FIRST:])
    run("distil", "candidates", train, "-o", fresh, "--bi-encoder", taught, "--count", "160000", "--seed", "2")
    new = judge(work / "judged-fresh.jsonl", teacher, fresh, duplicates)
    run("distil", "contrast", train, "-o", contrast, "--per-kind", "2000", "--seed", "2")
    run("distil", "contrast", train, "-o", opposites, "--per-kind", "2000", "--seed", "3")
    worlds = [*some(judged_tweets, 9000), *some(judged_posts, 8000), *word_order * 2, *news]
    harder = [*some(rows_of(contrast), 12_000), *some(rows_of(opposites, kind="opposite"), 2000)]
    also = [*some([*soft, *soft_too], 25_000), *worlds, *harder]
    learn("cross-encoder", [*new, *also], fourth, third, "--epochs", "1", *longer)
    mean("cross-encoder", cross_encoder, third, fourth)
    return bi_encoder, cross_encoder


def round_words(args: argparse.Namespace, bi_encoder: Path) -> Path:
    """A copy of the bi-encoder, its words being what 4 bits will make of them: what learns next learns with those.

    A pipeline keeps its networks in float16, so it is that form of the table which is rounded.
    """
    folder = Path(args.work / "rounded")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(bi_encoder, folder)
    _, seen = training_record(bi_encoder)
    if seen is not None:  # a network in a pipeline's folder has them beside it, so that a copy would have seen nothing
        write_fingerprints(folder / QUESTIONS, seen)
    weights = load_file(folder / "model.safetensors")
    (name,) = (name for name in weights if name.endswith("word_embeddings.weight"))
    table = Words.rounded(weights[name].astype(np.float16).astype(np.float32), bits=4)
    save_file(weights | {name: table.rows * table.scales}, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def begin_deeper(args: argparse.Namespace, bi_encoder: Path) -> Path:
    """A deeper cross-encoder to start from: the layers of `--cross-base`, less two, over the bi-encoder's words.

    The pipeline's two networks then share one table of words, which in 4 bits and with ten layers keeps it under 40 MB.
    """
    import torch
    from transformers import AutoModel, AutoTokenizer

    (network, words), (tokenizer, other) = (
        [opener.from_pretrained(str(name)) for name in (args.cross_base, bi_encoder)]
        for opener in (AutoModel, AutoTokenizer)
    )
    if tokenizer.get_vocab() != other.get_vocab():
        sys.exit(f"{args.cross_base} and {bi_encoder} differ in their vocabulary: give a base that has the same words")
    network.set_input_embeddings(words.get_input_embeddings())
    layers = [layer for number, layer in enumerate(network.encoder.layer) if number not in LEFT_OUT]
    network.encoder.layer, network.config.num_hidden_layers = torch.nn.ModuleList(layers), len(layers)
    for part in (network, tokenizer):
        part.save_pretrained(args.work / "deeper-start")
    return Path(args.work / "deeper-start")


def judged_anew(
    args: argparse.Namespace, pipeline: Path, met: tuple[Path, ...], suffix: str, *joined: str | Path
) -> list[list[dict[str, Any]]]:
    """What a pipeline, and who joins it, say of labelled rows; and, mixed with their labels, of tweets and posts."""
    work, train, twitter = args.work, args.work / "splits" / "train.jsonl", args.work / "twitter"
    # All rows in the natural class mix and a part of the others.
    rows = [*rows_of(train, natural="1"), *some(rows_of(train, natural="0"), 15_000)]
    again, told = work / "again.jsonl", work / "some-tweets.jsonl"
    write(again, rows)
    write(told, some(rows_of(twitter / "train.jsonl"), 6000))
    labelled = judged(args, f"labelled{suffix}", work / "splits", pipeline, met, again, *joined)
    tweets = judged(args, f"some-tweets{suffix}", twitter, pipeline, met, told, "--trust", "0.5")
    # Of texts longer than questions the untrained encoder knows more than the pipeline.
    posts = judged_world(args, "posts", [row for path in args.posts for row in rows_of(path)], 3000, "0", args.base)
    return [labelled, tweets, posts]


def train_deeper(args: argparse.Namespace, pipeline: Path, bi_encoder: Path, cross_encoder: Path) -> tuple[Path, Path]:
    """The bi-encoder for an epoch more, and a deeper cross-encoder, as a pipeline and a larger teacher tell them.

    The pipeline is in int8; its networks are also given in their stock form. This teacher, unlike the first, learns the
    rows that are all duplicates too, and no other world.
    """
    work, splits, paws = args.work, args.work / "splits", args.work / "paws"
    train, validation = splits / "train.jsonl", ("--validation", splits / "validation.jsonl")
    teacher, find = work / "teacher-2", ("--bi-encoder", pipeline / "bi-encoder")
    natural, only_duplicates = rows_of(train, natural="1"), rows_of(train, natural="0")
    slow = ("--epochs", "1", "--learning-rate", "4e-5", "--freeze-layers", "4", "--max-length", "128", *validation)
    learn("cross-encoder", [*natural, *only_duplicates], teacher, args.teacher_base, *slow)
    joined = ("--teacher", teacher)
    # Labelled rows; pairs that nobody labelled; and many that are near: of the others many nobody doubts.
    met = (bi_encoder, cross_encoder, teacher)
    labelled, tweets, posts = judged_anew(args, pipeline, met, "", *joined)
    fresh = work / "fresh-5.jsonl"
    run("distil", "candidates", train, "-o", fresh, *find, "--count", "90000", "--seed", "5")
    unlabelled = judged(args, "fresh-5", splits, pipeline, met, fresh, *joined)
    near = work / "near.jsonl"
    run("distil", "candidates", train, "-o", near, *find, *NEAR, "--count", "180000", "--seed", "11")
    confused = judged(args, "near", splits, pipeline, met, near, *joined)
    news, word_order, start = rows_of(args.mrpc), rows_of(paws / "train.jsonl"), round_words(args, bi_encoder)
    student, worlds = ("--epochs", "1", "--targets", "target", *validation), [*tweets, *posts, *news]
    # Word order is beyond a network that embeds each question by itself.
    rows, few = [*labelled, *unlabelled, *confused, *worlds], [*some(tweets, 3000), *some(posts, 1500)]
    shorter = (*validation, *GOES_ON, "--learning-rate")
    states = [start, work / "bi-encoder-5", work / "bi-encoder-6"]
    learn("bi-encoder", rows, states[1], start, *shorter, "1.5e-4")
    learn("bi-encoder", [*labelled, *some(confused, 45_000), *few], states[2], states[1], *shorter, "1e-4")
    mean("bi-encoder", work / "bi-encoder-7", *states, weights=("0.2", "0.3", "0.5"))
    rows += [*labelled, *word_order * 4, *by_rule(work / "contrast-21.jsonl", train, 1500)]
    longer = (*student, "--max-length", "192", "--learning-rate")
    learn("cross-encoder", rows, work / "deeper", begin_deeper(args, start), *longer, "8e-5")
    # It goes on gently, with the rows that are as those it is for, and with more of what it finds hard.
    more = [*labelled, *few, *news, *word_order, *by_rule(work / "contrast-22.jsonl", train, 400)]
    more += by_rule(work / "contrast-23.jsonl", train, 1600, "typo", "opposite")
    learn("cross-encoder", more, work / "deeper-2", work / "deeper", *longer, "3e-5")
    return work / "bi-encoder-7", work / "deeper-2"


def train_further(args: argparse.Namespace, pipeline: Path, bi_encoder: Path, cross_encoder: Path) -> Path:
    """The bi-encoder once more, as the pipeline that it is a part of tells it: of pairs that it now finds alike.

    The pipeline is in int8; its networks are also given in their stock form.
    """
    work, splits, met = args.work, args.work / "splits", (bi_encoder, cross_encoder)
    labelled, tweets, posts = judged_anew(args, pipeline, met, "-2")
    near = work / "near-31.jsonl"
    find = ("--bi-encoder", pipeline / "bi-encoder", *NEAR, "--count", "60000", "--seed", "31")
    run("distil", "candidates", splits / "train.jsonl", "-o", near, *find)
    confused = judged(args, "near-2", splits, pipeline, met, near)
    rows, last = [*labelled, *confused, *some(tweets, 3000), *some(posts, 1500)], work / "bi-encoder-8"
    goes_on = ("--validation", splits / "validation.jsonl", *GOES_ON, "--learning-rate", "1.2e-4")
    learn("bi-encoder", rows, last, bi_encoder, *goes_on)
    mean("bi-encoder", work / "bi-encoder-9", bi_encoder, last)
    return fewer_dimensions(args, work / "bi-encoder-9")


def fewer_dimensions(args: argparse.Namespace, bi_encoder: Path) -> Path:
    """The principal half of its dimensions, which rank new pairs better (`benchmarks/results/reduction.md`)."""
    if (bi_encoder / "2_Dense").is_dir():  # it goes on from one that was reduced already
        return bi_encoder
    folder = Path(args.work / "bi-encoder-12")
    shutil.rmtree(folder, ignore_errors=True)
    run("reduce", bi_encoder, args.work / "splits" / "train.jsonl", "-o", folder, *REDUCED)
    return folder


def calibrated(args: argparse.Namespace, name: str, bi_encoder: Path, cross_encoder: Path) -> tuple[Path, Path]:
    """A pipeline of both networks in int8, and the splits that neither has met."""
    stock, int8 = args.work / name, args.work / f"{name}-int8"
    splits = held_out(args.work / "splits", (bi_encoder, cross_encoder), args.work / f"held-out-{name}")
    networks = ("--bi-encoder", bi_encoder, "--cross-encoder", cross_encoder)
    run("calibrate", splits, "-o", stock, *networks, "--miss-rate", "0.05")
    run("export", stock, splits, "-o", int8, "--word-bits", "4")
    return int8, splits


def fitted_anew(args: argparse.Namespace, pipeline: Path) -> tuple[Path, Path]:
    """A pipeline in int8 with blend, calibrator and thresholds fitted anew, and the splits that are new to it."""
    folder = args.work / "pipeline-int8"
    splits = held_out(args.work / "splits", (pipeline / "bi-encoder",), args.work / "held-out-pipeline")
    run("calibrate", splits, "-o", folder, "--model", pipeline, "--reblend", "--miss-rate", "0.05")
    return folder, splits


def ship(args: argparse.Namespace, shipped: Path, splits: Path, elsewhere: list[tuple[str, str]]) -> None:
    """Measures the pipeline; writes the shipped folder and its card."""
    work = args.work
    run("evaluate", shipped, splits, "--attach")
    reports: list[str] = []
    parts = [("PAWS-Wiki, held-out part", work / "paws"), ("Twitter URL, held-out part", work / "twitter")]
    for number, (name, pairs) in enumerate([*parts, *elsewhere]):
        report = work / f"elsewhere-{number}.json"
        run("evaluate", shipped, pairs, "-o", report, "--skip-bad", "--unseen")
        reports += ["--elsewhere", f"{name}={report}"]
    run("card", shipped, "--about", ABOUT, *reports)
    shutil.rmtree(PRETRAINED, ignore_errors=True)
    shutil.copytree(shipped, PRETRAINED)
    run("card", PRETRAINED, "-o", CARD)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("pairs", "paws", "mrpc", "twitter"):
        parser.add_argument(f"--{name}", required=True, type=Path)
    parser.add_argument("--posts", required=True, nargs="+", type=Path)
    parser.add_argument("--base", required=True)
    for name in ("cross", "teacher"):
        parser.add_argument(f"--{name}-base", help="needed without --go-on-from")
    parser.add_argument("--go-on-from", type=Path, metavar="DIR")
    parser.add_argument("--train-nothing", action="store_true", help="of --go-on-from, fit all but the networks anew")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--elsewhere", action="append", default=[], metavar="NAME=PAIRS")
    args = parser.parse_args()
    others = [(name, pairs) for name, _, pairs in (told.partition("=") for told in args.elsewhere)]
    if not all(name and Path(pairs).is_file() for name, pairs in others):  # told now, not after hours of training
        parser.error("--elsewhere takes NAME=PAIRS, PAIRS being a file")
    if not (args.go_on_from or (args.teacher_base and args.cross_base)):
        parser.error("give --teacher-base and --cross-base, or --go-on-from")
    if args.train_nothing and not args.go_on_from:
        parser.error("--train-nothing goes with --go-on-from")
    split(args)
    if args.train_nothing:
        ship(args, *fitted_anew(args, args.go_on_from), others)
        return
    if args.go_on_from:
        pipeline, between = args.go_on_from, args.work / "between"
        shutil.rmtree(between, ignore_errors=True)
        run("dequantise", pipeline, "-o", between)
        bi_encoder, cross_encoder = between / "bi-encoder", between / "cross-encoder"
    else:
        bi_encoder, cross_encoder = train_networks(args)
        pipeline, _ = calibrated(args, "before", bi_encoder, cross_encoder)
        bi_encoder, cross_encoder = train_deeper(args, pipeline, bi_encoder, cross_encoder)
        pipeline, _ = calibrated(args, "between", bi_encoder, cross_encoder)
    bi_encoder = train_further(args, pipeline, bi_encoder, cross_encoder)
    ship(args, *calibrated(args, "pipeline", bi_encoder, cross_encoder), others)


if __name__ == "__main__":
    main()
