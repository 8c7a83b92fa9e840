"""The model card: written by code from the manifest and the report, so that its numbers are true."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from dupq.data.writing import write_text
from dupq.errors import ModelFolderError
from dupq.models.stock import TRAINED_ON
from dupq.sharing.about import TEXTS
from dupq.sharing.elsewhere import current, has_interval, outdated
from dupq.sharing.manifest import BI_ENCODER, CROSS_ENCODER, REPORT_PAGE
from dupq.sharing.metadata import METRICS, is_stock, metadata, title

if TYPE_CHECKING:
    from dupq.decisions.calibration import Calibrator
    from dupq.decisions.policies import Threshold
    from dupq.decisions.report import Report
    from dupq.decisions.thresholds import DecisionRule

CARD = "README.md"
PICTURES = {
    "reliability": "How often pairs of a stated probability are duplicates; on the diagonal the probability is right.",
    "precision_recall": "Precision against recall, and where the thresholds lie.",
    "histogram": "Raw scores of duplicates and of distinct pairs.",
}
NOT_STATED = "Not stated."
HERE = "path/to/this/folder"


def write_pages(
    folder: Path, content: Mapping[str, Any], report: Report | None, source: str = HERE, name: str = CARD
) -> None:
    """Writes the card, its pictures and the report's page; in a pipeline folder the manifest is to be sealed then.

    Args:
        folder: Where to.
        content, report, source: As of `render_card`.
        name: Of the card; under any but its usual one the other files take that name as their prefix.
    """
    prefix = "" if name == CARD else f"{Path(name).stem}."
    write_text(folder / name, render_card(content, report, source, prefix))
    if report is not None:
        write_text(folder / f"{prefix}{REPORT_PAGE}", report.to_html())
        for picture, svg in report.to_svg().items():
            write_text(folder / f"{prefix}{picture}.svg", svg)


def render_card(content: Mapping[str, Any], report: Report | None, source: str = HERE, prefix: str = "") -> str:
    """The card as Markdown with the Hub's metadata.

    Args:
        content: The manifest.
        report: The report that lies in the folder; None for an uncalibrated pipeline.
        source: What a reader hands to `from_pretrained`; "" for the shipped model.
        prefix: Of the names of the pictures and of the report's page.

    Raises:
        ModelFolderError: The manifest or the report does not hold what it should.
    """
    try:
        return _render(content, report, source, prefix)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, ModelFolderError):
            raise
        raise ModelFolderError(
            f"no card can be written from its facts or its report ({type(error).__name__}: {error})",
            where=source,
            mend="evaluate it again, or save it again",
        ) from error


def _render(content: Mapping[str, Any], report: Report | None, source: str, prefix: str) -> str:
    card = content.get("facts", {}).get("card", {})
    decisions = _Decisions.of(content, report)
    text = {key: card.get(key) or NOT_STATED for key in TEXTS}
    text["title"] = title(content)
    text["summary"] = card.get("summary") or "A question-pair model: are these two questions duplicates of each other?"
    template = Template((files("dupq.sharing") / "card.md").read_text(encoding="utf-8"))
    filled = template.substitute(
        text,
        metadata=metadata(content, report, decisions.in_sample),
        decides=_decides(decisions),
        thresholds=_thresholds(decisions),
        base_rates=_base_rates(decisions),
        measured=_measured(decisions, card, prefix),
        pictures=_pictures(report, prefix),
        elsewhere=_elsewhere(content),
        conflicts=_conflicts(decisions),
        limits=card.get("limits") or "",
        training=_training(content),
        training_data=card.get("training_data") or "",
        leakage=_leakage(content, card),
        usage=_usage(content, source),
        strangers=_strangers(content, source),
        cost=_cost(content, card),
        content=_contents(content),
    )
    return re.sub(r"\n{3,}", "\n\n", filled)


@dataclass(frozen=True, slots=True)
class _Decisions:
    """What the pipeline decides by, which may have been chosen anew since it was measured."""

    base_rate: float | None
    rule: DecisionRule | None
    calibrator: Calibrator | None
    report: Report | None

    @classmethod
    def of(cls, content: Mapping[str, Any], report: Report | None) -> _Decisions:
        from dupq.decisions.calibration import calibrator_from_dict
        from dupq.decisions.thresholds import DecisionRule

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
        """Whether the report measured the very pairs that the thresholds were fitted on."""
        evidence = self.rule.evidence if self.rule is not None else None
        measured = self.report.about.get("data_fingerprint", "") if self.report is not None else None
        return evidence is not None and measured == evidence.data_fingerprint

    @property
    def moved(self) -> bool:
        """Whether the report speaks of other thresholds, or of another base rate."""
        if self.report is None:
            return False
        measured = [cut["score"] for cut in self.report.rule["cuts"]]
        rate = self.report.about.get("stated_at", self.base_rate)
        return measured != [cut.score for _, cut in self.cuts] or rate != self.base_rate


def _decides(decisions: _Decisions) -> str:
    if decisions.base_rate is None or decisions.rule is None:
        return "**It is uncalibrated**: it scores, and refuses to decide until `dupq calibrate` has been run."
    return f"Its probabilities are stated at a base rate of {decisions.base_rate:.1%} duplicates."


def _thresholds(decisions: _Decisions) -> str:
    if decisions.calibrator is None or decisions.rule is None:
        return ""
    rows = [
        (name, f"{cut.probability(decisions.calibrator, decisions.base_rate):.3f}", f"{cut.score:.3f}", cut.promise)
        for name, cut in decisions.cuts
    ]
    warning = f"\n**Warning.** {decisions.rule.warning}\n" if decisions.rule.warning else ""
    return _table(("from here on", "probability", "raw score", "promise"), rows) + warning


def _base_rates(decisions: _Decisions) -> str:
    if decisions.report is None or decisions.moved:
        return ""
    shares = ("precision", "recall", "flagged", "review", "miss_rate")
    rows = [
        (f"{row['base_rate']:.3g}", f"{row['probability']:.3f}", *(f"{row[name]:.1%}" for name in shares))
        for row in decisions.report.base_rates
    ]
    header = ("base rate", "threshold", "precision", "recall", "flagged", "to review", "duplicates dropped")
    return "What these thresholds are expected to do at other shares of duplicates:\n\n" + _table(header, rows)


def _measured(decisions: _Decisions, card: Mapping[str, Any], prefix: str) -> str:
    report = decisions.report
    if report is None:
        return "It has not been measured: there is no report in this repository."
    sample, on = report.sample, {} if decisions.in_sample else card.get("measured_on", {})
    where = f" of {on['name']}, {on.get('split', 'test')} split" if "name" in on else ""
    told = (
        f"Measured on {sample['pairs']:,} pairs in {sample['groups']:,} question groups{where}, "
        f"{sample['base_rate']:.1%} of them duplicates."
    )
    if decisions.in_sample:
        told += (
            " **These are the very pairs that the calibrator and the thresholds were fitted on**, so the figures "
            "flatter; `dupq evaluate --attach` on unseen pairs gives better ones."
        )
    if decisions.moved:
        told += (
            " **The thresholds have been chosen anew since**: accuracy, F1, precision, recall and Matthews correlation "
            "are those of the earlier ones."
        )
    rows = [(METRICS[name][1], _interval(report.metrics[name].to_dict())) for name in METRICS if name in report.metrics]
    page = f"{prefix}{REPORT_PAGE}"
    return f"{told}\n\n{_table(('figure', 'value (95 % interval)'), rows)}\nThe whole report: [{page}]({page})."


def _interval(metric: Mapping[str, float], sound: bool = True) -> str:
    return f"{metric['value']:.4f}" + (f" ({metric['low']:.4f} to {metric['high']:.4f})" if sound else "")


def _pictures(report: Report | None, prefix: str) -> str:
    if report is None:
        return ""
    return "\n" + "\n".join(f"![{caption}]({prefix}{name}.svg)\n" for name, caption in PICTURES.items())


def _elsewhere(content: Mapping[str, Any]) -> str:
    rows, old = current(content), outdated(content)
    left_out = (
        f"\nFigures on {', '.join(old)} were taken before it was calibrated anew, and are left out." if old else ""
    )
    if not rows:
        return (
            "It has not been measured on other questions than those above. On another forum expect its probabilities "
            "to be off, and calibrate it there first."
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
    told = "As it ships, at its own threshold, with nothing fitted there; 95 % intervals over question groups"
    if not all(has_interval(row["sample"]) for row in rows):
        told += " (none where these are too few, or one of them holds most of the pairs)"
    return f"{told}:\n\n{_table(header, table)}{left_out}"


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
        )
        for row in decisions.report.conflicts
    ]
    header = ("what conflicts", "pairs", "distinct", "decided wrongly (95 % interval)", "distinct, yet flagged")
    return (
        "Contrast cases among the pairs it was measured on: the same words, but for a number, a negation, a name, an "
        "order, an opposite or a choice that conflicts, as `dupq explain` finds it. The last column is the share of "
        "the distinct ones that it flags:\n\n" + _table(header, rows)
    )


def _records(content: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """The training records of the networks, as far as they are there; of an averaged network, those of its parts."""
    waiting = [
        (name.replace("_", "-"), record) for name, record in content.get("facts", {}).get("training", {}).items()
    ]
    found = []
    for name, record in sorted(waiting):
        parts = record.get("members") or [record]
        names = [name] if len(parts) == 1 else [f"{name}, part {number}" for number in range(1, len(parts) + 1)]
        found += [(one, part) for one, part in zip(names, parts, strict=True) if part is not None and "data" in part]
    return found


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
        return "How its networks were trained is not recorded here."
    header = ("network", "started from", "labelled pairs", "duplicates", "passes", "fingerprint of the pairs")
    return _table(header, rows)


def _leakage(content: Mapping[str, Any], card: Mapping[str, Any]) -> str:
    told = [card["leakage"]] if card.get("leakage") else []
    if TRAINED_ON in content["files"]:
        told.append(
            f"Fingerprints of every question that its networks were trained on are in `{TRAINED_ON}`; dupq refuses to "
            "calibrate or test it on pairs that share a question with them."
        )
    else:
        told.append("Which questions its networks were trained on is not recorded, so dupq cannot tell a leak.")
    return "\n\n".join(told)


def _usage(content: Mapping[str, Any], source: str) -> str:
    name = f'"{source}"' if source else ""
    pair = '"How do I learn chess?", "What is the best way to learn chess?"'
    lines = ["from dupq import DuplicatePipeline", "", f"pipeline = DuplicatePipeline.from_pretrained({name})"]
    if content.get("rule"):
        lines += [f"result = pipeline.score({pair})", "print(result.decision, result.probability, pipeline.promise)"]
    else:
        left, right = pair.split(", ")
        lines += [f"print(pipeline.raw_scores([{left}], [{right}]))"]
    return "\n".join(lines)


def _strangers(content: Mapping[str, Any], source: str) -> str:
    """How one opens the networks without dupq, which does not hold for the int8 form."""
    networks, name = content["networks"], source or "path/to/dupq/pretrained"
    if not is_stock(content):
        return (
            "Its networks are ONNX with 8-bit weights, which dupq runs without torch; stock loaders do not open them."
        )
    kind, method = ("CrossEncoder", "predict") if CROSS_ENCODER in networks else ("SentenceTransformer", "encode")
    asked = '[("How do I learn chess?", "What is the best way to learn chess?")]' if method == "predict" else '["How?"]'
    told = (
        "Stock sentence-transformers opens it too, with no remote code, but without calibration and thresholds:\n\n"
        f'```python\nfrom sentence_transformers import {kind}\n\nprint({kind}("{name}").{method}({asked}))\n```'
    )
    if len(networks) == 2:
        told += f"\n\nThe bi-encoder lies in the folder `{BI_ENCODER}`, which `SentenceTransformer` opens."
    return told


def _cost(content: Mapping[str, Any], card: Mapping[str, Any]) -> str:
    rows = [(kind, f"{record['seconds']:,.0f}") for kind, record in _records(content)]
    table = _table(("network", "seconds of training"), rows) if rows else "The time of its training is not recorded."
    return f"{table}\n\n**Energy.** {card.get('energy') or NOT_STATED}"


def _contents(content: Mapping[str, Any]) -> str:
    rows = [
        (f"`{name}/`", network["form"], f"`{network['fingerprint']}`") for name, network in content["networks"].items()
    ]
    return _table(("network", "form", "fingerprint"), rows) + f"\nWritten by dupq {content.get('dupq')}, format 1."


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)
