"""The int8 form against what the processor can do: `python -m benchmarks.roofline PAIRS [--part PART ...]`.

    PAIRS  labelled pairs that no network was trained on, in their natural mix

    peaks      billions of operations a second of int8 and float32 products, and bytes a second of a copy
    shares     time by kind of operator, operations and bytes, of both shipped networks on batches as our runtime makes
               them
    padding    tokens that would be padding, by the way to make batches
    batches    pairs a CPU second by the size of a batch
    operators  pairs a CPU second, and changes of the score, with other operators of onnxruntime
    threads    pairs a second on one thread and on two: a batch a thread, and threads that share a batch
    pruning    the cross-encoder without the tokens that its first one attends to least

CPU seconds are those of the process, so another process takes little from them; threads are timed by the clock. Every
contender gets the same batches in each round, and ratios are medians over rounds. Each part is written to
`benchmarks/results/roofline.json` as soon as it is done, and the page `docs/explanation/roofline.md` from it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.int8 import difference
from benchmarks.intervals import Measure, average_precision, resampled
from benchmarks.machine import about_machine
from benchmarks.readme import RESULTS, ROOT, rewrite
from benchmarks.roofline import peaks, shares
from benchmarks.roofline.rewrites import OPERATORS, pruned, rewritten
from dupq.data.pairs import PairTable, load_pairs
from dupq.data.writing import write_json
from dupq.models.onnx.runtime import BATCH_TOKENS, RuntimeNetwork, equal_lengths
from dupq.models.onnx.token_reader import TokenReader

PAGE = ROOT / "docs" / "explanation" / "roofline.md"
SHIPPED = ROOT / "dupq" / "pretrained"
SIZES = (64, 128, 256, 512, 1024, 2048)
"""Tokens of a batch."""
PRUNED = ((2, 0.75), (4, 0.75), (4, 0.5), (6, 0.5))
"""Layer, counted from 0, after which tokens leave, and the share that stays."""
ALONE = 64
"""Pairs whose scores are compared alone and in batches."""
FUSED = "SkipLayerNormalization"
"""The one fusion of onnxruntime that our runtime switches off."""

Feeds = dict[str, NDArray[Any]]
Tokens = list[tuple[list[int], list[int]]]


class Network:
    """An int8 network and its batches."""

    def __init__(self, network: RuntimeNetwork, pairs: PairTable) -> None:
        from tokenizers import Tokenizer

        self.network = network
        assert self.network.table is not None
        self.tables = {"words": self.network.table.rows, "word_scales": self.network.table.scales}
        reader = TokenReader(Tokenizer.from_buffer(self.network.tokenizer), self.network.settings["max_length"])
        rows = list(zip(pairs.left, pairs.right, strict=True))
        inputs: list[Any] = [(min(row), max(row)) for row in rows]
        if network.settings["kind"] == "bi-encoder":
            inputs = list(dict.fromkeys(text for row in rows for text in row))
        self.tokens = reader.read(inputs)
        self.lengths = np.array([len(ids) for ids, _ in self.tokens])
        self.names = [value.name for value in open_session(self.network.model).get_inputs()]

    def batches(self, batch_tokens: int = BATCH_TOKENS, count: int | None = None) -> list[tuple[Any, Feeds]]:
        parts = equal_lengths(self.lengths[:count], batch_tokens)
        return [(rows, self.feeds([self.tokens[row] for row in rows])) for rows in parts]

    def feeds(self, tokens: Tokens) -> Feeds:
        every = {"ids": np.array([ids for ids, _ in tokens]), "types": np.array([types for _, types in tokens])}
        return {name: value for name, value in {**every, **self.tables}.items() if name in self.names}


class Bench:
    """Pairs and networks of one run."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        pairs = load_pairs(args.pairs)
        self.pairs = pairs.take(np.random.default_rng(0).permutation(len(pairs))[: args.count])

    @cached_property
    def cross_encoder(self) -> Network:
        return Network(RuntimeNetwork.read(SHIPPED / "cross-encoder"), self.pairs)

    def rounds(self, contenders: Mapping[str, tuple[Any, list[tuple[Any, Feeds]]]]) -> dict[str, list[float]]:
        """Return CPU seconds of each session over its batches, in rounds."""
        seconds: dict[str, list[float]] = {name: [] for name in contenders}
        for _ in range(self.args.rounds):
            for name, (session, batches) in contenders.items():
                began = time.process_time()
                for _, feeds in batches:
                    session.run(None, feeds)
                seconds[name].append(time.process_time() - began)
        return seconds


