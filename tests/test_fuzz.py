"""Random inputs of fixed seeds: none ends in an error that is not ours, see `benchmarks.fuzz`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.fuzz.runner import KINDS, State, attempt
from benchmarks.fuzz.world import World, build_world

SEED = 26
INPUTS = 300


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    here = os.getcwd()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # it would try for half a minute
        yield build_world(tmp_path_factory.mktemp("fuzz"), networks=False)
    os.chdir(here)


@pytest.mark.parametrize("kind", KINDS)
def test_no_input_ends_in_an_error_that_is_not_ours(kind: str, world: World) -> None:
    findings = [attempt(kind, SEED, number, world) for number in range(INPUTS)]
    assert [str(finding) for finding in findings if finding is not None] == []


def test_an_input_follows_from_its_kind_seed_and_number_alone(world: World) -> None:
    def written(number: int) -> dict[str, bytes]:
        attempt("reader", SEED, number, world)
        return {path.name: path.read_bytes() for path in world.folder.rglob("*") if path.is_file()}

    first = [written(number) for number in range(20)]
    assert [written(number) for number in reversed(range(20))] == first[::-1]
    assert len({str(files) for files in first}) > 10


def test_what_is_not_ours_is_found_and_kept_once(world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from dupq.data import html

    monkeypatch.setitem(KINDS, "api", lambda rng, world: html.strip_html(rng.choice((1, 2))))  # type: ignore[arg-type]
    state = State(SEED)
    for number in range(3):
        finding = attempt("api", SEED, number, world)
        assert finding is not None
        assert finding.place.startswith("dupq/data/html.py:")
        state.add(finding)
    assert [finding.seen for finding in state.findings] == [3]
    state.save(tmp_path / "state.json")
    assert State.load(tmp_path / "state.json", SEED) == state
    assert State.load(tmp_path / "state.json", SEED + 1).findings == []


def test_a_hang_is_found(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setattr("benchmarks.fuzz.runner.HANG_SECONDS", 0.05)
    monkeypatch.setitem(KINDS, "api", lambda rng, world: time.sleep(30))
    finding = attempt("api", SEED, 0, world)
    assert finding is not None
    assert finding.error == "HangError"
