"""ONNX graph of a BERT network, built node by node.

A traced graph holds masks, padding and shape arithmetic that batches of equal length do not need, and fused nodes that
onnxruntime runs more slowly on a processor than the plain ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from dupq.models.onnx.bert_weights import PROJECTION, Bert, Kind
from dupq.models.onnx.embedding_table import TABLE_INPUTS
from dupq.models.onnx.quantise import MIN_ROW_SCALE, ROW_ZERO, Int8Product

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 23
"""The first version with `Attention` as one node."""

CONTRIB = "com.microsoft"
"""Domain of onnxruntime's own operators."""

OUTPUTS: Mapping[Kind, str] = {"bi-encoder": "embeddings", "cross-encoder": "scores"}


def build_graph(bert: Bert, products: Mapping[str, Int8Product] | None = None, taps: bool = False) -> ModelProto:
    """Build the ONNX graph of a network.

    Inputs are `ids` (and `types` if `bert.typed`), int64 (b, l), and in int8 also `TABLE_INPUTS`. The output is
    `scores` (b,) or `embeddings` (b, d), not normalised. There is no mask: all inputs of a batch have the same length.

    Args:
        bert: The network.
        products: The int8 form of every product; None for a float32 graph.
        taps: Add the input of each product to the outputs, under its name.

    Raises:
        ImportError: onnx is not installed.
    """
    graph = Graph()
    averaged = bert.kind == "bi-encoder" and bert.pooling == "mean"
    hidden = embed(graph, bert, products is not None)
    for layer in range(bert.layers):
        # Where only the first token is used in the end, the last layer queries that one only.
        first = graph.constant("first", np.array([0])) if layer == bert.layers - 1 and not averaged else ""
        hidden = add_layer(graph, bert, layer, hidden, products, taps, queried=first)
    if averaged:
        result = mean(graph, hidden)
    else:
        result = graph.node("Squeeze", hidden, graph.constant("one", np.array([1])))
        result = _classify(graph, bert, result) if bert.kind == "cross-encoder" else result
    if PROJECTION in bert.tensors:
        result = project(graph, bert, result)
    graph.name_output(result, OUTPUTS[bert.kind])
    return graph.model(bert)


def add_layer(
    graph: Graph,
    bert: Bert,
    layer: int,
    hidden: str,
    products: Mapping[str, Int8Product] | None = None,
    taps: bool = False,
    *,
    queried: str = "",
    bias: str = "",
) -> str:
    """Add one layer, and return its output.

    Args:
        graph: The graph.
        bert: The network.
        layer: Its number.
        hidden: Token states, (b, l, d).
        products: The int8 form of every product; None for float32.
        taps: Add the input of each product to the outputs, under its name.
        queried: Places of the tokens whose new states are computed, (q,); all if empty.
        bias: What is added to the attention logits, broadcast to (b, heads, q or l, l); nothing if empty.
    """
    prefix, at = f"encoder.layer.{layer}", f"{layer}."
    query, key, value = graph.product(hidden, bert, at + "qkv", products, taps, parts=3, queried=queried)
    hidden = graph.at(hidden, queried)
    biases = [bias] if bias else []
    mixed = graph.node("Attention", query, key, value, *biases, q_num_heads=bert.heads, kv_num_heads=bert.heads)
    mixed = graph.product(mixed, bert, at + "mix", products, taps)[0]
    hidden = graph.normalise(graph.node("Add", mixed, hidden), bert, f"{prefix}.attention.output.LayerNorm")
    inner = graph.node("Gelu", graph.product(hidden, bert, at + "up", products, taps)[0])
    inner = graph.product(inner, bert, at + "down", products, taps)[0]
    return graph.normalise(graph.node("Add", inner, hidden), bert, f"{prefix}.output.LayerNorm")


