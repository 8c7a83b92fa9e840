"""What the processor reaches at best: int8 and float32 products, and a copy in memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np

SHAPES = {
    "query, key, value or output": (512, 384, 384),
    "feed-forward, up": (512, 384, 1536),
    "feed-forward, down": (512, 1536, 384),
    "one short batch, up": (64, 384, 1536),
    "large": (1024, 2048, 2048),
}
"""Product -> rows, inputs and outputs."""
KINDS = ("int8", "float32", "int8 in blocks")
_REPEATS, _SECONDS = 5, 0.1
_COPIED = 1 << 26
"""Bytes of a copy: more than the caches hold."""


def products() -> list[dict[str, Any]]:
    """Return billions of operations a CPU second of each product."""
    rows = []
    for name, (tokens, inputs, outputs) in SHAPES.items():
        row: dict[str, Any] = {"name": name, "shape": [tokens, inputs, outputs]}
        for kind in KINDS:
            row[kind] = _rate(_product(kind, tokens, inputs, outputs), 2 * tokens * inputs * outputs) / 1e9
        rows.append(row)
    return rows


def copies() -> dict[str, float]:
    """Return billions of bytes a second that one thread reads and writes, and two.

    One thread is timed in CPU seconds, two by the clock.
    """
    return {str(threads): _copied(threads) / 1e9 for threads in (1, 2)}


def _product(kind: str, tokens: int, inputs: int, outputs: int) -> Callable[[], Any]:
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    contrib, scales = "com.microsoft", np.full(outputs, 0.01, np.float32)
    given: Any = rng.integers(0, 255, (tokens, inputs), dtype=np.uint8)
    if kind == "int8":
        node = helper.make_node("MatMulIntegerToFloat", ["x", "w", "s", "t", "z", "y", "b"], ["o"], domain=contrib)
        constants: dict[str, Any] = {
            "w": rng.integers(-60, 60, (inputs, outputs), dtype=np.int8),
            "s": np.array(0.1, np.float32),
            "t": scales,
            "z": np.array(20, np.uint8),
            "y": np.zeros(outputs, np.int8),
            "b": np.zeros(outputs, np.float32),
        }
    else:
        given = rng.normal(size=(tokens, inputs)).astype(np.float32)
        if kind == "float32":
            node = helper.make_node("MatMul", ["x", "w"], ["o"])
            constants = {"w": rng.normal(size=(inputs, outputs)).astype(np.float32)}
        else:
            sizes = {"K": inputs, "N": outputs, "bits": 8, "block_size": 128, "accuracy_level": 4}
            node = helper.make_node("MatMulNBits", ["x", "w", "s"], ["o"], domain=contrib, **sizes)
            blocks = inputs // 128
            constants = {
                "w": rng.integers(0, 255, (outputs, blocks, 128), dtype=np.uint8),
                "s": np.full((outputs, blocks), 0.01, np.float32),
            }
    element = TensorProto.UINT8 if kind == "int8" else TensorProto.FLOAT
    graph = helper.make_graph(
        [node],
        "product",
        [helper.make_tensor_value_info("x", element, [None, inputs])],
        [helper.make_tensor_value_info("o", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid(contrib, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, {"x": given})


def _rate(call: Callable[[], Any], operations: int) -> float:
    """Return operations a CPU second, the best of a few repeats."""
    call()
    began = time.process_time()
    call()
    count = max(1, round(_SECONDS / max(time.process_time() - began, 1e-5)))
    seconds = []
    for _ in range(_REPEATS):
        began = time.process_time()
        for _ in range(count):
            call()
        seconds.append((time.process_time() - began) / count)
    return operations / min(seconds)


def _copied(threads: int) -> float:
    arrays = [(np.zeros(_COPIED, np.uint8), np.ones(_COPIED, np.uint8)) for _ in range(threads)]
    best = 0.0
    for _ in range(_REPEATS):
        running = [threading.Thread(target=np.copyto, args=pair) for pair in arrays]
        clock = time.process_time if threads == 1 else time.perf_counter
        began = clock()
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        best = max(best, 2 * _COPIED * threads / (clock() - began))
    return best
