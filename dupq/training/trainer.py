"""From pairs to a trained network: settings -> stock trainer -> a folder that stock sentence-transformers opens."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import platform
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from dupq.data.splits import PairTable
from dupq.data.text import fingerprints
from dupq.data.writing import write_json
from dupq.errors import InputError, TrainingError
from dupq.training.precision import bfloat16_is_faster

if TYPE_CHECKING:
    from sentence_transformers.base.model import BaseModel

logger = logging.getLogger(__name__)

Kind = Literal["bi-encoder", "cross-encoder"]
RECORD = "dupq_training.json"
QUESTIONS = "dupq_training_questions.safetensors"
PACKAGES = ("torch", "transformers", "sentence-transformers", "datasets", "numpy")


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
        precision: "auto" measures whether bfloat16 is faster here; "float32" and "bfloat16" force it.
        seed: Of the order of pairs, of dropout, and of a fresh head.
        max_steps: Stop after so many steps; -1 = after `epochs`.
        save_steps: Steps between checkpoints.
    """

    base: str
    epochs: float = 3.0
    batch_size: int = 64
    learning_rate: float = 8e-5
    weight_decay: float = 0.01
    max_length: int = 128
    dropout: float = 0.0
    freeze_embeddings: bool = True
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    seed: int = 0
    max_steps: int = -1
    save_steps: int = 500


def train(
    kind: Kind,
    pairs: PairTable,
    output: str | Path,
    settings: TrainSettings,
    *,
    validation: PairTable | None = None,
    restart: bool = False,
    quiet: bool = True,
) -> dict[str, Any]:
    """Trains a bi-encoder or a cross-encoder and writes its folder, whole or not at all.

    An interrupted run goes on from its last checkpoint when called again with the same pairs and settings; a finished
    one is left as it is.

    Args:
        kind: "bi-encoder": a stock `SentenceTransformer`, trained by CoSENT (Huang et al. 2024) on the labelled pairs and
            by in-batch ranking (Henderson et al. 2017) on the duplicates. "cross-encoder": a stock `CrossEncoder` with
            one output, trained by binary cross-entropy on pairs in random order.
        pairs: Labelled pairs to learn from.
        output: The folder to write.
        settings: See `TrainSettings`.
        validation: Pairs whose average precision is logged after each epoch; they decide nothing.
        restart: Throw away checkpoints and results of other settings that `output` holds.
        quiet: Show no progress bar.

    Returns:
        The record that is also written to `dupq_training.json`: settings, versions, data fingerprints, the log.

    Raises:
        InputError: Labels other than 0 and 1, or only one of them.
        TrainingError: `output` holds a run with other settings, the base cannot be opened, or the loss is not finite.
    """
    if set(np.unique(pairs.labels).tolist()) != {0, 1}:
        raise InputError(
            f"labels {sorted(set(pairs.labels.tolist()))} cannot be trained on",
            mend="give pairs of both labels, 0 and 1, and no unlabelled ones",
        )
    output = Path(output)
    record: dict[str, Any] = {
        "kind": kind,
        "settings": asdict(settings),
        "data": {"pairs": len(pairs), "base_rate": pairs.base_rate, "fingerprint": pairs.fingerprint},
    }
    # The base's folder may lie elsewhere next time; its name is enough to tell one run from another.
    identity = {**record, "settings": {**record["settings"], "base": Path(settings.base).name}}
    record["identity"] = hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
    work = output.with_name(f".{output.name}.checkpoints")
    finished = _finished(output, work, record["identity"], restart)
    if finished is not None:
        return finished
    start = time.time()
    # The libraries' own bars and notes would speak over the caller's.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    bfloat16 = bfloat16_is_faster() if settings.precision == "auto" else settings.precision == "bfloat16"
    trainer = _build_trainer(kind, pairs, validation, settings, work, bfloat16, quiet)
    checkpoint = _last_checkpoint(work)
    write_json(work / "identity.json", record["identity"])
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    model = trainer.model
    if not all(bool(parameter.isfinite().all()) for parameter in model.parameters()):
        raise TrainingError(
            "the weights are not finite", where=str(output), mend="lower the learning rate, or train in float32"
        )
    record |= {
        "bfloat16": bfloat16,
        "seconds": round(time.time() - start, 1),
        "resumed": checkpoint is not None,
        "versions": versions(),
        "log": [entry for entry in trainer.state.log_history if "loss" in entry or any("eval" in key for key in entry)],
    }
    _save(model, pairs, record, output)
    shutil.rmtree(work, ignore_errors=True)
    return record


def versions() -> dict[str, str]:
    """The versions that a result depends on."""
    from importlib.metadata import version

    return {"python": platform.python_version(), **{name: version(name) for name in PACKAGES}}


