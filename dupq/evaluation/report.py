"""Report of a calibrator and a decision rule on labelled pairs.

It comes as data, as text and as one HTML page.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import datetime, timezone
from html import escape
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from dupq.calibration.calibrators import Calibrator
from dupq.data import checks
from dupq.data.arguments import as_kind
from dupq.decisions.decision_rule import DecisionRule
from dupq.decisions.thresholds import Policy, Threshold, choose_threshold
from dupq.errors import ModelFolderError, NotEnoughLabelsError
from dupq.evaluation import plots
from dupq.evaluation.metrics import (
    Metric,
    ReliabilityBin,
    at_threshold,
    compute_metrics,
    reliability,
)

MIN_PAIRS = 100
"""Minimum number of labelled pairs for a report without a caution."""
BASE_RATES = (0.369, 0.10, 0.01, 0.001)
"""Base rates at which a report estimates the rule, besides that of the sample."""
_LEFT_OUT = "Left out, because these pairs are too few for intervals: other base rates, other policies, diagrams."
_PACKAGES = ("dupq", "numpy", "scipy", "scikit-learn", "torch", "transformers", "sentence-transformers")
_LOCATION = "report"
_LISTS = ("base_rates", "policies", "conflicts")
_METRIC_NAMES = {
    "average_precision": "average precision",
    "roc_auc": "ROC AUC",
    "accuracy": "accuracy",
    "f1": "F1",
    "precision": "precision",
    "recall": "recall",
    "mcc": "Matthews correlation",
    "brier": "Brier score",
    "brier_reliability": "  reliability (lower is better)",
    "brier_resolution": "  resolution (higher is better)",
    "brier_uncertainty": "  uncertainty",
    "log_loss": "log loss",
    "ece_mass": "ECE, bins of equal mass",
    "ece_width": "ECE, bins of equal width",
    "ece_debiased": "calibration error, debiased RMS",
}

Row = Mapping[str, Any]
Cells = tuple[str, ...]
Table = tuple[str, Cells, Sequence[Cells]]


@dataclass(frozen=True, slots=True)
class Report:
    """Figures of a calibrator and a decision rule on labelled pairs, as plain data.

    Attributes:
        about: Date, seed, resamples, versions, fingerprints and further facts of the caller.
        sample: `pairs`, `groups`, `duplicates`, `base_rate` and `largest_group` (pairs) of the labelled pairs.
        metrics: Name -> figure with its 95 % interval; see `dupq.evaluation.metrics.compute_metrics`.
        calibration: The calibrator's kind, base rate, number of pairs and cross-validated losses.
        rule: The rule's guarantee, and its thresholds as scores and as probabilities.
        base_rates: One row per base rate: the rule's expected precision, recall, and shares flagged and reviewed.
        policies: One row per base rate and policy: the threshold it chooses, or the number of labels it lacks.
        pictures: Data of the diagrams `reliability`, `precision_recall` and `histogram`.
        conflicts: One row per kind of contrast case (see `dupq.evaluation.contrast_slices`); empty = not measured.
    """

    about: Mapping[str, Any]
    sample: Mapping[str, Any]
    metrics: Mapping[str, Metric]
    calibration: Mapping[str, Any]
    rule: Mapping[str, Any]
    base_rates: Sequence[Row]
    policies: Sequence[Row]
    pictures: Mapping[str, Any]
    conflicts: Sequence[Row] = field(default_factory=list)

    @property
    def caution(self) -> str | None:
        """Reason not to rely on the figures, or None."""
        pairs, groups = self.sample["pairs"], self.sample["groups"]
        if pairs >= MIN_PAIRS:
            return None
        many = "1 question group" if groups == 1 else f"{groups:,} question groups"
        return (
            f"{pairs:,} pairs in {many} are too few to rely on any of these figures, and bootstrap intervals of so few "
            f"are too narrow; label {MIN_PAIRS} pairs or more"
        )

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON data, with its caution, which `from_dict` ignores."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        metrics = {name: metric.to_dict() for name, metric in self.metrics.items()}
        return plain | {"metrics": metrics, "conflicts": list(self.conflicts), "caution": self.caution}

    @classmethod
    def from_dict(cls, data: Any) -> Report:
        """Return the report that `to_dict` wrote.

        Raises:
            ModelFolderError: The data are damaged.
        """
        values = {
            f.name: checks.field(data, f.name, list if f.name in _LISTS else dict, _LOCATION)
            for f in fields(cls)
            if f.name != "conflicts" or "conflicts" in data
        }
        try:
            values["metrics"] = {name: Metric(**metric) for name, metric in values["metrics"].items()}
        except TypeError as error:
            raise ModelFolderError("its metrics are damaged", location=_LOCATION, hint="evaluate again") from error
        return cls(**values)

    def __str__(self) -> str:
        parts = [
            self._sample_line(),
            *(f"CAUTION: {line}" for line in self._cautions()),
            _text_table(*self._metric_table()),
            f"Calibrator: {self._calibration_line()}",
            f"Rule: {self.rule['guarantee']}",
            *([_LEFT_OUT] if self.caution else []),
            *(f"{title}:\n{_text_table(header, rows)}" for title, header, rows in self._decision_tables()),
        ]
        return "\n\n".join(parts)

    def to_html(self, title: str = "dupq report") -> str:
        """Return one HTML page with its diagrams, which loads nothing from elsewhere.

        Raises:
            InputError: The title is not a str.
        """
        as_kind(title, str, "title", "give a text")
        diagrams = "" if self.caution else "".join(f"<figure>{svg}</figure>" for svg in self.to_svg().values())
        tables = (f"<h2>{name}</h2>{_html_table(header, rows)}" for name, header, rows in self._decision_tables())
        facts = [(name.replace("_", " "), _plain(value)) for name, value in self.about.items()]
        body = (
            f"<h1>{escape(title)}</h1><p>{self._sample_line()}</p>"
            + "".join(f"<p><b>CAUTION.</b> {escape(line)}</p>" for line in self._cautions())
            + f"<p><b>Rule.</b> {escape(str(self.rule['guarantee']))}</p><div class='pictures'>{diagrams}</div>"
            f"<h2>Figures</h2>{_html_table(*self._metric_table())}<p>Intervals: bootstrap over question groups.</p>"
            f"<h2>Calibrator</h2><p>{escape(self._calibration_line())}</p>"
            + (f"<p>{_LEFT_OUT}</p>" if self.caution else "".join(tables))
            + f"<h2>Provenance</h2>{_html_table(('fact', 'value'), facts)}"
        )
        return (
            "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
            f"<meta name='viewport' content='width=device-width'><title>{escape(title)}</title>"
            f"<style>{_STYLE}</style></head><body>{body}</body></html>\n"
        )

    def to_svg(self) -> dict[str, str]:
        """Return the diagrams of the report, each a whole SVG file.

        Their names are `reliability`, `precision_recall` and `histogram`.
        """
        curve, histogram = self.pictures["precision_recall"], self.pictures["histogram"]
        return {
            "reliability": plots.reliability_diagram([ReliabilityBin(**b) for b in self.pictures["reliability"]]),
            "precision_recall": plots.precision_recall_diagram(
                list(zip(curve["recall"], curve["precision"], strict=True)),
                [(cut["name"], cut["recall"], cut["precision"]) for cut in curve["chosen"]],
                self.sample["base_rate"],
            ),
            "histogram": plots.score_histogram(
                histogram["edges"],
                histogram["duplicates"],
                histogram["distinct"],
                [(cut["name"], cut["score"]) for cut in histogram["cuts"]],
            ),
        }

    def _sample_line(self) -> str:
        return (
            f"{self.sample['pairs']:,} pairs in {self.sample['groups']:,} question groups, "
            f"{self.sample['base_rate']:.1%} duplicates"
        )

    def _cautions(self) -> list[str]:
        return [line for line in (self.caution, self.about.get("contradictions")) if isinstance(line, str)]

    def _calibration_line(self) -> str:
        losses = ", ".join(f"{name} {loss:.4f}" for name, loss in self.calibration["cv_losses"].items())
        line = f"{self.calibration['kind']}, fitted on {self.calibration['pairs']:,} pairs"
        line += f" at base rate {self.calibration['base_rate']:.3g}"
        return line + (f"; cross-validated log loss: {losses}" if losses else "")

    def _metric_table(self) -> tuple[Cells, list[Cells]]:
        return ("figure", "value", "95 % interval"), [
            (_METRIC_NAMES.get(name, name), f"{m.value:.4f}", f"{m.low:.4f} to {m.high:.4f}")
            for name, m in self.metrics.items()
        ]

    def _decision_tables(self) -> list[Table]:
        """Return title, header and rows of each table of decisions.

        Fewer pairs than `MIN_PAIRS` are too little evidence for any of them.
        """
        if self.caution:
            return []
        shares = ("precision", "recall", "flagged", "review", "miss_rate")
        base_rates = [
            (f"{row['base_rate']:.3g}", f"{row['probability']:.3f}", *(f"{row[name]:.1%}" for name in shares))
            for row in self.base_rates
        ]
        policies: list[Cells] = []
        for row in self.policies:
            figures = ("-", "-", "-")
            if row["score"] is not None:
                figures = (f"{row['probability']:.3f}", f"{row['precision']:.1%}", f"{row['recall']:.1%}")
            policies.append((f"{row['base_rate']:.3g}", row["policy"], *figures, row["guarantee"]))
        conflicts = [
            (
                str(row["kind"]),
                f"{row['pairs']:,}",
                f"{row['distinct']:.1%}",
                f"{row['error']:.1%}",
                f"{row['low']:.1%} to {row['high']:.1%}",
                "-" if row["false_flags"] is None else f"{row['false_flags']:.1%}",
            )
            for row in self.conflicts
        ]
        head = ("base rate", "threshold", "precision", "recall", "flagged", "review", "duplicates dropped")
        policy_head = ("base rate", "policy", "threshold", "precision", "recall", "guarantee")
        conflict_head = ("conflict", "pairs", "distinct", "wrong decisions", "95 % interval", "distinct but flagged")
        tables: list[Table] = [
            ("This rule at other base rates", head, base_rates),
            ("Thresholds of other policies", policy_head, policies),
            ("Pairs of the same words, by conflict", conflict_head, conflicts),
        ]
        return tables if conflicts else tables[:2]


_STYLE = (
    "body{font:15px/1.5 system-ui,-apple-system,Segoe UI,Helvetica,Arial,sans-serif;color:#1f2937;max-width:1120px;"
    "margin:2rem auto;padding:0 1rem}h1{font-size:1.6rem}h2{font-size:1.15rem;margin-top:2rem}"
    "table{border-collapse:collapse}td,th{padding:.25rem .8rem;border-bottom:1px solid #e5e7eb;text-align:left;"
    "vertical-align:top;font-variant-numeric:tabular-nums}th{color:#6b7280;font-weight:600}"
    "td:first-child{white-space:pre}figure{margin:0}.pictures{display:flex;flex-wrap:wrap;gap:1rem}"
    "svg{max-width:100%;height:auto;border:1px solid #e5e7eb;border-radius:6px}"
)


def _text_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [header, *rows]]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(line.rstrip() for line in lines)


def _html_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    lines = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>"


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(inner)}" for name, inner in value.items())
    return ", ".join(_plain(inner) for inner in value) if isinstance(value, (list, tuple)) else str(value)


def evaluate(
    scores: ArrayLike,
    probabilities: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike | None,
    rule: DecisionRule,
    calibrator: Calibrator,
    *,
    resamples: int = 200,
    seed: int = 0,
    base_rates: Sequence[float] = BASE_RATES,
    conflicts: Sequence[Row] = (),
    **facts: Any,
) -> Report:
    """Evaluate probabilities and a decision rule on labelled pairs.

    Args:
        scores: Raw scores (n,).
        probabilities: Calibrated P(duplicate) (n,) in [0, 1].
        labels: 0 or 1 (n,), both present.
        groups: Question group keys (n,); None: each pair is its own group.
        rule, calibrator: The rule and the calibrator of the pipeline.
        resamples: Bootstrap resamples of the question groups.
        seed: Seed of the resamples.
        base_rates: Base rates at which the rule is estimated, besides that of the labels.
        conflicts: Rows of `dupq.evaluation.contrast_slices`, as plain data.
        facts: Further JSON data for `Report.about`, such as fingerprints and names.

    Returns:
        The report.

    Raises:
        InputError: As for `dupq.evaluation.metrics.compute_metrics`.
    """
    s = checks.checked_scores(scores)
    y = checks.checked_labels(labels, len(s))
    metrics = compute_metrics(s, probabilities, y, groups, rule.duplicate.score, resamples=resamples, seed=seed)
    g = checks.checked_groups(groups, len(s))
    share = float(y.mean())
    rates = [share, *(rate for rate in base_rates if abs(rate - share) > 0.02 * share)]
    cuts: list[tuple[str, Threshold]] = [("duplicate", rule.duplicate)]
    if rule.distinct is not None:
        cuts.append(("review", rule.distinct))
    return Report(
        about={
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "seed": seed,
            "resamples": resamples,
            **facts,
            "versions": _versions(),
        },
        sample={
            "pairs": len(s),
            "groups": int(g.max()) + 1,
            "duplicates": int(y.sum()),
            "base_rate": share,
            "largest_group": int(np.bincount(g).max()),
        },
        metrics=metrics,
        calibration={
            "kind": calibrator.kind,
            "base_rate": calibrator.base_rate,
            "pairs": calibrator.pairs,
            "cv_losses": dict(calibrator.cv_losses),
        },
        rule={
            "guarantee": rule.guarantee,
            "cuts": [{"name": name, **cut.to_dict(), "probability": cut.probability(calibrator)} for name, cut in cuts],
            "warning": rule.warning,
        },
        base_rates=[_expected(rule, calibrator, s, y, rate) for rate in rates],
        policies=_policies(rule, calibrator, rates),
        pictures={
            "reliability": [asdict(b) for b in reliability(probabilities, y, g)],
            "precision_recall": _curve(s, y, cuts),
            "histogram": _histogram(s, y, cuts),
        },
        conflicts=list(conflicts),
    )


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _expected(
    rule: DecisionRule, calibrator: Calibrator, s: NDArray[np.float64], y: NDArray[np.int8], rate: float
) -> dict[str, float]:
    flagged = s >= rule.duplicate.score
    review = rule.codes(s) == 1
    recall, false = float(flagged[y == 1].mean()), float(flagged[y == 0].mean())
    true, wrong = rate * recall, (1 - rate) * false
    return {
        "base_rate": rate,
        "probability": rule.duplicate.probability(calibrator, rate),
        "precision": true / (true + wrong) if true + wrong > 0 else 1.0,
        "recall": recall,
        "flagged": true + wrong,
        "review": rate * float(review[y == 1].mean()) + (1 - rate) * float(review[y == 0].mean()),
        "miss_rate": 1 - float((flagged | review)[y == 1].mean()),
    }


def _policies(rule: DecisionRule, calibrator: Calibrator, rates: Sequence[float]) -> list[dict[str, Any]]:
    """Choose a threshold by each policy and base rate from the table of the rule.

    The table's own base rate takes the place of the first of `rates`.
    """
    if rule.table is None:
        return []
    own = rule.duplicate.policy
    others = (Policy.max_f1(), Policy.precision(0.9, rule.delta), Policy.precision(0.95, rule.delta))
    wanted = [own, *(p for p in others if p != own)]
    rows: list[dict[str, Any]] = []
    for index, rate in enumerate([rule.table.base_rate, *rates[1:]]):
        for policy in wanted:
            row: dict[str, Any] = {"base_rate": rate, "policy": str(policy), "needed": None}
            try:
                cut = choose_threshold(policy, rule.table, rate if index else None)
                found = DecisionRule(cut, None, rule.table).expected(rate)
                row |= {
                    "score": cut.score,
                    "probability": cut.probability(calibrator, rate),
                    "guarantee": cut.guarantee,
                }
                row |= {"precision": found["precision"], "recall": found["recall"]}
            except NotEnoughLabelsError as error:
                lack = f"needs about {error.needed:,} more labels" if error.needed else "out of reach of these scores"
                row |= {"score": None, "probability": None, "precision": None, "recall": None}
                row |= {"guarantee": f"none: {lack}", "needed": error.needed}
            rows.append(row)
    return rows


def _curve(s: NDArray[np.float64], y: NDArray[np.int8], cuts: Sequence[tuple[str, Threshold]]) -> dict[str, Any]:
    order = np.argsort(-s, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(s[order])), len(s) - 1)
    found = np.cumsum(y[order])[ends]
    recall, precision = found / y.sum(), found / (ends + 1)
    if len(ends) > 250:
        keep = np.unique(np.searchsorted(recall, np.linspace(0, 1, 250)).clip(0, len(ends) - 1))
        recall, precision = recall[keep], precision[keep]
    chosen = []
    for name, cut in cuts:
        flagged = s >= cut.score
        counts = at_threshold(len(s), float(y.sum()), float(flagged.sum()), float(y[flagged].sum()))
        chosen.append({"name": name, "precision": counts[2], "recall": counts[3]})
    return {"recall": np.round(recall, 5).tolist(), "precision": np.round(precision, 5).tolist(), "chosen": chosen}


def _histogram(s: NDArray[np.float64], y: NDArray[np.int8], cuts: Sequence[tuple[str, Threshold]]) -> dict[str, Any]:
    edges = np.linspace(float(s.min()), float(s.max()), 41)
    ones, zeros = (np.histogram(s[y == label], edges)[0] for label in (1, 0))
    return {
        "edges": edges.tolist(),
        "duplicates": (ones / ones.sum()).tolist(),
        "distinct": (zeros / zeros.sum()).tolist(),
        "cuts": [{"name": f"{name} from here on", "score": cut.score} for name, cut in cuts],
    }
