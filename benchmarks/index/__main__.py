"""Figures of the live index on both stores: `python -m benchmarks.index --scratch DIR`.

Results are written to `benchmarks/results/index.json` after each figure, and a later run goes on where this one
stopped; delete the file to measure again. `python -m benchmarks.readme` writes the tables of the documentation.

Figures of each size: `add` (questions per second of one client and of eight), `flag` (latency, memory, shares of the
network and of the search, which is exact), `disk`, `approximate` (the same flags, and recall@10). Figures of each
store: `busy` (flags beside adds and beside re-embedding), `crash_adds`, `crash_verdicts`, `crash_reembedding` (writers
killed at random moments).

It takes half an hour a store on two cores, without the approximate search of a million questions in PostgreSQL, whose
graph takes longer than all of it: `--leave-out postgres/1000000/approximate REASON`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.index import clients, crash
from benchmarks.index.corpus import made
from benchmarks.index.places import PLACES, LeftOutError, Place
from benchmarks.readme import RESULTS
from dupq.data.writing import write_json
from dupq.errors import InputError
from dupq.index.question_index import QuestionIndex
from dupq.training.trainer import versions

SIZES = (10_000, 100_000, 224_000, 1_000_000)
EXTRA = 8192
"""Questions beyond the largest size, for adds beside flags."""
MAIN, BUSY = "main", "busy"
KILLS = {"crash_adds": 200, "crash_verdicts": 100, "crash_reembedding": 50}
OF_A_SIZE, OF_A_STORE = ("add", "flag", "disk", "approximate"), ("busy", *KILLS)
RECALL_QUERIES = 100


class Benchmark:
    """Results of one run, which are written as they come.

    Args:
        args: The options.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.output, self.scratch = args, Path(args.output), Path(args.scratch).absolute()
        self.reasons = dict(args.leave_out or [])
        self.sizes = sorted(args.sizes)
        os.environ["DUPQ_CACHE"] = str(self.scratch / "cache")  # of the vectors of PostgreSQL, here and in the clients
        corpus = made(self.scratch, max(self.sizes) + EXTRA, args.model, args.clusters)
        self.base: dict[str, Any] = {
            "scratch": str(self.scratch),
            "size": len(corpus),
            "model": args.model,
            "clusters": args.clusters,
        }
        settings = {
            "model": corpus.fingerprint,
            "dimensions": corpus.vectors.shape[1],
            "queries": len(corpus.queries),  # one of each cluster of the real questions
        }
        self.report: dict[str, Any] = {
            "command": "python -m benchmarks.index",
            "settings": settings,
            "machine": {"cores": os.cpu_count(), "processor": platform.processor() or platform.machine()},
            "versions": versions(),
            "stores": {},
        }
        if self.output.exists():
            before = json.loads(self.output.read_text(encoding="utf-8"))
            if before["settings"] == settings:
                self.report["stores"] = before["stores"]

    def measure(self, held: dict[str, Any], name: str, path: str, figure: Callable[[], dict[str, Any]]) -> None:
        """Measure a figure that `held` lacks, or note the reason why it is left out.

        Args:
            held: Figures of the same store or size.
            name: Of the figure.
            path: The name with the store and the size, by which it can be left out too.
            figure: Function that measures it.
        """
        if name in held and "left_out" not in held[name]:
            return
        if self.args.only and name not in self.args.only:
            return
        start = time.perf_counter()
        try:
            if name in self.reasons or path in self.reasons:
                raise LeftOutError(self.reasons.get(path) or self.reasons[name])
            held[name] = {**figure(), "took_s": round(time.perf_counter() - start, 1)}
        except LeftOutError as error:
            held[name] = {"left_out": str(error)}
        print(path, json.dumps(held[name]), flush=True)
        write_json(self.output, self.report)

    def run(self) -> None:
        """Measure all figures of all stores."""
        for name in self.args.stores:
            held = self.report["stores"].setdefault(name, {"sizes": {}})
            try:
                place = PLACES[name](self.scratch)
            except LeftOutError as error:
                held["left_out"] = str(error)
                write_json(self.output, self.report)
                continue
            held.pop("left_out", None)
            held["version"] = place.version
            try:
                self.of_store(place, held)
            finally:
                place.close()

    def of_store(self, place: Place, held: dict[str, Any]) -> None:
        """Measure a store; its index grows from size to size."""
        for size in self.sizes:
            print(f"== {place.name}, {size:,} questions", flush=True)
            figures = held["sizes"].setdefault(str(size), {})
            wanted = [name for name in OF_A_SIZE if not self.args.only or name in self.args.only]
            if all(name in figures and "left_out" not in figures[name] for name in wanted):
                continue
            base = {**self.base, "where": place.where(MAIN)}
            of_size: dict[str, Callable[[], dict[str, Any]]] = {
                "add": partial(self.add, place, base, size),
                "flag": partial(self.grown, place, base, size, partial(self.flags, base, "exact")),
                "disk": partial(self.grown, place, base, size, partial(disk, base["where"])),
                "approximate": partial(self.grown, place, base, size, partial(self.approximate, base)),
            }
            for name, figure in of_size.items():
                self.measure(figures, name, f"{place.name}/{size}/{name}", figure)
        self.measure(held, "busy", f"{place.name}/busy", partial(self.busy, place))
        for name, kills in KILLS.items():
            count = kills if self.args.kills is None else self.args.kills
            self.measure(held, name, f"{place.name}/{name}", partial(crash.run, place, name, count))

    def add(self, place: Place, base: dict[str, Any], size: int) -> dict[str, Any]:
        """Fill the index but for its last questions, and measure how these are added, without a graph beside them."""
        place.drop_graph(MAIN)
        adds = clients.measured_adds(size)
        self.grow(place, base, adds[0].start)
        return {part.name: clients.measure_add(base, part) for part in adds}

    def grow(self, place: Place, base: dict[str, Any], size: int) -> None:
        """Bring the index to the first `size` questions, from where an earlier run left it."""
        stored = count(base["where"])
        if stored > size:
            place.clear(MAIN)
            place.where(MAIN)
            stored = 0
        clients.fill(base, stored, size)

    def grown(
        self, place: Place, base: dict[str, Any], size: int, figure: Callable[[], dict[str, Any]]
    ) -> dict[str, Any]:
        """Measure a figure of an index of this size."""
        self.grow(place, base, size)
        return figure()

    def flags(self, base: dict[str, Any], search: str) -> dict[str, Any]:
        """Measure flags of one client and of eight."""
        return clients.measure_flags(base, self.args.flags, search)

    def approximate(self, base: dict[str, Any]) -> dict[str, Any]:
        """Build the approximate search, and measure its recall@10 and its flags."""
        found = clients.run([{**base, "task": "recall", "count": min(RECALL_QUERIES, self.args.flags)}])[0]
        recall = {name: value for name, value in found.items() if name not in ("began", "ended")}
        return {**recall, **self.flags(base, "approximate")}

    def busy(self, place: Place) -> dict[str, Any]:
        """Return latencies of flags beside adds and beside re-embedding, at the smallest size."""
        size, found = self.sizes[0], {"questions": self.sizes[0]}
        for work in ("add", "reembed", "reembed_given"):
            place.clear(BUSY)
            base = {**self.base, "where": place.where(BUSY)}
            clients.fill(base, 0, size)
            job = {**base, "task": "busy", "work": work, "stored": size, "count": self.args.flags}
            result = clients.run([job])[0]
            found[work] = {
                "idle": clients.percentiles(result["idle"]),
                "busy": clients.percentiles(result["busy"]),
                "per_second": result["per_second"],
            }
        place.clear(BUSY)
        return found


