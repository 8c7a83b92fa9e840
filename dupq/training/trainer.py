"""Training of a network, from pairs to a stock folder.

The trainer is that of sentence-transformers.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shutil
import time
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from dupq.data.arguments import as_int, as_kind, as_number, as_path, as_seed
from dupq.data.checks import as_numbers
from dupq.data.pairs import PairTable, as_table
from dupq.data.text import fingerprints
from dupq.data.writing import write_json
from dupq.errors import InputError, TrainingError
from dupq.models.sentence_transformers_io import (
    no_loading_bar,
    save_plainly,
    save_trained,
    training_record,
)
from dupq.training.checkpoints import (
    RUN,
    base_identity,
    discard,
    finished_record,
    last_checkpoint,
    started_run,
)
from dupq.training.methods import (
    Kind,
    Method,
    assemble,
    find_method,
)
from dupq.training.precision import bfloat16_is_faster

if TYPE_CHECKING:
    from sentence_transformers.base.model import BaseModel

Precision = Literal["auto", "float32", "bfloat16"]

MAX_EPOCHS, MAX_BATCH = 10_000, 1_000_000
MAX_LEARNING_RATE = 1.0
"""Maximum learning rate: AdamW moves each weight by about the learning rate per step."""
NEW_MODULE_RATE = 10.0
"""Factor on the learning rate of modules that start from random weights, such as a pair head."""
PACKAGES = ("torch", "transformers", "sentence-transformers", "datasets", "numpy")
RESUME = "free space and run again; training resumes from its last checkpoint"
"""Hint where a trained network could not be written."""


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """Settings of a training run.

    The defaults suit encoders of 3 to 12 layers and 20,000 to 500,000 pairs.

    Attributes:
        base: Hugging Face id or folder of the encoder to start from.
        epochs: Passes over the pairs; may be a fraction.
        batch_size: Pairs per step.
        learning_rate: Peak of a linear schedule with 10 % warm-up.
        weight_decay: Weight decay of AdamW.
        max_length: Maximum number of tokens of a text, or of both together in a cross-encoder.
        dropout: Dropout of the encoder. 0 is a third faster on a CPU, without loss in two or three epochs.
        freeze_embeddings: Freeze the word embeddings: a fifth faster, and rare words keep their embeddings.
        freeze_layers: Number of lowest layers to freeze, with all embeddings (Lee et al. 2019).
        precision: "float32" or "bfloat16"; "auto" measures the faster one on this machine.
        seed: Seed of the order of pairs, of dropout and of new modules.
        max_steps: Maximum number of steps; -1 = no maximum.
        save_steps: Steps between checkpoints.

    Raises:
        InputError: A value is out of range.
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
    precision: Precision = "auto"
    seed: int = 0
    max_steps: int = -1
    save_steps: int = 500

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            if isinstance(value, (np.generic, os.PathLike)):  # not JSON
                object.__setattr__(self, name, value.item() if isinstance(value, np.generic) else str(value))
        if not isinstance(self.base, str) or not str(self.base).strip():
            raise InputError(f"base must name an encoder, got {self.base!r}", hint="give a Hub id or a folder")
        as_number(self.epochs, "epochs", 0, MAX_EPOCHS, above=True, hint="give one such as 3")
        as_int(self.batch_size, "batch_size", 2, MAX_BATCH, hint="give one such as 64")
        as_number(self.learning_rate, "learning_rate", 0, MAX_LEARNING_RATE, above=True, hint="give one such as 8e-5")
        as_number(self.weight_decay, "weight_decay", 0, 1, hint="give one such as 0.01")
        as_int(self.max_length, "max_length", 8, hint="give one such as 128")
        as_number(self.dropout, "dropout", 0, 1, below=True, hint="give one such as 0.1")
        as_int(self.freeze_layers, "freeze_layers", 0)
        as_seed(self.seed)
        if not (isinstance(self.max_steps, int) and self.max_steps == -1):
            as_int(self.max_steps, "max_steps", 1, hint="give one such as 1000, or leave it out")
        as_int(self.save_steps, "save_steps", 1, hint="give one such as 500")
        if not isinstance(self.freeze_embeddings, bool):
            raise InputError(
                f"freeze_embeddings must be True or False, got {self.freeze_embeddings!r}", hint="give one"
            )
        if not isinstance(self.precision, str) or self.precision not in get_args(Precision):
            raise InputError(
                f"precision must be one of {', '.join(get_args(Precision))}, got {self.precision!r}",
                hint='use "auto" for the faster one',
            )


