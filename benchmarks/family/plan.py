"""Estimates the hours of the runs that are left, from the pairs a second that `speed` measured for this encoder."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping

import numpy as np

from benchmarks.family.runs import CLUSTERED, CLUSTERS, DROPOUT_START, SEEDED, Family, add_options, is_fixed, methods_of
from benchmarks.family.runs import plan as runs
from benchmarks.family.sets import POSTS
from benchmarks.family.speed import place
from dupq.data.pairs import PairTable
from dupq.training.methods import METHODS

__all__ = ["add_options", "run", "seconds"]

BESIDE = 10.0
"""Seconds of a run beside training and scoring: opening networks, figures and their intervals."""
POST = 6.0
"""Time of a post, cut at 128 tokens, as a multiple of that of a question."""


def seconds(family: Family, name: str, speeds: Mapping[str, Mapping[str, float]]) -> float:
    """Seconds of one run; a method whose speed was not measured takes the median."""
    if name == SEEDED:
        return BESIDE
    member = family.setup.ensemble_of if name == CLUSTERED else "cosent+ranking" if name == DROPOUT_START else name
    trained, scored = (
        speeds.get(member, {}).get(key) or float(np.median([row[key] for row in speeds.values()]))
        for key in ("train_pairs_per_second", "score_pairs_per_second")
    )
    steps = family.setup.steps * family.setup.batch_size * (2 if name == DROPOUT_START else 1)
    held = sum(texts(table, member) / 2 * (POST if split == POSTS else 1) for split, table in family.held.items())
    networks = CLUSTERS if name == CLUSTERED else 1
    return (family.setup.rows if is_fixed(name) else steps) / trained + networks * held / scored + BESIDE


def texts(table: PairTable, name: str) -> int:
    """The number of texts that are encoded: by a bi-encoder each once."""
    return len({*table.left, *table.right}) if METHODS[name].kind == "bi-encoder" else 2 * len(table)


def run(args: argparse.Namespace) -> None:
    families = {training: Family(args, training) for training in args.training}
    speeds = json.loads(place(next(iter(families.values())).setup.encoder).read_text(encoding="utf-8"))["rows"]
    left = [
        (name, families[training])
        for name, seed, training in runs(methods_of(args), args.seeds, args.training)
        if not families[training].is_done(name, seed)
    ]
    hours = sum(seconds(family, name, speeds) for name, family in left) / 3600
    print(f"{len(left)} runs are left: {hours:.1f} hours of a process with the threads of `speed`")
