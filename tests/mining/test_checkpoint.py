"""The folder of a long run: whose files it may delete, what it keeps, and who may use it."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import numpy as np
import pytest

from dupq.errors import InputError, OutputError
from dupq.mining import checkpoint as module
from dupq.mining.checkpoint import Checkpoint
from dupq.search.pairs import StrongestPairs
from tests.fakes import WordEmbedder

TEXTS = [f"What is thing number {at}?" for at in range(50)]


class Counting(WordEmbedder):
    def embed(self, texts, progress=None):  # type: ignore[no-untyped-def]
        self.seen = getattr(self, "seen", 0) + len(texts)
        return super().embed(texts, progress)


def test_the_same_run_goes_on_and_another_starts_afresh(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "work"
    for vectors, run, fresh, embeds, notes in (
        ("v", "a", False, 50, 0),
        ("v", "a", False, 0, 0),
        ("v", "b", False, 0, 1),
        ("w", "b", False, 50, 1),
        ("w", "b", True, 50, 0),
    ):
        caplog.clear()
        embedder = Counting(fingerprint=vectors)
        embedder.seen = 0
        with (
            caplog.at_level(logging.WARNING),
            Checkpoint(folder).open(vectors=vectors, run=run, fresh=fresh) as checkpoint,
        ):
            rows = checkpoint.embed(TEXTS, embedder)
        assert np.array_equal(rows[:], WordEmbedder().embed(TEXTS))
        assert (embedder.seen, len(caplog.records)) == (embeds, notes)
    Checkpoint(folder).remove()
    assert not folder.exists()


def test_a_kill_before_the_new_note_leaves_a_folder_that_can_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Checkpoint(tmp_path).open(vectors="v", run="a") as checkpoint:
        checkpoint.embed(TEXTS, WordEmbedder())

    def full(path: Path, value: object) -> None:
        raise OutputError("could not be written (no space left)", location=str(path))

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_json", full)
        with pytest.raises(OutputError), Checkpoint(tmp_path).open(vectors="v", run="b"):
            pass
    embedder = Counting()
    embedder.seen = 0
    with Checkpoint(tmp_path).open(vectors="v", run="b") as checkpoint:
        checkpoint.embed(TEXTS, embedder)
    assert embedder.seen == 0


def test_no_folder_keeps_nothing() -> None:
    with Checkpoint(None).open(vectors="", run="") as checkpoint:
        assert isinstance(checkpoint.embed(TEXTS, WordEmbedder()), np.ndarray)
        assert checkpoint.search_file is None
    Checkpoint(None).remove()


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"key": 7}'])
def test_damaged_notes_and_short_files_are_computed_again(tmp_path: Path, damage: bytes) -> None:
    for name in ("dupq-run.json", "vectors.f32.json", "vectors.f32"):
        for _ in range(2):
            with Checkpoint(tmp_path).open(vectors="v", run="a") as checkpoint:
                rows = checkpoint.embed(TEXTS, WordEmbedder())
                assert np.array_equal(rows[:], WordEmbedder().embed(TEXTS))
            (tmp_path / name).write_bytes(damage)


def test_leftovers_of_a_killed_run_are_its_own(tmp_path: Path) -> None:
    with Checkpoint(tmp_path).open(vectors="v", run="a") as checkpoint:
        checkpoint.embed(TEXTS, WordEmbedder())
    for name in (".vectors.f32.json.712.part", ".search.npz.a-b.part", ".scores-all.f64.json.9.part"):
        (tmp_path / name).write_text("half", encoding="utf-8")
    with Checkpoint(tmp_path).open(vectors="v", run="a"):
        assert not [*tmp_path.glob("*.part")]
    (tmp_path / "early").mkdir()
    (tmp_path / "early" / ".dupq-run.json.5.part").write_text("", encoding="utf-8")
    Checkpoint(tmp_path / "early").check()


@pytest.mark.parametrize("name", ["thesis.tex", "vectors.f32", "scores-all.f64", "vectors.f32.json.bak", ".search.npz"])
def test_what_is_not_of_a_run_is_refused_and_stays(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("dear", encoding="utf-8")
    with pytest.raises(InputError, match="must hold only files of a mining run"):
        Checkpoint(tmp_path).check()
    with pytest.raises(InputError), Checkpoint(tmp_path).open(vectors="v", run="a", fresh=True):
        pass
    Checkpoint(tmp_path).remove()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_folder_inside_a_work_folder_is_refused(tmp_path: Path) -> None:
    with Checkpoint(tmp_path).open(vectors="v", run="a"):
        pass
    (tmp_path / "photos").mkdir()
    with pytest.raises(InputError, match="photos"):
        Checkpoint(tmp_path).check()
    with pytest.raises(InputError, match="must be a folder"):
        Checkpoint(Path(__file__)).check()


def test_one_run_at_a_time(tmp_path: Path) -> None:
    with Checkpoint(tmp_path).open(vectors="v", run="a") as checkpoint:
        checkpoint.embed(TEXTS, WordEmbedder())
        told: list[str] = []

        def second() -> None:
            try:
                with Checkpoint(tmp_path).open(vectors="v", run="b"):
                    told.append("opened")
            except InputError as error:
                told.append(error.message)

        runs = [threading.Thread(target=second) for _ in range(4)]
        for run in runs:
            run.start()
        for run in runs:
            run.join()
        assert told == ["another run is using this work folder"] * 4
        Checkpoint(tmp_path).remove()
        assert (tmp_path / "vectors.f32").exists()
    with Checkpoint(tmp_path).open(vectors="v", run="a"):
        key = module.hash_of("word-embedder", TEXTS)
        assert module._rows_done(tmp_path / "vectors.f32", key, 256) == 50


@pytest.mark.parametrize("repeats", [False, True])
def test_pairs_that_were_dropped_are_counted_from_below(tmp_path: Path, repeats: bool) -> None:
    draw = np.random.default_rng(0)
    left, right = np.triu_indices(80, 1)
    cosine = draw.uniform(0, 1, len(left))
    order = draw.permutation(len(left))
    pairs = StrongestPairs(0.4, 100, repeats=repeats)
    for part in np.array_split(order, 40):
        for _ in range(3 if repeats else 1):
            pairs.add(left[part], right[part], cosine[part])
    kept = len(pairs.columns()[0])
    beyond = int((cosine >= 0.4).sum()) - kept
    assert 0 < pairs.dropped <= beyond
    assert repeats or pairs.dropped == beyond
    pairs.save(tmp_path / "pairs", "one", 7)
    again = StrongestPairs(0.4, 100, repeats=repeats)
    assert again.load(tmp_path / "pairs", "one") == 7
    assert again.dropped == pairs.dropped
