"""The table of ids holds what a dictionary holds, in a fraction of the memory."""

from __future__ import annotations

import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from dupq.data.arguments import MAX_INT, MIN_INT
from dupq.data.seen_ids import SeenIds

ids = st.one_of(st.integers(-5, 40), st.integers(MIN_INT, MAX_INT), st.text(min_size=1, max_size=3))


@given(st.lists(ids))
def test_an_id_keeps_its_first_place(added: list[int | str]) -> None:
    table, known = SeenIds(), dict[int | str, int]()
    for place, id_ in enumerate(added, 1):
        assert (id_ in table) == (id_ in known)
        assert table.add(id_, place) == known.setdefault(id_, place)
    assert len(table) == len(known)
    assert all(id_ in table for id_ in known)


def test_neighbouring_and_distant_numbers_and_texts_are_told_apart() -> None:
    table = SeenIds()
    every = [*range(-500, 500), *(at << 40 for at in range(1, 500)), *(str(at) for at in range(-500, 500))]
    assert [table.add(id_, place) for place, id_ in enumerate(every, 1)] == [*range(1, len(every) + 1)]
    assert "1.0" not in table
    assert 501 not in table


def test_an_id_takes_few_bytes() -> None:
    tracemalloc.start()
    try:
        table = SeenIds()
        for at in range(60_000):
            table.add(f"question-{at}", at + 1)
        assert tracemalloc.get_traced_memory()[1] / 60_000 < 40
    finally:
        tracemalloc.stop()