def embed(graph: Graph, bert: Bert, int8: bool) -> str:
    """Add the normalised sum of token, position and type embeddings, (b, l, d).

    An int8 graph gets its `EmbeddingTable` as inputs.
    """
    if int8:
        graph.has_table = True
        rows, scales = (graph.node("Gather", table, "ids") for table in TABLE_INPUTS)
        words = graph.node("Mul", graph.node("Cast", rows, to=1), scales)
    else:
        table = graph.constant("words", bert.tensors["embeddings.word_embeddings.weight"])
        words = graph.node("Gather", table, "ids")
    return graph.normalise(_add_positions(graph, bert, words), bert, "embeddings.LayerNorm")


def _add_positions(graph: Graph, bert: Bert, summed: str) -> str:
    """Add the position and type embeddings."""
    positions = bert.tensors["embeddings.position_embeddings.weight"][: bert.max_length]
    types = bert.tensors["embeddings.token_type_embeddings.weight"]
    if bert.typed:
        summed = graph.node("Add", summed, graph.node("Gather", graph.constant("types_table", types), "types"))
    else:
        positions = positions + types[0]
    length = graph.node("Shape", "ids", start=1, end=2)
    start = graph.constant("start", np.array([0]))
    return graph.node("Add", summed, graph.node("Slice", graph.constant("positions", positions), start, length))


def mean(graph: Graph, hidden: str) -> str:
    """Average (b, l, d) to (b, d).

    By a product, because the rounding of ReduceMean depends on the batch.
    """
    one = graph.constant("one", np.array([1]))
    length = graph.node("Shape", hidden, start=1, end=2)
    share = graph.node("Reciprocal", graph.node("Cast", length, to=1))
    shares = graph.node("Expand", share, graph.node("Concat", one, length, axis=0))
    return graph.node("Squeeze", graph.node("MatMul", shares, hidden), one)


def project(graph: Graph, bert: Bert, vectors: str) -> str:
    """Project (b, d) to (b, fewer).

    One product a vector, so that a vector does not depend on its batch.
    """
    last = graph.constant("last", np.array([-1]))
    weight = graph.constant(PROJECTION, bert.tensors[PROJECTION])
    return graph.node("Squeeze", graph.node("MatMul", weight, graph.node("Unsqueeze", vectors, last)), last)


def _classify(graph: Graph, bert: Bert, first: str) -> str:
    for name in ("pooler.dense", "classifier"):
        weight = graph.constant(f"{name}.weight", bert.weight(name))
        first = graph.node("Gemm", first, weight, graph.constant(f"{name}.bias", bert.tensors[f"{name}.bias"]))
        if name == "pooler.dense":
            first = graph.node("Tanh", first)
    return graph.node("Squeeze", first, graph.constant("last_axis", np.array([1])))


