"""What dropping words that never occur would save, and what it would cost elsewhere."""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.speed.contenders import about
from dupq.data.reading import Skipped, read_pairs
from dupq.data.writing import write_json
from dupq.models.scorers import chunks
from dupq.pipeline import DuplicatePipeline

LEAST = (1, 2, 5)
"""A word is kept that occurs so often."""


def run(args: argparse.Namespace) -> None:
    """The first file says which words occur; of the others, how many texts would lose one."""
    pipeline = DuplicatePipeline.from_pretrained(args.model, device="cpu")
    network = pipeline.bi_encoder.network
    tokenizer, size = pipeline.bi_encoder._runner.tokenizer, len(network.words.rows)
    corpora = {Path(path).name: _tokens(tokenizer, path) for path in args.vocabulary}
    own, *others = corpora
    met = Counter(token for text in corpora[own] for token in text)
    counts = np.array([met[token] for token in range(size)])
    each = network.words.rows.shape[1] + network.words.scales.itemsize
    rows: list[dict[str, Any]] = []
    for least in LEAST:
        dropped = counts < least
        losing = {name: float(np.mean([dropped[text].any() for text in corpora[name]])) for name in others}
        rows.append(
            {"least": least, "dropped": int(dropped.sum()), "mb": dropped.sum() * each / 1e6, "texts_changed": losing}
        )
        print(rows[-1], flush=True)
    write_json(
        args.output,
        {
            **about(args),
            "words": size,
            "mb": size * each / 1e6,
            "texts": {name: len(texts) for name, texts in corpora.items()},
            "counted_in": own,
            "rows": rows,
        },
    )


def _tokens(tokenizer: Any, path: str) -> list[Any]:
    texts: dict[str, None] = {}
    for pair in read_pairs(path, labelled=False, skipped=Skipped()):
        texts |= {pair.question1: None, pair.question2: None}
    distinct = list(texts)
    return [
        np.array(item.ids)
        for part in chunks(len(distinct), 8192)
        for item in tokenizer.encode_batch_fast(distinct[part])
    ]
