"""Rows that a network of one trunk and two heads is distilled on, and its teacher's outputs for them.

The teacher is the shipped pipeline: the logit and the pooled vector of its cross-encoder for each pair, and the vector
of its bi-encoder for each question. Outputs are written in parts, so that an interrupted run resumes.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_scripts import mix
from dupq.data.pairs import PairTable
from dupq.data.writing import write_rows
from dupq.models.batching import chunks, rows_of
from dupq.models.onnx.runtime import Runner, RuntimeBiEncoder, RuntimeNetwork
from dupq.models.symmetry import symmetric_scores
from dupq.training.teacher import candidate_pairs
from dupq.types import Progress

MORE_QUORA = 25_000
"""Rows of Quora beside those of `mix`."""
MIN_COSINE = 0.7
"""Minimum cosine of an unlabelled pair."""
PART = 8_192
"""Pairs, or texts, of a part of the teacher's outputs."""
COLUMNS = ["question1", "question2", "label", "source"]

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Taught:
    """n training pairs with the teacher's outputs, and m distinct questions with their vectors.

    Attributes:
        left, right: n texts each.
        labels: (n,); -1 = unknown.
        logits: float32 (n,), of the cross-encoder.
        pooled: float16 (n, d), of the cross-encoder: what its classifier reads.
        texts: m distinct texts, in the order of the pairs.
        vectors: float32 (m, e), rows of unit length, of the bi-encoder.
    """

    left: list[str]
    right: list[str]
    labels: NDArray[np.int8]
    logits: NDArray[np.float32]
    pooled: NDArray[np.float16]
    texts: list[str]
    vectors: NDArray[np.float32]


def prepare_rows(sources: mix.Sources, teacher: Path, folder: Path, count: int, near: int = 0) -> Taught:
    """Return the first rows and the teacher's outputs for them; what is not in the folder is computed.

    Args:
        sources: Data sets.
        teacher: Folder of the shipped pipeline.
        folder: Folder of the rows and the outputs.
        count: Maximum number of labelled rows.
        near: Maximum number of unlabelled near pairs of their questions.
    """
    folder.mkdir(parents=True, exist_ok=True)
    labelled = folder / "labelled.jsonl"
    if not labelled.is_file():
        rows = _labelled_rows(sources)
        random.Random(mix.SEED).shuffle(rows)
        _write(labelled, rows)
    rows = mix.read(labelled)
    # In the order of the rows, so that the parts of fewer rows are parts of more.
    every_text = list(dict.fromkeys(row[name] for row in rows for name in ("question1", "question2")))
    rows = rows[:count]
    texts = list(dict.fromkeys(row[name] for row in rows for name in ("question1", "question2")))
    vectors = question_vectors(every_text, teacher / "bi-encoder", folder / "vectors", len(texts))
    pairs = _table(rows)
    outputs = pair_outputs(pairs, teacher / "cross-encoder", folder / "outputs")
    if near:
        found = _near_pairs(rows, _Known(texts, vectors), near, folder / f"near-{count}-{near}.jsonl")
        more = pair_outputs(found, teacher / "cross-encoder", folder / f"near-{count}-{near}")
        pairs = PairTable(
            [*pairs.left, *found.left], [*pairs.right, *found.right], np.concatenate([pairs.labels, found.labels])
        )
        outputs = {name: np.concatenate([outputs[name], more[name]]) for name in outputs}
    return Taught(pairs.left, pairs.right, pairs.labels, outputs["logits"], outputs["pooled"], texts, vectors)


def _near_pairs(rows: mix.Rows, vectors: _Known, count: int, file: Path) -> PairTable:
    if not file.is_file():
        near = [row for row in rows if row["source"] in ("quora", "worlds")]
        found = candidate_pairs(_table(near), vectors, count, min_cosine=MIN_COSINE, seed=mix.SEED, progress=_print)
        _write(file, mix.table_rows(found, "near"))
    return _table(mix.read(file))


def _labelled_rows(sources: mix.Sources) -> mix.Rows:
    rows = [*mix.replayed_rows(sources), *mix.new_rows(sources)]
    quora = mix.labelled_rows(sources.quora / "train.jsonl", "quora")
    taken = {(row["question1"], row["question2"]) for row in rows}
    more = [row for row in quora if (row["question1"], row["question2"]) not in taken]
    return rows + mix.sample(more, MORE_QUORA, mix.SEED)


