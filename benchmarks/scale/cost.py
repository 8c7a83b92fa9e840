"""Cost of a search of any size: a model fitted to the measured searches, and what it extrapolates.

`seconds = a + b·comparisons + c·rows`, none of them negative, by least squares of the relative error. Comparisons are
products of two vectors. A search by cells compares rows with centroids (to fit them and to assign the rows), sampled
questions with all rows (to certify the recall), and the rows of a cell with each other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dupq.search.cells import SAMPLE
from dupq.search.kmeans import PASSES, ROWS_PER_CELL, default_cells

TARGETS = (10_000_000, 100_000_000, 1_000_000_000)
BUDGET = 50_000
"""Pairs that are judged with a budget."""
PAIR_BYTES = 24
MIN_ROWS = 3
"""Measured searches below which a model has no figure to be fitted to."""


@dataclass(frozen=True, slots=True)
class CostModel:
    """Seconds of one core.

    Attributes:
        start: Of a search.
        comparison: Of a product of two vectors.
        row: Of a row.
        searches: Number of measured searches that it was fitted to.
        error: Largest relative error on them.
    """

    start: float
    comparison: float
    row: float
    searches: int
    error: float

    def seconds(self, comparisons: float, rows: float) -> float:
        return self.start + self.comparison * comparisons + self.row * rows


def fit(searches: Sequence[tuple[float, float, float]]) -> CostModel:
    """Fit the model to (comparisons, rows, seconds) of each search."""
    from scipy.optimize import nnls

    comparisons, rows, seconds = np.array(searches, np.float64).T
    columns = np.stack([np.ones(len(seconds)), comparisons, rows], axis=1) / seconds[:, None]
    scale = columns.max(axis=0)
    weights = nnls(columns / scale, np.ones(len(seconds)))[0] / scale
    error = float(np.abs(columns @ weights - 1).max())
    return CostModel(*weights.tolist(), len(seconds), error)


def cell_comparisons(n: float, cells: float, in_cells: float, sample: float = SAMPLE) -> float:
    """Return all comparisons of a search by cells, with those of the cells themselves."""
    return in_cells + n * cells + PASSES * min(n, ROWS_PER_CELL * cells) * cells + 2 * sample * n


def measured_searches(sizes: dict[str, Any]) -> dict[str, list[tuple[float, float, float]]]:
    """Return (comparisons, rows, core-seconds) of the measured searches, "exact" and "cells"."""
    found: dict[str, list[tuple[float, float, float]]] = {"exact": [], "cells": []}
    for n, figures in sizes.items():
        row = figures.get("exact", {})
        if "seconds" in row:
            found["exact"].append((row["comparisons"], int(n), row["seconds"]))
        for held in figures.get("cells", {}).values():
            for searched in held.get("overlaps", {}).values():
                if "search_s" in searched:
                    # Two samples of the size of one: the overlap is chosen on the other.
                    seconds = held["fit_s"] + held["assign_s"] + 2 * held["sample_s"] + searched["search_s"]
                    work = cell_comparisons(int(n), held["cells"], searched["comparisons"], held["sample"])
                    found["cells"].append((work, int(n), seconds))
    return found


def cost(report: dict[str, Any]) -> dict[str, Any]:
    """Fit the models to a report and extrapolate to `TARGETS`; a part without figures is left out with a reason."""
    sizes, threads = report["sizes"], report["settings"]["threads"]
    searches, models = measured_searches(sizes), {}
    result: dict[str, Any] = {"models": {}, "rows": []}
    for name, rows in searches.items():
        if len(rows) < (MIN_ROWS if name == "cells" else 2):
            result["models"][name] = {"left_out": f"{len(rows)} searches were measured, too few to fit"}
            continue
        models[name] = fit([(work, n, seconds * threads) for work, n, seconds in rows])
        result["models"][name] = asdict(models[name])
    shape = cell_shape(sizes)
    networks = report.get("networks", {})
    for n in TARGETS:
        row: dict[str, Any] = {"questions": n, "vectors_bytes": 4 * report["settings"]["dimensions"] * n}
        if "exact" in models:
            row["exact_core_h"] = models["exact"].seconds(n * (n - 1) / 2, n) / 3600
        if "cells" in models and shape:
            cells, m = default_cells(n), shape["overlap"]
            in_cells = shape["imbalance"] * (2 * m - 1) / cells * n * n / 2
            row |= {
                "cells": cells,
                "overlap": m,
                "cells_core_h": models["cells"].seconds(cell_comparisons(n, cells, in_cells), n) / 3600,
                "cells_bytes": 4 * m * n,
            }
        if shape:
            row["pairs"] = shape["pair_share"] * n * (n - 1) / 2
            row["pairs_bytes"] = PAIR_BYTES * row["pairs"]
        if "embed_s" in networks:
            cores = networks["cores"]
            row["embed_core_h"] = networks["embed_s"] * n * cores / 3600
            row["judge_budget_core_h"] = networks["judge_s"] * BUDGET * cores / 3600
            if shape:
                row["judge_core_h"] = networks["judge_s"] * row["pairs"] * cores / 3600
        result["rows"].append(row)
    return result | {"shape": shape}


def cell_shape(sizes: dict[str, Any]) -> dict[str, Any] | None:
    """Return the figures of the largest size that are carried over to others: overlap, imbalance, share of near pairs.

    The overlap is the smallest whose recall reaches .99 in its whole interval, at the number of cells nearest to the
    default one; the imbalance is the work divided by that of cells of one size.
    """
    for n in sorted(map(int, sizes), reverse=True):
        rows = [row for row in sizes[str(n)].get("cells", {}).values() if "overlaps" in row]
        if not rows:
            continue
        row = min(rows, key=lambda row: abs(np.log(row["cells"] / default_cells(n))))
        m = next((m for m, held in row["overlaps"].items() if held["recall"]["low"] >= 0.99), [*row["overlaps"]][-1])
        held = row["overlaps"][m]
        # A sampled question is one of two in its pairs.
        share = held["recall"]["pairs"] / (row["sampled"] * (n - 1))
        return {
            "questions": n,
            "cells": row["cells"],
            "overlap": int(m),
            "recall": held["recall"],
            "imbalance": held["share"] * row["cells"] / (2 * int(m) - 1),
            "pair_share": share,
        }
    return None
