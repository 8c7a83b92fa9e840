"""Mining through an engine gives the result of one process, to the last bit, also after an interruption."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dupq.engine.base import Task, Unit, UnitError
from dupq.engine.local import LocalEngine
from dupq.engine.work_folder import WorkFolder
from dupq.errors import InputError, ModelFolderError
from dupq.mining import cell_units, checkpoint, distinct_texts, stages, units
from dupq.mining.find_duplicates import MiningSettings, find_duplicates
from dupq.mining.results import MiningResult
from dupq.pipeline import DuplicatePipeline
from dupq.search import cells, tiles
from tests.fakes import WordEmbedder, WordScorer
from tests.mining.test_find_duplicates import forum
from tests.questions import INTENTS, THINGS, labelled_table


class Recording:
    """An engine that runs units in this process, in any order, and notes those that it ran."""

    def __init__(self, seed: int = 0) -> None:
        self.draw, self.ran = random.Random(seed), list[str]()

    def run(self, task: Task, units: Any, work: WorkFolder, progress: Any = None) -> None:
        missing = [unit for unit in units if not work.exists(unit.name)]
        self.draw.shuffle(missing)
        self.ran += [unit.name for unit in missing]
        LocalEngine().run(task, missing, work, progress)

    def close(self) -> None:
        pass


class BatchEmbedder(WordEmbedder):
    """An embedder whose last bits depend on the batch, as those of a network do."""

    def embed(self, texts: Any, progress: Any = None) -> Any:
        vectors = super().embed(texts, progress)
        return (vectors * np.float32(1 + 1e-6 * (len(texts) % 7))).astype(np.float32)


class BatchScorer(WordScorer):
    """A scorer whose last bits depend on the batch."""

    def score(self, left: Any, right: Any, progress: Any = None) -> Any:
        return super().score(left, right, progress) + 1e-9 * len(left)


@pytest.fixture(scope="module")
def batched() -> DuplicatePipeline:
    return DuplicatePipeline(BatchScorer(), BatchEmbedder()).calibrate(labelled_table())


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch, batched: DuplicatePipeline) -> None:
    """Many parts, of a pipeline that workers find in this process."""
    monkeypatch.setattr(checkpoint, "PART", 32)
    monkeypatch.setattr(distinct_texts, "RUN", 2)
    monkeypatch.setattr(tiles, "TILE_PRODUCTS", 2048)
    monkeypatch.setattr(cell_units, "ROWS", 64)
    monkeypatch.setattr(cell_units, "MEMBERS", 600)
    monkeypatch.setattr(cell_units, "GROUPS", 3)
    monkeypatch.setattr(cells, "GROUP_PRODUCTS", 4000)
    monkeypatch.setattr(units, "open_pipeline", lambda work: batched)


def assert_same(result: MiningResult, expected: MiningResult) -> None:
    for name in ("left", "right", "cosine", "score", "judged", "copies_left", "copies_right"):
        assert getattr(result, name).tobytes() == getattr(expected, name).tobytes(), name
    for name in ("unknown_language", "truncated"):
        assert getattr(result, name).tolist() == getattr(expected, name).tolist()
    assert result.unknown == expected.unknown
    assert result.left_out == expected.left_out
    counted: dict[str, Any] = {"rescored": 0} | ({"method": ""} if expected.search_guarantee.exact else {})
    assert replace(result.search_guarantee, **counted) == replace(expected.search_guarantee, **counted)
    groups = result.groups()
    assert groups == expected.groups()
    assert list(result.rows(groups, all_pairs=True)) == list(expected.rows(groups, all_pairs=True))


CASES: dict[str, dict[str, Any]] = {
    "every pair": {},
    "neighbours": {"settings": MiningSettings(min_cosine=0.3, neighbours=3)},
    "too many pairs": {"settings": MiningSettings(min_cosine=0.3, max_pairs=150)},
    "too many neighbours": {"settings": MiningSettings(min_cosine=0.2, neighbours=5, max_pairs=170)},
    "a budget": {"settings": MiningSettings(min_cosine=0.3, max_judged=200)},
    "a base rate": {"settings": MiningSettings(min_cosine=0.5, base_rate=0.2)},
    "nothing near": {"settings": MiningSettings(min_cosine=1.0)},
    "two collections": {"against": [*forum()[60:130], "Another question of the old forum?"]},
    "neighbours in another collection": {
        "against": forum()[60:130],
        "settings": MiningSettings(min_cosine=0.3, neighbours=2, max_judged=150),
    },
    "an empty collection": {"against": []},
    "bad texts": {"extra": ["", None, "¿Dónde está la biblioteca más grande de la ciudad?", "!!!"]},
}


@pytest.mark.parametrize("above", [2_000_000, 20])
@pytest.mark.parametrize("case", CASES)
def test_an_engine_gives_the_result_of_one_process(
    batched: DuplicatePipeline, tmp_path: Path, case: str, above: int
) -> None:
    options = dict(CASES[case])
    questions = [*forum(), *options.pop("extra", [])]
    options = {"settings": MiningSettings(min_cosine=0.4), "on_error": "skip", **options}
    options["settings"] = replace(options["settings"], approximate_above=above)
    expected = find_duplicates(batched, questions, **options)
    told: list[tuple[str, int, int]] = []
    engine = Recording()
    result = find_duplicates(
        batched, questions, engine=engine, work=tmp_path / "run", progress=lambda *at: told.append(at), **options
    )
    assert_same(result, expected)
    assert result.search_guarantee.exact == (above > 20)
    stage = "/search/" if above > 20 else "/groups/"
    assert len({name for name in engine.ran if stage in name}) >= 2 * (case != "an empty collection")
    assert {stage for stage, _, _ in told} >= {"reading", "embedding", "searching"}
    assert all(0 <= done <= total for _, done, total in told)


@pytest.mark.parametrize("seed", range(4))
def test_any_size_and_order_gives_the_result_of_one_process(
    batched: DuplicatePipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    draw = random.Random(seed)
    monkeypatch.setattr(checkpoint, "PART", draw.choice([1, 7, 64, 500]))
    monkeypatch.setattr(tiles, "TILE_PRODUCTS", draw.choice([1, 3000, 10**6]))
    every = [phrase.format(thing=thing) for thing in THINGS for asked in INTENTS for phrase in asked]
    questions = draw.sample(every, draw.randint(0, 60)) + draw.sample(forum(), 20)
    settings = MiningSettings(min_cosine=draw.uniform(0.2, 0.8), neighbours=draw.choice([0, 2, 40]))
    expected = find_duplicates(batched, questions, settings=settings)
    result = find_duplicates(batched, questions, settings=settings, engine=Recording(seed), work=tmp_path)
    assert_same(result, expected)


def contents(folder: Path) -> dict[str, bytes]:
    """The parts of a work folder, without the counts of attempts."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in files.items() if name != "lock" and "attempts/" not in name}