def count(where: str) -> int:
    """Return the number of questions of an index, 0 if there is none."""
    try:
        with QuestionIndex(where) as index:
            return len(index)
    except InputError:
        return 0  # a damaged one is found when it is filled


def disk(where: str) -> dict[str, Any]:
    """Return the sizes of an index in bytes, by name."""
    with QuestionIndex(where) as index:
        return {name: value for name, value in index.stats().items() if name.endswith("_bytes")}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.index", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scratch", required=True, help="a folder for indexes and vectors; 10 GB for a million")
    parser.add_argument("--output", default=str(RESULTS / "index.json"), help="results (default: %(default)s)")
    parser.add_argument("--stores", nargs="+", choices=[*PLACES], default=[*PLACES], help="stores (default: both)")
    parser.add_argument("--sizes", type=int, nargs="+", default=[*SIZES], help="questions (default: %(default)s)")
    parser.add_argument("--only", nargs="+", choices=[*OF_A_SIZE, *OF_A_STORE], help="measure these figures only")
    parser.add_argument(
        "--leave-out",
        nargs=2,
        action="append",
        metavar=("NAME", "REASON"),
        help="leave out a figure, such as busy or postgres/1000000/approximate",
    )
    parser.add_argument("--flags", type=int, default=300, help="questions flagged for a figure (default: 300)")
    parser.add_argument("--kills", type=int, help="kills of each crash figure (default: 200, 100 and 50)")
    parser.add_argument("--model", help="a calibrated pipeline (default: the shipped one)")
    parser.add_argument("--clusters", type=int, help="clusters of real questions (default: all)")
    Benchmark(parser.parse_args()).run()


if __name__ == "__main__":
    main()
