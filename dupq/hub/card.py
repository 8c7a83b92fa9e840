"""Render the model card from the manifest and the report."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from dupq.calibration.calibrators import Calibrator, calibrator_from_dict
from dupq.data.writing import write_text
from dupq.decisions.decision_rule import DecisionRule
from dupq.decisions.thresholds import Threshold
from dupq.errors import ModelFolderError
from dupq.evaluation.report import Report
from dupq.hub.card_metadata import METRICS, TEXTS, is_stock, metadata, title
from dupq.hub.external_results import current_rows, has_interval, in_sample_names, outdated_names, unchecked_names
from dupq.hub.manifest import BI_ENCODER, CROSS_ENCODER, FORMAT, REPORT_PAGE
from dupq.models.sentence_transformers_io import TRAINED_ON

CARD = "README.md"
PICTURES = {
    "reliability": "Observed share of duplicates against stated probability; on the diagonal they are equal.",
    "precision_recall": "Precision against recall, with the thresholds.",
    "histogram": "Raw scores of duplicates and of distinct pairs.",
}
NOT_STATED = "Not stated."
HERE = "path/to/this/folder"


def write_pages(
    folder: Path, content: Mapping[str, Any], report: Report | None, source: str = HERE, name: str = CARD
) -> None:
    """Write the card, its plots and the report page.

    In a pipeline folder, the manifest must be written after them.

    Args:
        folder: The folder to write to.
        content, report, source: As in `render_card`.
        name: Name of the card; the other files take it as their prefix, unless it is README.md.

    Raises:
        ModelFolderError: As in `render_card`.
        OutputError: A file could not be written.
    """
    prefix = "" if name == CARD else f"{Path(name).stem}."
    write_text(folder / name, render_card(content, report, source, prefix))
    if report is not None:
        write_text(folder / f"{prefix}{REPORT_PAGE}", report.to_html())
        for picture, svg in report.to_svg().items():
            write_text(folder / f"{prefix}{picture}.svg", svg)


def render_card(content: Mapping[str, Any], report: Report | None, source: str = HERE, prefix: str = "") -> str:
    """Return the card as Markdown with the Hub's metadata.

    Args:
        content: The manifest.
        report: The report in the folder; None if there is none.
        source: The argument of `from_pretrained` that opens the model; "" for the shipped one.
        prefix: Prefix of the names of the plots and of the report page.

    Raises:
        ModelFolderError: An entry of the manifest or the report is missing or damaged.
    """
    try:
        return _render(content, report, source, prefix)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, ModelFolderError):
            raise
        raise ModelFolderError(
            f"no card can be written from its facts or its report ({type(error).__name__}: {error})",
            location=source,
            hint="evaluate it again, or save it again",
        ) from error


def _render(content: Mapping[str, Any], report: Report | None, source: str, prefix: str) -> str:
    card = content.get("facts", {}).get("card", {})
    decisions = _Decisions.of(content, report)
    text = {key: card.get(key) or NOT_STATED for key in TEXTS}
    text["title"] = title(content)
    text["summary"] = card.get("summary") or "A model of question pairs that finds duplicates."
    template = Template((files("dupq.hub") / "card.md").read_text(encoding="utf-8"))
    filled = template.substitute(
        text,
        metadata=metadata(content, report, decisions.in_sample),
        decides=_decides(decisions),
        thresholds=_thresholds(decisions),
        base_rates=_base_rates(decisions),
        measured=_measured(decisions, card, prefix),
        pictures=_pictures(report, prefix),
        external_results=_external_results(content),
        conflicts=_conflicts(decisions),
        limits=card.get("limits") or "",
        training=_training(content),
        training_data=card.get("training_data") or "",
        leakage=_leakage(content, card),
        usage=_usage(content, source),
        without_dupq=_without_dupq(content, source),
        cost=_cost(content, card),
        content=_contents(content),
    )
    return re.sub(r"\n{3,}", "\n\n", filled)


@dataclass(frozen=True, slots=True)
class _Decisions:
    """Calibrator and thresholds of the pipeline, which may be newer than its report."""

    base_rate: float | None
    rule: DecisionRule | None
    calibrator: Calibrator | None
    report: Report | None

    @classmethod
    def of(cls, content: Mapping[str, Any], report: Report | None) -> _Decisions:
        calibrator, rule = content.get("calibrator"), content.get("rule")
        return cls(
            content.get("base_rate"),
            DecisionRule.from_dict(rule) if rule else None,
            calibrator_from_dict(calibrator) if calibrator else None,
            report,
        )

    @property
    def cuts(self) -> list[tuple[str, Threshold]]:
        if self.rule is None:
            return []
        distinct = [("review", self.rule.distinct)] if self.rule.distinct is not None else []
        return [("duplicate", self.rule.duplicate), *distinct]

    @property
    def in_sample(self) -> bool:
        """True where the report measured the pairs that the thresholds were fitted on."""
        table = self.rule.table if self.rule is not None else None
        measured = self.report.about.get("data_fingerprint", "") if self.report is not None else None
        return table is not None and measured == table.data_fingerprint

    @property
    def moved(self) -> bool:
        """True where the report is of other thresholds, or of another base rate."""
        if self.report is None:
            return False
        measured = [cut["score"] for cut in self.report.rule["cuts"]]
        rate = self.report.about.get("stated_at", self.base_rate)
        return measured != [cut.score for _, cut in self.cuts] or rate != self.base_rate


def _decides(decisions: _Decisions) -> str:
    if decisions.base_rate is None or decisions.rule is None:
        return "**It is uncalibrated**: it scores, and does not decide until `dupq calibrate` has been run."
    return f"Its probabilities are stated at a base rate of {decisions.base_rate:.1%} duplicates."


def _thresholds(decisions: _Decisions) -> str:
    if decisions.calibrator is None or decisions.rule is None:
        return ""
    rows = [
        (name, f"{cut.probability(decisions.calibrator, decisions.base_rate):.3f}", f"{cut.score:.3f}", cut.guarantee)
        for name, cut in decisions.cuts
    ]
    warning = f"\n**Warning.** {decisions.rule.warning}\n" if decisions.rule.warning else ""
    return _table(("from here on", "probability", "raw score", "guarantee"), rows) + warning


def _base_rates(decisions: _Decisions) -> str:
    if decisions.report is None or decisions.moved:
        return ""
    shares = ("precision", "recall", "flagged", "review", "miss_rate")
    rows = [
        (f"{row['base_rate']:.3g}", f"{row['probability']:.3f}", *(f"{row[name]:.1%}" for name in shares))
        for row in decisions.report.base_rates
    ]
    header = ("base rate", "threshold", "precision", "recall", "flagged", "to review", "duplicates dropped")
    return "Expected figures of these thresholds at other base rates:\n\n" + _table(header, rows)


def _measured(decisions: _Decisions, card: Mapping[str, Any], prefix: str) -> str:
    report = decisions.report
    if report is None:
        return "It has not been measured: this repository holds no report."
    sample, on = report.sample, {} if decisions.in_sample else card.get("measured_on", {})
    source = f" of {on['name']}, {on.get('split', 'test')} split" if "name" in on else ""
    text = (
        f"Measured on {sample['pairs']:,} pairs in {sample['groups']:,} question groups{source}, "
        f"{sample['base_rate']:.1%} of them duplicates."
    )
    if decisions.in_sample:
        text += (
            " **The calibrator and the thresholds were fitted on these pairs**, so the figures are optimistic; "
            "`dupq evaluate --attach` on unseen pairs replaces them."
        )
    if decisions.moved:
        text += (
            " **The thresholds have changed since**: accuracy, F1, precision, recall and Matthews correlation are of "
            "the earlier ones."
        )
    rows = [(METRICS[name][1], _interval(report.metrics[name].to_dict())) for name in METRICS if name in report.metrics]
    page = f"{prefix}{REPORT_PAGE}"
    return f"{text}\n\n{_table(('figure', 'value (95 % interval)'), rows)}\nFull report: [{page}]({page})."


def _interval(metric: Mapping[str, float], sound: bool = True) -> str:
    return f"{metric['value']:.4f}" + (f" ({metric['low']:.4f} to {metric['high']:.4f})" if sound else "")


def _pictures(report: Report | None, prefix: str) -> str:
    if report is None:
        return ""
    return "\n" + "\n".join(f"![{caption}]({prefix}{name}.svg)\n" for name, caption in PICTURES.items())


def _external_results(content: Mapping[str, Any]) -> str:
    rows, old, own = current_rows(content), outdated_names(content), in_sample_names(content)
    notes = []
    if old:
        notes.append(f"Figures on {', '.join(old)} are older than its last calibration, and are left out.")
    if own:
        notes.append(f"Figures on {', '.join(own)} are of the pairs it was calibrated on, and are left out.")
    if unchecked := unchecked_names(content):
        notes.append(f"Not checked for questions that it was calibrated on: {'; '.join(unchecked)}.")
    left_out = f"\n{' '.join(notes)}\n" if notes else ""
    if not rows:
        return (
            "It has not been measured on other questions than those above. On another forum its probabilities are not "
            "calibrated, so calibrate it there first."
        ) + left_out
    chosen = ("average_precision", "accuracy", "ece_mass")
    table = [
        (
            row["name"],
            f"{row['sample']['pairs']:,}",
            f"{row['sample']['base_rate']:.1%}",
            *(_interval(row["metrics"][name], has_interval(row["sample"])) for name in chosen),
        )
        for row in rows
    ]
    header = ("other questions", "pairs", "duplicates", *(METRICS[name][1] for name in chosen))
    text = (
        f"At its own threshold and base rate of {content['base_rate']:.1%}, with nothing fitted there; 95 % intervals"
    )
    text += " over question groups"
    if not all(has_interval(row["sample"]) for row in rows):
        text += " (none where these are too few, or one of them holds most of the pairs)"
    return f"{text}:\n\n{_table(header, table)}{left_out}"


def _conflicts(decisions: _Decisions) -> str:
    if decisions.report is None or decisions.moved or not decisions.report.conflicts:
        return ""
    rows = [
        (
            str(row["kind"]),
            f"{row['pairs']:,}",
            f"{row['distinct']:.1%}",
            f"{row['error']:.1%} ({row['low']:.1%} to {row['high']:.1%})",
            "-" if row["false_flags"] is None else f"{row['false_flags']:.1%}",
            _missed(row),
        )
        for row in decisions.report.conflicts
    ]
    header = (
        "conflict",
        "pairs",
        "distinct",
        "decided wrongly (95 % interval)",
        "distinct, flagged",
        "duplicates, missed",
    )
    return (
        "Contrast cases among the pairs it was measured on, with the labels that people gave them: pairs of the same "
        "words except for a number, a negation, a name, an order, an opposite or a choice that conflicts, as `dupq "
        "explain` finds it. The last columns are the share of the distinct ones that it flags, and of the duplicates "
        "that it misses:\n\n" + _table(header, rows)
    )


def _missed(row: Mapping[str, Any]) -> str:
    """Return the share of duplicates that are not flagged, from that of all errors."""
    duplicates = 1 - row["distinct"]
    if duplicates <= 0:
        return "-"
    wrong = row["error"] - row["distinct"] * (row["false_flags"] or 0.0)
    return f"{min(max(wrong / duplicates, 0.0), 1.0):.1%}"


def _records(content: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the known training records of the networks, and of averaged parts."""
    records = []
    for key, record in sorted(content.get("facts", {}).get("training", {}).items()):
        name, parts = key.replace("_", "-"), record.get("members") or [record]
        names = [name] if len(parts) == 1 else [f"{name}, part {number}" for number in range(1, len(parts) + 1)]
        records += [(one, part) for one, part in zip(names, parts, strict=True) if part is not None and "data" in part]
    return records


