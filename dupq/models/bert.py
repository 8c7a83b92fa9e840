"""A BERT network outside torch: its weights from a stock folder, and its ONNX graph, written node by node.

A traced graph carries masks, padding and shape arithmetic that batches of equal length do not need. Written by hand it
is also free of the fused nodes that onnxruntime runs slower on a processor than the plain ones they stand for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from dupq.errors import ModelFolderError
from dupq.models.safety import read_json, refuse_code
from dupq.models.words import WORD_INPUTS

if TYPE_CHECKING:
    from onnx import ModelProto

Kind = Literal["bi-encoder", "cross-encoder"]
Pooling = Literal["mean", "cls"]

OPSET = 23
"""The first that has `Attention` as one node."""

_CONTRIB = "com.microsoft"
"""The domain of onnxruntime's own operators."""

_STOCK = "only a stock BERT (also MiniLM, BGE, E5, GTE of that type) can be exported; use the network as it is"


@dataclass(frozen=True)
class Bert:
    """The weights of a BERT network and what it is made for.

    Attributes:
        kind: "cross-encoder": one logit, from the first token by pooler and classifier. "bi-encoder": an embedding.
        tensors: Name, as `BertModel` has it -> float32 array; of a cross-encoder also `classifier.weight` and `.bias`.
        layers, heads: Their numbers.
        epsilon: Of the layer normalisations.
        max_length: Tokens an input is cut to.
        pooling: How a bi-encoder makes one vector of all tokens.
        typed: Whether tokens of the second text are marked as such (`token_type_ids`); not all tokenizers do.
    """

    kind: Kind
    tensors: Mapping[str, NDArray[np.float32]]
    layers: int
    heads: int
    epsilon: float
    max_length: int
    pooling: Pooling = "mean"
    typed: bool = False

    def weight(self, name: str) -> NDArray[np.float32]:
        """The matrix of a linear layer as (inputs, outputs)."""
        return np.ascontiguousarray(self.tensors[f"{name}.weight"].T)

    def product(self, name: str) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Weight (inputs, outputs) and bias (outputs,) of one of `product_names`; query, key and value are one."""
        layer, _, part = name.partition(".")
        parts = [f"encoder.layer.{layer}.{piece}" for piece in _PRODUCTS[part]]
        weights = np.concatenate([self.weight(piece) for piece in parts], axis=1)
        return weights, np.concatenate([self.tensors[f"{piece}.bias"] for piece in parts])


_PRODUCTS = {
    "qkv": ("attention.self.query", "attention.self.key", "attention.self.value"),
    "mix": ("attention.output.dense",),
    "up": ("intermediate.dense",),
    "down": ("output.dense",),
}


def product_names(bert: Bert) -> list[str]:
    """The matrix products of the encoder, first to last: "0.qkv", "0.mix", "0.up", "0.down", "1.qkv", ..."""
    return [f"{layer}.{part}" for layer in range(bert.layers) for part in _PRODUCTS]


def _tensor_names(bert: Bert) -> list[str]:
    """Every weight that a graph is built of."""
    layers = [f"encoder.layer.{layer}" for layer in range(bert.layers)]
    parts = [
        "attention.output.LayerNorm",
        "output.LayerNorm",
        *(part for parts in _PRODUCTS.values() for part in parts),
    ]
    owners = ["embeddings.LayerNorm", *(f"{layer}.{part}" for layer in layers for part in parts)]
    owners += ["pooler.dense", "classifier"] if bert.kind == "cross-encoder" else []
    tables = [f"embeddings.{kind}_embeddings.weight" for kind in ("word", "position", "token_type")]
    return [*tables, *(f"{owner}.{kind}" for owner in owners for kind in ("weight", "bias"))]


def read_bert(folder: str | Path) -> Bert:
    """Reads a stock `SentenceTransformer` or `CrossEncoder` folder that is a BERT.

    Raises:
        ModelFolderError: It is damaged, unsafe, no BERT, pooled otherwise than by mean or first token, or a classifier
            with other than one output.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    folder = Path(folder)
    refuse_code(folder)
    config = read_json(folder / "config.json")
    modules = read_json(folder / "modules.json") if (folder / "modules.json").is_file() else []
    names = [module["type"].rpartition(".")[2] for module in modules]
    if modules and (names[0] != "Transformer" or modules[0]["path"] not in ("", ".")):
        _refuse(folder, f"its modules are {', '.join(names)}")
    if config.get("model_type") != "bert" or config.get("position_embedding_type", "absolute") != "absolute":
        _refuse(folder, f"its encoder is a {config.get('model_type')!r}")
    if config.get("hidden_act") != "gelu":
        _refuse(folder, f"its activation is {config.get('hidden_act')!r}")
    try:
        raw = load_file(folder / "model.safetensors")
        tensors = {
            name.removeprefix("bert."): np.asarray(tensor, dtype=np.float32)
            for name, tensor in raw.items()
            if tensor.dtype.kind == "f"
        }
        kind: Kind = "cross-encoder" if "classifier.weight" in tensors else "bi-encoder"
        if kind == "cross-encoder" and tensors["classifier.weight"].shape[0] != 1:
            _refuse(folder, f"it has {tensors['classifier.weight'].shape[0]} outputs")
        bert = Bert(
            kind,
            tensors,
            layers=config["num_hidden_layers"],
            heads=config["num_attention_heads"],
            epsilon=config["layer_norm_eps"],
            max_length=_max_length(folder, config),
            pooling=_pooling(folder, modules, names) if kind == "bi-encoder" else "cls",
        )
        for name in _tensor_names(bert):
            bert.tensors[name]
        return bert
    except (OSError, SafetensorError, KeyError, TypeError) as error:
        raise ModelFolderError(
            f"the network cannot be read ({error})", where=str(folder), mend="fetch the folder again"
        ) from error


