"""Metadata of a card: the maker's statements, and the Hub's YAML block."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dupq.errors import InputError, ModelFolderError
from dupq.evaluation.report import Report
from dupq.hub.external_results import current_rows
from dupq.hub.manifest import CROSS_ENCODER
from dupq.models.loading import STOCK
from dupq.models.safety import read_json

TEXTS = ("title", "summary", "training_data", "terms", "leakage", "limits", "energy")
METADATA = {
    "license": r"[a-z0-9][a-z0-9.-]*",
    "license_name": r"[a-z0-9][a-z0-9.-]*",
    "license_link": r"LICENSE[\w.]*|https://\S+",
}
"""Identifiers as the Hub requires them."""
LISTS = ("languages", "datasets", "base_model")
METRICS = {
    "average_precision": ("average_precision", "average precision"),
    "roc_auc": ("roc_auc", "ROC AUC"),
    "accuracy": ("accuracy", "accuracy"),
    "f1": ("f1", "F1"),
    "precision": ("precision", "precision"),
    "recall": ("recall", "recall"),
    "mcc": ("matthews_correlation", "Matthews correlation"),
    "brier": ("brier_score", "Brier score"),
    "log_loss": ("log_loss", "log loss"),
    "ece_mass": ("expected_calibration_error", "ECE, bins of equal mass"),
}
"""Metrics on the card: name in the report -> the Hub's name, and the name for people."""
HINTS = {
    "license": 'give an identifier such as "apache-2.0", or "other" with license_name',
    "license_name": 'give a name in small letters, such as "our-terms"',
    "license_link": 'give an address that begins with https://, or "LICENSE"',
    "languages": 'give a list of ISO 639 codes, such as ["en"]',
    "datasets": 'give a list of Hub ids, such as ["owner/name"]',
    "base_model": 'give a list of Hub ids, such as ["owner/name"]',
    "measured_on": 'give {"name": ...}, and "type" (a Hub id) and "split" if you like',
}


def read_about(path: str | Path) -> dict[str, Any]:
    """Read the maker's statements on a model from a JSON file.

    `docs/how-to/share-on-the-hub.md` lists its keys.

    Raises:
        InputError: It is no JSON object, or a key is unknown or of a wrong kind; names the key.
    """
    location = str(path)
    try:
        data = read_json(Path(path))
    except ModelFolderError as error:
        raise InputError(error.message, location=location, hint="name a file of JSON") from error
    if not isinstance(data, dict):
        raise InputError(
            "it holds no JSON object", location=location, hint='write one, such as {"title": "Our questions"}'
        )
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
            raise InputError(f"unknown key {key!r}", location=location, hint=f"use {known}")
        if not sound:
            raise InputError(
                f"the Hub refuses this {key}: {value}", location=location, hint=HINTS.get(key, "give a text")
            )
    if data.get("license") == "other" and "license_name" not in data:
        raise InputError("the license 'other' needs a name", location=location, hint="add license_name")
    return data


def _fits(pattern: str, value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(pattern, value) is not None


def _is_language(value: Any) -> bool:
    return _fits(r"[a-z]{2,3}", value)


def _is_hub_id(value: Any) -> bool:
    """Return True for the id of a model or data set, as the Hub's client checks it."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]

    try:
        validate_repo_id(value)
    except HFValidationError:
        return False
    return True


def title(content: Mapping[str, Any]) -> str:
    """Return the title of the model."""
    return str(content.get("facts", {}).get("card", {}).get("title") or "Duplicate questions")


def is_stock(content: Mapping[str, Any]) -> bool:
    """Return True where sentence-transformers opens the networks."""
    return all(network["form"] == STOCK for network in content["networks"].values())


def metadata(content: Mapping[str, Any], report: Report | None, in_sample: bool) -> str:
    """Return the YAML block of a card, with `model-index`.

    huggingface_hub writes and checks it.

    Args:
        content: The manifest.
        report: The report in the folder, if there is one.
        in_sample: True where it measured the pairs that the thresholds were fitted on.
    """
    from huggingface_hub import ModelCardData

    card = content.get("facts", {}).get("card", {})
    results = _results(report, content, in_sample) if report is not None else None
    both, stock = CROSS_ENCODER in content["networks"], is_stock(content)
    data = ModelCardData(
        language=card.get("languages") or None,
        license=card.get("license") or None,
        license_name=card.get("license_name") or None,
        license_link=card.get("license_link") or None,
        library_name="dupq",
        pipeline_tag="text-classification" if both else "sentence-similarity",
        tags=[
            "dupq",
            "duplicate-questions",
            "sentence-transformers" if stock else "onnx",
            *sorted(content["networks"]),
        ],
        datasets=card.get("datasets") or None,
        base_model=card.get("base_model") or None,
        metrics=[METRICS[name][0] for name in METRICS if report is not None and name in report.metrics] or None,
        model_name=title(content) if results else None,
        eval_results=results,
    )
    return f"---\n{data.to_yaml().strip()}\n---"


def _results(report: Report, content: Mapping[str, Any], in_sample: bool) -> list[Any]:
    from huggingface_hub import EvalResult

    card = content.get("facts", {}).get("card", {})
    on = {"name": "calibration pairs", "split": "calibration"} if in_sample else card.get("measured_on", {})
    sets = [(on.get("name", "held-out pairs"), on.get("type"), on.get("split", "test"), report.sample, _plain(report))]
    sets += [(row["name"], None, "test", row["sample"], row["metrics"]) for row in current_rows(content)]
    return [
        EvalResult(
            task_type="text-classification",
            task_name="duplicate question detection",
            dataset_type=kind or re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-"),
            dataset_name=name,
            dataset_split=split,
            dataset_args={"pairs": sample["pairs"], "base_rate": sample["base_rate"]},
            metric_type=METRICS[key][0],
            metric_name=METRICS[key][1],
            metric_value=metrics[key]["value"],
            metric_args={"low": metrics[key]["low"], "high": metrics[key]["high"]},
        )
        for name, kind, split, sample, metrics in sets
        for key in METRICS
        if key in metrics
    ]


def _plain(report: Report) -> dict[str, dict[str, float]]:
    return {key: metric.to_dict() for key, metric in report.metrics.items()}