def train(
    kind: Kind,
    pairs: PairTable,
    output: str | Path,
    settings: TrainSettings,
    *,
    method: str | None = None,
    soft_labels: NDArray[np.float64] | None = None,
    validation: PairTable | None = None,
    restart: bool = False,
    quiet: bool = True,
) -> dict[str, Any]:
    """Train a bi-encoder or a cross-encoder and write its folder, whole or not at all.

    A call with the same pairs and settings resumes an interrupted run from its last checkpoint, and returns the record
    of a finished one. Checkpoints are beside the output, in `.NAME.checkpoints`, until it is finished.

    Args:
        kind: "bi-encoder": a `SentenceTransformer`, by default trained by CoSENT (`dupq.training.losses.GapCoSENTLoss`)
            on all pairs and by in-batch ranking (Henderson et al. 2017) on the duplicates. "cross-encoder": a
            `CrossEncoder` with one output, by default trained by binary cross-entropy on pairs in random order.
        pairs: Pairs with labels 0 and 1; with soft labels, unknown labels (-1) are allowed.
        output: Folder to write.
        settings: See `TrainSettings`.
        method: Name of another method of that kind; see `dupq.training.methods.METHODS`.
        soft_labels: float array (n,) in [0, 1] to learn in place of the labels, such as a teacher's probabilities (see
            `dupq.training.teacher`). In-batch ranking still takes the pairs labelled 1.
        validation: Labelled pairs whose average precision is logged after each epoch, without effect on training.
        restart: Discard the network and the checkpoints in `output`.
        quiet: Show no progress bar.

    Returns:
        The record in `dupq_training.json`: settings, versions, data fingerprints and the log.

    Raises:
        InputError: An unknown kind or method, or labels other than 0 and 1, both present.
        TrainingError: The output holds something else, the base cannot be opened, or the loss is not finite.
        ModelFolderError: The base would run code of its own.
        OutputError: The network could not be written; a second call resumes from the last checkpoint.
    """
    if not isinstance(kind, str) or kind not in get_args(Kind):
        raise InputError(f"kind must be one of {', '.join(get_args(Kind))}, got {kind!r}", hint="give one of them")
    as_kind(settings, TrainSettings, "settings", 'give TrainSettings("a base")')
    as_kind(restart, bool, "restart", "give True or False")
    as_kind(quiet, bool, "quiet", "give True or False")
    pairs = as_table(pairs)
    if soft_labels is not None:
        soft_labels = as_numbers(soft_labels, "soft_labels")
    chosen = find_method(kind, method)
    _require_labels(chosen, settings, pairs, soft_labels)
    if validation is not None:
        validation = as_table(validation, "validation")
        _require_both_labels(validation, "validation pairs")
    output = Path(os.path.abspath(as_path(output, "output")))
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
    if soft_labels is not None:
        record["data"] |= {"soft_labels": hashlib.sha256(soft_labels.tobytes()).hexdigest()[:16]}
    # The weights of the base identify a run, because its folder may have moved.
    identity = {**record, "settings": {**record["settings"], "base": base_identity(settings.base)}}
    record["identity"] = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    if restart:
        discard(output, work)
    finished = finished_record(output, record["identity"])
    if finished is not None:
        return finished
    started = started_run(work, record["identity"])
    if started is not None:
        # The precision of a run is measured once, so that a resumed run continues in the same one.
        bfloat16 = bool(started["bfloat16"])
    else:
        bfloat16 = bfloat16_is_faster() if settings.precision == "auto" else settings.precision == "bfloat16"
    from dupq.training.base_models import open_base
    from dupq.training.callbacks import CollapseCallback
    from dupq.training.metric_learning import fit_metric_network
    from dupq.training.similarity_completion import fit_completed_network

    start = time.time()
    checkpoint = last_checkpoint(work) if started is not None else None
    try:
        with no_loading_bar():
            model = open_base(chosen, settings)
            log: list[dict[str, Any]] = []
            if chosen.metric:
                fit_metric_network(model, chosen.metric, pairs, settings.batch_size)
            elif chosen.completion:
                targets = pairs.labels.astype(np.float64) if soft_labels is None else soft_labels
                fit_completed_network(model, pairs, targets, settings.seed, settings.batch_size)
            else:
                trainer = _build_trainer(chosen, model, pairs, soft_labels, validation, settings, work, bfloat16, quiet)
                collapse = CollapseCallback(model)
                trainer.add_callback(collapse)
                write_json(work / RUN, {"identity": record["identity"], "bfloat16": bfloat16})
                trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
                log = _log(trainer.state.log_history)
                record |= {"collapse": collapse.message} if collapse.message else {}
            _require_finite(model)
    except FloatingPointError as error:
        # The checkpoints may hold weights that are not finite.
        shutil.rmtree(work, ignore_errors=True)
        raise TrainingError(
            f"training has collapsed ({error})", location=str(output), hint="lower the learning rate, or use float32"
        ) from error
    record |= {
        "bfloat16": bfloat16,
        "seconds": round(time.time() - start, 1),
        "resumed": checkpoint is not None,
        "versions": versions(),
        "log": log,
    }
    with no_loading_bar():
        save_trained(model, output, record, _questions(pairs, settings.base), save=save_plainly, hint=RESUME)
    shutil.rmtree(work, ignore_errors=True)
    return record