BUDGET = MiningSettings(min_cosine=0.3, neighbours=4, max_judged=200)


@pytest.mark.parametrize("wanted", [BUDGET, replace(BUDGET, approximate_above=20)], ids=["exact", "cells"])
def test_what_is_missing_is_computed_again_and_nothing_else(
    batched: DuplicatePipeline, tmp_path: Path, wanted: MiningSettings
) -> None:
    first = Recording()
    result = find_duplicates(batched, forum(), settings=wanted, engine=first, work=tmp_path)
    parts = contents(tmp_path)
    assert set(first.ran) <= parts.keys()
    for seed in range(3):
        lost = random.Random(seed).sample([name for name in sorted(parts) if "/" in name and "pipe" not in name], 7)
        for name in lost:
            (tmp_path / name).unlink()
        again = Recording(seed)
        assert_same(find_duplicates(batched, forum(), settings=wanted, engine=again, work=tmp_path), result)
        assert set(again.ran) == set(lost) & set(first.ran)
        assert contents(tmp_path) == parts


def test_other_settings_use_the_vectors_again(batched: DuplicatePipeline, tmp_path: Path) -> None:
    find_duplicates(batched, forum(), settings=BUDGET, engine=Recording(), work=tmp_path)
    other, again = replace(BUDGET, neighbours=2), Recording()
    result = find_duplicates(batched, forum(), settings=other, engine=again, work=tmp_path)
    assert not any(name.startswith("vectors/") for name in again.ran)
    assert_same(result, find_duplicates(batched, forum(), settings=other))


def test_other_thresholds_choose_other_uncertain_pairs(batched: DuplicatePipeline, tmp_path: Path) -> None:
    find_duplicates(batched, forum(), settings=BUDGET, engine=Recording(), work=tmp_path)
    strict = batched.with_base_rate(0.1)
    result = find_duplicates(strict, forum(), settings=BUDGET, engine=Recording(), work=tmp_path)
    assert_same(result, find_duplicates(strict, forum(), settings=BUDGET))


def test_a_work_folder_of_other_texts_is_refused_unless_it_is_to_be_fresh(
    batched: DuplicatePipeline, tmp_path: Path
) -> None:
    find_duplicates(batched, forum(), engine=Recording(), work=tmp_path)
    with pytest.raises(InputError, match="another input") as refused:
        find_duplicates(batched, forum()[:50], engine=Recording(), work=tmp_path)
    assert "fresh" in str(refused.value)
    result = find_duplicates(batched, forum()[:50], engine=Recording(), work=tmp_path, fresh=True)
    assert_same(result, find_duplicates(batched, forum()[:50]))
    assert len(list((tmp_path / "texts").iterdir())) == 2


