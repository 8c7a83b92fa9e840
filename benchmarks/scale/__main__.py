"""Figures of large collections: `python -m benchmarks.scale --scratch DIR`.

Results are written to `benchmarks/results/scale.json` after each figure, and a later run goes on where this one
stopped; delete the file to measure again. `python -m benchmarks.readme` writes the tables of the documentation.

The corpus is that of `benchmarks.index`: the project's own questions, embedded by the shipped model, and
recombinations of two of them with the mean of their vectors and a little noise.

Figures of each size: `exact` (seconds of the exact search), `cells` (recall, work and seconds by the number of cells
and the overlap), `peers` (other packages on the same vectors or texts; those that are not installed are left out).
Figures of all: `networks` (seconds of embedding and judging), `engines` (one mining run without and with engines, at
each of --engine-sizes), `end_to_end` (a run of --end-to-end-size questions, in part extrapolated), `cost` (a model
fitted to the searches, and what it extrapolates).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.index.corpus import BLOCK, made, parts
from benchmarks.index.places import LeftOutError
from benchmarks.readme import RESULTS
from benchmarks.scale import cells, end_to_end, engines, peers
from benchmarks.scale.cost import BUDGET, cost
from benchmarks.scale.memory import apart
from dupq.data.writing import write_json, written_beside
from dupq.decisions.decider import embedder_of
from dupq.pipeline import DuplicatePipeline
from dupq.search.kmeans import default_cells

SIZES = (50_000, 224_000, 1_000_000)
CELLS = (256, 1024, 4096)
"""Numbers of cells beside the default one of a size."""
OVERLAPS = (1, 2, 4, 8, 16)
TIMED = (4, 8)
"""Overlaps that are searched, for their seconds."""
ROWS_IN_A_CELL = 16
"""Fewer rows a cell on average are not measured."""
EXACT_UP_TO = 224_000
ENGINE_SIZES = (100_000, 224_000)
END_TO_END_SIZE = 1_000_000
END_TO_END_TEXTS, END_TO_END_PAIRS = 20_000, 10_000
"""Texts that are embedded and pairs that are judged; the rest is extrapolated."""
NETWORK_TEXTS = 2000
FIGURES = ("exact", "cells", "peers", "networks", "engines", "end_to_end", "cost")


class Benchmark:
    """Results of one run, which are written as they come.

    Args:
        args: The options.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.output, self.scratch = args, Path(args.output), Path(args.scratch).absolute()
        self.reasons = dict(args.leave_out or [])
        self.sizes = sorted(args.sizes)
        wanted = {"exact", "cells", "peers"} & {*(args.only or FIGURES)}
        sizes = [2, *(self.sizes if wanted else [])]
        sizes += args.engine_sizes if "engines" in (args.only or FIGURES) else []
        sizes += [NETWORK_TEXTS] if "networks" in (args.only or FIGURES) else []
        sizes += [args.end_to_end_size] if "end_to_end" in (args.only or FIGURES) else []
        self.corpus = made(self.scratch, max(sizes), args.model, args.clusters)
        settings = {
            "model": self.corpus.fingerprint,
            "dimensions": int(self.corpus.vectors.shape[1]),
            "clusters": args.clusters,
            "threshold": cells.THRESHOLD,
            "sample": args.sample,
            "threads": args.threads,
        }
        self.report: dict[str, Any] = {
            "command": "python -m benchmarks.scale",
            "settings": settings,
            "machine": {"cores": os.cpu_count(), "processor": platform.processor() or platform.machine()},
            "sizes": {},
        }
        if self.output.exists():
            before = json.loads(self.output.read_text(encoding="utf-8"))
            if all(before["settings"].get(name) == value for name, value in settings.items()):
                kept = ("sizes", "networks", "engines", "end_to_end")
                self.report |= {name: before[name] for name in kept if name in before}

    def measure(self, held: dict[str, Any], name: str, path: str, figure: Callable[[], dict[str, Any]]) -> None:
        """Measure a figure that `held` lacks, or note the reason why it is left out.

        Args:
            held: Figures of the same kind.
            name: Of the figure.
            path: The name with the size, by which it, or the part before the last "/", can be left out too.
            figure: Function that measures it.
        """
        if name in held and "left_out" not in held[name]:
            return
        start = time.perf_counter()
        try:
            for left_out in (name, path, path.rpartition("/")[0], path.partition("/")[0]):
                if left_out in self.reasons:
                    raise LeftOutError(self.reasons[left_out])
            held[name] = {**figure(), "took_s": round(time.perf_counter() - start, 1)}
        except LeftOutError as error:
            held[name] = {"left_out": str(error)}
        print(path, json.dumps(held[name]), flush=True)
        write_json(self.output, self.report)

    def run(self) -> None:
        """Measure all figures."""
        wanted = self.args.only or FIGURES
        for size in self.sizes if {"exact", "cells", "peers"} & {*wanted} else ():
            figures = self.report["sizes"].setdefault(str(size), {})
            path = str(self.vectors(size))
            if "exact" in wanted:
                self.measure(figures, "exact", f"{size}/exact", partial(self.exact, path, size))
            if "cells" in wanted:
                self.grid(figures.setdefault("cells", {}), path, size)
            if "peers" in wanted:
                for name in self.args.peers:
                    held = figures.setdefault("peers", {})
                    self.measure(held, name, f"{size}/peers/{name}", partial(self.peer, name, path, size))
        if "networks" in wanted:
            self.measure(self.report, "networks", "networks", self.networks)
        if "engines" in wanted:
            self.engines()
        if "end_to_end" in wanted:
            self.end_to_end()
        if "cost" in wanted:
            self.report["cost"] = cost(self.report)
        write_json(self.output, self.report)

    def vectors(self, size: int) -> Path:
        """Return the file of the first vectors of the corpus, written once."""
        path = self.scratch / f"vectors-{size}-{self.corpus.vectors.shape[1]}.f32"
        if not path.exists():
            with written_beside(path) as beside, beside.open("wb") as stream:
                for start, stop in parts(0, size, 16 * BLOCK):
                    stream.write(self.corpus.embedded(start, stop).astype("<f4").tobytes())
        return path

    def exact(self, path: str, size: int) -> dict[str, Any]:
        """Measure the exact search."""
        if size > self.args.exact_up_to:
            raise LeftOutError(f"more than {self.args.exact_up_to:,} questions (--exact-up-to)")
        return apart(cells.exact, path, str(self.scratch / f"exact-{size}.npy"))

    def grid(self, held: dict[str, Any], path: str, size: int) -> None:
        """Measure every number of cells that leaves enough rows in a cell."""
        counts = sorted({*self.args.cells, default_cells(size)})
        for count in (count for count in counts if count * ROWS_IN_A_CELL <= size):
            options = (path, count, self.args.overlaps, self.args.timed, self.args.sample)
            self.measure(held, str(count), f"{size}/cells/{count}", partial(apart, cells.grid, *options))

    def peer(self, name: str, path: str, size: int) -> dict[str, Any]:
        """Measure another package."""
        peers.check(name)
        texts: Sequence[str] = self.corpus.texts(0, size) if name == "datasketch" else ()
        return apart(peers.measured, name, path, texts, self.args.sample)

    def networks(self) -> dict[str, Any]:
        """Measure embedding and judging of a sample of the real questions, seconds each, on all cores."""
        pipeline = DuplicatePipeline.from_pretrained(self.args.model)
        real = self.corpus.real
        texts = [real[at] for at in np.random.default_rng(0).permutation(len(real))[:NETWORK_TEXTS].tolist()]
        embed = embedder_of(pipeline).embed
        embed(texts[:32])
        start = time.perf_counter()
        embed(texts)
        embedded = time.perf_counter() - start
        pipeline.raw_scores(texts[:32], texts[-32:])
        start = time.perf_counter()
        pipeline.raw_scores(texts[:-1], texts[1:])
        judged = time.perf_counter() - start
        seconds = {"embed_s": embedded / len(texts), "judge_s": judged / (len(texts) - 1)}
        return {"texts": len(texts), "cores": os.cpu_count() or 1, **seconds}

    def engines(self) -> None:
        """Measure one mining run without an engine and with each."""
        for size in self.args.engine_sizes:
            held = self.report.setdefault("engines", {}).setdefault(str(size), {})
            texts = self.corpus.texts(0, size)
            for name in engines.ENGINES:
                figure = partial(apart, engines.measured, name, texts, self.args.model, self.scratch)
                self.measure(held, name, f"engines/{size}/{name}", figure)

    def end_to_end(self) -> None:
        """Measure the stages of a run whose networks would take hours."""
        size, args = self.args.end_to_end_size, self.args
        held = self.report.setdefault("end_to_end", {}).setdefault(str(size), {})
        source = (str(self.scratch), len(self.corpus), args.model, args.clusters)
        path, pairs = str(self.vectors(size)), str(self.scratch / f"cells-{size}.npz")
        stages = {
            "embedding": (end_to_end.embedding, source, size, args.end_to_end_texts),
            "searching": (end_to_end.search, path, pairs, args.sample, size > args.exact_up_to),
            "judging": (end_to_end.judging, source, pairs, BUDGET, args.end_to_end_pairs),
        }
        for name, (figure, *arguments) in stages.items():
            self.measure(held, name, f"end_to_end/{size}/{name}", partial(apart, figure, *arguments))


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.scale", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scratch", required=True, help="a folder for vectors; 2 GB for a million questions")
    parser.add_argument("--output", default=str(RESULTS / "scale.json"), help="results (default: %(default)s)")
    parser.add_argument("--sizes", type=int, nargs="+", default=[*SIZES], help="questions (default: %(default)s)")
    parser.add_argument("--cells", type=int, nargs="+", default=[*CELLS], help="cells (default: %(default)s)")
    parser.add_argument("--overlaps", type=int, nargs="+", default=[*OVERLAPS], help="overlaps (default: %(default)s)")
    parser.add_argument("--timed", type=int, nargs="+", default=[*TIMED], help="searched ones (default: %(default)s)")
    parser.add_argument("--sample", type=int, default=1000, help="questions of the recall (default: 1000)")
    parser.add_argument("--exact-up-to", type=int, default=EXACT_UP_TO, help="exact search (default: %(default)s)")
    parser.add_argument("--peers", nargs="+", choices=[*peers.PEERS], default=[*peers.PEERS], help="(default: all)")
    parser.add_argument(
        "--engine-sizes", type=int, nargs="+", default=[*ENGINE_SIZES], help="of the engines (default: %(default)s)"
    )
    parser.add_argument(
        "--end-to-end-size", type=int, default=END_TO_END_SIZE, help="of the whole run (default: %(default)s)"
    )
    parser.add_argument(
        "--end-to-end-texts", type=int, default=END_TO_END_TEXTS, help="embedded ones of it (default: %(default)s)"
    )
    parser.add_argument(
        "--end-to-end-pairs", type=int, default=END_TO_END_PAIRS, help="judged pairs of it (default: %(default)s)"
    )
    parser.add_argument("--only", nargs="+", choices=[*FIGURES], help="measure these figures only")
    parser.add_argument(
        "--leave-out",
        nargs=2,
        action="append",
        metavar=("NAME", "REASON"),
        help="leave out a figure, such as datasketch, 1000000/peers, ray-1 or engines/224000",
    )
    parser.add_argument("--threads", type=int, default=1, help="threads of a product (default: 1)")
    parser.add_argument("--model", help="a calibrated pipeline (default: the shipped one)")
    parser.add_argument("--clusters", type=int, help="clusters of real questions (default: all)")
    return parser


def main() -> None:
    args = options().parse_args()
    if os.environ.get("OMP_NUM_THREADS") != str(args.threads):
        # Before NumPy starts its threads, here and in the processes of the figures.
        os.environ |= {"OMP_NUM_THREADS": str(args.threads), "OPENBLAS_NUM_THREADS": str(args.threads)}
        os.execv(sys.executable, [sys.executable, "-m", "benchmarks.scale", *sys.argv[1:]])
    Benchmark(args).run()


if __name__ == "__main__":
    main()