def _training(content: Mapping[str, Any]) -> str:
    rows = [
        (
            name,
            str(record["settings"]["base"]),
            f"{record['data']['pairs']:,}",
            f"{record['data']['base_rate']:.1%}",
            f"{record['settings']['epochs']:g}",
            f"`{record['data']['fingerprint']}`",
        )
        for name, record in _records(content)
    ]
    if not rows:
        return "The training of its networks is not recorded here."
    header = ("network", "base model", "labelled pairs", "duplicates", "epochs", "fingerprint of the pairs")
    return _table(header, rows)


def _leakage(content: Mapping[str, Any], card: Mapping[str, Any]) -> str:
    known = (
        f"Fingerprints of every question that its networks were trained on are in `{TRAINED_ON}`; dupq refuses to "
        "calibrate or test it on pairs that share a question with them."
    )
    unknown = "The questions its networks were trained on are not recorded, so dupq cannot detect a leak."
    statement = [card["leakage"]] if card.get("leakage") else []
    return "\n\n".join([*statement, known if TRAINED_ON in content["files"] else unknown])


def _usage(content: Mapping[str, Any], source: str) -> str:
    name = f'"{source}"' if source else ""
    pair = '"How do I learn chess?", "What is the best way to learn chess?"'
    lines = ["from dupq import DuplicatePipeline", "", f"pipeline = DuplicatePipeline.from_pretrained({name})"]
    if content.get("rule"):
        lines += [f"result = pipeline.score({pair})", "print(result.decision, result.probability, pipeline.guarantee)"]
    else:
        left, right = pair.split(", ")
        lines += [f"print(pipeline.raw_scores([{left}], [{right}]))"]
    return "\n".join(lines)


