"""The roofline: what the machine's matrix products reach, what a pair costs, and how much of that peak is used."""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
import onnxruntime
from onnx import ModelProto, TensorProto, helper, numpy_helper

from benchmarks.speed.contenders import about, read
from dupq.data.writing import write_json
from dupq.models.runtime import Runner, _available_threads
from dupq.models.scorers import UniquePairs
from dupq.pipeline import DuplicatePipeline

SIZES = (1024, 2048, 4096)
FIRST = ["zero", "one", "one"]
"""From where to where a graph of ours cuts the first token out."""


def run(args: argparse.Namespace) -> None:
    table, threads = read(args, min(args.count, 4_000)), args.threads or _available_threads()
    peaks = {kind: max(_peak(kind, size, threads) for size in args.sizes or SIZES) for kind in ("float32", "int8")}
    print({kind: f"{peak / 1e9:,.0f} GFLOP/s" for kind, peak in peaks.items()}, flush=True)
    pipeline = DuplicatePipeline.from_pretrained(args.model, device="cpu", threads=threads)
    unique = UniquePairs.of(table.left, table.right)
    inputs: dict[str, Any] = {}
    if pipeline.cross_encoder is not None:
        inputs["cross-encoder"] = (pipeline.cross_encoder, list(zip(unique.left, unique.right, strict=True)))
    if pipeline.bi_encoder is not None:
        inputs["bi-encoder"] = (pipeline.bi_encoder, sorted({*table.left, *table.right}))
    rows = []
    for name, (network, texts) in inputs.items():
        runner: Runner = network._runner
        lengths = np.array(
            [
                len(ids)
                for part in np.array_split(np.arange(len(texts)), 8)
                for ids in runner._tokens([texts[row] for row in part])[0]
            ],
            dtype=np.float64,
        )
        operations = float(_operations(network.network.model, lengths).sum())
        seconds = []
        for _ in range(args.rounds):
            began = time.perf_counter()
            for _ in runner.run(texts):
                pass
            seconds.append(time.perf_counter() - began)
        rate = operations / float(np.median(seconds))
        rows.append(
            {
                "name": name,
                "inputs": len(texts),
                "tokens": float(lengths.mean()),
                "gflop_per_input": operations / len(texts) / 1e9,
                "gflop_per_second": rate / 1e9,
                "share_of_int8_peak": rate / peaks["int8"],
                "share_of_float32_peak": rate / peaks["float32"],
                "seconds": seconds,
            }
        )
    write_json(
        args.output,
        {**about(args, table), "peak_gflop_per_second": {k: v / 1e9 for k, v in peaks.items()}, "rows": rows},
    )


def _operations(model: bytes, lengths: Any) -> Any:
    """Operations of the matrix products and the attention for inputs of so many tokens each: 2 a multiplication."""
    graph = ModelProto.FromString(model).graph
    shapes = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    total = np.zeros_like(lengths)
    first: set[str] = set()  # values of the first token alone
    for node in graph.node:
        if (node.op_type == "Slice" and list(node.input[1:]) == FIRST) or first & {*node.input}:
            first.update(node.output)
        rows = np.ones_like(lengths) if first & {*node.output} else lengths
        weights = [shapes[name] for name in node.input if len(shapes.get(name, ())) == 2]
        if node.op_type in ("MatMul", "MatMulIntegerToFloat") and weights:
            total += 2 * weights[0][0] * weights[0][1] * rows
            hidden = weights[0][0]
        elif node.op_type == "Gemm":
            total += 2 * weights[0][0] * weights[0][1]
        elif node.op_type == "Attention":
            total += 4 * hidden * lengths * rows
    return total


def _peak(kind: str, size: int, threads: int) -> float:
    """Operations a second of a square product, the best of many."""
    draw = np.random.default_rng(0)
    if kind == "float32":
        weight = draw.normal(size=(size, size)).astype(np.float32)
        nodes = [helper.make_node("MatMul", ["x", "w"], ["y"])]
        constants = {"w": weight}
        x, element = draw.normal(size=(size, size)).astype(np.float32), TensorProto.FLOAT
    else:
        one, zero = np.array(1, np.float32), np.array(128, np.uint8)
        constants = {"w": draw.integers(-60, 60, (size, size), dtype=np.int8), "xs": one, "xz": zero}
        constants |= {"ws": np.ones(size, np.float32), "wz": np.zeros(size, np.int8)}
        nodes = [
            helper.make_node("MatMulIntegerToFloat", ["x", "w", "xs", "ws", "xz", "wz"], ["y"], domain="com.microsoft")
        ]
        x, element = draw.integers(0, 255, (size, size), dtype=np.uint8), TensorProto.UINT8
    graph = helper.make_graph(
        nodes,
        kind,
        [helper.make_tensor_value_info("x", element, [size, size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [size, size])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(
        helper.make_model(graph, opset_imports=opsets, ir_version=10).SerializeToString(),
        options,
        providers=["CPUExecutionProvider"],
    )
    best, spent = float("inf"), 0.0
    while spent < 1.0:
        began = time.perf_counter()
        session.run(None, {"x": x})
        took = time.perf_counter() - began
        best, spent = min(best, took), spent + took
    return 2 * size**3 / best