def _require_labels(
    method: Method, settings: TrainSettings, pairs: PairTable, soft_labels: NDArray[np.float64] | None
) -> None:
    if soft_labels is not None:
        _require_soft_labels(soft_labels, len(pairs))
        if not method.takes_soft_labels:
            raise InputError(f"the method {method.name!r} cannot learn from soft labels", hint="use another method")
    elif not method.unsupervised:
        _require_both_labels(pairs, "pairs")
    if method.needs_dropout and settings.dropout == 0:
        raise InputError(f"dropout must be above 0 for the method {method.name!r}, got 0", hint="set it to 0.1")


def _require_both_labels(pairs: PairTable, name: str) -> None:
    labels = np.unique(pairs.labels).tolist()
    if labels != [0, 1]:
        raise InputError(f"{name} must have both labels, 0 and 1, and no others, got {labels}", hint="check the labels")


def _require_soft_labels(soft_labels: NDArray[np.float64], n: int) -> None:
    if not n or soft_labels.shape != (n,) or not bool(((soft_labels >= 0) & (soft_labels <= 1)).all()):
        raise InputError(f"soft_labels must be {n} numbers in [0, 1]", hint="give a probability a pair")
    if not soft_labels.min() < 0.5 < soft_labels.max():
        raise InputError("the soft labels are all on one side of 0.5", hint="give pairs of both kinds")


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
    """Return the versions of Python and of the packages that a result depends on."""
    from importlib.metadata import version

    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def _build_trainer(
    method: Method,
    model: BaseModel,
    pairs: PairTable,
    soft_labels: NDArray[np.float64] | None,
    validation: PairTable | None,
    settings: TrainSettings,
    work: Path,
    bfloat16: bool,
    quiet: bool,
) -> Any:
    import torch
    from transformers import PrinterCallback

    from dupq.training.base_models import NEW_MODULES
    from dupq.training.callbacks import StopIfNotFinite, isolate_validation_rng
    from dupq.training.samplers import choose_batch_sampler

    card: Any = model.model_card_data
    card.widget = [{"text": "none"}]  # skips drawing examples for a card, which is not written
    parts = assemble(method, model, pairs, soft_labels, validation)
    new = method.network and not method.decomposes
    arguments = parts.arguments(
        output_dir=str(work),
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps,
        per_device_train_batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        learning_rate_mapping={NEW_MODULES: NEW_MODULE_RATE * settings.learning_rate} if new else {},
        weight_decay=settings.weight_decay,
        warmup_steps=0.1,
        lr_scheduler_type="linear",
        bf16=bfloat16,
        use_cpu=not torch.cuda.is_available(),
        seed=settings.seed,
        data_seed=settings.seed,
        batch_sampler=choose_batch_sampler,
        save_strategy="steps",
        save_steps=settings.save_steps,
        save_total_limit=2,
        eval_strategy="epoch" if parts.evaluator is not None else "no",
        logging_steps=50,
        # Without the filter, StopIfNotFinite sees a loss that is not finite.
        logging_nan_inf_filter=False,
        disable_tqdm=quiet,
        report_to="none",
        # The default, for a GPU, warns on a CPU.
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    trainer = parts.trainer(
        model=model, args=arguments, train_dataset=parts.datasets, loss=parts.losses, evaluator=parts.evaluator
    )
    isolate_validation_rng(trainer)
    trainer.add_callback(StopIfNotFinite())
    if quiet:
        trainer.remove_callback(PrinterCallback)
    return trainer


def _questions(pairs: PairTable, base: str) -> NDArray[np.int64]:
    """Return the fingerprints of all training questions, those of the base included."""
    own = fingerprints([*pairs.left, *pairs.right])
    _, earlier = training_record(Path(base))
    return np.unique(own if earlier is None else np.concatenate([own, earlier]))
