"""From pairs to a trained network: settings -> stock trainer -> a folder that stock sentence-transformers opens."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from dupq.data.splits import PairTable
from dupq.data.text import fingerprints
from dupq.data.writing import write_json
from dupq.errors import InputError, TrainingError
from dupq.models.stock import no_loading_bar, save_plainly, save_trained, training_record
from dupq.training.methods import Kind, Method, assemble, find_method
from dupq.training.precision import bfloat16_is_faster
from dupq.training.runs import RUN, base_identity, discard, finished_record, last_checkpoint, started_run

if TYPE_CHECKING:
    from sentence_transformers.base.model import BaseModel

FRESH_RATE = 10.0
"""A comparer or an embedding head starts from nothing, and learns at so many times the encoder's rate."""
PACKAGES = ("torch", "transformers", "sentence-transformers", "datasets", "numpy")
GOES_ON = "free space and run again: training goes on from its last checkpoint"
"""What to do where a trained network could not be written."""


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """How a network is trained. The defaults suit encoders of 3 to 12 layers and 20,000 to 500,000 pairs.

    Attributes:
        base: Hugging Face id or folder of the encoder to start from.
        epochs: Passes over the pairs; may be a fraction.
        batch_size: Pairs a step.
        learning_rate: Peak of a linear schedule with 10 % warm-up.
        weight_decay: AdamW's.
        max_length: Tokens a text is cut to; of both questions together in a cross-encoder.
        dropout: Of the encoder while it trains. 0 is a third faster on a CPU and loses nothing in two or three epochs.
        freeze_embeddings: Leave the word embeddings as they are: a fifth faster, and rare words keep their place.
        freeze_layers: Leave all embeddings and so many of the lowest layers as they are (Lee et al. 2019): faster.
        precision: "auto" measures whether bfloat16 is faster here; "float32" and "bfloat16" force it.
        seed: Of the order of pairs, of dropout, and of a fresh head.
        max_steps: Stop after so many steps; -1 = after `epochs`.
        save_steps: Steps between checkpoints.

    Raises:
        InputError: A value that nothing can be trained with.
    """

    base: str
    epochs: float = 3.0
    batch_size: int = 64
    learning_rate: float = 8e-5
    weight_decay: float = 0.01
    max_length: int = 128
    dropout: float = 0.0
    freeze_embeddings: bool = True
    freeze_layers: int = 0
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    seed: int = 0
    max_steps: int = -1
    save_steps: int = 500

    def __post_init__(self) -> None:
        sound = {
            "epochs": self.epochs > 0,
            "batch_size": self.batch_size >= 2,
            "learning_rate": self.learning_rate > 0,
            "weight_decay": self.weight_decay >= 0,
            "max_length": self.max_length >= 8,
            "dropout": 0 <= self.dropout < 1,
            "freeze_layers": self.freeze_layers >= 0,
            "precision": self.precision in ("auto", "float32", "bfloat16"),
            "max_steps": self.max_steps == -1 or self.max_steps > 0,
            "save_steps": self.save_steps > 0,
        }
        for name in (name for name, good in sound.items() if not good):
            raise InputError(f"{name} = {getattr(self, name)!r} cannot be trained with", mend="see TrainSettings")


