"""The figures of `benchmarks.speed`: a run goes on where it stopped, ratios are of like with like, tables hold them."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.index import client, clients
from benchmarks.scale.memory import with_memory
from benchmarks.speed import __main__ as benchmark
from benchmarks.speed import contenders, energy, forum, shapes, start, tables, throughput, training, worker
from dupq.data.pairs import PairTable
from dupq.data.writing import write_rows
from dupq.pipeline import DuplicatePipeline
from tests.fakes import WordEmbedder, WordScorer
from tests.networks import save_tiny_base
from tests.questions import labelled_table

TINY = shapes.Shape("tiny", "bert", 1, 8, 2, 30_522)
SLOW = shapes.Shape("slow", "roberta", 1, 8, 2, 30_522, 0.5)
SMALL = ["--rounds", "2", "--count", "4", "--sentences", "6", "--singles", "3", "--flags", "2", "--sizes", "30", "60"]
SMALL += ["--clusters", "40", "--train-pairs", "24", "--dev-pairs", "24", "--judged", "100", "--backends", "onnx"]


class Here:
    """A contender in this process."""

    def __init__(self, settings: dict[str, Any], threads: int | None = None, python: str = "") -> None:
        self.contender, self.ready = worker.opened(settings)

    def ask(self, **job: Any) -> dict[str, Any]:
        return worker.answer(self.contender, job)

    def close(self) -> None:
        """Nothing to end."""


def pairs_of_words(count: int) -> PairTable:
    """Pairs without a common text, half of them of the same words."""
    left = [f"how do I learn {number} words of language {number}" for number in range(count)]
    right = [f"{text} fast" if at % 2 else f"why is planet {at} blue" for at, text in enumerate(left)]
    return PairTable(left, right, np.arange(count, dtype=np.int8) % 2)


def clients_here(jobs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    job = jobs[0]
    corpus = client.made(Path(job["scratch"]), job["size"], job["model"], job["clusters"])
    return [client.TASKS[job["task"]](job, corpus, lambda: None)]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Return a function that runs the benchmark with a pipeline that counts words, and the folder of its results."""
    folder = tmp_path_factory.mktemp("speed")
    table, base = pairs_of_words(160), save_tiny_base(folder / "base", tokens=128)
    write_rows(
        folder / "pairs.jsonl",
        [
            {"question1": a, "question2": b, "label": label}
            for a, b, label in zip(table.left, table.right, table.labels.tolist(), strict=True)
        ],
        ["question1", "question2", "label"],
    )
    pipeline = DuplicatePipeline(WordScorer(), WordEmbedder()).calibrate(labelled_table())

    def run(*options: str) -> Path:
        words = [
            str(folder / "pairs.jsonl"),
            "--results",
            str(folder / "results"),
            "--scratch",
            str(folder / "scratch"),
        ]
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(DuplicatePipeline, "from_pretrained", lambda *_, **__: pipeline)
            patched.setattr(contenders, "Worker", Here)
            patched.setattr(clients, "run", clients_here)
            patched.setattr(benchmark, "write_pages", lambda: None)
            patched.setattr(start, "run", lambda command, args: (0.5, 0.25, 100.0))
            for module in (forum, training):
                patched.setattr(module, "apart", with_memory)
            for module in (throughput, start, energy):
                patched.setattr(module, "CROSS_ENCODERS", (TINY, SLOW))
            patched.setattr(throughput, "ENCODER", TINY)
            patched.setattr(forum, "optional", lambda name: {})
            patched.setattr(energy, "COUNTERS", folder / "no counters")
            benchmark.main([*words, *SMALL, "--base", str(base), *options])
        return folder / "results"

    return run


@pytest.fixture(scope="module")
def folder(run: Callable[..., Path]) -> Path:
    return run()


def held(folder: Path, part: str) -> Any:
    return json.loads((folder / f"speed_{part}.json").read_text(encoding="utf-8"))


# ---- a run ----------------------------------------------------------------------------------------------------------


