"""Load English word lists for explanations, contrast sets and language checks.

`opposites.tsv` holds each pair of opposites once. Its columns: the two words; the kind ("opposite" or "gender"); the
contrast split that uses it ("train", "held_out" or "none"); "yes" if the explanation of a pair reports it as a
conflict. The order of rows is the order in which contrast sets try them.
"""

from __future__ import annotations

import csv
import json
from functools import cache
from importlib.resources import files
from typing import Any, NamedTuple


class Opposites(NamedTuple):
    """A row of `opposites.tsv`."""

    one: str
    other: str
    kind: str
    split: str
    explained: bool


@cache
def load(name: str) -> Any:
    """Return the content of a JSON file of this folder.

    The content is cached: do not change it.

    Args:
        name: The file without ".json".

    Raises:
        FileNotFoundError: There is no such file.
    """
    return json.loads(files(__name__).joinpath(f"{name}.json").read_text(encoding="utf-8"))


@cache
def opposites() -> tuple[Opposites, ...]:
    """Return the rows of `opposites.tsv` in their order."""
    text = files(__name__).joinpath("opposites.tsv").read_text(encoding="utf-8")
    rows = list(csv.reader(text.splitlines()[1:], delimiter="\t"))
    return tuple(Opposites(one, other, kind, split, explained == "yes") for one, other, kind, split, explained in rows)


def by_form(forms: dict[str, list[str]]) -> dict[str, str]:
    """Return a table from each form to its head.

    For example, {"be": ["is"]} gives {"be": "be", "is": "be"}.
    """
    return {form: head for head, others in forms.items() for form in (head, *others)}