def test_files_of_something_else_are_refused_and_stay(batched: DuplicatePipeline, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    for fresh in (False, True):
        with pytest.raises(InputError, match="something else"):
            find_duplicates(batched, forum(), engine=Recording(), work=tmp_path, fresh=fresh)
    assert (tmp_path / "notes.txt").read_text(encoding="utf-8") == "mine"


def test_a_damaged_plan_is_refused_and_its_folder_stays(batched: DuplicatePipeline, tmp_path: Path) -> None:
    find_duplicates(batched, forum(), engine=Recording(), work=tmp_path)
    for damage in (b"", b"[]"):
        (tmp_path / "plan.json").write_bytes(damage)
        held = contents(tmp_path)
        for fresh in (False, True):
            with pytest.raises(InputError, match=r"plan\.json is damaged"):
                find_duplicates(batched, forum(), engine=Recording(), work=tmp_path, fresh=fresh)
        assert contents(tmp_path) == held


def test_an_engine_needs_a_work_folder(batched: DuplicatePipeline) -> None:
    with pytest.raises(InputError, match="an engine needs a work folder, got none"):
        find_duplicates(batched, forum(), engine=Recording())
    with pytest.raises(InputError, match="engine must be of class Engine, got str"):
        find_duplicates(batched, forum(), work="w", engine="ray")  # type: ignore[arg-type]


def test_two_runs_do_not_share_a_work_folder(batched: DuplicatePipeline, tmp_path: Path) -> None:
    class Within(Recording):
        def run(self, *arguments: Any) -> None:
            with pytest.raises(InputError, match="another run"):
                find_duplicates(batched, forum(), engine=Recording(), work=tmp_path)
            super().run(*arguments)

    find_duplicates(batched, forum(), engine=Within(), work=tmp_path)


def test_a_unit_that_fails_is_named_and_the_others_are_kept(
    batched: DuplicatePipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search: Callable[..., bytes] = units.SearchTile.__call__

    def failing(self: units.SearchTile, unit: Unit) -> bytes:
        if unit.spec["first_row"] == 32:
            raise MemoryError("no memory")
        return search(self, unit)

    with monkeypatch.context() as patch:
        patch.setattr(units.SearchTile, "__call__", failing)
        with pytest.raises(UnitError, match="no memory"):
            find_duplicates(batched, forum(), engine=Recording(), work=tmp_path)
    again = Recording()
    result = find_duplicates(batched, forum(), engine=again, work=tmp_path)
    assert all("0000000032-" in name for name in again.ran if "/search/" in name)
    assert_same(result, find_duplicates(batched, forum()))


# ---- workers ------------------------------------------------------------------------------------------------------


def test_a_machine_with_other_arithmetic_is_refused(
    batched: DuplicatePipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    work = WorkFolder(tmp_path)
    units.write_pipeline(batched, work)
    for machine, differs in (
        (replace(batched, bi_encoder=WordEmbedder(dimensions=32)), "vectors"),
        (replace(batched, cross_encoder=None), "scores"),
    ):
        monkeypatch.setattr(DuplicatePipeline, "from_pretrained", lambda *_, found=machine, **__: found)
        with pytest.raises(InputError, match=f"a worker must compute the same {differs}"):
            units.open_pipeline(work)
        with pytest.raises(InputError, match="this machine must compute the same"):
            units.write_pipeline(machine, work)
    monkeypatch.setattr(DuplicatePipeline, "from_pretrained", lambda *_, **__: batched)
    assert units.open_pipeline(work) is batched


def test_a_worker_without_the_pipeline_gives_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    with pytest.raises(ModelFolderError, match="a worker cannot read the pipeline"):
        units.EmbedShard(WorkFolder(tmp_path))


def test_only_a_pipeline_that_can_be_saved_goes_to_workers(batched: DuplicatePipeline, tmp_path: Path) -> None:
    class Other:
        def __getattr__(self, name: str) -> Any:
            return getattr(batched, name)

    with pytest.raises(InputError, match="an engine needs a DuplicatePipeline"):
        find_duplicates(Other(), forum(), engine=Recording(), work=tmp_path)  # type: ignore[type-var]


@pytest.mark.parametrize("above", [2_000_000, 20])
def test_processes_give_the_result_of_one_and_go_on_with_each_others_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, above: int
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(checkpoint, "PART", 64)
    shipped = DuplicatePipeline.from_pretrained(threads=1)
    settings = MiningSettings(min_cosine=0.6, max_judged=150, approximate_above=above)
    expected = find_duplicates(shipped, forum(), settings=settings)
    both, one = tmp_path / "both", tmp_path / "one"
    assert_same(find_duplicates(shipped, forum(), settings=settings, engine=LocalEngine(2), work=both), expected)
    shutil.copytree(both, one)
    for folder in [one / "vectors", *one.glob("run-*/scores"), *one.glob("run-*/panels"), *one.glob("run-*/cells")]:
        for path in sorted(folder.iterdir())[::2]:
            path.unlink()
    assert_same(find_duplicates(shipped, forum(), settings=settings, engine=LocalEngine(1), work=one), expected)
    assert contents(one) == contents(both)


@pytest.mark.ray
def test_an_object_store_holds_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(checkpoint, "PART", 64)
    shipped = DuplicatePipeline.from_pretrained(threads=1)
    settings = MiningSettings(min_cosine=0.8)
    work = WorkFolder("memory://mining")
    result = find_duplicates(shipped, forum(), settings=settings, engine=LocalEngine(), work=work)
    assert_same(result, find_duplicates(shipped, forum(), settings=settings))
    again = Recording()
    assert_same(find_duplicates(shipped, forum(), settings=settings, engine=again, work=work), result)
    assert again.ran == []
    stages.clear(work)
    assert work.names() == set()