def test_every_part_leaves_its_file(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {f"speed_{part}.json" for part in benchmark.PARTS}
    assert {*benchmark.PARTS} == {*tables.PARTS}


def test_a_run_goes_on_where_it_stopped(folder: Path, run: Callable[..., Path]) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    (folder / "speed_sentences.json").unlink()
    run("--sentences", "5")
    after = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {name for name in before if before[name] != after[name]} == {"speed_sentences.json"}
    assert held(folder, "sentences")["rows"][0]["a_round"] == 5
    (folder / "speed_sentences.json").unlink()
    with pytest.raises(SystemExit, match="lower --sentences"):
        run("--part", "sentences", "--sentences", "1000")
    run("--part", "sentences")


def test_a_slow_network_gets_a_share_of_each_round(folder: Path) -> None:
    part = held(folder, "pairs")
    assert {row["name"]: row["a_round"] for row in part["rows"]} == {
        "dupq, int8": 4,
        "tiny, float32": 4,
        "slow, float32": 2,
    }
    assert {row["name"] for row in part["failed"]} == {"tiny, onnx int8", "slow, onnx int8"}  # no optimum here
    assert part["quality"]["average_precision"]["value"] > 0.5
    assert held(folder, "stored")["rows"][0]["name"] == throughput.STORED


def test_the_forum_is_of_the_sizes_asked_for(folder: Path) -> None:
    mined = held(folder, "mine")["sizes"]
    assert {*mined} == {"30", "60"}
    for row in mined.values():
        assert sum(row["stages"].values()) <= row["seconds"]
        assert 0 <= row["judged"] <= min(100, row["candidates"])
    flags = held(folder, "flag")
    assert flags["from"] is None
    assert {size: row["count"] for size, row in flags["sizes"].items()} == {"30": 2, "60": 2}


def test_both_trainers_learn_the_same_pairs(folder: Path) -> None:
    part = held(folder, "training")
    assert [row["kind"] for row in part["rows"]] == ["bi-encoder", "cross-encoder"]
    for row in part["rows"]:
        assert {*row["per_second"]} == {*row["average_precision"]} == {"dupq", "stock"}
        assert row["gain"]["low"] <= row["gain"]["value"] <= row["gain"]["high"]
        assert row["times"]["low"] > 0


# ---- how it measures ------------------------------------------------------------------------------------------------


def test_a_ratio_is_of_one_round_and_of_rows_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {"ours": iter([9.0, 1.0, 2.0, 1.0]), "theirs": iter([9.0, 5.0, 4.0, 3.0])}
    asked: list[tuple[str, int]] = []

    class Fixed:
        def __init__(self, settings: dict[str, Any], threads: Any, python: str) -> None:
            self.name, self.ready = settings["kind"], {"versions": {}}

        def ask(self, **job: Any) -> dict[str, Any]:
            asked.append((self.name, len(job["left"])))
            return {"seconds": next(seconds[self.name])}

        def close(self) -> None:
            """Nothing to end."""

    monkeypatch.setattr(contenders, "Worker", Fixed)
    args = argparse.Namespace(threads=None, other_python=None)
    rounds = [(["a"] * 10, ["b"] * 10)] * 3
    counter = iter(range(0, 200, 10))
    found = contenders.race(
        {name: {"kind": name} for name in seconds},
        args,
        (["w"], ["w"]),
        rounds,
        {"theirs": 0.5},
        lambda: next(counter),
    )
    ours, theirs = found["rows"]
    assert ours["rates"] == [10, 5, 10]
    assert theirs["rates"] == [1, 1.25, 5 / 3]
    assert theirs["times"] == {"value": 6, "low": 4, "high": 10}
    assert ours["times"]["value"] == 1
    assert (ours["joules"]["value"], theirs["joules"]["value"]) == (1, 2)
    # Each round begins with the next contender.
    assert asked[2:] == [("ours", 10), ("theirs", 5), ("theirs", 5), ("ours", 10), ("ours", 10), ("theirs", 5)]


def test_fresh_pairs_have_no_text_twice() -> None:
    table = pairs_of_words(200)
    left = [*table.left, *table.left, "same"]
    right = [*table.right, *reversed(table.right), "Same"]
    many = PairTable(left, right, np.zeros(len(left), np.int8))
    args = argparse.Namespace(pairs="pairs", rounds=3, count=30)
    (first, _), rounds = contenders.fresh_rounds(many, args)
    assert [len(part[0]) for part in rounds] == [30, 30, 30]
    texts = [*first, *(text for part in rounds for side in part for text in side)]
    assert len(texts) == len({*texts}) == 64 + 2 * 90
    with pytest.raises(SystemExit, match="distinct texts"):
        contenders.fresh_rounds(many, argparse.Namespace(pairs="pairs", rounds=3, count=60))


def test_no_question_is_trained_on_and_measured() -> None:
    table = pairs_of_words(100)
    chained = PairTable([*table.left, *table.left], [*table.right, *table.left[1:], "end"], np.ones(200, np.int8))
    with pytest.raises(SystemExit, match="too few"):
        training._split(chained, 2, 50, 50)  # one group
    dev, rounds = training._split(table, 3, 20, 20)
    parts = [{*part.left, *part.right} for part in (dev, *rounds)]
    assert sum(map(len, parts)) == len(set[str]().union(*parts))
    assert [len(part) for part in (dev, *rounds)] == [20, 20, 20, 20]


def test_a_contender_that_cannot_start_has_its_reason() -> None:
    failed = contenders.Worker({"kind": "stock", "model": "/no/such/folder", "backend": "no backend"})
    assert failed.ready["error"]
    failed.close()
    assert worker.opened({"kind": "nothing"})[1]["error"].startswith("KeyError")
    killed = contenders.Worker({}, python="false")
    assert killed.ready["error"] == "a contender died with status 1"
    killed.close()


def test_a_contender_is_a_process_of_its_own() -> None:
    ours = contenders.Worker({"kind": "stored", "model": None, "threads": 1})
    assert ours.ready["versions"]["python"] == sys.version.split()[0]
    assert ours.ask(left=["How old are you?"], right=["What is your age?"])["seconds"] > 0
    assert len(ours.ask(left=["a", "b"], right=["c", "d"], single=True)["times"]) == 2
    ours.close()


def test_a_command_is_measured_from_outside(tmp_path: Path) -> None:
    args = argparse.Namespace(scratch=tmp_path)
    wall, used, memory = start.run([sys.executable, "-c", "x = b'x' * 50_000_000"], args)
    assert used > 0
    assert wall > 0
    assert 50 < memory < 100  # not that of this process
    with pytest.raises(SystemExit, match="ended with 3"):
        start.run([sys.executable, "-c", "raise SystemExit(3)"], args)


def test_energy_is_the_sum_of_processors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(energy, "COUNTERS", tmp_path)
    with pytest.raises(OSError, match="no counters"):
        energy.joules()
    for name, value in (("intel-rapl:0", 2_000_000), ("intel-rapl:1", 500_000), ("intel-rapl:0:0", 900_000)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "energy_uj").write_text(f"{value}\n")
    assert energy.joules() == 2.5


# ---- tables ---------------------------------------------------------------------------------------------------------


def all_tables(results: dict[str, Any]) -> dict[str, str]:
    made = (tables.readme, tables.pairs, tables.stored, tables.sentences, tables.mining, tables.start, tables.training)
    return {table.__name__: table(results) for table in made} | {"flags": tables.flags(results, {})}


def test_the_tables_hold_what_was_measured(folder: Path) -> None:
    results = tables.results(folder)
    assert {*results} == {*tables.PARTS}
    made = all_tables(results)
    for text in made.values():
        assert text.startswith("| ")
        assert "Not measured yet" not in text
    row = results["pairs"]["rows"][2]
    assert f"| slow, float32 | 2 | {row['per_second']:,.{0 if row['per_second'] >= 20 else 1}f} (" in made["pairs"]
    assert "Not measured: tiny, onnx int8 (" in made["pairs"]
    assert "| `slow`, float32 | " in made["readme"]
    assert "| dupq | 0.50 (0.50-0.50) | 0.25 (0.25-0.25) | 100 (100-100) | 0.500 (0.500-0.500) | " in made["start"]
    assert "| 60 | " in made["mining"]
    assert "| 30 | " in made["flags"]
    assert tables.energy(results) == "Not measured: the machine shows no energy counters (RAPL).\n"
    joules = {"name": "one", "joules": {"value": 0.5, "low": 0.25, "high": 1.0}}
    measured = {"energy": {**results["pairs"], "rows": [joules], "failed": []}}
    assert tables.energy(measured).splitlines()[2] == "| one | 500 (250-1,000) |"


def test_figures_of_another_model_are_not_shown(folder: Path, tmp_path: Path) -> None:
    other = {**held(folder, "pairs"), "model": "another"}
    (tmp_path / "speed_pairs.json").write_text(json.dumps(other), encoding="utf-8")
    assert tables.results(tmp_path) == {}
    assert {*all_tables({}).values()} == {tables.NOT_MEASURED}
    assert tables.energy({}) == tables.NOT_MEASURED


def test_flags_of_the_index_benchmark_are_taken_if_they_are_of_this_model(monkeypatch: pytest.MonkeyPatch) -> None:
    manifest = json.loads(tables.SHIPPED.read_text(encoding="utf-8"))
    figures = {"1": {"p50_ms": 12.4, "p99_ms": 40, "count": 9}, "memory": {}}
    figures["shares"] = {"network_ms": 1, "search_ms": 2, "scoring_ms": 3}
    sizes = {"10": {"flag": figures}, "20": {"flag": {"left_out": "a reason"}}}
    index = {"stores": {"sqlite": {"sizes": sizes}}}
    index["settings"] = {"model": manifest["networks"]["bi-encoder"]["fingerprint"]}
    monkeypatch.setattr(forum, "optional", lambda name: index)
    part = forum.flag(argparse.Namespace(model=None, sizes=[10]))
    assert part["from"] == "index.json"
    assert "| 10 | 12 | 40 | 1.0 | 2.0 | 3.0 |" in tables.flags({"flag": part}, index)
    index["settings"]["model"] = "another"
    assert tables.flags({"flag": part}, index) == tables.NOT_MEASURED
