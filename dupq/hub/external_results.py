"""Results on other pairs than those of the report, for the card."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dupq.errors import InputError, LeakError
from dupq.evaluation.report import Report

_COMMAND = "dupq evaluate DIR PAIRS -o REPORT.json"
_MEASURE = f"measure this one there: {_COMMAND}"

UNSEEN = "pairs that nothing of it was fitted on"
"""Statement of a report on pairs that share no question with those the pipeline was fitted on, where all are known."""

MIN_GROUPS = 30
"""Minimum number of question groups for a bootstrap interval."""


def result_row(name: str, report: Report, content: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row of the card for a report on other pairs.

    It holds figures, and the state of the pipeline that was measured.

    Args:
        name: Name of the other questions.
        report: The report that `dupq evaluate` wrote there.
        content: The manifest of the card's pipeline.
        metrics: Metrics to keep.

    Raises:
        InputError: The report measured another pipeline, or this one before its last calibration, or does not name its
            pairs.
        LeakError: It measured pairs that the pipeline was fitted on.
    """
    pairs = report.about.get("data_fingerprint")
    if not pairs:
        raise InputError("this report does not name the pairs that it measured", location=name, hint=_MEASURE)
    if pairs in fitted_on(content):
        raise LeakError(
            "this report measured the pairs that the pipeline was calibrated on",
            location=name,
            hint=f"measure it on other pairs: {_COMMAND}",
        )
    measured = {
        "scorer_fingerprint": report.about.get("scorer_fingerprint"),
        "calibrator": [report.calibration.get(key) for key in ("kind", "base_rate", "pairs")],
        "cuts": [cut["score"] for cut in report.rule["cuts"]],
        "base_rate": report.about.get("stated_at"),
    }
    if measured != _state(content):
        raise InputError(
            "this report is of another pipeline, or of this one before its last calibration",
            location=name,
            hint=_MEASURE,
        )
    kept = {key: metric.to_dict() for key, metric in report.metrics.items() if key in metrics}
    facts = {key: report.about.get(key) for key in ("date", "data_fingerprint", "measured_on")}
    return {"name": name, "sample": dict(report.sample), "metrics": kept, "measured": measured, **facts}


def current_rows(content: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the rows that hold for the pipeline as it is now."""
    return [row for row in _rows(content) if row.get("measured") == _state(content) and not _is_fitted_on(row, content)]


def outdated_names(content: Mapping[str, Any]) -> list[str]:
    """Return the names of the rows of an earlier state of the pipeline."""
    rows = (row for row in _rows(content) if row.get("measured") != _state(content))
    return [row["name"] for row in rows if not _is_fitted_on(row, content)]


def unchecked_names(content: Mapping[str, Any]) -> list[str]:
    """Return the names of current rows not checked for questions of the fit."""
    return [row["name"] for row in current_rows(content) if row.get("measured_on") != UNSEEN]


def in_sample_names(content: Mapping[str, Any]) -> list[str]:
    """Return the names of rows on pairs that the thresholds were fitted on."""
    return [row["name"] for row in _rows(content) if _is_fitted_on(row, content)]


def _is_fitted_on(row: Mapping[str, Any], content: Mapping[str, Any]) -> bool:
    return row.get("data_fingerprint") in fitted_on(content)


def fitted_on(content: Mapping[str, Any]) -> frozenset[str]:
    """Return the fingerprints of the pairs that the thresholds were fitted on."""
    rule = content.get("rule") or {}
    parts = (rule.get(name) or {} for name in ("duplicate", "distinct", "table"))
    return frozenset(part["data_fingerprint"] for part in parts if part.get("data_fingerprint"))


def has_interval(sample: Mapping[str, Any]) -> bool:
    """Return True where bootstrap intervals over question groups hold.

    They need enough groups, and no group with most of the pairs.
    """
    return bool(sample["groups"] >= MIN_GROUPS and 2 * sample.get("largest_group", 0) <= sample["pairs"])


def _rows(content: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    rows: list[Mapping[str, Any]] = content.get("facts", {}).get("card", {}).get("external_results", [])
    return rows


def _state(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return what figures depend on: scorer, calibrator, thresholds, base rate."""
    calibrator, rule = content.get("calibrator") or {}, content.get("rule") or {}
    cuts = [rule[name] for name in ("duplicate", "distinct") if rule.get(name)]
    return {
        "scorer_fingerprint": content.get("fingerprint"),
        "calibrator": [calibrator.get(key) for key in ("kind", "base_rate", "pairs")],
        "cuts": [cut["score"] for cut in cuts],
        "base_rate": content.get("base_rate"),
    }