def _finished(output: Path, work: Path, identity: str, restart: bool) -> dict[str, Any] | None:
    if restart:
        shutil.rmtree(output, ignore_errors=True)
        shutil.rmtree(work, ignore_errors=True)
    mend = "name another folder, or pass --restart to throw it away"
    if (output / RECORD).is_file():
        record: dict[str, Any] = json.loads((output / RECORD).read_text(encoding="utf-8"))
        if record.get("identity") != identity:
            raise TrainingError("this folder holds a network trained otherwise", where=str(output), mend=mend)
        return record
    if output.exists() and any(output.iterdir()):
        raise TrainingError("this folder is not empty", where=str(output), mend=mend)
    if (work / "identity.json").is_file() and json.loads((work / "identity.json").read_text()) != identity:
        raise TrainingError("the checkpoints here are of a run with other settings or pairs", where=str(work), mend=mend)
    return None


def _last_checkpoint(work: Path) -> Path | None:
    # The trainer writes its state last: a checkpoint without it was cut off.
    whole = [path.parent for path in work.glob("checkpoint-*/trainer_state.json")]
    return max(whole, key=lambda path: int(path.name.split("-")[1]), default=None)


def _open_base(kind: Kind, settings: TrainSettings) -> BaseModel:
    import torch
    from sentence_transformers import CrossEncoder, SentenceTransformer
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    torch.manual_seed(settings.seed)
    # On a CPU the plain attention is a fifth faster than the fused one at the length of a question.
    model_kwargs: dict[str, Any] = {"dtype": torch.float32}
    if not torch.cuda.is_available():
        model_kwargs["attn_implementation"] = "eager"
    try:
        if kind == "cross-encoder":
            return CrossEncoder(
                settings.base, num_labels=1, max_length=settings.max_length, model_kwargs=model_kwargs
            )
        model = SentenceTransformer(settings.base, model_kwargs=model_kwargs)
        model.max_seq_length = settings.max_length
        return model
    except (OSError, ValueError) as error:
        raise TrainingError(
            f"the base encoder cannot be opened ({error})", where=settings.base, mend="name a Hugging Face id or a folder"
        ) from error


def _set_dropout(model: BaseModel, share: float) -> None:
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = share


def _freeze_word_embeddings(model: BaseModel) -> None:
    encoder = getattr(model[0], "auto_model", None) or getattr(model[0], "model", None)
    if encoder is not None and hasattr(encoder, "get_input_embeddings"):
        encoder.get_input_embeddings().weight.requires_grad_(False)


def _build_trainer(
    kind: Kind,
    pairs: PairTable,
    validation: PairTable | None,
    settings: TrainSettings,
    work: Path,
    bfloat16: bool,
    quiet: bool,
) -> Any:
    import torch

    from dupq.training.methods import assemble

    model = _open_base(kind, settings)
    _set_dropout(model, settings.dropout)
    if settings.freeze_embeddings:
        _freeze_word_embeddings(model)
    parts = assemble(kind, model, pairs, validation)
    arguments = parts.arguments(
        output_dir=str(work),
        num_train_epochs=settings.epochs,
        max_steps=settings.max_steps,
        per_device_train_batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
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
        disable_tqdm=quiet,
        report_to="none",
        # The default switches for a GPU only warn on a CPU.
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    trainer = parts.trainer(
        model=model, args=arguments, train_dataset=parts.datasets, loss=parts.losses, evaluator=parts.evaluator
    )
    if quiet:
        _silence(trainer)
    return trainer


def _silence(trainer: Any) -> None:
    from transformers import PrinterCallback

    trainer.remove_callback(PrinterCallback)


def _save(model: BaseModel, pairs: PairTable, record: dict[str, Any], output: Path) -> None:
    from safetensors.numpy import save_file

    beside = output.with_name(f".{output.name}.{os.getpid()}.part")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        model.save_pretrained(str(beside), create_model_card=False)
        questions = np.unique(fingerprints([*pairs.left, *pairs.right]))
        save_file({"fingerprints": questions}, str(beside / QUESTIONS))
        write_json(beside / RECORD, record)
        os.replace(beside, output)
    except OSError as error:
        raise TrainingError(
            f"the network could not be written ({error})",
            where=str(output),
            mend="free space and run again: training goes on from its last checkpoint",
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def with_defaults(settings: TrainSettings, kind: Kind, **given: Any) -> TrainSettings:
    """The settings with those of `given` that are not None."""
    chosen: Callable[..., TrainSettings] = replace
    return chosen(settings, **{name: value for name, value in given.items() if value is not None})