def _without_dupq(content: Mapping[str, Any], source: str) -> str:
    """Describe how to open the networks without dupq."""
    networks, name = content["networks"], source or "path/to/dupq/pretrained"
    if not is_stock(content):
        return (
            "Its networks are ONNX with 8-bit weights, which dupq runs without torch; sentence-transformers does not "
            "open them."
        )
    kind, method = ("CrossEncoder", "predict") if CROSS_ENCODER in networks else ("SentenceTransformer", "encode")
    example = (
        '[("How do I learn chess?", "What is the best way to learn chess?")]' if method == "predict" else '["How?"]'
    )
    text = (
        "sentence-transformers opens it too, with no remote code, but without calibration and thresholds:\n\n"
        f'```python\nfrom sentence_transformers import {kind}\n\nprint({kind}("{name}").{method}({example}))\n```'
    )
    if len(networks) == 2:
        text += f"\n\nThe bi-encoder is in the folder `{BI_ENCODER}`, which `SentenceTransformer` opens."
    return text


def _cost(content: Mapping[str, Any], card: Mapping[str, Any]) -> str:
    rows = [(kind, f"{record['seconds']:,.0f}") for kind, record in _records(content)]
    table = _table(("network", "seconds of training"), rows) if rows else "The time of its training is not recorded."
    return f"{table}\n\n**Energy.** {card.get('energy') or NOT_STATED}"


def _contents(content: Mapping[str, Any]) -> str:
    rows = [
        (f"`{name}/`", network["form"], f"`{network['fingerprint']}`") for name, network in content["networks"].items()
    ]
    # A pipeline that is being saved has no format yet: its manifest is written after its card.
    written = f"\nWritten by dupq {content.get('dupq')}, format {content.get('format', FORMAT)}."
    return _table(("network", "form", "fingerprint"), rows) + written


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)