def train(
    kind: Kind,
    pairs: PairTable,
    output: str | Path,
    settings: TrainSettings,
    *,
    method: str | None = None,
    targets: NDArray[np.float64] | None = None,
    validation: PairTable | None = None,
    restart: bool = False,
    quiet: bool = True,
) -> dict[str, Any]:
    """Trains a bi-encoder or a cross-encoder and writes its folder, whole or not at all.

    An interrupted run goes on from its last checkpoint when called again with the same pairs and settings; a finished
    one is left as it is. Checkpoints lie beside `output`, in `.NAME.checkpoints`, until it is whole.

    Args:
        kind: "bi-encoder": a stock `SentenceTransformer`, trained by CoSENT (Huang et al. 2024) on the labelled pairs,
            targets counting by how far they are apart (`dupq.training.losses.GapCoSENTLoss`), and by in-batch ranking
            (Henderson et al. 2017) on the duplicates. "cross-encoder": a stock `CrossEncoder`
            with one output, trained by binary cross-entropy on pairs in random order.
        method: Another way of training a network of that kind; `dupq.training.methods.METHODS` lists them.
        pairs: Labelled pairs to learn from.
        output: The folder to write.
        settings: See `TrainSettings`.
        targets: What to learn in place of the labels: float array (n,) in [0, 1], a teacher's probabilities for
            instance (see `dupq.training.distillation`). Labels may then be unknown (-1); those that are 1 still say
            which pairs the in-batch ranking takes.
        validation: Pairs whose average precision is logged after each epoch; they decide nothing.
        restart: Throw away the network and the checkpoints of other settings that `output` holds.
        quiet: Show no progress bar.

    Returns:
        The record that is also written to `dupq_training.json`: settings, versions, data fingerprints, the log.

    Raises:
        InputError: Labels other than 0 and 1, or only one of them; an unknown kind or method.
        TrainingError: `output` holds something else, the base cannot be opened, or the loss is not finite.
        ModelFolderError: The base would have code of its own run.
        OutputError: The network could not be written; run again, and training goes on from its last checkpoint.
    """
    if kind not in get_args(Kind):
        raise InputError(f"{kind!r} is no kind of network", mend=f"use one of {', '.join(get_args(Kind))}")
    chosen = find_method(kind, method)
    _require_what_it_learns_from(chosen, settings, pairs, targets)
    if validation is not None:
        _require_both_labels(validation, "cannot be validated on")
    output = Path(os.path.abspath(output))
    work = output.with_name(f".{output.name}.checkpoints")
    record: dict[str, Any] = {
        "kind": kind,
        "settings": asdict(settings),
        "data": {
            "pairs": len(pairs),
            "base_rate": pairs.base_rate if (pairs.labels >= 0).any() else None,
            "fingerprint": pairs.fingerprint,
        },
    }
    if chosen is not find_method(kind):
        record["method"] = chosen.name
    if targets is not None:
        record["data"] |= {"targets": hashlib.sha256(targets.tobytes()).hexdigest()[:16]}
    # The base's folder may lie elsewhere next time: its weights tell one run from another, not its path.
    identity = {**record, "settings": {**record["settings"], "base": base_identity(settings.base)}}
    record["identity"] = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    if restart:
        discard(output, work)
    finished = finished_record(output, record["identity"])
    if finished is not None:
        return finished
    started = started_run(work, record["identity"])
    if started is not None:
        # What was measured when the run began holds to its end, or its second half would not be of the first.
        bfloat16 = bool(started["bfloat16"])
    else:
        bfloat16 = bfloat16_is_faster() if settings.precision == "auto" else settings.precision == "bfloat16"
    from dupq.training.bases import open_base
    from dupq.training.metric_learning import fit_metric_network
    from dupq.training.watching import WatchForCollapse

    start = time.time()
    checkpoint = last_checkpoint(work) if started is not None else None
    try:
        with no_loading_bar():
            model = open_base(chosen, settings)
            if chosen.metric:
                fit_metric_network(model, chosen.metric, pairs, settings.batch_size)
                log = []
            else:
                trainer = _build_trainer(chosen, model, pairs, targets, validation, settings, work, bfloat16, quiet)
                watch = WatchForCollapse(model)
                trainer.add_callback(watch)
                write_json(work / RUN, {"identity": record["identity"], "bfloat16": bfloat16})
                trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
                log = _log(trainer.state.log_history)
                record |= {"collapse": watch.told} if watch.told else {}
            _require_finite(model)
    except FloatingPointError as error:
        # Its checkpoints may hold such weights too.
        shutil.rmtree(work, ignore_errors=True)
        raise TrainingError(
            f"training has collapsed ({error})", where=str(output), mend="lower the learning rate, or use float32"
        ) from error
    record |= {
        "bfloat16": bfloat16,
        "seconds": round(time.time() - start, 1),
        "resumed": checkpoint is not None,
        "versions": versions(),
        "log": log,
    }
    with no_loading_bar():
        save_trained(model, output, record, _questions(pairs, settings.base), save=save_plainly, mend=GOES_ON)
    shutil.rmtree(work, ignore_errors=True)
    return record


