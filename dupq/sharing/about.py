"""What the maker of a model tells of it, for its card: read from a JSON file, kept in `dupq.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dupq.errors import InputError, ModelFolderError
from dupq.models.safety import read_json

TEXTS = ("title", "summary", "license", "training_data", "terms", "leakage", "limits", "energy")
LISTS = ("languages", "datasets", "base_model")


def read_about(path: str | Path) -> dict[str, Any]:
    """What the maker of a model tells of it, from a JSON file; see `model_cards/README.md` for its keys.

    Raises:
        InputError: It is no JSON object, or a key is unknown or of a wrong kind; names the key.
    """
    where, help_page = str(path), "see model_cards/README.md"
    try:
        data = read_json(Path(path))
    except ModelFolderError as error:
        raise InputError(error.problem, where=where, mend="name a file of JSON") from error
    if not isinstance(data, dict):
        raise InputError("it holds no JSON object", where=where, mend=help_page)
    for key, value in data.items():
        if key in TEXTS:
            sound = isinstance(value, str)
        elif key in LISTS:
            sound = isinstance(value, list) and all(isinstance(item, str) for item in value)
        elif key == "measured_on":
            sound = isinstance(value, dict) and set(value) <= {"name", "type", "split"} and "name" in value
            sound = sound and all(isinstance(item, str) for item in value.values())
        elif key == "contrast":
            sound = isinstance(value, list) and all(_is_contrast(row) for row in value)
        else:
            known = ", ".join([*TEXTS, *LISTS, "measured_on", "contrast"])
            raise InputError(f"the key {key!r} is unknown", where=where, mend=f"use {known}")
        if not sound:
            raise InputError(f"the value of {key!r} is of a wrong kind", where=where, mend=help_page)
    return data


def _is_contrast(row: Any) -> bool:
    kinds: dict[str, Any] = {"kind": str, "pairs": int, "error": (int, float)}
    return isinstance(row, dict) and all(isinstance(row.get(key), kind) for key, kind in kinds.items())