def _refuse(folder: Path, problem: str) -> None:
    raise ModelFolderError(problem, where=str(folder), mend=_STOCK)


def _max_length(folder: Path, config: Mapping[str, Any]) -> int:
    """The smallest of the limits that the folder names."""
    limits = [config["max_position_embeddings"]]
    for name, key in (("tokenizer_config.json", "model_max_length"), ("sentence_bert_config.json", "max_seq_length")):
        limit = read_json(folder / name).get(key) if (folder / name).is_file() else None
        limits.extend([limit] if limit else [])
    return int(min(limits))


def _pooling(folder: Path, modules: Sequence[Mapping[str, Any]], names: list[str]) -> Pooling:
    if names[1:] not in (["Pooling"], ["Pooling", "Normalize"]):
        _refuse(folder, f"its modules are {', '.join(names) or 'not named'}")
    config = read_json(folder / modules[1]["path"] / "config.json")
    # Before its version 6, sentence-transformers wrote one flag a mode.
    flags = [key.removeprefix("pooling_mode_") for key in config if key.startswith("pooling_mode_") and config[key]]
    mode = config.get("pooling_mode") or ", ".join(flags)
    if mode in ("mean", "mean_tokens"):
        return "mean"
    if mode not in ("cls", "cls_token"):
        _refuse(folder, f"it pools by {mode}")
    return "cls"


ROW_ZERO = 20
"""What 0 becomes where a token has its own scale: room for the lowest value of GELU, -0.17, below it."""
ROW_LEAST = 0.17 / ROW_ZERO
"""The smallest scale of a token, at which that room is just enough."""


@dataclass(frozen=True)
class Int8Product:
    """A matrix product in int8: `x @ weight`, where x is divided by `smoothing`, then scaled and rounded to uint8.

    Attributes:
        weight: int8 (inputs, outputs).
        weight_scales: float32 (outputs,): what a step of each column is worth.
        scale: x / smoothing = scale * (uint8 - zero_point), the same for every input. None, where x comes out of GELU:
            each token has its own, by its largest value, and `ROW_ZERO` as zero point. Either way a score depends on
            nothing but its own pair.
        zero_point: 0 to 255.
        smoothing: float32 (inputs,), or None where it is 1.
    """

    weight: NDArray[np.int8]
    weight_scales: NDArray[np.float32]
    scale: float | None = None
    zero_point: int = ROW_ZERO
    smoothing: NDArray[np.float32] | None = None