def _require_what_it_learns_from(
    method: Method, settings: TrainSettings, pairs: PairTable, targets: NDArray[np.float64] | None
) -> None:
    if targets is not None:
        _require_targets(targets, len(pairs))
        if not method.takes_targets:
            raise InputError(f"the method {method.name!r} cannot learn from targets", mend="use another method")
    elif not method.unsupervised:
        _require_both_labels(pairs, "cannot be trained on")
    elif settings.dropout == 0:
        raise InputError(f"the method {method.name!r} learns from dropout, which is 0", mend="set it to 0.1")


def _require_both_labels(pairs: PairTable, problem: str) -> None:
    found = np.unique(pairs.labels).tolist()
    if found != [0, 1]:
        raise InputError(
            f"pairs with the labels {found} {problem}",
            mend="give pairs of both labels, 0 and 1, and no unlabelled ones",
        )


def _require_targets(targets: NDArray[np.float64], n: int) -> None:
    if targets.shape != (n,) or not bool(((targets >= 0) & (targets <= 1)).all()):
        raise InputError(f"the targets are not {n} numbers in [0, 1]", mend="give a probability a pair")
    if not targets.min() < 0.5 < targets.max():
        raise InputError("the targets are all on one side of 0.5", mend="give pairs of both kinds")


def _require_finite(model: BaseModel) -> None:
    for name, parameter in model.named_parameters():
        if not bool(parameter.isfinite().all()):
            raise FloatingPointError(f"the weights {name} are not finite")


def _log(history: list[dict[str, Any]]) -> list[dict[str, Any]]:
    kept = [entry for entry in history if "loss" in entry or any("eval" in key for key in entry)]
    return [
        {key: value if not isinstance(value, float) or np.isfinite(value) else None for key, value in entry.items()}
        for entry in kept
    ]


def versions() -> dict[str, str]:
    """The versions that a result depends on."""
    from importlib.metadata import version

    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def _build_trainer(
    method: Method,
    model: BaseModel,
    pairs: PairTable,
    targets: NDArray[np.float64] | None,
    validation: PairTable | None,
    settings: TrainSettings,
    work: Path,
    bfloat16: bool,
    quiet: bool,
) -> Any:
    import torch
    from transformers import PrinterCallback

    from dupq.training.bases import FRESH
    from dupq.training.watching import StopIfNotFinite, watch_aside

    card: Any = model.model_card_data
    card.widget = [{"text": "none"}]  # no card is written here, so no examples need be drawn for one
    parts = assemble(method, model, pairs, targets, validation)
    arguments = parts.arguments(
        output_dir=str(work),
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps,
        per_device_train_batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        learning_rate_mapping={FRESH: FRESH_RATE * settings.learning_rate} if method.network else {},
        weight_decay=settings.weight_decay,
        warmup_steps=0.1,
        lr_scheduler_type="linear",
        bf16=bfloat16,
        use_cpu=not torch.cuda.is_available(),
        seed=settings.seed,
        data_seed=settings.seed,
        batch_sampler=parts.batch_sampler,
        save_strategy="steps",
        save_steps=settings.save_steps,
        save_total_limit=2,
        eval_strategy="epoch" if parts.evaluator is not None else "no",
        logging_steps=50,
        # Told as it is, so that a collapse is seen at once.
        logging_nan_inf_filter=False,
        disable_tqdm=quiet,
        report_to="none",
        # The default switches for a GPU only warn on a CPU.
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    trainer = parts.trainer(
        model=model, args=arguments, train_dataset=parts.datasets, loss=parts.losses, evaluator=parts.evaluator
    )
    watch_aside(trainer)
    trainer.add_callback(StopIfNotFinite())
    if quiet:
        trainer.remove_callback(PrinterCallback)
    return trainer


def _questions(pairs: PairTable, base: str) -> NDArray[np.int64]:
    """Fingerprints of all questions that the network has seen: of these pairs, and of those its base was trained on."""
    seen = fingerprints([*pairs.left, *pairs.right])
    _, earlier = training_record(Path(base))
    return np.unique(seen if earlier is None else np.concatenate([seen, earlier]))
