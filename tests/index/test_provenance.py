"""Files beside a store that is restored from a backup, and then goes on differently."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dupq.index import hnsw, vector_cache
from dupq.index.provenance import is_of_history, provenance_of
from dupq.index.stores.base import Store
from dupq.index.stores.sqlite import SqliteStore
from dupq.index.vector_cache import VectorCache
from tests.index.stores.kinds import begin, fill


@pytest.fixture(autouse=True)
def _small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vector_cache, "REWRITE_ROWS", 1)


def backed_up(path: Path, ids: Iterable[int]) -> Path:
    """Copy a new store of these questions as `docs/how-to/run-the-service.md` does."""
    store = SqliteStore(path)
    begin(store)
    fill(store, ids)
    copy = path.with_name("copy.db")
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)
    store.close()
    return copy


def restored(path: Path, copy: Path) -> SqliteStore:
    for ending in ("-wal", "-shm"):
        Path(f"{path}{ending}").unlink(missing_ok=True)
    shutil.copy(copy, path)
    return SqliteStore(path)


def write_file(store: Store) -> None:
    cache = VectorCache(store.vectors_file)
    cache.save(store)
    cache.close()


def check_vectors(store: Store) -> None:
    """Compare what a new process holds with what is stored."""
    cache = VectorCache(store.vectors_file)
    with cache.following(store) as (view, snapshot):
        model = view.model()
        assert model is not None
        slots = [question.slot for question, _ in view.rows()]
        stored, held = view.vectors(model, slots), snapshot.vectors(slots)
        assert snapshot.slots.tolist() == slots
        assert held.keys() == stored.keys()
        for slot, row in stored.items():
            np.testing.assert_array_equal(held[slot], row.astype(np.float32))
    cache.close()


def remove(store: Store, *ids: int) -> None:
    store.write(lambda transaction: transaction.remove(ids))


def add_some(store: Store) -> None:
    fill(store, range(100, 105))


def add_others(store: Store) -> None:
    fill(store, range(200, 208))


def add_again_with_an_edit(store: Store) -> None:
    fill(store, [100])
    fill(store, [101], "Where")
    fill(store, range(102, 105))


def remove_some(store: Store) -> None:
    remove(store, 3, 4, 5)


def remove_others(store: Store) -> None:
    remove(store, 8, 4, 7, 9)


@pytest.mark.parametrize(
    ("lost", "present"),
    [(add_some, add_others), (add_some, add_again_with_an_edit), (remove_some, remove_others)],
    ids=["other questions", "an edit among the same questions", "other removals"],
)
def test_a_file_of_a_lost_history_is_written_again(tmp_path: Path, lost: Any, present: Any) -> None:
    path = tmp_path / "forum.db"
    copy = backed_up(path, range(10))
    store = SqliteStore(path)
    lost(store)
    write_file(store)
    store.close()
    store = restored(path, copy)
    present(store)
    check_vectors(store)
    store.close()


def test_a_file_without_provenance_is_written_again(tmp_path: Path) -> None:
    path = tmp_path / "forum.db"
    backed_up(path, range(10))
    store = SqliteStore(path)
    write_file(store)
    file = store.vectors_file
    data = file.read_bytes()
    old = data[:4096].replace(b'"provenance"', b'"forgotten0"')
    assert old != data[:4096]
    file.write_bytes(old + data[4096:])
    check_vectors(store)
    assert file.read_bytes() == data
    store.close()


def test_a_later_state_is_of_the_same_history(tmp_path: Path) -> None:
    path = tmp_path / "forum.db"
    backed_up(path, range(200))
    store = SqliteStore(path)
    remove(store, *range(0, 40, 2))
    with store.reading() as view:
        found = provenance_of(view)
    assert (len(found.removals), found.removal) == (16, 20)
    # The last rows, which are compared, are removed and edited too.
    remove(store, *range(150, 199))
    fill(store, [199], "Where")
    fill(store, range(300, 320))
    with store.reading() as view:
        assert is_of_history(found, view)
        assert is_of_history(provenance_of(view), view)
        slot, digest = found.rows[-1]
        assert not is_of_history(replace(found, model="another"), view)
        assert not is_of_history(replace(found, removals=found.removals[1:]), view)
        # An empty slot that was removed before the file was written cannot be in it.
        assert not is_of_history(replace(found, rows=[[1, digest]]), view)
        assert is_of_history(replace(found, rows=[[slot, "another"]]), view)  # it was removed since
    store.close()


def test_a_graph_of_a_lost_history_is_not_used(tmp_path: Path) -> None:
    pytest.importorskip("usearch")
    path = tmp_path / "forum.db"
    copy = backed_up(path, range(10))

    def graph_of(store: Store) -> tuple[hnsw.Graphs, VectorCache]:
        return hnsw.Graphs(path.with_name("forum.db.hnsw")), VectorCache(store.vectors_file)

    def is_used(store: Store) -> bool:
        graphs, cache = graph_of(store)
        with cache.following(store) as (view, snapshot):
            used = graphs.fitting(view, snapshot) is not None
        cache.close()
        return used

    store = SqliteStore(path)
    add_some(store)
    graphs, cache = graph_of(store)
    assert graphs.build(cache, store, threads=1)
    cache.close()
    assert is_used(store)
    fill(store, [50])
    assert is_used(store)
    store.close()
    store = restored(path, copy)
    add_others(store)
    assert not is_used(store)
    store.close()
