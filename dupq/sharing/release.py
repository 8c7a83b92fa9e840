"""What one does with a pipeline folder before it is shared: write its card anew, copy the card out, look into it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dupq.data.writing import write_json
from dupq.errors import ModelFolderError
from dupq.models.networks import READINGS
from dupq.models.safety import refuse_code
from dupq.models.stock import TRAINED_ON, read_fingerprints
from dupq.sharing.card import CARD, HERE, write_pages
from dupq.sharing.elsewhere import taken
from dupq.sharing.folder import open_folder, read_report
from dupq.sharing.manifest import MANIFEST, PAGES, REPORT, seal, sha256, walk
from dupq.sharing.metadata import METRICS

if TYPE_CHECKING:
    from dupq.decisions.report import Report


def rewrite_card(
    folder: Path, about: Mapping[str, Any] | None = None, reports: Mapping[str, Report] | None = None
) -> None:
    """Writes the card of a pipeline folder anew, from its report and from what its maker tells.

    Args:
        folder: A pipeline folder.
        about: What `read_about` gave; each key replaces the earlier one.
        reports: Name -> report on other pairs; each replaces the earlier one of that name.

    Raises:
        ModelFolderError: The folder is damaged; its card alone may be.
        InputError: A report speaks of another pipeline.
        OutputError: It could not be written.
    """
    content = open_folder(folder, pages=False)
    facts = content.setdefault("facts", {})
    card = facts.setdefault("card", {})
    card.update(about or {})
    if reports:
        others = [row for row in card.get("elsewhere", []) if row["name"] not in reports]
        card["elsewhere"] = [*others, *(taken(name, report, content, METRICS) for name, report in reports.items())]
    write_pages(folder, content, _report(folder, content))
    write_json(folder / MANIFEST, seal(folder, content))


def copy_card(folder: Path, path: Path, shipped: bool = False) -> None:
    """Writes the card of a pipeline folder to another file, with pictures and report page beside it.

    Args:
        folder: A pipeline folder; left as it is.
        path: Where the card goes.
        shipped: Whether this is the model that ships with the package, which a reader opens by no name.
    """
    content = open_folder(folder, pages=False)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_pages(path.parent, content, _report(folder, content), "" if shipped else HERE, path.name)


def _report(folder: Path, content: Mapping[str, Any]) -> Report | None:
    return read_report(folder) if REPORT in content["files"] else None


def inspect_folder(folder: Path) -> dict[str, Any]:
    """What a folder holds, after every check that is made before it is opened; no network is loaded.

    Returns:
        Plain data: `kind` ("pipeline" or "network"), `files`, `bytes`; of a pipeline also its manifest's entries,
        `trained_on` (questions), `metrics`, and `pages`: name -> "as written", "edited" or "not here".

    Raises:
        ModelFolderError: It is missing, damaged, altered, unsafe, or of a newer format.
    """
    if not (folder / MANIFEST).is_file():
        if not folder.is_dir() or not any((folder / name).is_file() for name in ("config.json", "modules.json")):
            raise ModelFolderError(
                "this is neither a pipeline folder nor a network", where=str(folder), mend="check it"
            )
        refuse_code(folder)
        return {"kind": "network", **_size(folder, [name for name, path in walk(folder) if path.is_file()])}
    content = open_folder(folder, pages=False)
    try:
        found = _entries(folder, content)
        told(found)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, ModelFolderError):
            raise
        raise ModelFolderError(
            f"it or the report is damaged ({type(error).__name__}: {error})",
            where=str(folder / MANIFEST),
            mend="calibrate again",
        ) from error
    return found


def _entries(folder: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    report = _report(folder, content)
    rule, calibrator = content.get("rule") or {}, content.get("calibrator") or {}
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
        "thresholds": {name: {"score": cut["score"], "promise": cut["promise"]} for name, cut in cuts.items()},
        "trained_on": _questions(folder) if TRAINED_ON in content["files"] else None,
        "measured_on": dict(report.sample) if report else None,
        "metrics": {name: metric.to_dict() for name, metric in report.metrics.items()} if report else None,
        "card": content.get("facts", {}).get("card", {}),
        "pages": {name: _page(folder / name, digest) for name, digest in content["files"].items() if _is_page(name)},
        **_size(folder, [MANIFEST, *content["files"]]),
    }


def _questions(folder: Path) -> int:
    return len(read_fingerprints(folder / TRAINED_ON))


def _is_page(name: str) -> bool:
    return Path(name).suffix in PAGES


def _page(path: Path, digest: str) -> str:
    if not path.is_file():
        return "not here"
    return "as written" if sha256(path) == digest else "edited"


def _size(folder: Path, names: list[str]) -> dict[str, Any]:
    there = [folder / name for name in names if (folder / name).is_file()]
    return {"files": len(there), "bytes": sum(path.stat().st_size for path in there)}


CARD_STATES = {"as written": "as written by dupq", "edited": "EDITED since dupq wrote it", "not here": "not here"}


def told(found: Mapping[str, Any]) -> str:
    """`inspect_folder`'s answer for people."""
    size = f"{found['files']} files, {found['bytes'] / 1e6:,.1f} MB"
    if found["kind"] == "network":
        return f"a stock network, {size}: opens as an uncalibrated pipeline; its configuration asks for no code"
    lines = [("verified", f"{size}, format {found['format']}, written by dupq {found['dupq']}")]
    for name, network in found["networks"].items():
        reads = [f"{key.replace('_', ' ')}: {network[key]}" for key in READINGS if key in network]
        lines.append((name, ", ".join((network["form"], network["fingerprint"], *reads))))
    if found["blend"]:
        *weights, offset = found["blend"]
        members = zip(weights, ("cross-encoder", "bi-encoder", "shared words"), strict=False)
        parts = [f"{weight:+.3f} x {name}" for weight, name in members]
        lines.append(("score", " ".join((*parts, f"{offset:+.3f}")).lstrip("+")))
    if cascade := found["cascade"]:
        told = f"the {cascade['first']} alone settles {cascade['settled']:.1%} of pairs; {cascade['share']:.1%} of "
        lines.append(("cascade", f"{told}decisions are to equal those of the whole"))
    if found["calibrator"] and found["base_rate"]:
        lines.append(("calibrator", f"{found['calibrator']['kind']}, fitted on {found['calibrator']['pairs']:,} pairs"))
        lines.append(("base rate", f"{found['base_rate']:.1%} duplicates"))
    else:
        lines.append(("calibrator", "none: it scores, and does not decide"))
    lines += [(name, f"from score {cut['score']:.3f}: {cut['promise']}") for name, cut in found["thresholds"].items()]
    questions = found["trained_on"]
    lines.append(("trained on", "not recorded" if questions is None else f"{questions:,} questions"))
    if found["metrics"]:
        precision, sample = found["metrics"]["average_precision"], found["measured_on"]
        lines.append(("measured on", f"{sample['pairs']:,} pairs, average precision {precision['value']:.3f}"))
    lines.append(("card", CARD_STATES[found["pages"].get(CARD, "not here")]))
    return "\n".join(f"{name:<13} {value}" for name, value in lines)
