"""What a card tells of other questions than those of its report, and whether it still speaks of the same pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dupq.errors import InputError

if TYPE_CHECKING:
    from dupq.decisions.report import Report

FEWEST_GROUPS = 30
"""Question groups below which a bootstrap over them gives no interval to rely on."""


def taken(name: str, report: Report, content: Mapping[str, Any], metrics: Mapping[str, Any]) -> dict[str, Any]:
    """What the card keeps of a report on other pairs, and of what that report measured.

    Args:
        name: Of the other questions.
        report: What `dupq evaluate` found there.
        content: The manifest of the pipeline that the card is for.
        metrics: Those that are kept.

    Raises:
        InputError: The report measured another pipeline, or this one before it was calibrated anew.
    """
    measured = {
        "scorer_fingerprint": report.about.get("scorer_fingerprint"),
        "calibrator": [report.calibration.get(key) for key in ("kind", "base_rate", "pairs")],
        "cuts": [cut["score"] for cut in report.rule["cuts"]],
        "base_rate": report.about.get("stated_at"),
    }
    if measured != _state(content):
        raise InputError(
            "this report speaks of another pipeline, or of this one before it was calibrated anew",
            where=name,
            mend="measure this one there: dupq evaluate DIR PAIRS -o REPORT.json",
        )
    kept = {key: metric.to_dict() for key, metric in report.metrics.items() if key in metrics}
    facts = {key: report.about.get(key) for key in ("date", "data_fingerprint")}
    return {"name": name, "sample": dict(report.sample), "metrics": kept, "measured": measured, **facts}


def current(content: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The rows that speak of the pipeline as it is now."""
    return [row for row in _rows(content) if row.get("measured") == _state(content)]


def outdated(content: Mapping[str, Any]) -> list[str]:
    """The names of the others."""
    return [row["name"] for row in _rows(content) if row.get("measured") != _state(content)]


def has_interval(sample: Mapping[str, Any]) -> bool:
    """Whether the question groups are enough, and none holds most of the pairs, so that intervals over them hold."""
    return bool(sample["groups"] >= FEWEST_GROUPS and 2 * sample.get("largest_group", 0) <= sample["pairs"])


def _rows(content: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    rows: list[Mapping[str, Any]] = content.get("facts", {}).get("card", {}).get("elsewhere", [])
    return rows


def _state(content: Mapping[str, Any]) -> dict[str, Any]:
    """All that its figures depend on: scorer, calibrator, thresholds, base rate."""
    calibrator, rule = content.get("calibrator") or {}, content.get("rule") or {}
    cuts = [rule[name] for name in ("duplicate", "distinct") if rule.get(name)]
    return {
        "scorer_fingerprint": content.get("fingerprint"),
        "calibrator": [calibrator.get(key) for key in ("kind", "base_rate", "pairs")],
        "cuts": [cut["score"] for cut in cuts],
        "base_rate": content.get("base_rate"),
    }
