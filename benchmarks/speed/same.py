"""Every path gives the same answer, and a score is a pair's own."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import torch
from sklearn.metrics import average_precision_score

from benchmarks.speed.contenders import about, cascades, read
from dupq.data.splits import PairTable
from dupq.data.writing import write_json
from dupq.pipeline import DuplicatePipeline


def run(args: argparse.Namespace) -> None:
    table = read(args, args.same)
    found: dict[str, Any] = {}
    paths = {"torch, float32": args.stock, "dupq, int8": args.model, **cascades(args)}
    for name, folder in paths.items():
        pipeline = DuplicatePipeline.from_pretrained(folder, device="cpu", threads=args.threads)
        scores = pipeline.raw_scores(table.left, table.right)
        found[name] = {
            "scores": scores,
            "codes": pipeline.rule.codes(scores),
            "threshold": pipeline.rule.duplicate.score,
            "alone": _own(pipeline, folder, table, scores, args),
        }
        print(name, found[name]["alone"], flush=True)
    rows = []
    whole = found["torch, float32"]
    for name, one in found.items():
        rows.append(
            {
                "name": name,
                "equal_answers": float((one["codes"] == whole["codes"]).mean()),
                "equal_duplicates": float(((one["codes"] == 2) == (whole["codes"] == 2)).mean()),
                "equal_at_the_same_threshold": float(
                    ((one["scores"] >= whole["threshold"]) == (whole["scores"] >= whole["threshold"])).mean()
                ),
                "rms": float(np.sqrt(((one["scores"] - whole["scores"]) ** 2).mean())),
                "spread": float(whole["scores"].std()),
                "average_precision": float(average_precision_score(table.labels, one["scores"])),
                "largest_change": one["alone"],
                "equal_to_int8": float((one["codes"] == found["dupq, int8"]["codes"]).mean()),
            }
        )
    write_json(args.output, {**about(args, table), "rows": rows})


def _own(
    pipeline: DuplicatePipeline, folder: str | None, table: PairTable, scores: Any, args: argparse.Namespace
) -> dict[str, float]:
    """The most that a score moved: alone, among others, with its texts swapped, and with another number of threads."""
    draw, n = np.random.default_rng(0), min(args.singles, len(table))
    alone = [pipeline.raw_scores([table.left[row]], [table.right[row]])[0] for row in range(n)]
    some = draw.permutation(len(table))[: 4 * n]
    mixed = pipeline.raw_scores([table.left[row] for row in some], [table.right[row] for row in some])
    swapped = pipeline.raw_scores([table.right[row] for row in some], [table.left[row] for row in some])
    threads = torch.get_num_threads()
    other = DuplicatePipeline.from_pretrained(folder, device="cpu", threads=1)
    one_thread = other.raw_scores([table.left[row] for row in some], [table.right[row] for row in some])
    torch.set_num_threads(threads)
    return {
        "alone": float(np.abs(np.array(alone) - scores[:n]).max()),
        "other neighbours": float(np.abs(mixed - scores[some]).max()),
        "swapped": float(np.abs(swapped - mixed).max()),
        "one thread": float(np.abs(one_thread - mixed).max()),
    }
