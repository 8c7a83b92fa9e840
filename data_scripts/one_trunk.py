"""Distil the shipped pipeline into one network of one trunk and two heads.

    python -m data_scripts.one_trunk --work DIR --paws FILE --mrpc FILE --twitter FILE --posts FILE... --pairs FILE \\
        --other DIR [--layers L,K] [--trunk cross-encoder|bi-encoder] [--from NAME] [--name NAME] [--rows N]

The trunk of L layers embeds each question; K joint layers score a pair from its states of both. Stages: prepare
(splits, rows, outputs of the teacher), start (a network made of the shipped weights) and distil. Run again after an
interruption, it resumes: each stage keeps its files, and training has a checkpoint every few minutes. Networks go to
WORK/NAME: `cross-encoder` is the whole as a stock `CrossEncoder`, `bi-encoder` its trunk as a stock
`SentenceTransformer`.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from numpy.typing import NDArray
from sentence_transformers import CrossEncoder
from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
from sklearn.metrics import average_precision_score
from transformers import TrainerCallback

from data_scripts import mix
from data_scripts.one_trunk_rows import Taught, prepare_rows
from dupq.calibration.numerics import expit
from dupq.cli.main import main as dupq
from dupq.models.batching import rows_of
from dupq.models.one_trunk import cut_layers, embedding_network, joint_layers
from dupq.models.pair_heads.pairs import PairEncoder, masked_mean
from dupq.models.sentence_transformers_io import open_stock, save_plainly
from dupq.training.callbacks import StopIfNotFinite
from dupq.training.checkpoints import last_checkpoint
from dupq.training.one_trunk_loss import OneTrunkLoss, TeacherTable
from dupq.training.precision import bfloat16_is_faster
from dupq.training.samplers import LengthBucketedBatchSampler

SHIPPED = Path(__file__).resolve().parent.parent / "dupq" / "pretrained"
TEACHER_SHARE = 0.7
"""Share of the teacher's probability in the soft label of a labelled pair; the rest is its label."""
LEARNING_RATE, BATCH_SIZE, MAX_LENGTH = 2e-4, 64, 256
TRUNK_RATE = 0.3
"""Learning rate of the trunk, as a share of that of the joint layers: it starts from a trained bi-encoder."""
CHECKPOINT_SECONDS = 300.0
LOGGED_STEPS = 50
ROWS = 240_000
"""Labelled rows."""
FITTED_TEXTS = 4_096
"""Texts that the first projection is fitted on."""
FITTED_PAIRS = 8_192
"""Labelled pairs that the first readout of the pair head is fitted on."""


@dataclass(frozen=True)
class Shape:
    """Shape of a network, and the layers that it starts from.

    Attributes:
        trunk: Number of layers of the trunk.
        joint: Number of joint layers.
        source: Network whose layers the trunk starts from.
    """

    trunk: int
    joint: int
    source: str

    @property
    def name(self) -> str:
        return f"{self.trunk}-{self.joint}-{self.source}"

    def trunk_layers(self, layers: int) -> list[int]:
        """Return which of a network's layers the trunk starts from.

        The lowest of a cross-encoder; of a bi-encoder, layers at equal distances with the first and the last.
        """
        if self.source == "cross-encoder":
            return list(range(self.trunk))
        return [int(layer) for layer in np.linspace(0, layers - 1, self.trunk).round()]


def prepare(args: argparse.Namespace) -> Taught:
    """Split the data sets, draw the rows, and compute the teacher's outputs."""
    work = args.work
    for name, options in (("pairs", ["--held-out-where", "natural=1"]), ("paws", []), ("twitter", [])):
        folder = work / ("splits" if name == "pairs" else name)
        if not (folder / "split.json").is_file():
            run("data", "split", getattr(args, name), "-o", folder, *options)
    if not (work / "shipped").is_dir():
        run("model", "to-torch", SHIPPED, "-o", work / "shipped")
    sources = mix.Sources(work / "splits", work / "paws", work / "twitter", args.mrpc, args.posts, args.other)
    return prepare_rows(sources, SHIPPED, work / "rows", args.rows, args.near)


def run(*arguments: str | Path) -> None:
    """Run one dupq command; exit if it fails."""
    print("$ dupq", *arguments, flush=True)
    if dupq([str(argument) for argument in arguments]):
        sys.exit(1)


