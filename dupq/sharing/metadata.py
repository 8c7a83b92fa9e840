"""What the Hub's machines read of a card: its metadata."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dupq.models.networks import STOCK
from dupq.sharing.elsewhere import current
from dupq.sharing.manifest import CROSS_ENCODER

if TYPE_CHECKING:
    from dupq.decisions.report import Report

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
"""Name in the report -> the Hub's name, and the one for people; these are on the card, all others in the report."""


def title(content: Mapping[str, Any]) -> str:
    """What the model is called."""
    return str(content.get("facts", {}).get("card", {}).get("title") or "Duplicate questions")


def is_stock(content: Mapping[str, Any]) -> bool:
    """Whether stock sentence-transformers opens the networks."""
    return all(network["form"] == STOCK for network in content["networks"].values())


def metadata(content: Mapping[str, Any], report: Report | None, in_sample: bool) -> str:
    """The block of YAML at the head of a card, with `model-index`, as huggingface_hub writes and checks it.

    Args:
        content: The manifest.
        report: The report in the folder, if there is one.
        in_sample: Whether that measured the pairs that the pipeline was fitted on.
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
    sets += [(row["name"], None, "test", row["sample"], row["metrics"]) for row in current(content)]
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
