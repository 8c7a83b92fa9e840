"""What the maker of a model tells of it, for its card: read from a JSON file, kept in `dupq.json`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from dupq.errors import InputError, ModelFolderError
from dupq.models.safety import read_json

TEXTS = ("title", "summary", "training_data", "terms", "leakage", "limits", "energy")
METADATA = {
    "license": r"[a-z0-9][a-z0-9.-]*",
    "license_name": r"[a-z0-9][a-z0-9.-]*",
    "license_link": r"LICENSE[\w.]*|https://\S+",
}
"""What the Hub takes as an identifier of each; it refuses others."""
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
        elif key in METADATA:
            sound = _fits(METADATA[key], value)
        elif key in LISTS:
            fits = _is_language if key == "languages" else _is_hub_id
            sound = isinstance(value, list) and all(fits(item) for item in value)
        elif key == "measured_on":
            sound = isinstance(value, dict) and set(value) <= {"name", "type", "split"} and "name" in value
            sound = sound and all(isinstance(item, str) for item in value.values())
            sound = sound and ("type" not in value or _is_hub_id(value["type"]))
        else:
            known = ", ".join([*TEXTS, *METADATA, *LISTS, "measured_on"])
            raise InputError(f"the key {key!r} is unknown", where=where, mend=f"use {known}")
        if not sound:
            raise InputError(f"the Hub would not take this for {key!r}: {value}", where=where, mend=help_page)
    if data.get("license") == "other" and "license_name" not in data:
        raise InputError("the licence is 'other', and has no name", where=where, mend="add license_name")
    return data


def _fits(pattern: str, value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(pattern, value) is not None


def _is_language(value: Any) -> bool:
    return _fits(r"[a-z]{2,3}", value)


def _is_hub_id(value: Any) -> bool:
    """Whether the Hub's own client takes it for the id of a model or data set."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(value)
    except HFValidationError:
        return False
    return True