def start(shape: Shape, shipped: Path, taught: Taught) -> tuple[CrossEncoder, Any]:
    """Return a network made of the shipped weights, and the projection of its embedding head."""
    upper = open_stock("cross-encoder", str(shipped / "cross-encoder"), "cpu")[0].model
    bi_encoder = open_stock("bi-encoder", str(shipped / "bi-encoder"), "cpu")
    encoder = PairEncoder(
        str(shipped / shape.source),
        max_seq_length=MAX_LENGTH,
        model_kwargs={"dtype": torch.float32, "attn_implementation": "eager"},
        config_kwargs={"num_labels": 1},
    )
    bert: Any = encoder.model
    kept = shape.trunk_layers(len(bert.encoder.layer))
    whole = len(kept) == len(bert.encoder.layer)
    cut_layers(bert, kept)
    head = joint_layers(bert, shape.joint)
    head.copy_bert(upper.bert.encoder.layer[-shape.joint :])
    head.pooler.load_state_dict(upper.bert.pooler.dense.state_dict())
    head.classifier.load_state_dict(upper.classifier.state_dict())
    network = CrossEncoder(modules=[encoder, head], device="cpu")
    fit_readout(network, taught)
    if shape.source == "bi-encoder" and whole and len(bi_encoder) > 3:
        return network, bi_encoder[2].linear.weight.detach().clone()
    return network, fit_projection(network, taught.texts[:FITTED_TEXTS], taught.vectors[:FITTED_TEXTS])


def open_both(folder: Path) -> tuple[CrossEncoder, torch.Tensor]:
    """Open a network that `save_both` wrote, and the projection of its embedding head."""
    bi_encoder = open_stock("bi-encoder", str(folder / "bi-encoder"), "cpu")
    return open_stock("cross-encoder", str(folder / "cross-encoder"), "cpu"), bi_encoder[2].linear.weight.detach()


def fit_projection(network: CrossEncoder, texts: list[str], vectors: NDArray[np.float32]) -> torch.Tensor:
    """Return the linear map of the trunk's mean token states nearest to the given vectors, (e, d)."""
    trunk: Any = network[0]
    pooled = []
    with torch.inference_mode():
        for at in range(0, len(texts), 64):
            features = trunk(trunk.preprocess(texts[at : at + 64]))
            pooled.append(masked_mean(features["token_embeddings"], features["attention_mask"]))
    return ridge_regression(torch.cat(pooled), torch.from_numpy(vectors)).T.float().contiguous()


