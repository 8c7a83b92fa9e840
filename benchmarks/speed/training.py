"""`dupq train` beside the stock trainer of sentence-transformers: pairs a second, and average precision.

Both have the loss, data, batch size, epochs, learning rate and schedule of the default method, and the same base. What
differs is what dupq does by itself: batches of similar lengths, no dropout, frozen word embeddings, bfloat16 where it
is faster, and plain attention.
"""

from __future__ import annotations

import argparse
import os
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import average_precision_score

from benchmarks.scale.memory import apart
from benchmarks.speed.contenders import SEED, model_folder, read, spread
from dupq.data.pairs import PairTable
from dupq.hub.manifest import BI_ENCODER
from dupq.pipeline import DuplicatePipeline

KINDS = ("bi-encoder", "cross-encoder")


def training(args: argparse.Namespace) -> dict[str, Any]:
    """Rounds of both trainers on fresh pairs, for both kinds of network."""
    base = args.base or str(_stock_bi_encoder(args))
    dev, rounds = _split(read(args), args.rounds, args.train_pairs, args.dev_pairs)
    named = Path(base).name if args.base else "the bi-encoder of the model"
    rows = [apart(compared, kind, base, rounds, dev, str(args.scratch / "trained"), args.threads) for kind in KINDS]
    return {"rows": rows, "base": named, "train_pairs": args.train_pairs, "dev_pairs": args.dev_pairs}


def compared(
    kind: str, base: str, rounds: list[PairTable], dev: PairTable, scratch: str, threads: int | None
) -> dict[str, Any]:
    """Pairs a second and average precision of both trainers, in one process."""
    import torch
    from transformers.utils.logging import set_verbosity_error

    set_verbosity_error()
    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))
    trainers: dict[str, Callable[..., None]] = {"dupq": _ours, "stock": _stock}
    rates: dict[str, list[float]] = {name: [] for name in trainers}
    precision: dict[str, list[float]] = {name: [] for name in trainers}
    for at, pairs in enumerate([rounds[0], *rounds]):
        for name, train in trainers.items():
            folder = Path(scratch) / f"{kind}-{name}"
            shutil.rmtree(folder, ignore_errors=True)
            with timed_training() as seconds:
                train(kind, base, pairs, folder)
            if at:  # the first finds nothing loaded
                rates[name].append(len(pairs) / sum(seconds))
                precision[name].append(float(average_precision_score(dev.labels, _scores(kind, folder, dev))))
                print(f"{kind}, {name}: {rates[name][-1]:,.0f} pairs/s, {precision[name][-1]:.3f}", flush=True)
    ratios = [ours / theirs for ours, theirs in zip(rates["dupq"], rates["stock"], strict=True)]
    gains = [ours - theirs for ours, theirs in zip(precision["dupq"], precision["stock"], strict=True)]
    return {
        "kind": kind,
        "per_second": {name: spread(found) for name, found in rates.items()},
        "times": spread(ratios),
        "average_precision": {name: spread(found) for name, found in precision.items()},
        "gain": spread(gains),
    }


@contextmanager
def timed_training() -> Iterator[list[float]]:
    """List that gets the seconds of each call of the trainer's own `train`, without loading and saving."""
    from transformers import Trainer

    seconds: list[float] = []
    train = Trainer.train

    def timed(*arguments: Any, **options: Any) -> Any:
        start = time.perf_counter()
        try:
            return train(*arguments, **options)
        finally:
            seconds.append(time.perf_counter() - start)

    Trainer.train = timed
    try:
        yield seconds
    finally:
        Trainer.train = train


def _ours(kind: Any, base: str, pairs: PairTable, folder: Path) -> None:
    from dupq.training.trainer import TrainSettings, train

    train(kind, pairs, folder, TrainSettings(base, epochs=1), restart=True)


def _stock(kind: str, base: str, pairs: PairTable, folder: Path) -> None:
    from sentence_transformers import CrossEncoder, SentenceTransformer

    from dupq.training.methods import assemble, find_method
    from dupq.training.trainer import TrainSettings

    settings = TrainSettings(base, epochs=1)
    model: Any
    if kind == "bi-encoder":
        model = SentenceTransformer(base, device="cpu")
        model.max_seq_length = settings.max_length
    else:
        model = CrossEncoder(base, num_labels=1, max_length=settings.max_length, device="cpu")
    parts = assemble(find_method(kind), model, pairs, None, None)
    model.model_card_data.widget = [{"text": "none"}]  # skips drawing examples for a card, as `dupq train` does
    arguments = parts.arguments(
        output_dir=str(folder),
        num_train_epochs=settings.epochs,
        per_device_train_batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        weight_decay=settings.weight_decay,
        warmup_steps=0.1,
        use_cpu=True,
        seed=settings.seed,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
    )
    parts.trainer(model=model, args=arguments, train_dataset=parts.datasets, loss=parts.losses).train()
    model.save_pretrained(str(folder), create_model_card=False)


def _scores(kind: str, folder: Path, dev: PairTable) -> Any:
    from sentence_transformers import CrossEncoder, SentenceTransformer

    if kind == "cross-encoder":
        texts = list(zip(dev.left, dev.right, strict=True))
        return CrossEncoder(str(folder), device="cpu").predict(texts, show_progress_bar=False)
    model = SentenceTransformer(str(folder), device="cpu")
    left, right = (model.encode(side, normalize_embeddings=True) for side in (dev.left, dev.right))
    return (left * right).sum(axis=1)


def _split(table: PairTable, rounds: int, train: int, dev: int) -> tuple[PairTable, list[PairTable]]:
    """Pairs to measure, and pairs to train on in each round; no question group is in two of them.

    Raises:
        SystemExit: There are too few pairs.
    """
    order = np.random.default_rng(SEED).permutation(len(table))
    keys = np.unique(table.groups, return_inverse=True)[1]
    # Groups in random order, whole; then parts of that order, whose borders lie between groups.
    rank = np.random.default_rng(SEED).permutation(keys.max() + 1)
    order = order[np.argsort(rank[keys[order]], kind="stable")]
    parts, start = [], 0
    for wanted in (dev, *[train] * rounds):
        stop = start + wanted
        if stop > len(order):
            raise SystemExit(f"{len(table):,} pairs are too few; lower --train-pairs or --dev-pairs")
        parts.append(table.take(order[start:stop]))
        while stop < len(order) and keys[order[stop]] == keys[order[stop - 1]]:
            stop += 1
        start = stop
    return parts[0], parts[1:]


def _stock_bi_encoder(args: argparse.Namespace) -> Path:
    """The bi-encoder of the model in its stock form, made once."""
    folder = args.scratch / "stock"
    if not folder.exists():
        DuplicatePipeline.from_pretrained(model_folder(args)).to_torch().save(folder)
    return folder / BI_ENCODER
