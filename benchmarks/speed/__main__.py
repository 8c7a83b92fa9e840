"""How fast dupq is, part by part: `python -m benchmarks.speed PAIRS [--scratch DIR] [--part PART ...]`.

    pairs       fresh pairs a second, beside `CrossEncoder.predict` in float32, and its ONNX and OpenVINO forms in int8
    stored      pairs a second whose questions were embedded before, as those of an index are
    sentences   sentences a second of the bi-encoder, beside `SentenceTransformer.encode`
    flag        latency of one flag in an index on disk, from `benchmarks/results/index.json` if that is of this model
    mine        `find_duplicates` from text
    start       the first score of a new process, its memory, and the next scores
    training    `dupq train` beside the stock trainer of sentence-transformers
    energy      joules of a thousand pairs, where the machine counts them
    tables      the tables of README and documentation, from the results

Each part writes `benchmarks/results/speed_PART.json` when it is done, and a later run leaves out a part whose file is
there; delete the file to measure again. PAIRS are labelled pairs; `mine` reads all files of pairs in their folder, or
those of --questions. `training` starts from the bi-encoder of the model in its stock form, or from --base.

ONNX and OpenVINO need optimum, which needs older releases of sentence-transformers and transformers. Install them
beside this environment, and name its interpreter:

    python3 -m venv other
    other/bin/pip install torch==2.13.0 'sentence-transformers[onnx,openvino]<6' nncf 'datasets<4.5'
    python -m benchmarks.speed PAIRS --other-python other/bin/python
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.readme import RESULTS, write_pages
from benchmarks.speed import energy, forum, start, throughput, training
from benchmarks.speed.contenders import about
from dupq.data.writing import write_json

PARTS: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "pairs": throughput.pairs,
    "stored": throughput.stored,
    "sentences": throughput.sentences,
    "flag": forum.flag,
    "mine": forum.mine,
    "start": start.start,
    "training": training.training,
    "energy": energy.energy,
}
TABLES = "tables"


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.speed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("pairs", metavar="PAIRS", help="a file of labelled pairs")
    parser.add_argument("--part", nargs="+", choices=[*PARTS, TABLES], default=[*PARTS, TABLES])
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR", help="(default: benchmarks/results)")
    parser.add_argument("--scratch", type=Path, metavar="DIR", help="networks and indexes, 8 GB (default: temporary)")
    parser.add_argument("--model", metavar="DIR", help="a pipeline folder (default: the shipped model)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, of which the median counts (default: 5)")
    parser.add_argument("--count", type=int, default=1000, help="pairs a round (default: 1000)")
    parser.add_argument("--sentences", type=int, default=2000, help="sentences a round (default: 2000)")
    parser.add_argument("--singles", type=int, default=300, help="pairs scored one by one (default: 300)")
    parser.add_argument("--flags", type=int, default=100, help="flags in an index (default: 100)")
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 100_000, 224_000], help="of index and mining")
    parser.add_argument("--clusters", type=int, help="clusters of real questions in an index (default: all)")
    parser.add_argument("--questions", type=Path, nargs="+", metavar="FILE", help="files of pairs to mine")
    parser.add_argument("--judged", type=int, default=5000, help="candidates that mining scores (default: 5000)")
    parser.add_argument("--train-pairs", type=int, default=1280, help="pairs a training (default: 1280)")
    parser.add_argument("--dev-pairs", type=int, default=2000, help="pairs of its average precision (default: 2000)")
    parser.add_argument("--base", metavar="BASE", help="encoder to train: a folder or Hub id")
    parser.add_argument("--threads", type=int, help="threads of every contender (default: all cores)")
    parser.add_argument("--backends", nargs="*", default=["onnx", "openvino"], choices=("onnx", "openvino"))
    parser.add_argument("--other-python", metavar="PYTHON", help="an interpreter that has what the backends need")
    return parser


def main(words: Sequence[str] | None = None) -> None:
    args = options().parse_args(words)
    with tempfile.TemporaryDirectory() as temporary:
        args.scratch = (args.scratch or Path(temporary)).absolute()
        args.scratch.mkdir(parents=True, exist_ok=True)
        args.results.mkdir(parents=True, exist_ok=True)
        for name in (part for part in args.part if part != TABLES):
            output = args.results / f"speed_{name}.json"
            if output.is_file():
                print(f"{name}: {output} is there", flush=True)
                continue
            began = time.perf_counter()
            write_json(output, {**about(args), **PARTS[name](args), "took_s": time.perf_counter() - began})
            print(f"{name}: {time.perf_counter() - began:,.0f} s -> {output}", flush=True)
    if TABLES in args.part:
        write_pages()


if __name__ == "__main__":
    main()
