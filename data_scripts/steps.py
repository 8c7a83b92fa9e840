"""What the stages of `shipped_model.py` are made of: dupq's own commands, and files of rows to learn from."""

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
from dupq.models.stock import training_record


def run(*arguments: str | int | Path) -> None:
    """One dupq command; stops at the first that fails."""
    print("$ dupq", *arguments, flush=True)
    if dupq([str(argument) for argument in arguments]):
        sys.exit(1)


def rows_of(path: Path, **where: str) -> list[dict[str, Any]]:
    """The pairs of a file, by the column names that all files here have."""
    pairs = read_pairs(path, labelled=True, where=where or None)
    return [{"question1": pair.question1, "question2": pair.question2, "label": pair.label} for pair in pairs]


def write(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """Writes rows of training pairs in an order that is always the same, whatever was there before."""
    shuffled = list(rows)
    random.Random(0).shuffle(shuffled)
    columns = ["question1", "question2", "label", "target"]
    write_rows(path, ({name: row.get(name) for name in columns} for row in shuffled), columns)
    return path


def read(path: Path) -> list[dict[str, Any]]:
    """The rows of a file, with all of their columns."""
    return [dict(row) for _, row in read_rows(path)]


def some(rows: list[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """So many of the rows, always the same."""
    return random.Random(0).sample(rows, min(count, len(rows)))


def learn(kind: str, rows: list[dict[str, Any]], network: Path, base: str | Path, *options: str | Path) -> None:
    """Trains a network on rows, which are kept beside it."""
    run("train", kind, write(network.with_suffix(".jsonl"), rows), "-o", network, "--base", base, *options)


def mean(kind: str, network: Path, *networks: str | Path, weights: tuple[str, ...] = ()) -> None:
    """One network of several, made anew if it is there: that takes a second."""
    shutil.rmtree(network, ignore_errors=True)
    run("average", kind, *networks, "-o", network, *(("--weights", *weights) if weights else ()))


def judge(told: Path, teacher: Path, *files: Path) -> list[dict[str, Any]]:
    """What the teacher says of the pairs in files, labelled or not; `told` keeps it."""
    run("distil", "targets", *files, "-o", told, "--teacher", teacher)
    return read(told)


def judged_world(
    args: argparse.Namespace, name: str, rows: list[dict[str, Any]], count: int, seeds: str, encoder: str
) -> list[dict[str, Any]]:
    """Pairs of another world, and candidates among their texts: what labels and an untrained encoder's cosine say."""
    files = [write(args.work / f"{name}.jsonl", rows)]
    for seed in seeds:
        files.append(args.work / f"{name}-{seed}.jsonl")
        which = ("--bi-encoder", args.base, "--count", count, "--seed", seed)
        run("distil", "candidates", files[0], "-o", files[-1], *which)
    told = args.work / f"judged-{name}-{len(seeds)}-{Path(encoder).name}.jsonl"
    run("distil", "targets", *files, "-o", told, "--encoder", encoder, "--trust", "0.5")
    return read(told)


def held_out(splits: Path, networks: Iterable[Path], folder: Path) -> Path:
    """The splits that were not trained on, less the groups a question of which has been met in training all the same.

    A rewritten question, or one of another data set, may happen to be one of theirs.
    """
    seen = np.concatenate([seen for _, seen in map(training_record, networks) if seen is not None])
    for name in ("validation", "calibration", "test"):
        pairs = load_pairs(splits / f"{name}.jsonl")
        met = np.isin(fingerprints(pairs.left), seen) | np.isin(fingerprints(pairs.right), seen)
        kept = pairs.take(~np.isin(pairs.groups, pairs.groups[met]))
        print(f"{name}: {len(pairs) - len(kept):,} of {len(pairs):,} pairs left out: their groups were met", flush=True)
        rows = zip(kept.left, kept.right, kept.labels.tolist(), strict=True)
        columns = ["question1", "question2", "label"]
        write_rows(folder / f"{name}.jsonl", (dict(zip(columns, row, strict=True)) for row in rows), columns)
    return folder


def judged(
    args: argparse.Namespace, name: str, world: Path, pipeline: Path, networks: Iterable[Path], *pairs: str | Path
) -> list[dict[str, Any]]:
    """What a pipeline says of pairs, its parts weighed on pairs of that world that none of the networks has met."""
    held = held_out(world, networks, args.work / f"held-out-{name}") / "validation.jsonl"
    told = args.work / f"judged-{name}.jsonl"
    if not told.is_file():  # of a large teacher it takes hours
        run("distil", "targets", *pairs, "-o", told, "--pipeline", pipeline, "--held-out", held)
    return read(told)


def by_rule(path: Path, pairs: Path, per_kind: int, *kinds: str) -> list[dict[str, Any]]:
    """Pairs of nearly the same words, of all kinds or of those; the number in the file's name is the seed."""
    run("distil", "contrast", pairs, "-o", path, "--per-kind", per_kind, "--seed", path.stem.rpartition("-")[2])
    return [row for kind in kinds for row in rows_of(path, kind=kind)] if kinds else rows_of(path)
