"""What a calibrator and a rule are worth on labelled pairs: as data, as a table for the terminal, as one HTML page."""

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

from dupq.decisions import checks, plots
from dupq.decisions.calibration import Calibrator
from dupq.decisions.metrics import Metric, ReliabilityBin, at_threshold, evaluate, reliability
from dupq.decisions.policies import Policy, Threshold, choose_threshold
from dupq.decisions.thresholds import DecisionRule
from dupq.errors import ModelFolderError, NotEnoughLabelsError

BASE_RATES = (0.369, 0.10, 0.01, 0.001)
_PACKAGES = ("dupq", "numpy", "scipy", "scikit-learn", "torch", "transformers", "sentence-transformers")
_WHERE = "report"
_LISTS = ("base_rates", "policies", "conflicts")
_NAMES = {
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


@dataclass(frozen=True, slots=True)
class Report:
    """Plain data throughout; `to_dict` and `from_dict` keep all of it.

    Attributes:
        about: Date, seed, resamples, versions, fingerprints and whatever else the caller told.
        sample: `pairs`, `groups`, `duplicates`, `base_rate`, `largest_group` (pairs) of what was measured on.
        metrics: Name -> figure with its 95 % interval; see `dupq.decisions.metrics.evaluate`.
        calibration: The calibrator's kind, base rate, pairs, and cross-validated losses.
        rule: The rule's promise and cuts, as scores and as probabilities.
        base_rates: One row a base rate: what the rule as it stands is expected to do there, by the pairs measured on.
        policies: One row a base rate and policy: the threshold it would choose there, or how many labels it lacks.
        pictures: Numbers behind the pictures: `reliability`, `precision_recall`, `histogram`.
        conflicts: One row a kind of contrast case; see `dupq.decisions.contrast`. Empty where these were not looked at.
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

    def to_dict(self) -> dict[str, Any]:
        """Plain data that JSON can hold."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        metrics = {name: metric.to_dict() for name, metric in self.metrics.items()}
        return plain | {"metrics": metrics, "conflicts": list(self.conflicts)}

    @classmethod
    def from_dict(cls, data: Any) -> Report:
        """Reads what `to_dict` wrote; ModelFolderError where it is damaged."""
        values = {
            f.name: checks.field(data, f.name, list if f.name in _LISTS else dict, _WHERE)
            for f in fields(cls)
            if f.name != "conflicts" or "conflicts" in data  # earlier reports have none
        }
        try:
            values["metrics"] = {name: Metric(**metric) for name, metric in values["metrics"].items()}
        except TypeError as error:
            raise ModelFolderError("its metrics are damaged", where=_WHERE, mend="evaluate again") from error
        return cls(**values)

    def __str__(self) -> str:
        parts = [
            f"{self.sample['pairs']:,} pairs in {self.sample['groups']:,} question groups, "
            f"{self.sample['base_rate']:.1%} duplicates",
            _text_table(("figure", "value", "95 % interval"), self._metric_rows()),
            f"Calibrator: {self._calibration_line()}",
            f"Rule: {self.rule['promise']}",
            "The rule as it stands, at other base rates:\n" + _text_table(*self._base_rate_table()),
            "Thresholds that other policies would choose:\n" + _text_table(*self._policy_table()),
        ]
        if self.conflicts:
            parts.append("Same words, but for what conflicts:\n" + _text_table(*self._conflict_table()))
        return "\n\n".join(parts)

    def to_html(self, title: str = "dupq report") -> str:
        """One HTML page with its pictures in it; nothing is fetched when it opens."""
        sample = (
            f"{self.sample['pairs']:,} pairs in {self.sample['groups']:,} question groups, "
            f"{self.sample['base_rate']:.1%} of them duplicates."
        )
        pictures = "".join(f"<figure>{svg}</figure>" for svg in self.to_svg().values())
        facts = [(name.replace("_", " "), _plain(value)) for name, value in self.about.items()]
        body = (
            f"<h1>{escape(title)}</h1><p>{escape(sample)}</p><p><b>Rule.</b> {escape(str(self.rule['promise']))}</p>"
            f"<div class='pictures'>{pictures}</div>"
            f"<h2>Figures</h2>{_html_table(('figure', 'value', '95 % interval'), self._metric_rows())}"
            f"<p>Intervals: bootstrap over question groups.</p>"
            f"<h2>Calibrator</h2><p>{escape(self._calibration_line())}</p>"
            f"<h2>The rule as it stands, at other base rates</h2>{_html_table(*self._base_rate_table())}"
            f"<h2>Thresholds that other policies would choose</h2>{_html_table(*self._policy_table())}"
            + (
                f"<h2>Same words, but for what conflicts</h2>{_html_table(*self._conflict_table())}"
                if self.conflicts
                else ""
            )
            + f"<h2>Where this comes from</h2>{_html_table(('fact', 'value'), facts)}"
        )
        return (
            "<!doctype html><html lang='en'><head><meta charset='utf-8'>"
            f"<meta name='viewport' content='width=device-width'><title>{escape(title)}</title>"
            f"<style>{_STYLE}</style></head><body>{body}</body></html>\n"
        )

    def to_svg(self) -> dict[str, str]:
        """The pictures by name: `reliability`, `precision_recall`, `histogram`; each a whole SVG file."""
        curve, histogram = self.pictures["precision_recall"], self.pictures["histogram"]
        chosen = [(c["name"], c["recall"], c["precision"]) for c in curve["chosen"]]
        cuts = [(c["name"], c["score"]) for c in histogram["cuts"]]
        bins = [ReliabilityBin(**b) for b in self.pictures["reliability"]]
        points = list(zip(curve["recall"], curve["precision"], strict=True))
        return {
            "reliability": plots.reliability_diagram(bins),
            "precision_recall": plots.precision_recall_diagram(points, chosen, self.sample["base_rate"]),
            "histogram": plots.score_histogram(
                histogram["edges"], histogram["duplicates"], histogram["distinct"], cuts
            ),
        }

    def _metric_rows(self) -> list[tuple[str, ...]]:
        return [
            (_NAMES.get(name, name), f"{m.value:.4f}", f"{m.low:.4f} to {m.high:.4f}")
            for name, m in self.metrics.items()
        ]

    def _calibration_line(self) -> str:
        losses = ", ".join(f"{name} {loss:.4f}" for name, loss in self.calibration["cv_losses"].items())
        line = f"{self.calibration['kind']}, fitted on {self.calibration['pairs']:,} pairs"
        line += f" at base rate {self.calibration['base_rate']:.3g}"
        return line + (f"; cross-validated log loss: {losses}" if losses else "")

    def _base_rate_table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        header = ("base rate", "cut as probability", "precision", "recall", "flagged", "review", "duplicates dropped")
        rows = [
            (
                f"{row['base_rate']:.3g}",
                f"{row['probability']:.3f}",
                *(f"{row[name]:.1%}" for name in ("precision", "recall", "flagged", "review", "miss_rate")),
            )
            for row in self.base_rates
        ]
        return header, rows

    def _policy_table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        header = ("base rate", "policy", "cut as probability", "precision", "recall", "promise")
        rows: list[tuple[str, ...]] = []
        for row in self.policies:
            figures = ("-", "-", "-")
            if row["score"] is not None:
                figures = (f"{row['probability']:.3f}", f"{row['precision']:.1%}", f"{row['recall']:.1%}")
            rows.append((f"{row['base_rate']:.3g}", row["policy"], *figures, row["promise"]))
        return header, rows

    def _conflict_table(self) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
        header = ("what conflicts", "pairs", "distinct", "decided wrongly", "95 % interval", "distinct, yet flagged")
        rows: list[tuple[str, ...]] = [
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
        return header, rows


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


def build_report(
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
    """Measures probabilities and a rule on labelled pairs.

    Args:
        scores: Raw scores (n,).
        probabilities: What the pipeline says of them (n,), at its own base rate.
        labels: 0 or 1 (n,).
        groups: Question group keys (n,); None: each pair is its own group.
        rule, calibrator: What is being measured.
        resamples, seed: Of the bootstrap.
        base_rates: Where the rule's behaviour is foretold, besides the sample's own.
        conflicts: How contrast cases among the pairs are decided; kept as they are.
        facts: Anything JSON can hold: fingerprints, names; kept under `about`.

    Raises:
        InputError: As of `dupq.decisions.metrics.evaluate`.
    """
    s = checks.checked_scores(scores)
    y = checks.checked_labels(labels, len(s))
    metrics = evaluate(s, probabilities, y, groups, rule.duplicate.score, resamples=resamples, seed=seed)
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
            "promise": rule.promise,
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
    """What each policy would choose at each base rate on the rule's own evidence; the first is the evidence's own."""
    if rule.evidence is None:
        return []
    own = rule.duplicate.policy
    wanted = [own, *(p for p in (Policy.max_f1(), Policy.precision(0.9), Policy.precision(0.95)) if p != own)]
    rows: list[dict[str, Any]] = []
    for index, rate in enumerate([rule.evidence.base_rate, *rates[1:]]):
        for policy in wanted:
            row: dict[str, Any] = {"base_rate": rate, "policy": str(policy), "needed": None}
            try:
                cut = choose_threshold(policy, rule.evidence, rate if index else None)
                found = DecisionRule(cut, None, rule.evidence).expected(rate)
                row |= {"score": cut.score, "probability": cut.probability(calibrator, rate), "promise": cut.promise}
                row |= {"precision": found["precision"], "recall": found["recall"]}
            except NotEnoughLabelsError as error:
                lack = f"needs about {error.needed:,} more labels" if error.needed else "out of reach of these scores"
                row |= {"score": None, "probability": None, "precision": None, "recall": None}
                row |= {"promise": f"none: {lack}", "needed": error.needed}
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