def open_session(model: bytes, threads: int = 1, disabled: tuple[str, ...] = ("SkipLayerNormFusion",)) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    return onnxruntime.InferenceSession(
        model, options, providers=["CPUExecutionProvider"], disabled_optimizers=list(disabled)
    )


def scores(session: Any, batches: list[tuple[Any, Feeds]]) -> NDArray[np.float32]:
    found = np.empty(sum(len(rows) for rows, _ in batches), np.float32)
    for rows, feeds in batches:
        found[rows] = session.run(None, feeds)[0]
    return found


def change_alone(session: Any, network: Network, found: NDArray[np.float32]) -> float:
    """Return the largest change of a score from its batch to alone."""
    alone = [session.run(None, network.feeds([one]))[0][0] for one in network.tokens[:ALONE]]
    return float(np.abs(np.array(alone) - found[: len(alone)]).max())


# ---- parts ----------------------------------------------------------------------------------------------------------


def measure_peaks(bench: Bench) -> Any:
    return {"products": peaks.products(), "copies": peaks.copies()}


def measure_shares(bench: Bench) -> Any:
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        for kind in ("cross-encoder", "bi-encoder"):
            network = Network(RuntimeNetwork.read(SHIPPED / kind), bench.pairs)
            batches = [feeds for _, feeds in network.batches()]
            found[kind] = {
                "inputs": len(network.tokens),
                "tokens": int(network.lengths.sum()),
                "batches": len(batches),
                "groups": shares.profile(network.network.model, batches, Path(scratch)),
            }
    return found


def measure_padding(bench: Bench) -> Any:
    lengths = bench.cross_encoder.lengths
    ways = {
        "equal lengths, at most 512 tokens (ours)": [lengths[rows] for rows in equal_lengths(lengths)],
        "32 pairs, sorted by length": _parts(np.sort(lengths), 32),
        "32 pairs, as they come": _parts(lengths, 32),
    }
    return [
        {
            "name": name,
            "batches": len(parts),
            "inputs": float(np.mean([len(part) for part in parts])),
            "tokens": float(np.mean([len(part) * part.max() for part in parts])),
            "padding": 1 - float(lengths.sum()) / float(sum(len(part) * part.max() for part in parts)),
        }
        for name, parts in ways.items()
    ]