class Graph:
    """Nodes and constants of a graph."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, NDArray[Any]] = {}
        self.taps: list[str] = []
        self.has_table = False

    def constant(self, name: str, value: NDArray[Any]) -> str:
        self.constants[name] = value
        return name

    def node(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        from onnx import helper

        output = f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, domain=domain, **attributes))
        return output

    def name_output(self, output: str, name: str) -> None:
        from onnx import helper

        self.nodes.append(helper.make_node("Identity", [output], [name], name=name))

    def normalise(self, value: str, bert: Bert, name: str) -> str:
        scale = self.constant(f"{name}.weight", bert.tensors[f"{name}.weight"])
        bias = self.constant(f"{name}.bias", bert.tensors[f"{name}.bias"])
        return self.node("LayerNormalization", value, scale, bias, axis=-1, epsilon=bert.epsilon)

    def product(
        self,
        value: str,
        bert: Bert,
        name: str,
        products: Mapping[str, Int8Product] | None,
        taps: bool,
        parts: int = 1,
        queried: str = "",
    ) -> list[str]:
        """Add a product and its bias, with its columns divided into parts.

        With `queried`, the first part is computed for the tokens at those places only.
        """
        weight, bias = bert.product(name)
        if taps:
            self.name_output(value, name)
            self.taps.append(name)
        width = weight.shape[1] // parts
        columns = [(f"{name}.{part}", slice(part * width, (part + 1) * width)) for part in range(parts)]
        if products is None:
            return [
                self.node(
                    "Add",
                    self.node("MatMul", source, self.constant(f"{part}.weight", weight[:, some])),
                    self.constant(f"{part}.bias", bias[some]),
                )
                for source, (part, some) in zip(self.sources(value, parts, queried), columns, strict=True)
            ]
        int8 = products[name]
        if int8.scale is None:
            return [self.row_product(value, name, int8, bias)]
        if int8.smoothing is not None:
            value = self.node("Mul", value, self.constant(f"{name}.smoothing", 1 / int8.smoothing))
        scale = self.constant(f"{name}.scale", np.array(int8.scale, dtype=np.float32))
        zero = self.constant(f"{name}.zero", np.array(int8.zero_point, dtype=np.uint8))
        rounded = self.node("QuantizeLinear", value, scale, zero, domain=CONTRIB)
        return [
            self.node(
                "MatMulIntegerToFloat",
                source,
                self.constant(f"{part}.weight", int8.weight[:, some]),
                scale,
                self.constant(f"{part}.scales", int8.weight_scales[some]),
                zero,
                self.constant(f"{part}.zeros", np.zeros(width, dtype=np.int8)),
                self.constant(f"{part}.bias", bias[some]),
                domain=CONTRIB,
            )
            for source, (part, some) in zip(self.sources(rounded, parts, queried), columns, strict=True)
        ]

    def sources(self, value: str, parts: int, queried: str) -> list[str]:
        """Return the input of each part of a product."""
        return [self.at(value, queried) if part == 0 else value for part in range(parts)]

    def at(self, value: str, places: str) -> str:
        """Take tokens at places (q,), all if empty: (b, l, d) to (b, q, d)."""
        return self.node("Gather", value, places, axis=1) if places else value

    def row_product(self, value: str, name: str, int8: Int8Product, bias: NDArray[np.float32]) -> str:
        """Add a product in which each token has its own scale."""
        last = self.constant("last", np.array([-1]))
        share = self.constant("row_share", np.array(1 / (255 - ROW_ZERO), dtype=np.float32))
        least = self.constant("row_least", np.array(MIN_ROW_SCALE, dtype=np.float32))
        scales = self.node("Max", self.node("Mul", self.node("ReduceMax", value, last), share), least)
        flat_scales = self.node("Reshape", scales, last)
        zeros = self.node(
            "Expand", self.constant("row_zeros", np.array([ROW_ZERO], dtype=np.uint8)), self.node("Shape", flat_scales)
        )
        flat = self.node("Reshape", value, self.constant(f"{name}.flat", np.array([-1, len(int8.weight)])))
        rounded = self.node("QuantizeLinear", flat, flat_scales, zeros, domain=CONTRIB, axis=0)
        product = self.node(
            "MatMulIntegerToFloat",
            self.node("Reshape", rounded, self.node("Shape", value)),
            self.constant(f"{name}.weight", int8.weight),
            self.constant("row_one", np.array(1, dtype=np.float32)),
            self.constant(f"{name}.scales", int8.weight_scales),
            self.constant("row_zero", np.array(ROW_ZERO, dtype=np.uint8)),
            self.constant(f"{name}.zeros", np.zeros(len(bias), dtype=np.int8)),
            domain=CONTRIB,
        )
        return self.node("Add", self.node("Mul", product, scales), self.constant(f"{name}.bias", bias))

    def model(self, bert: Bert) -> ModelProto:
        from onnx import TensorProto, helper, numpy_helper

        tokens, tables = ["ids", "types"] if bert.typed else ["ids"], TABLE_INPUTS if self.has_table else ()
        inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"]) for name in tokens]
        for name, kind in zip(tables, (TensorProto.INT8, TensorProto.FLOAT), strict=False):
            inputs.append(helper.make_tensor_value_info(name, kind, ["vocabulary", None]))
        outputs = [OUTPUTS[bert.kind], *self.taps]
        graph = helper.make_graph(
            self.nodes,
            bert.kind,
            inputs,
            [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
            [numpy_helper.from_array(np.asarray(value, order="C"), name) for name, value in self.constants.items()],
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(CONTRIB, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)
