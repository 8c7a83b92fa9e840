"""Pairs a second of every method, one after the other: run it on a machine that has nothing else to do.

Training takes the difference of a short and a longer run, so that what a run costs before its first step is left out.
Speeds of what is put together of several networks follow from theirs. The results of `run`, of which many may run
beside each other, are not touched.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers.utils.logging import set_verbosity_error

from benchmarks.family.runs import CLUSTERED, CLUSTERS, DROPOUT_START, FOLDER, SEEDED, Family, add_options, scorer_of
from dupq.data.writing import write_json
from dupq.training.methods import METHODS
from dupq.training.trainer import versions

__all__ = ["add_options", "place", "run"]

SHORT, LONG = 10, 50
"""Steps of the two runs."""
SCORED = 1000


def place(encoder: str, folder: Path = FOLDER) -> Path:
    return folder / f"speed-{encoder}.json"


def measured(family: Family, name: str) -> dict[str, float]:
    """Of one network."""
    method, few = METHODS[name], family.pairs.take(np.arange(LONG * family.setup.batch_size))
    seconds = []
    for steps in (SHORT, LONG):
        folder, rate, _ = family.train(name, 0, pairs=few, steps=steps)
        seconds.append(steps * family.setup.batch_size / rate)
        if steps == SHORT:
            scorer = scorer_of(method.kind, folder)
        shutil.rmtree(folder)
    # What is fitted in closed form takes no steps: `rate` is of all its pairs, as a user would wait for it.
    trained = rate if method.closed_form else (LONG - SHORT) * family.setup.batch_size / (seconds[1] - seconds[0])
    test = family.held["test"].take(np.arange(SCORED))
    scorer.score(test.left[:128], test.right[:128])
    start = time.perf_counter()
    scorer.score(test.left, test.right)
    return {
        "train_pairs_per_second": trained,
        "score_pairs_per_second": len(test) / (time.perf_counter() - start),
    }


def put_together(found: dict[str, dict[str, float]], member: str, members: int) -> dict[str, dict[str, float]]:
    """Speeds of what is made of several trainings, from those of its parts."""
    train, score = "train_pairs_per_second", "score_pairs_per_second"
    one, first, second = found[member], found["dropout-contrast"], found["cosent+ranking"]
    return {
        # Twice the steps for the same rows.
        DROPOUT_START: {train: 1 / (1 / first[train] + 1 / second[train]), score: second[score]},
        # The steps are shared out; each pair is scored by every member.
        CLUSTERED: {train: one[train], score: one[score] / CLUSTERS},
        SEEDED: {train: one[train] / members, score: one[score] / members},
    }


def run(args: argparse.Namespace) -> None:
    set_verbosity_error()
    family = Family(args)
    found: dict[str, dict[str, float]] = {}
    measured(family, args.ensemble_of)  # the first of a process pays for what all others find loaded
    for name in METHODS:
        found[name] = measured(family, name)
        told = found[name]
        print(f"{name}: {told['train_pairs_per_second']:,.0f}, {told['score_pairs_per_second']:,.0f}", flush=True)
    found |= put_together(found, args.ensemble_of, len(args.seeds))
    result: dict[str, Any] = {
        "encoder": family.setup.encoder,
        "precision": family.setup.precision,
        "batch_size": family.setup.batch_size,
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        "rows": found,
        "versions": versions(),
    }
    write_json(place(family.setup.encoder), result)