def _parts(lengths: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    return [lengths[start : start + size] for start in range(0, len(lengths), size)]


def measure_batches(bench: Bench) -> Any:
    network = bench.cross_encoder
    session = open_session(network.network.model)
    wanted = {str(size): (session, network.batches(size)) for size in SIZES}
    seconds = bench.rounds(wanted)
    return [
        {
            "tokens": int(size),
            "batches": len(wanted[size][1]),
            "pairs_per_cpu_second": len(network.tokens) / median(found),
            "gain": _gain(seconds[str(BATCH_TOKENS)], found),
            "cpu_seconds": found,
        }
        for size, found in seconds.items()
    ]


def _gain(base: list[float], found: list[float]) -> dict[str, float]:
    """Return how many times faster it is: median, least and largest over rounds."""
    ratios = [a / b for a, b in zip(base, found, strict=True)]
    return {"value": median(ratios), "low": min(ratios), "high": max(ratios)}


def measure_operators(bench: Bench) -> Any:
    network = bench.cross_encoder
    model, batches = network.network.model, network.batches()
    ours = "ours"
    sessions, failed = {ours: open_session(model), FUSED: open_session(model, disabled=())}, {}
    for name, change in OPERATORS.items():
        try:
            sessions[name] = open_session(rewritten(model, change))
            sessions[name].run(None, batches[0][1])
        except Exception as error:  # noqa: BLE001 - onnxruntime has no base class for its errors
            sessions.pop(name, None)
            failed[name] = str(error).splitlines()[0][:200]
    found = {name: scores(session, batches) for name, session in sessions.items()}
    seconds = bench.rounds({name: (session, batches) for name, session in sessions.items()})
    return {
        "rows": [
            {
                "name": name,
                "gain": _gain(seconds[ours], seconds[name]),
                "change": float(np.abs(found[name] - found[ours]).max()),
                "change_alone": change_alone(session, network, found[name]),
                "cpu_seconds": seconds[name],
            }
            for name, session in sessions.items()
        ],
        "failed": failed,
    }


def measure_threads(bench: Bench) -> Any:
    network = bench.cross_encoder
    batches = network.batches()
    alone, shared = open_session(network.network.model), open_session(network.network.model, threads=2)

    def run(session: Any, threads: int) -> float:
        began = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda batch: session.run(None, batch[1]), batches))
        return time.perf_counter() - began

    ways = {
        "1 thread": (alone, 1),
        "2 threads, a batch each (ours)": (alone, 2),
        "2 threads share a batch": (shared, 1),
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(bench.args.rounds):
        for name, way in ways.items():
            seconds[name].append(run(*way))
    base = next(iter(seconds.values()))
    return [
        {
            "name": name,
            "pairs_per_second": len(network.tokens) / median(found),
            "gain": _gain(base, found),
            "seconds": found,
        }
        for name, found in seconds.items()
    ]


def measure_pruning(bench: Bench) -> Any:
    network, pairs = bench.cross_encoder, bench.pairs
    model, batches = network.network.model, network.batches()
    ours = "all tokens"
    sessions = {ours: open_session(model)}
    for layer, keep in PRUNED:
        sessions[f"{keep:.0%} of the tokens after layer {layer + 1}"] = open_session(
            rewritten(model, pruned(layer, keep))
        )
    seconds = bench.rounds({name: (session, batches) for name, session in sessions.items()})
    found = {name: scores(session, batches).astype(np.float64) for name, session in sessions.items()}
    measures: dict[str, Measure] = {}
    for name, values in found.items():
        measures[name] = average_precision(pairs.labels, values)
        measures[f"{name} - {ours}"] = difference(pairs.labels, values, found[ours])
    intervals = resampled(measures, pairs.groups, bench.args.resamples)
    return [
        {
            "name": name,
            "average_precision": intervals[name],
            "difference": intervals[f"{name} - {ours}"],
            "gain": _gain(seconds[ours], seconds[name]),
            "cpu_seconds": seconds[name],
        }
        for name in sessions
    ]


PARTS: dict[str, Callable[[Bench], Any]] = {
    "peaks": measure_peaks,
    "shares": measure_shares,
    "padding": measure_padding,
    "batches": measure_batches,
    "operators": measure_operators,
    "threads": measure_threads,
    "pruning": measure_pruning,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.roofline", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pairs", metavar="PAIRS")
    parser.add_argument("--part", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--count", type=int, default=4000, help="pairs (4,000)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("-o", "--output", default=str(RESULTS / "roofline.json"))
    args = parser.parse_args()
    bench, output = Bench(args), Path(args.output)
    parts = json.loads(output.read_text(encoding="utf-8"))["parts"] if output.is_file() else {}
    for name in args.part:
        began = time.perf_counter()
        parts[name] = {
            **about_machine(),
            "pairs": len(bench.pairs),
            "rounds": args.rounds,
            "resamples": args.resamples,
            "found": PARTS[name](bench),
        }
        write_json(output, {"command": "python -m benchmarks.roofline", "parts": parts})
        print(f"{name}: {time.perf_counter() - began:,.0f} s", flush=True)
    rewrite(PAGE)


if __name__ == "__main__":
    main()
