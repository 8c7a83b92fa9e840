"""Pairs a second, fresh and stored, and sentences a second."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks.speed.contenders import WARM_UP, Rows, fresh_rounds, model_folder, race, read, tokenizer
from benchmarks.speed.shapes import CROSS_ENCODERS, ENCODER, cross_encoder, encoder
from dupq.data.pairs import PairTable
from dupq.data.writing import write_rows
from dupq.hub.manifest import REPORT
from dupq.models.safety import read_json

OURS = "dupq, int8"
STORED = "dupq, int8, stored questions"
QUALITY = ("average_precision", "accuracy", "ece_mass")
FITTING_PAIRS = 300


def pairs(args: argparse.Namespace) -> dict[str, Any]:
    """Fresh pairs: no text occurs twice, and nothing is cached."""
    table = read(args)
    wanted: dict[str, dict[str, Any]] = {OURS: pipeline(args)}
    shares: dict[str, float] = {}
    for shape in CROSS_ENCODERS:
        folder = str(cross_encoder(shape, tokenizer(args), args.scratch))
        forms: dict[str, dict[str, Any]] = {"float32": {}}
        forms |= {
            f"{backend} int8": {"backend": backend, "texts": _fitting_texts(args, table)} for backend in args.backends
        }
        for form, settings in forms.items():
            wanted[f"{shape.name}, {form}"] = {"kind": "stock", "model": folder, **settings}
            shares[f"{shape.name}, {form}"] = shape.share
    warm_up, rounds = fresh_rounds(table, args)
    found = race(wanted, args, warm_up, rounds, shares)
    return {**found, "random_weights": True, "quality": _quality(model_folder(args))}


def stored(args: argparse.Namespace) -> dict[str, Any]:
    """Pairs whose questions have embeddings already."""
    wanted = {STORED: {**pipeline(args), "kind": "stored"}, OURS: pipeline(args)}
    shape = CROSS_ENCODERS[0]
    folder = cross_encoder(shape, tokenizer(args), args.scratch)
    wanted[f"{shape.name}, float32"] = {"kind": "stock", "model": str(folder)}
    return race(wanted, args, *fresh_rounds(read(args), args))


def sentences(args: argparse.Namespace) -> dict[str, Any]:
    """Distinct sentences of the bi-encoder."""
    table = read(args)
    texts = list(dict.fromkeys([*table.left, *table.right]))
    n = args.sentences
    if len(texts) < WARM_UP + args.rounds * n:
        raise SystemExit(f"{args.pairs} holds {len(texts):,} distinct texts; lower --sentences")
    rounds: list[Rows] = [(texts[start : start + n], []) for start in range(WARM_UP, WARM_UP + args.rounds * n, n)]
    folder = encoder(ENCODER, tokenizer(args), args.scratch)
    wanted = {OURS: {**pipeline(args), "kind": "embedder"}}
    wanted[f"{ENCODER.name}, float32"] = {"kind": "encoder", "model": str(folder)}
    return race(wanted, args, (texts[:WARM_UP], []), rounds)


def pipeline(args: argparse.Namespace) -> dict[str, Any]:
    """Settings of our own contender."""
    return {"kind": "pipeline", "model": args.model, "threads": args.threads}


def _quality(folder: Path) -> dict[str, Any] | None:
    """Measures of the model's own report; pairs that it was not trained on."""
    if not (folder / REPORT).is_file():
        return None
    report = read_json(folder / REPORT)
    return {name: report["metrics"][name] for name in QUALITY} | {"pairs": report["sample"]["pairs"]}


def _fitting_texts(args: argparse.Namespace, table: PairTable) -> str:
    """A data set of unlabelled pairs, the last of the file, for a quantiser to take the ranges of values from."""
    some = slice(max(0, len(table) - FITTING_PAIRS), len(table))
    folder = args.scratch / "fitting-texts"
    folder.mkdir(parents=True, exist_ok=True)
    rows = [{"text": f"{a} [SEP] {b}"} for a, b in zip(table.left[some], table.right[some], strict=True)]
    write_rows(folder / "train.jsonl", rows, ["text"])
    return str(folder)
