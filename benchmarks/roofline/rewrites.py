"""Other operators of onnxruntime in place of ours, and pruned tokens: rewrites of an exported graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

CONTRIB = "com.microsoft"
Rewrite = Callable[[Any], None]
"""A function that changes an `onnx.GraphProto`."""


def replace_nodes(graph: Any, nodes: list[Any]) -> None:
    del graph.node[:]
    graph.node.extend(nodes)


def constants(graph: Any) -> dict[str, Any]:
    from onnx import numpy_helper

    return {value.name: numpy_helper.to_array(value) for value in graph.initializer}


def add_constant(graph: Any, name: str, value: Any) -> str:
    from onnx import numpy_helper

    graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(value), name))
    return name


def heads_of(node: Any) -> int:
    return next(int(attribute.i) for attribute in node.attribute if attribute.name == "q_num_heads")


def swap(graph: Any, old: str, new: str, domain: str = CONTRIB, **attributes: Any) -> None:
    """Replace an operator by one with the same inputs."""
    from onnx import helper

    for node in graph.node:
        if node.op_type == old:
            node.op_type, node.domain = new, domain
            node.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())


def multi_head_attention(graph: Any) -> None:
    from onnx import helper

    for node in graph.node:
        if node.op_type == "Attention":
            heads = heads_of(node)
            node.op_type, node.domain = "MultiHeadAttention", CONTRIB
            del node.attribute[:]
            node.attribute.append(helper.make_attribute("num_heads", heads))


def bias_gelu(graph: Any) -> None:
    """Move the bias of the product before GELU into it."""
    makers = {node.output[0]: node for node in graph.node}
    for node in graph.node:
        if node.op_type == "Gelu":
            product = makers[node.input[0]]
            node.op_type, node.domain = "BiasGelu", CONTRIB
            node.input.append(product.input.pop())


def _joint(graph: Any, node: Any, makers: dict[str, Any], tensors: dict[str, Any]) -> tuple[Any, list[Any]] | None:
    """Return the first of the three products of an attention, and weights, scales and biases side by side.

    None where they do not read the same tokens.
    """
    products = [makers[name] for name in node.input]
    if len({product.input[0] for product in products}) > 1:
        return None
    side = [np.concatenate([tensors[product.input[at]] for product in products], axis=-1) for at in (1, 3, 5, 6)]
    names = [add_constant(graph, f"{node.name}.joint.{at}", value) for at, value in enumerate(side)]
    return products[0], names


def one_product(graph: Any) -> None:
    """Compute query, key and value by one product, then split it."""
    from onnx import helper

    makers, tensors = {node.output[0]: node for node in graph.node}, constants(graph)
    nodes, gone = [], set()
    for node in list(graph.node):
        joint = _joint(graph, node, makers, tensors) if node.op_type == "Attention" else None
        if joint is not None:
            product, (weight, scales, zeros, bias) = joint
            parts, (x, _, scale, _, zero, *_) = list(node.input), product.input
            gone.update(parts)
            whole = f"{node.name}.joint"
            nodes.append(
                helper.make_node(
                    "MatMulIntegerToFloat", [x, weight, scale, scales, zero, zeros, bias], [whole], domain=CONTRIB
                )
            )
            nodes.append(helper.make_node("Split", [whole], parts, axis=-1, num_outputs=3))
        nodes.append(node)
    replace_nodes(graph, [n for n in nodes if n.op_type == "Split" or n.output[0] not in gone])


def q_attention(graph: Any) -> None:
    """Compute the products of query, key and value and the attention by one node."""
    from onnx import helper

    makers, tensors = {node.output[0]: node for node in graph.node}, constants(graph)
    nodes, gone = [], set()
    for node in list(graph.node):
        joint = _joint(graph, node, makers, tensors) if node.op_type == "Attention" else None
        if joint is None:
            nodes.append(node)
            continue
        product, (weight, scales, zeros, bias) = joint
        x, _, scale, _, zero, *_ = product.input
        gone.update(node.input)
        nodes.append(
            helper.make_node(
                "QAttention",
                [x, weight, bias, scale, scales, "", zero, zeros],
                [node.output[0]],
                domain=CONTRIB,
                num_heads=heads_of(node),
            )
        )
    replace_nodes(graph, [node for node in nodes if node.output[0] not in gone])


def packed_attention(graph: Any) -> None:
    """Read sequences one after the other, without padding, as onnxruntime has it on CUDA alone."""
    from onnx import helper

    offsets = add_constant(graph, "packed.offsets", np.zeros((1, 1), np.int32))
    ends = add_constant(graph, "packed.ends", np.array([0, 1], np.int32))
    makers, tensors = {node.output[0]: node for node in graph.node}, constants(graph)
    nodes: list[Any] = []
    for node in graph.node:
        if node.op_type == "Attention":
            width = tensors[makers[node.input[0]].input[1]].shape[1]
            flat = add_constant(graph, f"{node.name}.flat", np.array([-1, width]))
            heads, names = heads_of(node), [f"{name}.flat" for name in node.input]
            for name, given in zip(names, node.input, strict=True):
                nodes.append(helper.make_node("Reshape", [given, flat], [name]))
            inputs, outputs = [*names, "", offsets, ends], list(node.output)
            node = helper.make_node("PackedMultiHeadAttention", inputs, outputs, domain=CONTRIB, num_heads=heads)
        nodes.append(node)
    replace_nodes(graph, nodes)


OPERATORS: dict[str, Rewrite] = {
    "MultiHeadAttention": multi_head_attention,
    "QAttention": q_attention,
    "PackedMultiHeadAttention": packed_attention,
    "one product for query, key, value": one_product,
    "BiasGelu": bias_gelu,
    "FastGelu (tanh)": lambda graph: swap(graph, "Gelu", "FastGelu"),
    "QuickGelu (sigmoid)": lambda graph: swap(graph, "Gelu", "QuickGelu", alpha=1.702),
}


def pruned(layer: int, keep: float) -> Rewrite:
    """Keep a share of the tokens after a layer: the first, and those that it attends to most (Goyal et al. 2020)."""

    def rewrite(graph: Any) -> None:
        from onnx import helper

        nodes = list(graph.node)
        attentions = [node for node in nodes if node.op_type == "Attention"]
        norms = [node for node in nodes if node.op_type == "LayerNormalization"]
        query, key, _ = attentions[layer].input
        heads = heads_of(attentions[layer])
        hidden = norms[2 * layer + 2].output[0]  # the first is of the embeddings
        width = len(constants(graph)[norms[0].input[1]])
        made: list[Any] = []

        def constant(name: str, value: Any, kind: Any = np.int64) -> str:
            return add_constant(graph, f"prune.{name}", np.array(value, kind))

        def add(kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> str:
            names = [f"prune.{kind}.{len(made)}.{at}" for at in range(outputs)]
            made.append(helper.make_node(kind, inputs, names, name=names[0], **attributes))
            return names[-1]

        zero, one = constant("zero", [0]), constant("one", [1])
        first = add("Slice", query, zero, one, one)
        first = add("Reshape", first, constant("first", [0, heads, width // heads]))
        keys = add("Reshape", key, constant("keys", [0, 0, heads, width // heads]))
        logits = add("Einsum", first, keys, equation="bhd,blhd->bhl")
        scaled = add("Mul", logits, constant("scale", (width // heads) ** -0.5, np.float32))
        weight = add("ReduceSum", add("Softmax", scaled, axis=-1), one, keepdims=0)
        length = add("Shape", weight, start=1, end=2)
        kept = add("Ceil", add("Mul", add("Cast", length, to=1), constant("keep", keep, np.float32)))
        # The first token comes first, whatever its weight.
        others = add("Slice", weight, one, constant("end", [2**31 - 1]), one)
        count = add("Max", add("Sub", add("Cast", kept, to=7), one), one)
        picked = add("TopK", others, count, outputs=2, axis=1)
        picked = add("Add", picked, one)
        start = add("Mul", add("Slice", picked, zero, one, one), constant("none", 0))
        index = add("Unsqueeze", add("Concat", start, picked, axis=1), constant("last", [-1]))
        result = add("GatherND", hidden, index, batch_dims=1)
        at = nodes.index(norms[2 * layer + 2])
        for node in nodes[at + 1 :]:
            for place, name in enumerate(node.input):
                if name == hidden:
                    node.input[place] = result
        replace_nodes(graph, [*nodes[: at + 1], *made, *nodes[at + 1 :]])

    return rewrite


def rewritten(model: bytes, rewrite: Rewrite) -> bytes:
    import onnx

    loaded = onnx.load_model_from_string(model)
    rewrite(loaded.graph)
    return bytes(loaded.SerializeToString())
