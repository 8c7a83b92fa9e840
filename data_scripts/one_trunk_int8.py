"""Measure a network of one trunk and two heads in int8 beside the shipped pipeline.

    python -m data_scripts.one_trunk_int8 NETWORK PAIRS [--count N] [--rounds R]

NETWORK is a folder of `data_scripts.one_trunk`; PAIRS are labelled pairs that no network was trained on. The last 300
set the int8 ranges, the first N are scored, in R rounds, by both: average precision, and pairs a second of processor
time on one thread. Fresh pairs are scored from text, stored ones from kept token states and embeddings.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file
from sklearn.metrics import average_precision_score
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from dupq import DuplicatePipeline
from dupq.data.pairs import load_pairs
from dupq.models.batching import chunks, rows_of
from dupq.models.onnx.bert_weights import Bert, product_names, read_bert
from dupq.models.onnx.embedding_table import TABLE_INPUTS, EmbeddingTable
from dupq.models.onnx.graph import CONTRIB, OPSET, Graph, add_layer, embed, mean, project
from dupq.models.onnx.quantise import Activations, Int8Product, quantise
from dupq.models.onnx.token_reader import TokenReader
from dupq.models.pair_heads.joint import BERT_NAMES, EPSILON
from dupq.models.safety import read_json

FITTING_PAIRS = 300
BATCH_TOKENS = 512
SAMPLED_TOKENS = 8
"""Tokens of an input whose values are sampled."""

Floats = NDArray[np.float32]
Kept = tuple[NDArray[np.int8], Floats]
"""Token states of a question, int8 (tokens, d), and the scale of each token, (tokens, 1)."""
Result = TypeVar("Result")


def read_joint_layers(folder: Path, heads: int, max_length: int) -> Bert:
    """Read the joint layers of a stock cross-encoder, with the tensor names of a BERT."""
    place = next(module["path"] for module in read_json(folder / "modules.json") if "JointLayers" in module["type"])
    tensors, layers = {}, 0
    for name, value in load_file(folder / place / "model.safetensors").items():
        parts = name.split(".")
        if parts[0] == "layers":
            layers = max(layers, int(parts[1]) + 1)
            name = ".".join(["encoder.layer", parts[1], BERT_NAMES.get(parts[2], parts[2]), *parts[3:]])
        elif parts[0] == "pooler":
            name = f"pooler.dense.{parts[1]}"
        tensors[name] = np.asarray(value, dtype=np.float32)
    return Bert("cross-encoder", tensors, layers, heads, EPSILON, max_length, "cls")


def trunk_model(bert: Bert, products: dict[str, Int8Product] | None = None, taps: bool = False) -> bytes:
    """Build the graph of a trunk: `ids` (b, l) to `embeddings` (b, e), not normalised, and `states` (b, l, d)."""
    graph = Graph()
    hidden = embed(graph, bert, products is not None)
    for layer in range(bert.layers):
        hidden = add_layer(graph, bert, layer, hidden, products, taps)
    graph.name_output(project(graph, bert, mean(graph, hidden)), "embeddings")
    graph.name_output(hidden, "states")
    graph.taps.insert(0, "states")
    return bytes(graph.model(bert).SerializeToString())


def joint_model(bert: Bert, products: dict[str, Int8Product] | None = None, taps: bool = False) -> bytes:
    """Build the graph of joint layers: `left` (b, l, d) and `right` (b, m, d) to `scores` (b,)."""
    graph = Graph()
    zero, one = graph.constant("zero", np.array([0])), graph.constant("one", np.array([1]))
    hidden = graph.node("Concat", "left", "right", axis=1)
    lengths = [graph.node("Shape", side, start=1, end=2) for side in ("left", "right")]
    sides = [graph.constant(f"side_{side}", np.array([side], dtype=np.float32)) for side in (0, 1)]
    side = graph.node("Concat", *map(graph.node, ("Expand", "Expand"), sides, lengths), axis=0)
    differs = graph.node("Abs", graph.node("Sub", graph.node("Unsqueeze", side, one), side))
    firsts = graph.node("Concat", zero, lengths[0], axis=0)
    axes = graph.constant("axes", np.array([0, 1]))
    for layer in range(bert.layers):
        last = layer == bert.layers - 1
        where = graph.node("Gather", differs, firsts, axis=0) if last else differs
        other = graph.constant(f"other.{layer}", bert.tensors[f"encoder.layer.{layer}.other"].reshape(1, -1, 1, 1))
        bias = graph.node("Mul", graph.node("Unsqueeze", where, axes), other)
        hidden = add_layer(graph, bert, layer, hidden, products, taps, queried=firsts if last else "", bias=bias)
    first = graph.node("ReduceMean", hidden, one, keepdims=0)
    means = [mean(graph, name) for name in ("left", "right")]
    compared = graph.node("Concat", graph.node("Abs", graph.node("Sub", *means)), graph.node("Mul", *means), axis=-1)
    weights = {name: graph.constant(f"{name}.weight", bert.weight(name)) for name in ("pooler.dense", "agreement")}
    pooled = graph.node(
        "Add",
        graph.node(
            "Gemm", first, weights["pooler.dense"], graph.constant("pooler.bias", bert.tensors["pooler.dense.bias"])
        ),
        graph.node("MatMul", compared, weights["agreement"]),
    )
    classifier = [
        graph.constant("classifier", bert.weight("classifier")),
        graph.constant("bias", bert.tensors["classifier.bias"]),
    ]
    scores = graph.node("Gemm", graph.node("Tanh", pooled), *classifier)
    graph.name_output(graph.node("Squeeze", scores, one), "scores")
    width = len(bert.tensors["classifier.weight"][0])
    inputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", None, width]) for name in ("left", "right")]
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("scores", *graph.taps)]
    constants = [numpy_helper.from_array(np.asarray(value, order="C"), name) for name, value in graph.constants.items()]
    made = helper.make_graph(graph.nodes, "joint", inputs, outputs, constants)
    opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
    return bytes(helper.make_model(made, opset_imports=opsets, ir_version=10).SerializeToString())


class Int8OneTrunk:
    """Network of one trunk and two heads in int8, on one thread.

    Args:
        folder: Folder of `data_scripts.one_trunk`.
        pairs: Pairs that the int8 ranges are fitted on.
    """

    def __init__(self, folder: Path, pairs: Sequence[tuple[str, str]]) -> None:
        trunk = read_bert(folder / "bi-encoder")
        joint = read_joint_layers(folder / "cross-encoder", trunk.heads, trunk.max_length)
        stock = AutoTokenizer.from_pretrained(str(folder / "bi-encoder"), local_files_only=True)
        self.reader = TokenReader(Tokenizer.from_str(stock.backend_tokenizer.to_str()), trunk.max_length)
        exact_trunk, exact_joint = (
            open_session(trunk_model(trunk, taps=True)),
            open_session(joint_model(joint, taps=True)),
        )
        texts = list(dict.fromkeys(text for pair in pairs for text in pair))
        states: dict[str, Floats] = {}

        def trunk_inputs() -> Iterator[list[Floats]]:
            for text, (ids, _) in zip(texts, self.reader.read(texts), strict=True):
                _, states[text], *inputs = exact_trunk.run(None, {"ids": np.array([ids])})
                yield inputs

        smoothed, products = quantise(trunk, _observed(trunk, trunk_inputs()))
        feeds = ({"left": states[left], "right": states[right]} for left, right in pairs)
        smoothed_joint, joint_products = quantise(
            joint, _observed(joint, (exact_joint.run(None, pair)[1:] for pair in feeds))
        )
        self.trunk = open_session(trunk_model(smoothed, products))
        self.joint = open_session(joint_model(smoothed_joint, joint_products))
        table = EmbeddingTable.quantised(trunk.tensors["embeddings.word_embeddings.weight"], 8)
        self.tables = dict(zip(TABLE_INPUTS, (table.rows, table.scales), strict=True))

    def read(self, texts: Sequence[str]) -> tuple[Floats, list[Kept]]:
        """Return the embeddings of n texts, not normalised, (n, e), and their token states."""
        tokens = [ids for ids, _ in self.reader.read(texts)]
        lengths = np.array([len(ids) for ids in tokens])
        vectors: list[Floats] = [np.empty(0, np.float32)] * len(tokens)
        kept: list[Kept] = [(np.empty((0, 0), np.int8), np.empty((0, 1), np.float32))] * len(tokens)
        for rows in _same(lengths[:, None], lengths):
            embeddings, states = self.trunk.run(None, {"ids": np.array([tokens[row] for row in rows]), **self.tables})
            scales = np.abs(states).max(axis=2, keepdims=True) / 127
            rounded = np.rint(states / scales).astype(np.int8)
            for at, row in enumerate(rows):
                vectors[row], kept[row] = embeddings[at], (rounded[at], scales[at])
        return np.array(vectors), kept

    def score(self, kept: Sequence[Kept], left: NDArray[np.int64], right: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the logits of n pairs of rows of `kept`, float64 (n,)."""
        lengths = np.array([[len(kept[row][0]) for row in side] for side in (left, right)]).T
        scores = np.empty(len(left))
        for rows in _same(lengths, lengths.sum(axis=1)):
            feeds = {}
            for name, side in (("left", left[rows]), ("right", right[rows])):
                states = np.stack([kept[row][0] for row in side]).astype(np.float32)
                feeds[name] = states * np.stack([kept[row][1] for row in side])
            scores[rows] = self.joint.run(["scores"], feeds)[0]
        return scores