def row_scales(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """The scale of each token, (tokens, 1), by its largest value."""
    return np.asarray(np.maximum(rows.max(axis=1, keepdims=True) / np.float32(255 - ROW_ZERO), np.float32(ROW_LEAST)))


def build_graph(bert: Bert, products: Mapping[str, Int8Product] | None = None, taps: bool = False) -> ModelProto:
    """The ONNX graph: `ids` (and `types` if `bert.typed`), int64 (b, l) -> `scores` (b,) or `embeddings` (b, d).

    In int8 it also takes `WORD_INPUTS`. There is no mask: all inputs of a batch have the same length. Embeddings are
    not normalised yet.

    Args:
        bert: The network.
        products: The int8 form of every product; None for a float32 graph.
        taps: Also give out the input of each product, under its name.
    """
    graph = _Graph()
    hidden = graph.normalise(_embed(graph, bert, products is not None), bert, "embeddings.LayerNorm")
    for layer in range(bert.layers):
        prefix, at = f"encoder.layer.{layer}", f"{layer}."
        query, key, value = graph.product(hidden, bert, at + "qkv", products, taps, outputs=3)
        mixed = graph.node("Attention", query, key, value, q_num_heads=bert.heads, kv_num_heads=bert.heads)
        mixed = graph.product(mixed, bert, at + "mix", products, taps)[0]
        hidden = graph.normalise(graph.node("Add", mixed, hidden), bert, f"{prefix}.attention.output.LayerNorm")
        inner = graph.node("Gelu", graph.product(hidden, bert, at + "up", products, taps)[0])
        inner = graph.product(inner, bert, at + "down", products, taps)[0]
        hidden = graph.normalise(graph.node("Add", inner, hidden), bert, f"{prefix}.output.LayerNorm")
    if bert.kind == "bi-encoder" and bert.pooling == "mean":
        result = _mean(graph, hidden)
    else:
        result = graph.node("Gather", hidden, graph.constant("first", np.array(0)), axis=1)
        result = _classify(graph, bert, result) if bert.kind == "cross-encoder" else result
    graph.name_output(result, OUTPUTS[bert.kind])
    return graph.model(bert)


OUTPUTS: Mapping[Kind, str] = {"bi-encoder": "embeddings", "cross-encoder": "scores"}


def _embed(graph: _Graph, bert: Bert, int8: bool) -> str:
    """Sums of word, position and type embeddings; an int8 graph is given its `Words` as inputs."""
    if not int8:
        words = graph.constant("words", bert.tensors["embeddings.word_embeddings.weight"])
        return _place(graph, bert, graph.node("Gather", words, "ids"))
    graph.takes_words = True
    rows, steps = (graph.node("Gather", table, "ids") for table in WORD_INPUTS)
    return _place(graph, bert, graph.node("Mul", graph.node("Cast", rows, to=1), steps))


def _place(graph: _Graph, bert: Bert, summed: str) -> str:
    """Adds what the position and the type of a token bring."""
    positions = bert.tensors["embeddings.position_embeddings.weight"][: bert.max_length]
    types = bert.tensors["embeddings.token_type_embeddings.weight"]
    if bert.typed:
        summed = graph.node("Add", summed, graph.node("Gather", graph.constant("types_table", types), "types"))
    else:
        positions = positions + types[0]
    length = graph.node("Shape", "ids", start=1, end=2)
    start = graph.constant("start", np.array([0]))
    return graph.node("Add", summed, graph.node("Slice", graph.constant("positions", positions), start, length))


def _mean(graph: _Graph, hidden: str) -> str:
    """(b, l, d) -> (b, d), as a product: onnxruntime's ReduceMean rounds otherwise in a batch than alone."""
    one = graph.constant("one", np.array([1]))
    length = graph.node("Shape", hidden, start=1, end=2)
    share = graph.node("Reciprocal", graph.node("Cast", length, to=1))
    shares = graph.node("Expand", share, graph.node("Concat", one, length, axis=0))
    return graph.node("Squeeze", graph.node("MatMul", shares, hidden), one)


def _classify(graph: _Graph, bert: Bert, first: str) -> str:
    for name in ("pooler.dense", "classifier"):
        weight = graph.constant(f"{name}.weight", bert.weight(name))
        first = graph.node("Gemm", first, weight, graph.constant(f"{name}.bias", bert.tensors[f"{name}.bias"]))
        if name == "pooler.dense":
            first = graph.node("Tanh", first)
    return graph.node("Squeeze", first, graph.constant("last_axis", np.array([1])))


class _Graph:
    """Collects the nodes and constants of a graph."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: dict[str, NDArray[Any]] = {}
        self.taps: list[str] = []
        self.takes_words = False

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
        outputs: int = 1,
    ) -> list[str]:
        """The product and its bias; with several outputs, the columns are divided among them."""
        weight, bias = bert.product(name)
        if taps:
            self.name_output(value, name)
            self.taps.append(name)
        width = weight.shape[1] // outputs
        parts = [(f"{name}.{part}", slice(part * width, (part + 1) * width)) for part in range(outputs)]
        if products is None:
            return [
                self.node(
                    "Add",
                    self.node("MatMul", value, self.constant(f"{part}.weight", weight[:, columns])),
                    self.constant(f"{part}.bias", bias[columns]),
                )
                for part, columns in parts
            ]
        int8 = products[name]
        if int8.scale is None:
            return [self.row_product(value, name, int8, bias)]
        if int8.smoothing is not None:
            value = self.node("Mul", value, self.constant(f"{name}.smoothing", 1 / int8.smoothing))
        scale = self.constant(f"{name}.scale", np.array(int8.scale, dtype=np.float32))
        zero = self.constant(f"{name}.zero", np.array(int8.zero_point, dtype=np.uint8))
        rounded = self.node("QuantizeLinear", value, scale, zero, domain=_CONTRIB)
        return [
            self.node(
                "MatMulIntegerToFloat",
                rounded,
                self.constant(f"{part}.weight", int8.weight[:, columns]),
                scale,
                self.constant(f"{part}.scales", int8.weight_scales[columns]),
                zero,
                self.constant(f"{part}.zeros", np.zeros(width, dtype=np.int8)),
                self.constant(f"{part}.bias", bias[columns]),
                domain=_CONTRIB,
            )
            for part, columns in parts
        ]

    def row_product(self, value: str, name: str, int8: Int8Product, bias: NDArray[np.float32]) -> str:
        """A product whose every token is rounded on a scale of its own."""
        last = self.constant("last", np.array([-1]))
        share = self.constant("row_share", np.array(1 / (255 - ROW_ZERO), dtype=np.float32))
        least = self.constant("row_least", np.array(ROW_LEAST, dtype=np.float32))
        scales = self.node("Max", self.node("Mul", self.node("ReduceMax", value, last), share), least)
        flat_scales = self.node("Reshape", scales, last)
        zeros = self.node(
            "Expand", self.constant("row_zeros", np.array([ROW_ZERO], dtype=np.uint8)), self.node("Shape", flat_scales)
        )
        flat = self.node("Reshape", value, self.constant(f"{name}.flat", np.array([-1, len(int8.weight)])))
        rounded = self.node("QuantizeLinear", flat, flat_scales, zeros, domain=_CONTRIB, axis=0)
        product = self.node(
            "MatMulIntegerToFloat",
            self.node("Reshape", rounded, self.node("Shape", value)),
            self.constant(f"{name}.weight", int8.weight),
            self.constant("row_one", np.array(1, dtype=np.float32)),
            self.constant(f"{name}.scales", int8.weight_scales),
            self.constant("row_zero", np.array(ROW_ZERO, dtype=np.uint8)),
            self.constant(f"{name}.zeros", np.zeros(len(bias), dtype=np.int8)),
            domain=_CONTRIB,
        )
        return self.node("Add", self.node("Mul", product, scales), self.constant(f"{name}.bias", bias))

    def model(self, bert: Bert) -> ModelProto:
        from onnx import TensorProto, helper, numpy_helper

        tokens, tables = ["ids", "types"] if bert.typed else ["ids"], WORD_INPUTS if self.takes_words else ()
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
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(_CONTRIB, 1)]
        return helper.make_model(graph, opset_imports=opsets, ir_version=10)