def fit_readout(network: CrossEncoder, taught: Taught) -> None:
    """Fit what the pair head reads its pooled vector from to the teacher's pooled vectors, by ridge regression."""
    trunk: Any = network[0]
    head: Any = network[1]
    fitted = np.arange(min(FITTED_PAIRS, len(taught.left)))
    fitted = fitted[np.argsort([max(len(taught.left[row]), len(taught.right[row])) for row in fitted], kind="stable")]
    read = []
    with torch.inference_mode():
        for part in np.array_split(fitted, -(-len(fitted) // BATCH_SIZE)):
            features = trunk(trunk.preprocess([(taught.left[row], taught.right[row]) for row in part]))
            read.append(torch.cat(head.read(features["token_embeddings"], features["attention_mask"].bool()), dim=1))
    inputs = torch.cat(read)
    inputs = torch.cat([inputs, torch.ones(len(inputs), 1)], dim=1)
    targets = torch.from_numpy(taught.pooled[fitted]).float().clamp(-0.99, 0.99).atanh()
    solution = ridge_regression(inputs, targets).T.float()
    width = head.pooler.in_features
    with torch.no_grad():
        head.pooler.weight.copy_(solution[:, :width])
        head.agreement.weight.copy_(solution[:, width:-1])
        head.pooler.bias.copy_(solution[:, -1])
        scores = head.classifier(torch.tanh(inputs @ solution.T)).squeeze(1).double().numpy()
    labels = taught.labels[fitted]
    found = average_precision_score(labels[labels >= 0], scores[labels >= 0])
    print(f"the fitted readout has an average precision of {found:.3f} on its own {len(fitted):,} pairs", flush=True)


def ridge_regression(inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the linear map of inputs (n, d) nearest to targets (n, e), float64 (d, e)."""
    inputs, targets = inputs.double(), targets.double()
    ridge = 1e-3 * inputs.square().mean() * len(inputs) * torch.eye(inputs.shape[1], dtype=torch.float64)
    return torch.linalg.solve(inputs.T @ inputs + ridge, inputs.T @ targets)


def teacher_table(taught: Taught) -> TeacherTable:
    """Return the tensors of the teacher's outputs."""
    p = expit(taught.logits.astype(np.float64))
    soft_labels = np.where(taught.labels >= 0, TEACHER_SHARE * p + (1 - TEACHER_SHARE) * taught.labels, p)
    ordered = [(a, b) if a <= b else (b, a) for a, b in zip(taught.left, taught.right, strict=True)]
    questions = np.stack([rows_of([pair[side] for pair in ordered], taught.texts) for side in (0, 1)], axis=1)
    arrays = (soft_labels, taught.logits, taught.pooled, questions, taught.vectors)
    return TeacherTable(*map(torch.from_numpy, arrays))


class LongerTextSampler(LengthBucketedBatchSampler):
    """Length-bucketed batches for an encoder that pads both texts of a pair to the longest of the batch."""

    def __init__(self, dataset: Dataset, batch_size: int, drop_last: bool, **kwargs: Any) -> None:
        super().__init__(dataset, batch_size=batch_size, drop_last=drop_last, **kwargs)
        sides = [np.array([len(text) for text in dataset[name]]) for name in ("sentence1", "sentence2")]
        self.lengths = np.maximum(*sides)


class Watch(TrainerCallback):
    """Callback that asks for a checkpoint every few minutes, and prints the terms of the loss."""

    def __init__(self, loss: OneTrunkLoss) -> None:
        self.loss, self.saved, self.started = loss, time.monotonic(), time.monotonic()
        self.means: dict[str, float] = {}

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        for name, term in self.loss.terms.items():
            self.means[name] = 0.95 * self.means.get(name, term) + 0.05 * term
        if time.monotonic() - self.saved > CHECKPOINT_SECONDS:
            control.should_save, self.saved = True, time.monotonic()

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        terms = " ".join(f"{name} {mean:.4f}" for name, mean in self.means.items())
        seconds = time.monotonic() - self.started
        print(f"step {state.global_step:,} of {state.max_steps:,}, {seconds:,.0f} s: {terms}", flush=True)


def distil(
    network: CrossEncoder,
    loss: OneTrunkLoss,
    taught: Taught,
    checkpoints: Path,
    epochs: float,
    max_steps: int = -1,
    learning_rate: float = LEARNING_RATE,
) -> None:
    """Train a network, from its last checkpoint if there is one."""
    columns = {"sentence1": taught.left, "sentence2": taught.right, "label": list(range(len(taught.left)))}
    trunk: Any = network[0]
    trunk.model.get_input_embeddings().weight.requires_grad_(False)
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    network.model_card_data.widget = [{"text": "none"}]  # skips drawing examples for a card, which is not written
    arguments = CrossEncoderTrainingArguments(
        output_dir=str(checkpoints),
        num_train_epochs=epochs,
        max_steps=max_steps,
        per_device_train_batch_size=BATCH_SIZE,
        learning_rate=learning_rate,
        learning_rate_mapping={r"^model\.0\.": TRUNK_RATE * learning_rate},
        weight_decay=0.01,
        warmup_steps=0.05,
        lr_scheduler_type="linear",
        bf16=bfloat16_is_faster(),
        use_cpu=not torch.cuda.is_available(),
        batch_sampler=LongerTextSampler,
        save_strategy="no",
        save_total_limit=2,
        logging_steps=LOGGED_STEPS,
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        report_to="none",
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    trainer = CrossEncoderTrainer(model=network, args=arguments, train_dataset=Dataset.from_dict(columns), loss=loss)
    trainer.add_callback(StopIfNotFinite())
    trainer.add_callback(Watch(loss))
    checkpoint = last_checkpoint(checkpoints)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)


def save_both(network: CrossEncoder, projection: torch.Tensor, folder: Path) -> None:
    """Write the whole as a stock cross-encoder, and its trunk as a stock bi-encoder."""
    for name, model in (("cross-encoder", network), ("bi-encoder", embedding_network(network, projection))):
        shutil.rmtree(folder / name, ignore_errors=True)
        save_plainly(model, folder / name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of splits, rows, networks and checkpoints")
    parser.add_argument("--pairs", required=True, type=Path, help="Quora pairs, with a column natural")
    for name in ("paws", "mrpc", "twitter"):
        parser.add_argument(f"--{name}", required=True, type=Path, help="labelled pairs of this data set")
    parser.add_argument("--posts", required=True, nargs="+", type=Path, help="labelled pairs of forum posts")
    parser.add_argument("--other", required=True, type=Path, help="folder of the sets in `mix.OTHER_SETS`")
    parser.add_argument("--rows", type=int, default=ROWS, help=f"labelled rows (default: {ROWS})")
    parser.add_argument("--near", type=int, default=0, help="unlabelled near pairs (default: 0)")
    parser.add_argument("--layers", default="6,3", help="layers of the trunk, joint layers (default: 6,3)")
    parser.add_argument("--trunk", choices=("cross-encoder", "bi-encoder"), default="bi-encoder")
    parser.add_argument("--from", dest="previous", metavar="NAME", help="continue from this network of WORK")
    parser.add_argument("--name", help="name of the network (default: by its shape)")
    parser.add_argument("--epochs", type=float, default=1.0)
    parser.add_argument("--max-steps", type=int, default=-1)
    parser.add_argument("--learning-rate", type=float, default=LEARNING_RATE)
    args = parser.parse_args()
    lower, joint = map(int, args.layers.split(","))
    shape = Shape(lower, joint, args.trunk)
    folder = args.work / (args.name or shape.name)
    if (folder / "bi-encoder").is_dir():
        return
    taught = prepare(args)
    torch.manual_seed(0)
    if args.previous:
        network, projection = open_both(args.work / args.previous)
    else:
        network, projection = start(shape, args.work / "shipped", taught)
    if not (folder / "start").is_dir():
        save_both(network, projection, folder / "start")
    loss = OneTrunkLoss(network, teacher_table(taught), projection)
    distil(network, loss, taught, folder / "checkpoints", args.epochs, args.max_steps, args.learning_rate)
    save_both(network.eval(), projection, folder)
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)


if __name__ == "__main__":
    main()
