"""Figures of the HTTP service: `python -m benchmarks.service --scratch DIR`.

Beside `dupq serve` with the shipped model stands what a user would write instead, `baseline.py`: FastAPI and
sentence-transformers, on the same machine in the same run. Its networks have the shape of `ms-marco-MiniLM-L6-v2` and
`all-MiniLM-L6-v2`, in float32. Their speed does not depend on the weights, which are random unless `--base` names a
folder with stock networks in `cross-encoder` and `bi-encoder`.

Results are written to `benchmarks/results/service.json` after each figure, and a later run goes on where this one
stopped; delete the file to measure again. `python -m benchmarks.readme` writes the tables of the documentation.

Figures of each server: `start` (start to the first answers, memory), `score_1` and `score_32` (requests of one pair and
of 32), `flag` (at `--questions` stored questions), each with 1, 8 and 32 clients; `pressure` (200 clients: memory,
refused requests). Figure of dupq alone: `crash` (`kill -9` under load).

It takes 35 minutes on two cores, 10 of them for `crash`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.index import clients
from benchmarks.index.__main__ import EXTRA, count
from benchmarks.index.corpus import Corpus, made
from benchmarks.index.places import LeftOutError
from benchmarks.readme import RESULTS
from benchmarks.service import load, networks, servers
from benchmarks.service.crash import Crash
from dupq.data.writing import write_json
from dupq.training.trainer import versions

CLIENTS = (1, 8, 32)
PRESSURE_CLIENTS = 200
BODIES = 1024
"""Different requests of a load; they are sent in turn."""
MANY = 32
"""Pairs of a large request."""
STARTS = 5
LOADS = ("score_1", "score_32", "flag")
SERVERS = ("dupq", "baseline")
PACKAGES = ("fastapi", "starlette", "uvicorn")


class Benchmark:
    """Results of one run, which are written as they come.

    Args:
        args: The options.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        self.args, self.output, self.scratch = args, Path(args.output), Path(args.scratch).absolute()
        self.reasons = dict(args.leave_out or [])
        os.environ["DUPQ_CACHE"] = str(self.scratch / "cache")
        self.corpus = made(self.scratch, args.questions + EXTRA, args.model, args.clusters)
        self.base = Path(args.base).absolute() if args.base else None
        settings = {
            "model": self.corpus.fingerprint,
            "questions": args.questions,
            "baseline": "stock networks" if self.base else "random weights",
        }
        self.report: dict[str, Any] = {
            "command": "python -m benchmarks.service",
            "settings": settings,
            "machine": {"cores": os.cpu_count(), "processor": platform.processor() or platform.machine()},
            "versions": {**versions(), **{name: version(name) for name in PACKAGES}},
            "servers": {},
        }
        if self.output.exists():
            before = json.loads(self.output.read_text(encoding="utf-8"))
            if before["settings"] == settings:
                self.report["servers"] = before["servers"]
        self.db, self.token, self.bodies = str(self.scratch / "service.db"), "", self.scratch / "bodies"

    def measure(self, server: str, name: str, figure: Callable[[], dict[str, Any]]) -> None:
        """Measure a figure of a server that the results lack, or note the reason why it is left out."""
        held = self.report["servers"].setdefault(server, {})
        if (name in held and "left_out" not in held[name]) or (self.args.only and name not in self.args.only):
            return
        path, start = f"{server}/{name}", time.perf_counter()
        try:
            if name in self.reasons or path in self.reasons:
                raise LeftOutError(self.reasons.get(path) or self.reasons[name])
            held[name] = {**figure(), "took_s": round(time.perf_counter() - start, 1)}
        except LeftOutError as error:
            held[name] = {"left_out": str(error)}
        print(path, json.dumps(held[name]), flush=True)
        write_json(self.output, self.report)

    def run(self) -> None:
        """Measure all figures, those of both servers in turn."""
        self.prepare()
        for name in ("start", *LOADS, "pressure"):
            figure = {"start": self.start, "pressure": self.pressure}.get(name) or partial(self.loads, name)
            for server in SERVERS:
                self.measure(server, name, partial(figure, server))
        self.measure("dupq", "crash", self.crash)

    def prepare(self) -> None:
        """Fill the index and the folder of the baseline, and write the bodies of the requests."""
        stored = count(self.db)
        if stored > self.args.questions:
            for file in self.scratch.glob("service.db*"):
                file.unlink()
            stored = 0
        base = {
            "scratch": str(self.scratch),
            "size": len(self.corpus),
            "model": self.args.model,
            "clusters": self.args.clusters,
            "where": self.db,
        }
        clients.fill(base, stored, self.args.questions)
        self.token = servers.token_of(self.db)
        networks.made(self.scratch / "baseline", self.corpus, self.args.questions, self.base)
        self.bodies.mkdir(exist_ok=True)
        for name, rows in request_bodies(self.corpus, self.args.questions).items():
            (self.bodies / name).write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")

    def server(self, name: str) -> servers.Server:
        """Start a server."""
        log = self.scratch / f"{name}.log"
        if name == "dupq":
            return servers.dupq(self.db, self.token, log, self.args.model)
        return servers.baseline(self.scratch / "baseline", log)

    def first_body(self, name: str) -> Any:
        """Return the first body of a load."""
        return json.loads(next(islice((self.bodies / name).open(encoding="utf-8"), 1)))

    def start(self, name: str) -> dict[str, Any]:
        """Return seconds from the start to the first answers, the median of some starts, and memory then."""
        found: dict[str, list[float]] = {}
        for _ in range(self.args.starts):
            with self.server(name) as server:
                if name == "dupq":
                    found.setdefault("ready_s", []).append(server.until("GET", "/readyz"))
                found.setdefault("score_s", []).append(server.until("POST", "/v1/score", self.first_body("score_1")))
                found.setdefault("flag_s", []).append(server.until("POST", "/v1/flag", self.first_body("flag")))
                for key, value in server.memory().items():
                    found.setdefault(key, []).append(value)
        return {key: float(np.median(values)) for key, values in found.items()} | {"starts": self.args.starts}

    def loads(self, kind: str, name: str) -> dict[str, Any]:
        """Return rates and latencies of one kind of request, by the number of clients, and memory after them."""
        path = "/v1/flag" if kind == "flag" else "/v1/score"
        found: dict[str, Any] = {"clients": {}}
        with self.server(name) as server:
            server.until("POST", path, self.first_body(kind))
            for number in CLIENTS:
                before = server.cpu_seconds()
                row = load.run(self.offered(server, path, kind, number, self.args.seconds, self.args.seconds / 6))
                row["server_cores"] = (server.cpu_seconds() - before) / row["took_s"]
                found["clients"][str(number)] = row
            return {**found, **server.memory()}

    def pressure(self, name: str) -> dict[str, Any]:
        """Return memory under 200 clients, and the share and latencies of what is refused and of what is answered.

        Clients that are refused wait as long as the answer says, and then, in a second load, a tenth of a second.
        """
        found: dict[str, Any] = {}
        for refused in (load.OBEY, load.HASTE) if name == "dupq" else (load.OBEY,):
            with self.server(name) as server:
                server.until("POST", "/v1/score", self.first_body("score_32"))
                seconds, warm_up = 2 * self.args.seconds, self.args.seconds
                offered = self.offered(server, "/v1/score", "score_32", PRESSURE_CLIENTS, seconds, warm_up, refused)
                start = time.perf_counter()
                with server.sampled_memory() as samples:
                    row = load.run(offered)
                # What comes before this time fills the queue; what comes after it must be flat.
                flat = [value for at, value in samples if at - start > warm_up]
                answers = sum(row["statuses"].values())
                quarter = max(1, len(flat) // 4)
                found[refused] = {
                    **row,
                    "refused_share": row["statuses"].get("429", 0) / max(answers, 1),
                    "least_mb": min(flat),
                    "most_mb": max(flat),
                    "last_less_first_mb": float(np.mean(flat[-quarter:]) - np.mean(flat[:quarter])),
                    **server.memory(),
                }
        return found

    def offered(
        self,
        server: servers.Server,
        path: str,
        kind: str,
        number: int,
        seconds: float,
        warm_up: float,
        refused: str = load.OBEY,
    ) -> load.Load:
        """Return the load of one kind of request on a server."""
        bodies = str(self.bodies / kind)
        return load.Load(server.host, server.port, path, bodies, number, seconds, warm_up, refused, server.headers)

    def crash(self) -> dict[str, Any]:
        """Return what `kill -9` under load has lost."""
        minutes, every = self.args.minutes, self.args.kill_every
        found = asyncio.run(Crash(self.scratch, self.args.model).run(60 * minutes, every))
        return {**found, "minutes": minutes, "kill_every_s": every}


def request_bodies(corpus: Corpus, stored: int) -> dict[str, list[Any]]:
    """Return the bodies of the requests of each load.

    Queries are held-out questions. The pairs to score are those of a query and a stored question, so both servers read
    texts of the same lengths.
    """
    draw = np.random.default_rng(0)
    texts = corpus.texts(0, stored)

    def pair() -> list[str]:
        return [corpus.queries[int(draw.integers(len(corpus.queries)))], texts[int(draw.integers(len(texts)))]]

    queries: Sequence[str] = [corpus.queries[at % len(corpus.queries)] for at in range(BODIES)]
    return {
        "score_1": [{"pairs": [pair()]} for _ in range(BODIES)],
        "score_32": [{"pairs": [pair() for _ in range(MANY)]} for _ in range(BODIES // 4)],
        "flag": [{"question": text} for text in queries],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.service", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scratch", required=True, help="a folder for the index and the networks; 2 GB")
    parser.add_argument("--output", default=str(RESULTS / "service.json"), help="results (default: %(default)s)")
    parser.add_argument(
        "--only", nargs="+", choices=["start", *LOADS, "pressure", "crash"], help="measure these figures only"
    )
    parser.add_argument(
        "--leave-out", nargs=2, action="append", metavar=("NAME", "REASON"), help="leave out baseline/flag, for example"
    )
    parser.add_argument("--base", help="a folder with stock cross-encoder and bi-encoder (default: random weights)")
    parser.add_argument("--questions", type=int, default=100_000, help="stored questions (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=30.0, help="seconds of a load (default: %(default)s)")
    parser.add_argument("--starts", type=int, default=STARTS, help="starts of each server (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=10.0, help="length of `crash` (default: %(default)s)")
    parser.add_argument("--kill-every", type=float, default=30.0, help="seconds between kills (default: %(default)s)")
    parser.add_argument("--model", help="a calibrated pipeline (default: the shipped one)")
    parser.add_argument("--clusters", type=int, help="clusters of real questions (default: all)")
    Benchmark(parser.parse_args()).run()


if __name__ == "__main__":
    main()
