"""One and five known questions a class, and nothing retrained: accuracy on classes that no network was trained for."""

from __future__ import annotations

import argparse
import csv
import io
import lzma
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from benchmarks.readme import RESULTS
from dupq import DuplicatePipeline
from dupq.data.writing import write_json
from dupq.models.bi_encoder import BiEncoder
from dupq.models.few_shot import By, FewShotClassifier
from dupq.training.trainer import versions
from dupq.types import Embedder

RESULT = RESULTS / "family" / "fewshot.json"
SHOTS = (1, 5)


def opened(folder: str) -> Embedder:
    """The bi-encoder in a folder; "shipped": that of the shipped model."""
    shipped = DuplicatePipeline.from_pretrained().bi_encoder if folder == "shipped" else None
    return shipped or BiEncoder(folder)


class Kept:
    """An embedder that has embedded every text it will be asked for."""

    def __init__(self, embedder: Embedder, texts: Sequence[str]) -> None:
        distinct = sorted(set(texts))
        self.fingerprint, self.dimensions = embedder.fingerprint, embedder.dimensions
        self._place = {text: index for index, text in enumerate(distinct)}
        self._vectors = embedder.embed(distinct)

    def embed(self, texts: Sequence[str], progress: Any = None) -> NDArray[np.float32]:
        return self._vectors[[self._place[text] for text in texts]]


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--network", action="append", required=True, metavar="NAME=DIR", help="a bi-encoder folder, or `shipped`"
    )
    parser.add_argument("--train", required=True, help="CSV with the columns text and category, plain or .xz")
    parser.add_argument("--test", required=True, help="likewise")
    parser.add_argument("--draws", type=int, default=20, help="draws of the known questions (20)")


def read(path: str) -> tuple[list[str], list[str]]:
    content = Path(path).read_bytes()
    text = (lzma.decompress(content) if path.endswith(".xz") else content).decode("utf-8")
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    return [row["text"] for row in rows], [row["category"] for row in rows]


def run(args: argparse.Namespace) -> None:
    (texts, kinds), (asked, answers) = read(args.train), read(args.test)
    kind_of, results = np.array(kinds), []
    for name, folder in (value.split("=", 1) for value in args.network):
        embedder = Kept(opened(folder), [*texts, *asked])
        for shots in SHOTS:
            found: dict[str, list[float]] = {by: [] for by in get_args(By)}
            for draw in range(args.draws):
                rng = np.random.default_rng(draw)
                known = np.concatenate(
                    [rng.permutation(np.flatnonzero(kind_of == kind))[:shots] for kind in sorted(set(kinds))]
                )
                examples, labels = [texts[row] for row in known], [kinds[row] for row in known]
                for by in get_args(By):
                    matches = FewShotClassifier(embedder, examples, labels, by).predict(asked)
                    found[by].append(float(np.mean([m.label == a for m, a in zip(matches, answers, strict=True)])))
            for by, values in found.items():
                low, high = np.percentile(values, (2.5, 97.5))
                row = {"network": name, "shots": shots, "by": by, "value": float(np.mean(values))}
                results.append(row | {"low": float(low), "high": float(high)})
                print(row, flush=True)
    RESULT.parent.mkdir(parents=True, exist_ok=True)
    about = {"classes": len(set(kinds)), "questions": len(asked), "draws": args.draws, "versions": versions()}
    write_json(RESULT, {**about, "rows": results})
