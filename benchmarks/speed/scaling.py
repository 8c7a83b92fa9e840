"""Seconds and memory against the number of pairs, and against the length of the texts."""

from __future__ import annotations

import argparse
import itertools
from statistics import median
from typing import Any

import numpy as np

from benchmarks.speed.contenders import Worker, about, pipelines, read
from dupq.data.splits import PairTable
from dupq.data.writing import write_json

NUMBERS = (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)
LENGTHS = (8, 16, 32, 64, 128, 256, 512)


def numbers(args: argparse.Namespace) -> None:
    """The file's own pairs first; beyond them, distinct pairs of its questions, drawn at random.

    A size that would take longer than `--budget`, by the rate of the one before it, is left out and named.
    """
    table = read(args, args.count)
    left, right = _many(table, max(args.sizes or NUMBERS))
    rows, left_out = [], []
    for name, settings in pipelines(args).items():
        worker = Worker(settings, args.threads)
        worker.ask(left=left[:64], right=right[:64], quiet=True)
        rate = 0.0
        for size in sorted(args.sizes or NUMBERS):
            if rate and size / rate > args.budget:
                left_out.append({"name": name, "n": size, "foreseen_seconds": size / rate})
                continue
            found = [
                worker.ask(left=left[:size], right=right[:size], quiet=True)
                for _ in range(args.rounds if size <= 1000 else 1)
            ]
            seconds = median(one["seconds"] for one in found)
            rate = size / seconds
            rows.append({"name": name, "n": size, "seconds": seconds, "peak_mb": found[-1]["peak_mb"]})
            print(f"{name:<40} {size:>9,} pairs {seconds:.3f} s", flush=True)
        worker.close()
    write_json(args.output, {**about(args, table), "budget": args.budget, "rows": rows, "left_out": left_out})


def _many(table: PairTable, count: int) -> tuple[list[str], list[str]]:
    pairs = dict.fromkeys(zip(table.left, table.right, strict=True))
    texts, draw = sorted({*table.left, *table.right}), np.random.default_rng(0)
    while len(pairs) < count:
        for a, b in draw.integers(len(texts), size=(count, 2)).tolist():
            if a != b:
                pairs[texts[a], texts[b]] = None
    chosen = list(itertools.islice(pairs, count))
    return [a for a, _ in chosen], [b for _, b in chosen]


def lengths(args: argparse.Namespace) -> None:
    """Pairs whose two texts hold so many words together, made of the file's own words."""
    table = read(args, args.count)
    words = [word for text in [*table.left, *table.right] for word in text.split()]
    rows: list[dict[str, Any]] = []
    contenders = {"CrossEncoder.predict, float32": {"kind": "stock", "model": f"{args.stock}/cross-encoder"}}
    for name, settings in {**contenders, **pipelines(args)}.items():
        worker = Worker(settings, args.threads)
        worker.ask(left=table.left[:64], right=table.right[:64], quiet=True)
        for length in args.sizes or LENGTHS:
            number, half = max(8, args.words // length), length // 2
            texts = [" ".join(words[at : at + half]) for at in range(0, 2 * number * half, half)]
            asked = [worker.ask(left=texts[:number], right=texts[number:], quiet=True) for _ in range(3)]
            rows.append(
                {"name": name, "words": length, "pairs": number, "seconds": median(one["seconds"] for one in asked)}
            )
        worker.close()
    write_json(args.output, {**about(args), "rows": rows})