def _same(keys: NDArray[np.int64], tokens: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Yield rows of equal keys, at most `BATCH_TOKENS` tokens together."""
    order = np.lexsort(keys.T)
    for group in np.split(order, np.flatnonzero(np.diff(keys[order], axis=0).any(axis=1)) + 1):
        for part in chunks(len(group), max(1, BATCH_TOKENS // int(tokens[group[0]]))):
            yield group[part]


def open_session(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    left_out = ["SkipLayerNormFusion"]  # see dupq.models.onnx.runtime
    return onnxruntime.InferenceSession(
        model, options, providers=["CPUExecutionProvider"], disabled_optimizers=left_out
    )


def _observed(bert: Bert, runs: Iterator[list[Floats]]) -> dict[str, Activations]:
    """Return the observed inputs of each product."""
    draw, names = np.random.default_rng(0), product_names(bert)
    seen: dict[str, list[Activations]] = {name: [] for name in names}
    for inputs in runs:
        for name, value in zip(names, inputs, strict=True):
            rows = value.reshape(-1, value.shape[-1])
            sample = rows[draw.permutation(len(rows))[:SAMPLED_TOKENS]]
            seen[name].append(Activations(rows.min(axis=0), rows.max(axis=0), sample))
    return {name: Activations.joined(parts) for name, parts in seen.items()}


def _timed(work: Callable[[], Result]) -> tuple[Result, float]:
    """Return a result, and the seconds of processor time that it took."""
    start = time.process_time()
    result = work()
    return result, time.process_time() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", type=Path, metavar="NETWORK")
    parser.add_argument("pairs", metavar="PAIRS")
    parser.add_argument("--count", type=int, default=10_000, help="scored pairs (default: 10000)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds (default: 5)")
    args = parser.parse_args()
    table = load_pairs(args.pairs)
    pairs = list(zip(table.left, table.right, strict=True))
    network = Int8OneTrunk(args.network, pairs[-FITTING_PAIRS:])
    pipeline: Any = DuplicatePipeline.from_pretrained(threads=1)
    pipeline.raw_scores(table.left[:64], table.right[:64])
    own, new, ratios = [], [], []
    for start, end in pairwise(np.linspace(0, args.count, args.rounds + 1).astype(int).tolist()):
        left, right = table.left[start:end], table.right[start:end]
        texts = list(dict.fromkeys([*left, *right]))
        ordered = [sorted(pair) for pair in pairs[start:end]]
        rows = [rows_of([pair[side] for pair in ordered], texts) for side in (0, 1)]
        (_, kept), reading = _timed(lambda texts=texts: network.read(texts))  # type: ignore[misc]
        scores, joint = _timed(lambda kept=kept, rows=rows: network.score(kept, *rows))  # type: ignore[misc]
        shipped, fresh = _timed(lambda left=left, right=right: pipeline.raw_scores(left, right))  # type: ignore[misc]
        _, stored = _timed(lambda left=left, right=right: pipeline.cross_encoder.score(left, right))  # type: ignore[misc]
        own.append(shipped)
        new.append(scores)
        ratios.append((fresh / (reading + joint), stored / joint))
        n = end - start
        print(
            f"shipped: {n / fresh:,.0f} fresh pairs/s, {n / stored:,.0f} stored; one trunk:"
            f" {n / (reading + joint):,.0f} fresh, {n / joint:,.0f} stored",
            flush=True,
        )
    labels = table.labels[: args.count]
    found = [average_precision_score(labels, np.concatenate(scores)) for scores in (own, new)]
    fresh_ratio, stored_ratio = np.median(ratios, axis=0)
    print(f"average precision: {found[0]:.4f} shipped, {found[1]:.4f} one trunk")
    print(f"median ratios: {fresh_ratio:.2f} on fresh pairs, {stored_ratio:.2f} on stored ones")


if __name__ == "__main__":
    main()
