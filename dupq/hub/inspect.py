"""Inspect a pipeline folder, and rewrite or copy its card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dupq.decisions.candidate_rule import CandidateRule
from dupq.errors import ModelFolderError
from dupq.evaluation.report import Report
from dupq.hub.card import CARD, HERE, write_pages
from dupq.hub.card_metadata import METRICS
from dupq.hub.external_results import result_row
from dupq.hub.folder import open_folder, read_report, write_manifest
from dupq.hub.manifest import MANIFEST, PAGES, REPORT, sha256, walk
from dupq.models.safety import refuse_code
from dupq.models.scoring_options import SCORING_OPTIONS
from dupq.models.sentence_transformers_io import TRAINED_ON, read_fingerprints


def rewrite_card(
    folder: Path, about: Mapping[str, Any] | None = None, reports: Mapping[str, Report] | None = None
) -> None:
    """Rewrite the card of a pipeline folder from report and maker's statements.

    Args:
        folder: A pipeline folder.
        about: Statements from `read_about`; each key replaces the earlier one.
        reports: Name -> report on other pairs; each replaces the earlier one of that name.

    Raises:
        ModelFolderError: The folder is damaged; its card may be.
        InputError: A report is of another pipeline.
        LeakError: A report is on pairs that the pipeline was fitted on.
        OutputError: It could not be written.
    """
    content = open_folder(folder, pages=False)
    facts = content.setdefault("facts", {})
    card = facts.setdefault("card", {})
    card.update(about or {})
    if reports:
        others = [row for row in card.get("external_results", []) if row["name"] not in reports]
        rows = [result_row(name, report, content, METRICS) for name, report in reports.items()]
        card["external_results"] = [*others, *rows]
    write_pages(folder, content, _report(folder, content))
    write_manifest(folder, content)


def copy_card(folder: Path, path: Path, shipped: bool = False) -> None:
    """Write the card of a pipeline folder to another file, with its plots.

    Args:
        folder: A pipeline folder; left as it is.
        path: File of the card.
        shipped: True for the model that ships with the package, which opens without a name.

    Raises:
        ModelFolderError: The folder is damaged; its card may be.
        OutputError: It could not be written.
    """
    content = open_folder(folder, pages=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_pages(path.parent, content, _report(folder, content), "" if shipped else HERE, path.name)


def _report(folder: Path, content: Mapping[str, Any]) -> Report | None:
    return read_report(folder) if REPORT in content["files"] else None


def inspect_folder(folder: Path) -> dict[str, Any]:
    """Verify a folder and return its contents, without loading a network.

    Returns:
        Plain data: `kind` ("pipeline" or "network"), `files`, `bytes`; of a pipeline also its manifest's entries,
        `trained_on` (number of questions), `metrics`, and `pages`: name -> "as written", "edited" or "not here".

    Raises:
        ModelFolderError: It is missing, damaged, altered, unsafe, or of another format.
    """
    if not (folder / MANIFEST).is_file():
        if not folder.is_dir() or not any((folder / name).is_file() for name in ("config.json", "modules.json")):
            raise ModelFolderError(
                "this is neither a pipeline folder nor a network", location=str(folder), hint="check the path"
            )
        refuse_code(folder)
        return {"kind": "network", **_size(folder, [name for name, path in walk(folder) if path.is_file()])}
    content = open_folder(folder, pages=False)
    try:
        summary = _entries(folder, content)
        format_summary(summary)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, ModelFolderError):
            raise
        raise ModelFolderError(
            f"it or the report is damaged ({type(error).__name__}: {error})",
            location=str(folder / MANIFEST),
            hint="calibrate again",
        ) from error
    return summary


def _entries(folder: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    report = _report(folder, content)
    rule, calibrator = content.get("rule") or {}, content.get("calibrator") or {}
    candidates = content.get("candidate_calibration") or {}
    cuts = {name: rule[name] for name in ("duplicate", "distinct") if rule.get(name)}
    return {
        "kind": "pipeline",
        "format": content["format"],
        "dupq": content.get("dupq"),
        "networks": content["networks"],
        "blend": content.get("blend"),
        "cascade": content.get("cascade"),
        "calibrator": {key: calibrator[key] for key in ("kind", "pairs", "base_rate")} if calibrator else None,
        "base_rate": content.get("base_rate"),
        "candidate_rule": content.get("candidate_rule"),
        "thresholds": {name: {"score": cut["score"], "guarantee": cut["guarantee"]} for name, cut in cuts.items()},
        "candidates": {key: candidates[key] for key in ("pairs", "duplicates", "about")} if candidates else None,
        "trained_on": len(read_fingerprints(folder / TRAINED_ON)) if TRAINED_ON in content["files"] else None,
        "measured_on": dict(report.sample) if report else None,
        "metrics": {name: metric.to_dict() for name, metric in report.metrics.items()} if report else None,
        "card": content.get("facts", {}).get("card", {}),
        "pages": {
            name: _page_state(folder / name, digest)
            for name, digest in content["files"].items()
            if Path(name).suffix in PAGES
        },
        **_size(folder, [MANIFEST, *content["files"]]),
    }


def _page_state(path: Path, digest: str) -> str:
    if not path.is_file():
        return "not here"
    return "as written" if sha256(path) == digest else "edited"


def _size(folder: Path, names: list[str]) -> dict[str, Any]:
    present = [folder / name for name in names if (folder / name).is_file()]
    return {"files": len(present), "bytes": sum(path.stat().st_size for path in present)}


CARD_STATES = {"as written": "as written by dupq", "edited": "EDITED since dupq wrote it", "not here": "not here"}


def format_summary(summary: Mapping[str, Any]) -> str:
    """Return the result of `inspect_folder` as text."""
    size = f"{summary['files']} files, {summary['bytes'] / 1e6:,.1f} MB"
    if summary["kind"] == "network":
        return f"a network of sentence-transformers, {size}: opens as an uncalibrated pipeline; asks for no remote code"
    lines = [("verified", f"{size}, format {summary['format']}, written by dupq {summary['dupq']}")]
    for name, network in summary["networks"].items():
        options = [f"{key.replace('_', ' ')}: {network[key]}" for key in SCORING_OPTIONS if key in network]
        lines.append((name, ", ".join((network["form"], network["fingerprint"], *options))))
    if summary["blend"]:
        *weights, offset = summary["blend"]
        members = zip(weights, ("cross-encoder", "bi-encoder", "IDF overlap"), strict=False)
        parts = [f"{weight:+.3f} x {name}" for weight, name in members]
        lines.append(("score", " ".join((*parts, f"{offset:+.3f}")).lstrip("+")))
    if cascade := summary["cascade"]:
        settled = f"the {cascade['first']} alone settles {cascade['settled']:.1%} of pairs"
        lines.append(
            ("cascade", f"{settled}; target: {cascade['min_agreement']:.1%} of decisions equal those of both networks")
        )
    if summary["calibrator"] and summary["base_rate"]:
        calibrator = summary["calibrator"]
        lines.append(("calibrator", f"{calibrator['kind']}, fitted on {calibrator['pairs']:,} pairs"))
        lines.append(("base rate", f"{summary['base_rate']:.1%} duplicates"))
    else:
        lines.append(("calibrator", "none: it scores, and does not decide"))
    for name, cut in summary["thresholds"].items():
        lines.append((name, f"from score {cut['score']:.3f}: {cut['guarantee']}"))
    if summary["candidate_rule"]:
        lines.append(("candidates", str(CandidateRule.from_dict(summary["candidate_rule"]))))
    if candidates := summary["candidates"]:
        about = f": {candidates['about']}" if candidates["about"] else ""
        judged = f"{candidates['pairs']:,} candidates, {candidates['duplicates']:,} of them duplicates{about}"
        lines.append(("judged", judged))
    questions = summary["trained_on"]
    lines.append(("trained on", "not recorded" if questions is None else f"{questions:,} questions"))
    if summary["metrics"]:
        precision, sample = summary["metrics"]["average_precision"], summary["measured_on"]
        lines.append(("measured on", f"{sample['pairs']:,} pairs, average precision {precision['value']:.3f}"))
    lines.append(("card", CARD_STATES[summary["pages"].get(CARD, "not here")]))
    return "\n".join(f"{name:<13} {value}" for name, value in lines)
