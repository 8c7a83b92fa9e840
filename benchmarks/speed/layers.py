"""What fewer layers would save, and what it would cost: an early exit after each layer of the cross-encoder.

A small head reads the hidden states after a layer and guesses the score of the whole network (Xin et al. 2020,
"DeeBERT"; Schwartz et al. 2020, "The right tool for the job"); where a band fitted as for a cascade settles the pair,
the other layers would not be run. The network stays as it is, so that it loses nothing where it is not left.
"""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.speed.contenders import about, read
from dupq.data.splits import PairTable, load_pairs
from dupq.data.writing import write_json
from dupq.models.cascade import fit_band
from dupq.models.scorers import chunks
from dupq.pipeline import DuplicatePipeline

TAUGHT = 20_000
"""Pairs that a head learns from."""
SHARE = 0.999
"""Of decisions that have to stay the same."""
BATCH = 128


def run(args: argparse.Namespace) -> None:
    """A head learns from pairs of training; half of PAIRS fits the band, the other half is what is told."""
    from sklearn.metrics import average_precision_score
    from sklearn.neural_network import MLPRegressor
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    pipeline = DuplicatePipeline.from_pretrained(args.alone or args.stock, device="cpu")
    thresholds = [cut.score for cut in (pipeline.rule.duplicate, pipeline.rule.distinct) if cut is not None]
    network = DuplicatePipeline.from_pretrained(args.stock, device="cpu").cross_encoder
    lessons = load_pairs(args.layers)
    lessons = lessons.take(np.random.default_rng(0).permutation(len(lessons))[:TAUGHT])
    told = read(args, args.count)
    taught_features, taught = features(network, lessons)
    seen_features, full = features(network, told)
    fitting = np.arange(len(told)) % 2 == 0
    whole = float(average_precision_score(told.labels[~fitting], full[~fitting]))
    rows: list[dict[str, Any]] = []
    depth = len(taught_features) + 1
    for layer, learned in taught_features.items():
        head = make_pipeline(
            StandardScaler(),
            MLPRegressor(hidden_layer_sizes=(64,), max_iter=20, early_stopping=True, random_state=0),
        ).fit(learned.astype(np.float32), taught)
        guessed = head.predict(seen_features[layer].astype(np.float32)).astype(np.float64)
        for duplicates in (True, False):
            band = fit_band(guessed[fitting], full[fitting], thresholds, SHARE, duplicates)
            settled = band.settle(guessed[~fitting])
            stays = np.isnan(settled)
            own = np.where(stays, full[~fitting], settled)
            same = np.digitize(own, sorted(thresholds)) == np.digitize(full[~fitting], sorted(thresholds))
            rows.append(
                {
                    "layer": layer,
                    "settles": "both" if duplicates else "distinct",
                    "settled": float(1 - stays.mean()),
                    "saved": float((1 - stays.mean()) * (1 - layer / depth)),
                    "equal": float(same.mean()),
                    "average_precision": float(average_precision_score(told.labels[~fitting], own)),
                    "guess_average_precision": float(average_precision_score(told.labels[~fitting], guessed[~fitting])),
                }
            )
            print(rows[-1], flush=True)
    write_json(
        args.output,
        {
            **about(args, told),
            "share": SHARE,
            "taught": len(lessons),
            "layers": depth,
            "average_precision": whole,
            "rows": rows,
        },
    )


def features(network: Any, pairs: PairTable) -> tuple[dict[int, NDArray[np.float16]], NDArray[np.float64]]:
    """Layer -> first token and mean of all, (n, 2d), for every layer but the last; and the scores, (n,)."""
    import torch

    model, tokenizer = network.model.model, network.model.tokenizer
    sides = [sorted(pair) for pair in zip(pairs.left, pairs.right, strict=True)]
    order = np.argsort([len(one) + len(other) for one, other in sides], kind="stable")
    width = 2 * model.config.hidden_size
    found = {
        layer: np.empty((len(sides), width), dtype=np.float16) for layer in range(1, model.config.num_hidden_layers)
    }
    scores = np.empty(len(sides))
    for part in chunks(len(order), BATCH):
        rows = order[part]
        inputs = tokenizer(
            [sides[row][0] for row in rows],
            [sides[row][1] for row in rows],
            padding=True,
            truncation=True,
            max_length=network.model.max_length,
            return_tensors="pt",
        )
        with torch.inference_mode():
            output = model(**inputs, output_hidden_states=True)
        mask = inputs["attention_mask"][..., None].float()
        scores[rows] = output.logits[:, 0].numpy()
        for layer, values in found.items():
            hidden = output.hidden_states[layer]
            mean = (hidden * mask).sum(dim=1) / mask.sum(dim=1)
            values[rows] = torch.cat([hidden[:, 0], mean], dim=1).half().numpy()
    return found, scores