def _table(rows: mix.Rows) -> PairTable:
    left, right, labels = ([row[name] for row in rows] for name in ("question1", "question2", "label"))
    return PairTable(left, right, np.array(labels, dtype=np.int8))


def _write(file: Path, rows: mix.Rows) -> None:
    chosen = ({name: row[name] for name in COLUMNS} for row in rows)
    write_rows(file, chosen, COLUMNS, escape_formulas=False)


def question_vectors(texts: Sequence[str], network: Path, folder: Path, count: int) -> NDArray[np.float32]:
    """Return the vectors of the teacher's bi-encoder for the first texts, float32 (count, e)."""
    embedder = RuntimeBiEncoder(network)
    return _in_parts(folder, texts, lambda part: {"vectors": embedder.embed(part)}, count)["vectors"]


def pair_outputs(pairs: PairTable, network: Path, folder: Path) -> Arrays:
    """Return the logits and the pooled vectors of the teacher's cross-encoder for n pairs.

    Its two orders are combined as the pipeline combines them; the pooled vector is the mean of the orders that it read.
    """
    runner = Runner(with_pooled_output(RuntimeNetwork.read(network)))

    def outputs(part: Sequence[tuple[str, str]]) -> Arrays:
        sums: dict[frozenset[str], list[NDArray[np.float32]]] = {}

        def score(ordered: list[tuple[str, str]], progress: Progress | None) -> NDArray[np.float64]:
            logits = np.empty(len(ordered))
            for rows, (scores, pooled) in runner.run(ordered):
                logits[rows] = scores
                for row, vector in zip(rows.tolist(), pooled, strict=True):
                    sums.setdefault(frozenset(ordered[row]), []).append(vector)
            return logits

        left, right = zip(*part, strict=True)
        logits = symmetric_scores(score, left, right, "adaptive").astype(np.float32)
        return {"logits": logits, "pooled": np.array([np.mean(sums[frozenset(pair)], axis=0) for pair in part], "f2")}

    return _in_parts(folder, list(zip(pairs.left, pairs.right, strict=True)), outputs, len(pairs))


def with_pooled_output(network: RuntimeNetwork) -> RuntimeNetwork:
    """Return a cross-encoder whose second output is what its classifier reads, float32 (b, d)."""
    from onnx import helper, load_model_from_string

    model = load_model_from_string(network.model)
    pooled = next(node.output[0] for node in model.graph.node if node.op_type == "Tanh")
    model.graph.output.append(helper.make_tensor_value_info(pooled, 1, None))
    return RuntimeNetwork(model.SerializeToString(), network.tokenizer, network.settings, network.table, network.folder)


def _in_parts(folder: Path, items: Sequence[Any], compute: Callable[[Any], Arrays], count: int) -> Arrays:
    """Return arrays of the first items, computed in parts, each a file; those that are there are read.

    A part holds as many items as there are, up to `PART`, so that the parts of fewer items are parts of more.
    """
    from safetensors.numpy import load_file, save_file

    folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for number, rows in enumerate(chunks(count, PART)):
        file = folder / f"{number:04}.safetensors"
        found = load_file(file) if file.is_file() else {}
        if not found or len(next(iter(found.values()))) < rows.stop - rows.start:
            found = compute(items[rows.start : rows.start + PART])
            beside = file.with_suffix(".part")
            save_file(found, beside)
            os.replace(beside, file)
            print(f"{folder.name}: {rows.stop:,} of {count:,}", flush=True)
        parts.append(found)
    return {name: np.concatenate([part[name] for part in parts])[:count] for name in parts[0]}


def _print(done: int, total: int) -> None:
    if done % (10 * 2048) == 0 or done == total:
        print(f"neighbours: {done:,} of {total:,}", flush=True)


@dataclass(frozen=True)
class _Known:
    """Embedder of texts whose vectors are given."""

    texts: Sequence[str]
    vectors: NDArray[np.float32]

    @property
    def fingerprint(self) -> str:
        return "known"

    @property
    def dimensions(self) -> int:
        return int(self.vectors.shape[1])

    def embed(self, texts: Sequence[str], progress: Progress | None = None) -> NDArray[np.float32]:
        return self.vectors[rows_of(texts, self.texts)]
