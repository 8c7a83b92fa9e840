"""The figures of `benchmarks.scale`: a small run goes on where it stopped, and its tables hold what it measured."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.index.places import LeftOutError
from benchmarks.scale import __main__ as benchmark
from benchmarks.scale import cells, cost, end_to_end, engines, memory, peers, tables
from dupq.pipeline import DuplicatePipeline
from tests.engine.conftest import wait_until

SMALL = ["--sizes", "300", "600", "--cells", "8", "16", "--overlaps", "1", "4", "--timed", "4", "--clusters", "150"]
SMALL += [
    "--sample",
    "100",
    "--exact-up-to",
    "600",
    "--peers",
    "cells",
    "usearch",
    "faiss",
    "--engine-sizes",
    "100",
    "200",
]
SMALL += ["--end-to-end-size", "800", "--end-to-end-texts", "50", "--end-to-end-pairs", "100"]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory, pipeline: DuplicatePipeline) -> Any:
    """Return a function that runs the benchmark with the pipeline that counts words, and the file of its results."""
    folder = tmp_path_factory.mktemp("scale")
    output = folder / "scale.json"

    def run(*options: str) -> Any:
        arguments = ["--scratch", str(folder), "--output", str(output), *SMALL, *options]
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(DuplicatePipeline, "from_pretrained", lambda *_, **__: pipeline)
            patched.setattr(benchmark, "apart", memory.with_memory)
            patched.setattr(benchmark, "BUDGET", 120)
            patched.setattr(engines, "ENGINES", {"none": (None, 0), "local-1": (engines._local, 1), "ray-1": (none, 1)})
            patched.setattr(peers, "find_spec", lambda name: None if name == "faiss" else True)
            benchmark.Benchmark(benchmark.options().parse_args(arguments)).run()
        return json.loads(output.read_text(encoding="utf-8"))

    return run


def none(_: int) -> Any:
    raise LeftOutError("ray is not installed")


@pytest.fixture(scope="module")
def report(ran: Any) -> Any:
    ran("--only", "exact")
    return ran()


def test_a_run_goes_on_where_it_stopped(report: Any, ran: Any) -> None:
    again = ran()
    assert again == report
    assert {*report["sizes"]} == {"300", "600"}
    assert ran("--only", "exact")["end_to_end"] == report["end_to_end"]  # of a smaller corpus
    assert {*report["sizes"]["600"]} == {"exact", "cells", "peers"}


def test_recall_and_work_rise_with_the_overlap(report: Any) -> None:
    figures = report["sizes"]["600"]
    for row in figures["cells"].values():
        one, four = row["overlaps"]["1"], row["overlaps"]["4"]
        assert one["recall"]["value"] <= four["recall"]["value"] <= 1
        assert one["share"] < four["share"]
        assert sum(band["pairs"] for band in four["bands"].values()) == four["recall"]["pairs"] > 0
        assert four["pairs"] <= figures["exact"]["pairs"]
        assert "search_s" not in one
    assert figures["peers"]["cells"]["pairs"] >= 0.99 * figures["exact"]["pairs"]


def test_what_is_missing_is_left_out_with_a_reason(report: Any) -> None:
    assert report["sizes"]["300"]["peers"]["faiss"] == {"left_out": "faiss-cpu is not installed"}
    assert report["engines"]["200"]["ray-1"] == {"left_out": "ray is not installed"}
    assert "faiss, IVF: left out; faiss-cpu is not installed." in tables.peers(report)
    assert "200 questions, Ray, 1 worker: left out; ray is not installed." in tables.engines(report)


def test_figures_can_be_left_out(ran: Any, report: Any, tmp_path: Path) -> None:
    output = tmp_path / "other.json"
    reasons = {"300/exact": "one", "600/cells": "two", "usearch": "three", "engines": "four", "600/peers/cells": "five"}
    ran("--output", str(output), *(word for reason in reasons.items() for word in ("--leave-out", *reason)))
    other = json.loads(output.read_text(encoding="utf-8"))
    small, large = other["sizes"]["300"], other["sizes"]["600"]
    assert small["exact"] == {"left_out": "one"}
    assert len(large["cells"]) >= 2
    assert all(figure == {"left_out": "two"} for figure in large["cells"].values())
    assert small["peers"]["usearch"] == large["peers"]["usearch"] == {"left_out": "three"}
    assert other["engines"]["100"]["none"] == {"left_out": "four"}
    assert large["peers"]["cells"] == {"left_out": "five"}
    assert other["cost"]["models"]["exact"] == {"left_out": "1 searches were measured, too few to fit"}
    assert "600 questions: left out; two." in tables.recalls(other)
    assert "| 1,000,000,000 | extrapolated | - |" in tables.costs(other)


def test_the_tables_hold_what_was_measured(report: Any) -> None:
    measured = (tables.recalls, tables.scans, tables.peers, tables.engines, tables.end_to_end)
    for text in (table(report) for table in measured):
        assert text.startswith("| ")
        assert "Not measured" not in text
    assert "| 600 | 8 | 4 | " in tables.recalls(report)
    costs = tables.costs(report)
    assert "| 600 | measured |" in costs
    assert "| 1,000,000,000 | extrapolated |" in costs
    for table in (*measured, tables.costs):
        assert table({}) == tables.NOT_MEASURED


def test_the_model_of_the_cost_finds_its_coefficients() -> None:
    searches = [(c, n, 2 + 3e-9 * c + 1e-6 * n) for c, n in ((1e9, 1e5), (5e9, 1e5), (8e9, 1e6), (1e10, 3e6))]
    model = cost.fit(searches)
    assert model.seconds(1e12, 1e7) == pytest.approx(2 + 3000 + 10, rel=1e-6)
    assert model.searches == 4
    assert model.error < 1e-6
    falling = cost.fit([(1e9, 1e5, 10.0), (2e9, 1e5, 5.0), (3e9, 1e5, 2.0)])
    assert min(falling.start, falling.comparison, falling.row) >= 0


def test_the_cost_is_that_of_the_largest_size(report: Any) -> None:
    shape, rows = report["cost"]["shape"], report["cost"]["rows"]
    assert shape["questions"] == 600
    assert [row["questions"] for row in rows] == [*cost.TARGETS]
    hours = [row["cells_core_h"] for row in rows]
    assert hours == sorted(hours)
    assert rows[0]["exact_core_h"] < rows[1]["exact_core_h"]
    assert rows[0]["vectors_bytes"] == 4 * report["settings"]["dimensions"] * 10**7
    assert cost.cost({"sizes": {}, "settings": {"threads": 1, "dimensions": 4}})["shape"] is None


def test_engines_are_compared_by_their_results(report: Any) -> None:
    assert {*report["engines"]} == {"100", "200"}
    held = report["engines"]["200"]
    assert held["none"]["equal"]
    assert held["none"]["equal"] == held["local-1"]["equal"] != report["engines"]["100"]["none"]["equal"]
    assert "| 200 | local, 1 worker |" in tables.engines(report)
    assert "| yes |" in tables.engines(report)


def test_a_whole_run_is_in_part_extrapolated(report: Any) -> None:
    held = report["end_to_end"]["800"]
    embedding, searching, judging = (held[name] for name in tables.END_TO_END)
    assert (embedding["measured"], embedding["of"]) == (50, 800)
    assert embedding["all_s"] == pytest.approx(16 * embedding["seconds"])
    assert searching["all_s"] == searching["seconds"]
    assert searching["recall"]["value"] >= 0.9
    assert (judging["measured"], judging["of"]) == (100, 120)
    assert judging["all_s"] == pytest.approx(1.2 * judging["seconds"] + judging["select_s"])
    table = tables.end_to_end(report)
    assert "| 800 | embedding | 50 of 800 texts |" in table
    assert table.count("| extrapolated |") == 3
    assert table.count("| measured |") == 2  # the head, and the search


def test_pairs_that_are_gone_are_not_judged(tmp_path: Path) -> None:
    with pytest.raises(LeftOutError, match="not in the scratch folder"):
        end_to_end.judging((str(tmp_path), 2, None, None), str(tmp_path / "none.npz"), 100, 100)


def test_the_memory_of_workers_is_that_of_the_largest() -> None:
    held = "x = bytearray({} << 20); import sys; sys.stdin.read()  # spawn_main("
    commands = [[sys.executable, "-c", held.format(size)] for size in (20, 120)]
    with memory.WorkerMemory() as watched:
        workers = [subprocess.Popen(command, stdin=subprocess.PIPE) for command in commands]
        wait_until(lambda: watched.largest_mb > 120)
        for worker in workers:
            worker.communicate()
    assert 120 < watched.largest_mb < 220
    assert memory.peak(workers[0].pid) == 0
    assert memory.peak(os.getpid()) > 20


def test_pairs_of_a_peer_count_once() -> None:
    left, right = peers.once(np.array([3, 1, 2, 1]), np.array([1, 3, 2, 4]))
    assert (left.tolist(), right.tolist()) == ([1, 1], [3, 4])


def test_figures_are_measured_in_a_process_of_their_own(tmp_path: Path) -> None:
    rows = np.eye(4, dtype=np.float32)[[0, 1, 2, 0]]
    path = tmp_path / "vectors-4-4.f32"
    rows.tofile(path)
    found = memory.apart(cells.exact, str(path), str(tmp_path / "pairs.npy"))
    assert found["pairs"] == 1
    assert found["peak_mb"] >= found["imported_mb"] > 0
