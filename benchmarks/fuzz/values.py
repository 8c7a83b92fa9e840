"""Values for arguments: most valid, some invalid, some absurd."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime, timezone
from decimal import Decimal
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fuzz.documents import PAIRS, QUESTIONS
from benchmarks.fuzz.world import World

Make = Callable[[random.Random, World], Any]

PLAIN = [*(text for pair in PAIRS for text in pair[:2]), *(question[1] for question in QUESTIONS)]
ODD_TEXTS = [
    *("", " ", "\n", "\0", "a\0b", "?", "??", "+", "a", "\ud800", "a \udc80 b", "\udfff", "\u200b", "\ufeff", "\u2028"),
    *(
        "é" * 3,
        "e\u0301",
        "İstanbul ne zaman?",
        "ﬁne ﬀ?",
        "\u210cow?",
        "Straße?",
        "Как дела?",
        "كيف حالك؟",
        "מה שלומך?",
    ),
    *(
        "तुम कैसे हो?",
        "ありがとう\uff1f",
        "你怎么样\uff1f",
        "👩‍👩‍👧‍👦",
        "🏳️‍🌈 ok?",
        "z͑ͫ̓ͪ̂ͫ̽͏̴̙̤̞͉͚̯̞̠͍A̴̵̜̰͔ͫ͗͢L͠",
        "<p>x</p>",
        "&lt;b&gt;",
        "<",
        "$x^2$",
    ),
    *(
        "=1+1",
        "-1",
        "0",
        "nan",
        "NaN",
        "None",
        "true",
        "1e999",
        "9" * 400,
        "[CLS] [SEP]",
        "[MASK]",
        "'; DROP TABLE x;--",
    ),
    *(
        "%s %d {0} {x}",
        "a" * 200,
        "who? " * 6000,
        "\\",
        "\t",
        "\r",
        "१२",
        "²",
        "½",
        "٣",
        "10\u00a0000",
        "1,5",
        "./.",
        "-",
    ),
]
LONG = 1_000_000


class Surprise:
    """An object of a class that dupq does not handle."""


def text(rng: random.Random, _: World | None = None) -> str:
    roll = rng.random()
    if roll < 0.75:
        return rng.choice(PLAIN)
    if roll < 0.97:
        return rng.choice(ODD_TEXTS)
    if roll < 0.995:
        return "".join(
            chr(rng.choice((rng.randrange(32, 127), rng.randrange(0x10FFFF)))) for _ in range(rng.randrange(40))
        )
    return rng.choice(("a", "a ", "é", "漢", "?", "<b>", "1")) * (LONG // 2)


def clean_text(rng: random.Random, _: World | None = None) -> str:
    return rng.choice(PLAIN) + (f" {rng.randrange(5)}" if rng.random() < 0.3 else "")


NUMBERS = [
    *(0, 1, -1, 2, 3, 5, 10, 100, 2**31, 2**63 - 1, 2**63, -(2**63), 10**30, 10**400, 0.0, -0.0, 0.5, 1.0, 1.5, -0.1),
    *(1e-9, 1e-300, 1e300, math.nan, math.inf, -math.inf, True, False, np.int64(3), np.int8(-1), np.uint64(2**64 - 1)),
    *(
        np.float32(0.5),
        np.float64("nan"),
        np.bool_(True),
        Decimal("0.5"),
        Decimal("NaN"),
        Fraction(1, 3),
        1j,
        "2",
        "0.5",
    ),
]


def number(rng: random.Random, _: World | None = None) -> Any:
    return rng.choice(NUMBERS)


def anything(rng: random.Random, world: World, depth: int = 0) -> Any:
    """Return an arbitrary value."""
    roll = rng.randrange(30)
    if roll < 6:
        return number(rng)
    if roll < 11:
        return text(rng)
    if roll < 19 and depth < 3:
        several = [anything(rng, world, depth + 1) for _ in range(rng.choice((0, 1, 2, 3, 5)))]
        return contained(rng, several)
    if roll == 19:
        return {str(n): anything(rng, world, 3) for n in range(rng.randrange(3))}
    simple: list[Make] = [
        lambda r, _: None,
        lambda r, _: b"Is go hard?",
        lambda r, _: bytearray(b"x"),
        lambda r, _: date(2020, 1, 1),
        lambda r, _: datetime(2020, 1, 1, tzinfo=timezone.utc),
        lambda r, _: Surprise(),
        lambda r, _: Surprise,
        lambda r, _: len,
        lambda r, _: Path("x"),
        lambda r, _: Ellipsis,
        lambda r, _: r.choice(stamps()),
        lambda r, _: r.choice(empty_tables()),
        lambda r, w: w.pipeline,
        lambda r, w: w.table,
        lambda r, _: range(r.randrange(4)),
    ]
    return rng.choice(simple)(rng, world)


def stamps() -> list[Any]:
    import pandas as pd

    return [
        *(pd.Timestamp("2021-02-03"), pd.NaT, pd.NA, np.datetime64("2021-02-03"), np.datetime64("NaT")),
        *(
            pd.Timestamp("2021-02-03", tz="Europe/Berlin"),
            np.timedelta64(3, "s"),
            pd.Timedelta(1, "h"),
            pd.Period("2021"),
        ),
    ]


def empty_tables() -> list[Any]:
    import pandas as pd
    import polars as pl

    return [pd.DataFrame(), pl.DataFrame(), pd.Series([], dtype=object), pl.Series([]), np.zeros((0, 3)), np.array(3)]


@cache
def unfit() -> tuple[type[BaseException], ...]:
    """Return the errors of containers that cannot hold the values."""
    import polars as pl
    import pyarrow

    plain = (AttributeError, TypeError, ValueError, OverflowError, ArithmeticError, pyarrow.ArrowException)
    return (*plain, pl.exceptions.PolarsError, pl.exceptions.PanicException)


def _panics(dtype: Any) -> bool:
    """Return True for a type that Polars itself can neither print nor give back."""
    return bool(dtype.is_nested()) and "Object" in str(dtype)


def contained(rng: random.Random, values: list[Any]) -> Any:
    """Return these values as a list, tuple, array, Series, generator or another container."""
    import pandas as pd
    import polars as pl

    roll = rng.randrange(24)
    try:
        if roll < 8:
            return values
        if roll < 10:
            return tuple(values)
        if roll == 10:
            array = np.empty(len(values), dtype=object)
            array[:] = values
            return array
        if roll == 11:
            return np.array(values)
        if roll == 12:
            return pd.Series(values, index=rng.sample(range(len(values)), len(values)))
        if roll == 13:
            return pd.Series(values, dtype=rng.choice((object, "category", "string")))
        if roll == 14 and not any(isinstance(value, Decimal) for value in values):  # Polars panics, and prints it
            series = pl.Series(values, strict=False)
            return values if _panics(series.dtype) else series
        if roll == 15:
            return (value for value in values)
        if roll == 16:
            return deque(values)
        if roll == 17:
            import pyarrow

            return pyarrow.array(values)
        if roll == 18:
            return pd.DataFrame({"question": values, "id": range(len(values))})
        if roll == 19 and not any(isinstance(value, Decimal) for value in values):
            frame = pl.DataFrame({"title": values}, strict=False)
            return values if _panics(frame["title"].dtype) else frame
        if roll == 20:
            return pd.Index(values)
        if roll == 21:
            return dict(enumerate(values))
        if roll == 22:
            return [values]
        return set(values)
    except unfit():
        return values


def sequence(item: Make, most: int = 12) -> Make:
    def make(rng: random.Random, world: World) -> Any:
        n = world.length if rng.random() < 0.9 else rng.randrange(most)
        return contained(rng, [item(rng, world) for _ in range(n)])

    return make


def either(good: Make, share: float = 0.8) -> Make:
    """Return a valid value mostly, and an arbitrary one otherwise."""

    def make(rng: random.Random, world: World) -> Any:
        return good(rng, world) if rng.random() < share else anything(rng, world)

    return make


def one_of(*values: Any) -> Make:
    return lambda rng, _: rng.choice(values)


def id_(rng: random.Random, _: World) -> Any:
    return rng.choice(
        (rng.randrange(9), rng.randrange(9), str(rng.randrange(9)), np.int32(rng.randrange(9)), f"q{rng.randrange(9)}")
    )


def unique_ids(rng: random.Random, world: World) -> Any:
    n = world.length
    ids: list[Any] = rng.sample(range(50), n)
    if rng.random() < 0.4:
        ids = [str(number) if rng.random() < 0.5 else number for number in ids]
    return contained(rng, ids)


def moment(rng: random.Random, _: World) -> Any:
    return rng.choice(
        [
            *(
                "2021-02-03",
                "2021-02-03T10:00:00Z",
                "2020-02-30",
                "1/5/2022",
                "",
                "soon",
                None,
                math.nan,
                1.6e9,
                1.6e12,
            ),
            *(0, -1, 10**20, "1672531200", datetime(2021, 1, 1), date(2021, 1, 1), True, [], math.inf, *stamps()),
        ]
    )


def floats(rng: random.Random, world: World) -> Any:
    values: list[Any] = [rng.gauss(0, 3) for _ in range(world.length)]
    if rng.random() < 0.2:
        values = [number(rng) if rng.random() < 0.3 else value for value in values]
    return np.array(values) if rng.random() < 0.4 else contained(rng, values)


def shares(rng: random.Random, world: World) -> Any:
    values: list[Any] = [rng.random() for _ in range(world.length)]
    if rng.random() < 0.2:
        values = [number(rng) if rng.random() < 0.3 else value for value in values]
    return contained(rng, values)


def zero_one(rng: random.Random, world: World) -> Any:
    values: list[Any] = [rng.randrange(2) for _ in range(world.length)]
    if rng.random() < 0.15:
        values = [rng.choice((0, 1, 2, -1, "1", True, None, math.nan, 0.5)) for _ in values]
    return contained(rng, values)


def whole(rng: random.Random, world: World) -> Any:
    return contained(rng, [rng.randrange(4) for _ in range(world.length)])


RATES: list[Any] = [0.01, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 0.95, 0.999, 1e-6, None]


def rate(rng: random.Random, world: World) -> Any:
    return rng.choice(RATES) if rng.random() < 0.8 else number(rng)


POLICIES = [
    "f1",
    "accuracy",
    "cost=5:1",
    "recall>=0.5",
    "precision>=0.6",
    "recall>=0.95",
    "precision>=0.99",
    "F1 ",
    "f2",
]
ODD_POLICIES = ["", "cost=0:0", "cost=-1:2", "cost=nan:1", "recall>=2", "precision>=", "precision>=nan", "recall>=1e-9"]


def policy(rng: random.Random, _: World) -> Any:
    from dupq.decisions.thresholds import Policy

    roll = rng.randrange(10)
    if roll < 5:
        return rng.choice(POLICIES)
    if roll < 7:
        return rng.choice(ODD_POLICIES)
    if roll == 7:
        return None
    return rng.choice(
        (Policy.max_f1(), Policy.max_accuracy(), Policy.min_cost(2, 1), Policy.recall(0.5), Policy.precision(0.6, 0.1))
    )


def table(rng: random.Random, world: World) -> Any:
    """Return a PairTable, valid or not, or a similar object."""
    from dupq.data.pairs import PairTable

    roll = rng.randrange(12)
    if roll < 6:
        return world.table.take(np.arange(rng.choice((0, 1, 5, 30, 120, len(world.table)))))
    if roll < 9:
        n = rng.choice((0, 1, 3, 25, 60))
        left, right = ([clean_text(rng) + f" {k}" for k in range(n)] for _ in range(2))
        if n and rng.random() < 0.4:
            left[rng.randrange(n)] = text(rng)
        labels = np.array([rng.randrange(2) for _ in range(n)], dtype=np.int8)
        return PairTable(left, right, labels)
    if roll == 9:
        return PairTable(anything(rng, world), anything(rng, world), anything(rng, world))
    if roll == 10:
        return world.table.left, world.table.right, world.table.labels
    return [{"question1": clean_text(rng), "question2": clean_text(rng), "label": rng.randrange(2)} for _ in range(30)]


def progress(rng: random.Random, _: World) -> Any:
    return None if rng.random() < 0.6 else (lambda *done: None)


def changed_data(data: Any) -> Make:
    """Return a function that makes this JSON data with some values changed."""

    def make(rng: random.Random, world: World) -> Any:
        def walk(value: Any, depth: int) -> Any:
            if rng.random() < 0.04:
                return anything(rng, world)
            if isinstance(value, Mapping):
                kept = {key: walk(item, depth + 1) for key, item in value.items() if rng.random() > 0.02}
                return kept | ({text(rng): 1} if rng.random() < 0.02 else {})
            if isinstance(value, (list, tuple)):
                return [walk(item, depth + 1) for item in value[: rng.choice((len(value),) * 9 + (1,))]]
            return value

        return walk(data(world), 0)

    return make


def frames(rng: random.Random, world: World) -> Any:
    """Return a pandas or polars frame of pairs or questions."""
    import pandas as pd
    import polars as pl

    n = world.length
    names = rng.choice((("question1", "question2"), ("q1", "q2"), ("id", "title"), ("a", "a "), ("text", "created")))
    item = clean_text if rng.random() < 0.7 else text
    columns = {name: [item(rng) for _ in range(n)] for name in names}
    if rng.random() < 0.4:
        columns["label" if rng.random() < 0.5 else "id"] = [id_(rng, world) for _ in range(n)]
    try:
        if rng.random() < 0.5:
            return pd.DataFrame(columns, index=rng.sample(range(n), n))
        return pl.DataFrame(columns, strict=False)
    except unfit():  # such as lone surrogates
        return pd.DataFrame({name: [str(value) for value in values] for name, values in columns.items()}, dtype=object)


def rows(rng: random.Random, world: World) -> Any:
    """Return rows in the form of a dataset."""

    def given() -> Iterator[Any]:
        names = rng.choice((("question1", "question2", "label"), ("q1", "q2", "label"), ("a", "b", "c")))
        for _ in range(world.length):
            if rng.random() < 0.05:
                yield anything(rng, world)
            else:
                row = {names[0]: text(rng), names[1]: text(rng), names[2]: rng.randrange(2)}
                if rng.random() < 0.1:
                    row[rng.choice(names)] = anything(rng, world)
                yield row

    return list(given()) if rng.random() < 0.7 else given()


def path(rng: random.Random, world: World) -> Any:
    """Return a path in the folder of the input, of an existing or a missing file."""
    folder = world.folder
    name = rng.choice(("", "pairs.csv", "new", "new.jsonl", "sub/new.csv", "a" * 300, "pairs.csv/x", "é?.jsonl", "."))
    found: str | Path = folder / name
    return str(found) if rng.random() < 0.5 else found


def some(values: Sequence[Any], rng: random.Random) -> list[Any]:
    return rng.sample(list(values), rng.randint(0, min(3, len(values))))
