"""Our int8 form beside the stock way: `torch.onnx.export` and `onnxruntime.quantization`.

    dupq model to-torch -o STOCK
    python -m benchmarks.int8 PAIRS --fitting TRAIN --stock STOCK --scratch DIR

    PAIRS      labelled pairs that no network was trained on
    --fitting  training pairs; the first `--fitting-pairs` of a fixed shuffle set the ranges of every contender
    --stock    the shipped networks in floating point, as `dupq model to-torch` writes them

All contenders start from those weights, which are rounded once already; "as shipped" is the form in the package. They
get the same batches of equal length, on one thread. Scoring is timed in rounds, each a fresh slice of the pairs for
every contender. Average precision comes from the same scores, its differences from the same resampled question groups.

Exported networks stay in `--scratch`, and each network of `--networks` is written as soon as it is measured. The
export needs onnxscript. Results go to `benchmarks/results/int8.json`, and from there into
`docs/decisions/0009-own-graph.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from benchmarks.intervals import Measure, average_precision, resampled
from benchmarks.machine import about_machine
from benchmarks.readme import RESULTS, ROOT, rewrite
from dupq.data.pairs import PairTable, load_pairs
from dupq.data.writing import write_json
from dupq.models.onnx.export import export
from dupq.models.onnx.runtime import BATCH_TOKENS, Runner, RuntimeNetwork, equal_lengths
from dupq.models.onnx.token_reader import TokenReader

PAGE = ROOT / "docs" / "decisions" / "0009-own-graph.md"
NETWORKS = ("cross-encoder", "bi-encoder")
SHIPPED, OURS = "our graph, as shipped", "our graph"
STOCK = {
    "float": "stock graph, float32",
    "products": "static QDQ, products with weights",
    "operators": "static QDQ, every operator",
    "dynamic": "dynamic",
}
BATCH = 64
"""A pair is scored alone, and beside the others of a batch of so many pairs."""
CHECKED = 256
"""Pairs whose scores are compared alone and in batches."""

Floats = NDArray[np.float64]
Feeds = dict[str, NDArray[np.int64]]
Run = Callable[[Feeds], NDArray[np.float32]]
"""Token ids, types and mask, int64 (b, l) -> logits (b,) or embeddings (b, d)."""


# ---- contenders -----------------------------------------------------------------------------------------------------


def export_stock(kind: str, stock: Path, path: Path) -> None:
    """Export a stock network as `torch.onnx` does it."""
    import torch

    names = ["ids", "mask", "types"] if kind == "cross-encoder" else ["ids", "mask"]
    if kind == "cross-encoder":
        from transformers import AutoModelForSequenceClassification

        model = AutoModelForSequenceClassification.from_pretrained(stock / kind)

        def forward(ids: Any, mask: Any, types: Any = None) -> Any:
            return model(input_ids=ids, attention_mask=mask, token_type_ids=types).logits[:, 0]
    else:
        from sentence_transformers import SentenceTransformer

        model = SentenceTransformer(str(stock / kind), device="cpu")

        def forward(ids: Any, mask: Any, types: Any = None) -> Any:
            return model({"input_ids": ids, "attention_mask": mask})["sentence_embedding"]

    class Stock(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *inputs: Any) -> Any:
            return forward(*inputs)

    batch, length = torch.export.Dim("batch"), torch.export.Dim("length", max=256)
    torch.onnx.export(
        Stock().eval(),
        tuple(torch.ones(3, 9, dtype=torch.long) for _ in names),
        str(path),
        input_names=names,
        output_names=["scores"],
        opset_version=21,
        external_data=False,
        dynamic_shapes=(tuple({0: batch, 1: length} for _ in names),),
    )


def prepare_stock(source: Path, path: Path) -> None:
    """Optimise an exported network before quantisation, as the documentation of onnxruntime does it.

    Symbolic shapes fail on the graph of this exporter, and the shapes that it noted fail in the dynamic quantiser.
    """
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    quant_pre_process(str(source), str(path), skip_symbolic_shape=True)
    model = onnx.load(path)
    del model.graph.value_info[:]
    onnx.save(model, path)


def quantise_stock(form: str, source: Path, path: Path, batches: list[Feeds]) -> None:
    """Quantise an exported network as the documentation of onnxruntime does it."""
    from onnx import load
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_dynamic,
        quantize_static,
    )

    names = [value.name for value in load(source).graph.input]

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches: Iterator[Feeds] = ({name: feeds[name] for name in names} for feeds in batches)

        def get_next(self) -> Feeds | None:
            return next(self.batches, None)

    if form == "dynamic":
        quantize_dynamic(source, path, per_channel=True, weight_type=QuantType.QInt8)
        return
    quantize_static(
        source,
        path,
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        op_types_to_quantize=["MatMul", "Gemm", "Gather"] if form == "products" else None,
        # Products of two activations are those of attention; they stay in float32, as in our graph.
        extra_options={"MatMulConstBOnly": form == "products"},
    )


def open_stock(path: Path) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return lambda feeds: session.run(None, {name: feeds[name] for name in names})[0]


def open_ours(network: RuntimeNetwork) -> Run:
    runner = Runner(network, threads=1)
    names = [name for name in runner.inputs if name not in runner.tables]
    return lambda feeds: runner.session.run(None, {**{name: feeds[name] for name in names}, **runner.tables})[0]


def contenders(
    kind: str, args: argparse.Namespace, reader: TokenReader, fitting: PairTable
) -> Iterator[tuple[str, Run, int]]:
    """Yield name, network and bytes on disk of each contender; the first is the one that the others are compared to."""
    stock, scratch = Path(args.stock), Path(args.scratch)
    scratch.mkdir(parents=True, exist_ok=True)
    own, shipped = scratch / f"{kind}-own", ROOT / "dupq" / "pretrained" / kind
    if not own.is_dir():
        export(stock / kind, fitting.left, fitting.right, word_bits=4).save(own)
    for name, folder in ((OURS, own), (SHIPPED, shipped)):
        network = RuntimeNetwork.read(folder)
        table = network.table
        assert table is not None
        yield name, open_ours(network), len(network.model) + table.rows.size // 2 + table.scales.nbytes
    exported = scratch / f"{kind}-float.onnx"
    if not exported.is_file():
        export_stock(kind, stock, exported)
    prepared = scratch / f"{kind}-prepared.onnx"
    if not prepared.is_file():
        prepare_stock(exported, prepared)
    for form, name in STOCK.items():
        path = scratch / f"{kind}-{form}.onnx"
        if not path.is_file():
            batches = [feeds for _, feeds in equal_batches(reader, inputs_of(kind, fitting))]
            quantise_stock(form, prepared, path, batches)
        yield name, open_stock(path), path.stat().st_size


# ---- batches --------------------------------------------------------------------------------------------------------


def inputs_of(kind: str, pairs: PairTable) -> list[Any]:
    """Pairs in the order of their texts, or both texts of each pair."""
    rows = zip(pairs.left, pairs.right, strict=True)
    if kind == "cross-encoder":
        return [(min(row), max(row)) for row in rows]
    return [text for row in rows for text in row]


def equal_batches(reader: TokenReader, inputs: Sequence[Any]) -> Iterator[tuple[NDArray[np.int64], Feeds]]:
    """Yield rows and feeds of batches of equal length, as our runtime makes them."""
    tokens = reader.read(inputs)
    for rows in equal_lengths(np.array([len(ids) for ids, _ in tokens]), BATCH_TOKENS):
        yield rows, padded([tokens[row] for row in rows])


def padded(tokens: list[tuple[list[int], list[int]]]) -> Feeds:
    """Return ids, types and mask of a batch, padded to its longest input."""
    shape = len(tokens), max(len(ids) for ids, _ in tokens)
    feeds = {name: np.zeros(shape, np.int64) for name in ("ids", "types", "mask")}
    for row, (ids, types) in enumerate(tokens):
        feeds["ids"][row, : len(ids)], feeds["types"][row, : len(ids)] = ids, types
        feeds["mask"][row, : len(ids)] = 1
    return feeds


def outputs_of(run: Run, reader: TokenReader, inputs: Sequence[Any]) -> Floats:
    found: list[Any] = [None] * len(inputs)
    for rows, feeds in equal_batches(reader, inputs):
        for row, output in zip(rows, run(feeds), strict=True):
            found[row] = output
    return np.array(found, np.float64)


def scores_of(kind: str, run: Run, reader: TokenReader, pairs: PairTable) -> Floats:
    """Return the logits or the cosines of n pairs: float64 (n,)."""
    return as_scores(kind, outputs_of(run, reader, inputs_of(kind, pairs)))


def as_scores(kind: str, outputs: Floats) -> Floats:
    if kind == "cross-encoder":
        return outputs
    vectors = outputs / np.linalg.norm(outputs, axis=1, keepdims=True)
    return np.asarray((vectors[::2] * vectors[1::2]).sum(axis=1))


# ---- measures -------------------------------------------------------------------------------------------------------


def in_batches(kind: str, name: str, run: Run, reader: TokenReader, pairs: PairTable) -> dict[str, float | None]:
    """Return the largest change of a score: from alone to a batch, and to the other order of pairs and of texts.

    Our graph has no mask, so it cannot be given padded batches; our runtime gives it none.
    """
    some = pairs.take(slice(0, min(CHECKED, len(pairs))))
    inputs = inputs_of(kind, some)
    tokens = reader.read(inputs)
    alone = as_scores(kind, np.array([run(padded([one]))[0] for one in tokens], np.float64))
    together = scores_of(kind, run, reader, some)
    beside = None
    if name not in (OURS, SHIPPED):
        parts = [run(padded(tokens[start : start + BATCH])) for start in range(0, len(tokens), BATCH)]
        beside = float(np.abs(as_scores(kind, np.concatenate(parts).astype(np.float64)) - alone).max())
    backwards = some.take(np.arange(len(some))[::-1])
    turned = PairTable(backwards.right, backwards.left, backwards.labels)
    return {
        "equal_lengths": float(np.abs(together - alone).max()),
        "padded": beside,
        "other_order": float(np.abs(scores_of(kind, run, reader, turned)[::-1] - together).max()),
    }


def measure(kind: str, args: argparse.Namespace, pairs: PairTable, fitting: PairTable) -> dict[str, Any]:
    stock = RuntimeNetwork.read(ROOT / "dupq" / "pretrained" / kind)
    runner = Runner(stock, threads=1)
    reader = TokenReader(runner.tokenizer, stock.settings["max_length"])
    opened = {name: (run, size) for name, run, size in contenders(kind, args, reader, fitting)}
    seconds: dict[str, list[float]] = {name: [] for name in opened}
    wall: dict[str, list[float]] = {name: [] for name in opened}
    scores: dict[str, list[Floats]] = {name: [] for name in opened}
    bounds = np.linspace(0, len(pairs), args.rounds + 1).astype(int)
    warm = pairs.take(slice(0, BATCH))
    for run, _ in opened.values():
        scores_of(kind, run, reader, warm)
    for first, last in pairwise(bounds):
        part = pairs.take(slice(int(first), int(last)))
        for name, (run, _) in opened.items():
            began, spent = time.perf_counter(), time.process_time()
            scores[name].append(scores_of(kind, run, reader, part))
            seconds[name].append(time.process_time() - spent)
            wall[name].append(time.perf_counter() - began)
            print(f"{kind:<14} {name:<28} {(last - first) / seconds[name][-1]:,.0f} pairs a CPU second", flush=True)
    joined = {name: np.concatenate(parts) for name, parts in scores.items()}
    measures: dict[str, Measure] = {}
    for name, found in joined.items():
        measures[name] = average_precision(pairs.labels, found)
        measures[f"{name} - {OURS}"] = difference(pairs.labels, found, joined[OURS])
    intervals = resampled(measures, pairs.groups, args.resamples)
    exact = joined[STOCK["float"]]
    sizes = np.diff(bounds)
    return {
        "spread": float(exact.std()),
        "rows": [
            {
                "name": name,
                "bytes": size,
                "average_precision": intervals[name],
                "difference": intervals[f"{name} - {OURS}"],
                "rms_to_float": float(np.sqrt(((joined[name] - exact) ** 2).mean())),
                "pairs_per_cpu_second": median(n / s for n, s in zip(sizes, seconds[name], strict=True)),
                "pairs_per_second": median(n / s for n, s in zip(sizes, wall[name], strict=True)),
                "ratio": median(a / b for a, b in zip(seconds[name], seconds[OURS], strict=True)),
                "cpu_seconds": seconds[name],
                "wall_seconds": wall[name],
                "largest_change": in_batches(kind, name, run, reader, pairs),
            }
            for name, (run, size) in opened.items()
        ],
    }


def difference(labels: NDArray[Any], scores: Floats, ours: Floats) -> Measure:
    def measured(weights: NDArray[np.int64]) -> float:
        both = [average_precision_score(labels, one, sample_weight=weights) for one in (scores, ours)]
        return float(both[0] - both[1])

    return measured


def some_of(pairs: PairTable, count: int) -> PairTable:
    """Return pairs of a fixed shuffle."""
    return pairs.take(np.random.default_rng(0).permutation(len(pairs))[:count])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pairs", metavar="PAIRS")
    parser.add_argument("--fitting", required=True, metavar="PAIRS")
    parser.add_argument("--stock", required=True, metavar="DIR")
    parser.add_argument("--scratch", required=True, metavar="DIR")
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--count", type=int, default=4000, help="pairs (4,000)")
    parser.add_argument("--fitting-pairs", type=int, default=300, help="pairs that set the ranges (300)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("-o", "--output", default=str(RESULTS / "int8.json"))
    args = parser.parse_args()
    os.environ["HF_HUB_OFFLINE"] = "1"
    pairs, fitting = some_of(load_pairs(args.pairs), args.count), some_of(load_pairs(args.fitting), args.fitting_pairs)
    output = Path(args.output)
    networks = json.loads(output.read_text(encoding="utf-8"))["networks"] if output.is_file() else {}
    for kind in args.networks:
        networks[kind] = {
            **about_machine(),
            "pairs": len(pairs),
            "fitting_pairs": len(fitting),
            "rounds": args.rounds,
            "resamples": args.resamples,
            **measure(kind, args, pairs, fitting),
        }
        write_json(output, {"command": "python -m benchmarks.int8", "networks": networks})
    rewrite(PAGE)


if __name__ == "__main__":
    main()
