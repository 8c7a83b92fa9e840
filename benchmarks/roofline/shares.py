"""Time of an int8 network by kind of operator, from onnxruntime's own profile."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

GROUPS = {
    "matrix products": ("MatMulIntegerToFloat", "MatMul", "Gemm", "FusedGemm"),
    "attention": ("Attention",),
    "GELU": ("Gelu",),
    "normalisation": ("LayerNormalization",),
    "quantise and dequantise": ("QuantizeLinear", "ReduceMax", "Max", "Mul", "Expand", "Shape", "Reshape", "Cast"),
    "sums (bias, residual)": ("Add",),
}
"""Group -> its operators. Mul and Cast are of the embedding table too, a node of each in a hundred."""
REST = "the rest"
_GROUP = {operator: group for group, operators in GROUPS.items() for operator in operators}
_REPEATS = 3


def profile(model: bytes, batches: Sequence[dict[str, Any]], scratch: Path) -> list[dict[str, Any]]:
    """Return seconds, operations and bytes of each group over all batches.

    A batch is run a few times, and the least time of each node counts, because another process may interrupt it. Bytes
    are those of inputs, weights and outputs. The operations are those of the products.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    options.enable_profiling = True
    options.profile_file_prefix = str(scratch / "profile")
    session = onnxruntime.InferenceSession(
        model, options, providers=["CPUExecutionProvider"], disabled_optimizers=["SkipLayerNormFusion"]
    )
    for feeds in batches:
        for _ in range(_REPEATS):
            session.run(None, feeds)
    file = Path(session.end_profiling())
    events = [
        event for event in json.loads(file.read_text()) if event.get("cat") == "Node" and "op_name" in event["args"]
    ]
    file.unlink()
    runs = _REPEATS * len(batches)
    nodes = np.array([event["dur"] for event in events]).reshape(len(batches), _REPEATS, len(events) // runs)
    found: dict[str, dict[str, float]] = defaultdict(lambda: {"seconds": 0.0, "operations": 0.0, "bytes": 0.0})
    for batch, least in enumerate(nodes.min(axis=1)):
        first = batch * _REPEATS * len(least)
        for event, duration in zip(events[first : first + len(least)], least, strict=True):
            group = found[_GROUP.get(event["args"]["op_name"], REST)]
            group["seconds"] += float(duration) / 1e6
            group["operations"] += operations_of(event["args"])
            group["bytes"] += bytes_of(event["args"])
    every = sum(group["seconds"] for group in found.values())
    return [
        {"name": name, "share": found[name]["seconds"] / every, **found[name]}
        for name in (*GROUPS, REST)
        if name in found
    ]


def operations_of(node: dict[str, Any]) -> float:
    """Return additions and multiplications of a product, from the shapes of its first input and its output."""
    if node["op_name"] not in GROUPS["matrix products"]:
        return 0.0
    given, got = (next(iter(node[key][0].values())) for key in ("input_type_shape", "output_type_shape"))
    return 2.0 * prod(got) * given[-1]


def bytes_of(node: dict[str, Any]) -> float:
    """Return the bytes that a node reads and writes.

    The profile leaves out weights that are packed, so those of an int8 product are counted by their shape.
    """
    total = float(node["activation_size"]) + float(node["output_size"]) + float(node["parameter_size"])
    if node["op_name"] == "MatMulIntegerToFloat":
        given, got = (next(iter(node[key][0].values())) for key in ("input_type_shape", "output_type_shape"))
        total += given[-1] * got[-1]
    return total
