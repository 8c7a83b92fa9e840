"""Write the tables of README.md and of the documentation from the results that the benchmarks left as JSON.

    python -m benchmarks.readme            # rewrites them
    python -m benchmarks.readme --check    # exit status 1 if a table differs from its results

A table stands between `<!-- table:NAME -->` and `<!-- end -->` in one of `PAGES`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks import int8_tables
from benchmarks.index import tables
from benchmarks.roofline import tables as roofline
from benchmarks.scale import tables as scale
from benchmarks.search import tables as search_tables
from benchmarks.service import tables as service_tables
from benchmarks.speed import tables as speed

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
README = ROOT / "README.md"
EXPLANATION = ROOT / "docs" / "explanation"
PAGES = (
    README,
    *(
        EXPLANATION / f"{name}.md"
        for name in ("quality", "scope", "mining", "index", "service", "scale", "speed", "roofline")
    ),
    *(ROOT / "docs" / "how-to" / f"{name}.md" for name in ("learn-from-verdicts", "run-the-service")),
    ROOT / "docs" / "tutorials" / "operator.md",
    ROOT / "docs" / "decisions" / "0009-own-graph.md",
    ROOT / "docs" / "experiments.md",
)
ENCODERS = {"all-MiniLM-L6-v2": "MiniLM", "all-mpnet-base-v2": "mpnet"}
"""Encoders as published, whose cosine stands beside our figures."""
MEASURES = {
    "average_precision": "average precision",
    "roc_auc": "ROC AUC",
    "accuracy": "accuracy",
    "ece_mass": "ECE (0 is best)",
    "error": "decided wrongly (0 is best)",
    "precision": "precision of flagged pairs",
    "recall": "share of duplicates flagged",
    "recall_at_10": "recall@10",
}
CLUSTERS = {
    "worlds_dev": ("paraphrases and near misses", ("roc_auc", "average_precision")),
    "posts_dev": ("forum posts, up to 260 words", ("roc_auc",)),
    "long_posts": ("forum posts, 300 to 800 words", ("roc_auc",)),
}
"""Set of `worlds.json` -> kind of text, and its measures in the overview."""
ELSEWHERE = {
    "PIT": ("tweets (PIT)", "average_precision"),
    "Twitter URL": ("tweets (Twitter URL)", "average_precision"),
    "MRPC": ("news (MRPC)", "average_precision"),
    "SemEval forum": ("forum posts (SemEval)", "average_precision"),
    "PAWS-Wiki": ("words in another order (PAWS-Wiki)", "average_precision"),
    "PARADE": ("definitions (PARADE)", "roc_auc"),
    "SemAntoNeg": ("antonyms and negation (SemAntoNeg)", "roc_auc"),
    "syntactic swaps": ("passive and swapped roles", "roc_auc"),
    "text-to-SQL": ("questions to a database (text-to-SQL)", "roc_auc"),
}
"""Set of `elsewhere.json` -> kind of text, and its measure in the overview."""
Metric = dict[str, float]
_TABLE = re.compile(r"(<!-- table:([a-z_]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def load(name: str) -> Any:
    """The results of one benchmark."""
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))


def figure(metric: Metric, digits: int = 3) -> str:
    """`0.912 (0.908-0.916)`"""
    value, low, high = (f"{metric[key]:.{digits}f}" for key in ("value", "low", "high"))
    return f"{value} ({low}-{high})"


def optional(name: str) -> Any:
    """The results of one benchmark; empty if it was not run."""
    return load(name) if (RESULTS / f"{name}.json").is_file() else {}


def overview() -> str:
    """All kinds of text, one line a measure; a kind without results is left out."""
    rows = list(_overview_rows())
    shown = [name for name in ENCODERS if any(beside.get(name) for *_, beside in rows)]
    columns = ["kind of text", "number", "duplicates", "measure", "dupq", *(ENCODERS[name] for name in shown)]
    lines = [f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    before = None
    for kind, pairs, duplicates, measure, ours, beside in rows:
        size = (f"{pairs:,}" if pairs else "-", "-" if duplicates is None else f"{duplicates:.0%}")
        head = ("", "", "") if (kind, *size) == before else (kind, *size)
        before = (kind, *size)
        others = [f"{metric['value']:.3f}" if metric else "-" for metric in (beside.get(name) for name in shown)]
        lines.append(f"| {' | '.join([*head, MEASURES[measure], figure(ours), *others])} |")
    mined = optional("mined")
    if "with_a_training_question" in mined:
        lines += [
            "",
            f"Mined: {mined['with_a_training_question']:,} of {mined['pairs']:,} pairs hold a training question; the"
            f" calibrator of candidates was fitted on them (figures: {mined['folds']} folds).",
        ]
    return "\n".join(lines) + "\n"


def _overview_rows() -> Iterator[tuple[str, int | None, float | None, str, Metric, dict[str, Metric | None]]]:
    """Kind of text, number of pairs, their share of duplicates, measure, our figure, and those of other encoders."""
    report = json.loads((ROOT / "dupq" / "pretrained" / "report.json").read_text(encoding="utf-8"))
    cosines = {
        name: row["metrics"] for row in optional("quality").get("rows", []) for name in ENCODERS if name in row["name"]
    }
    for measure in ("average_precision", "accuracy", "ece_mass"):
        beside = {name: metrics.get(measure) for name, metrics in cosines.items()}
        sample = report["sample"]
        yield (
            "Quora questions (test)",
            sample["pairs"],
            sample["base_rate"],
            measure,
            report["metrics"][measure],
            beside,
        )
    kinds: dict[str, tuple[str, tuple[str, ...]]] = {
        **CLUSTERS,
        **{name: (kind, (measure,)) for name, (kind, measure) in ELSEWHERE.items()},
    }
    found = {**_cluster_sets(), **_by_name(optional("elsewhere").get("rows", []))}
    for name, (kind, measures) in kinds.items():
        row = found.get(name, {"metrics": {}})
        for measure in (measure for measure in measures if measure in row["metrics"]):
            beside = {encoder: metrics.get(measure) for encoder, metrics in row.get("encoders", {}).items()}
            yield kind, row["pairs"], row.get("duplicates"), measure, row["metrics"][measure], beside
    for row in optional("contrast").get("rows", []):
        if row["kind"] == "all":
            yield "one word or role changed by rule", row["pairs"], row.get("duplicates"), "error", row["error"], {}
    mined = optional("mined")
    precision = mined.get("metrics", {}).get("precision")
    if precision and precision["value"] is not None:  # None: no pair was flagged
        for measure in ("precision", "recall"):
            if measure in mined["metrics"]:
                row = mined["metrics"][measure]
                yield "pairs mined from Quora", mined.get("pairs"), mined.get("base_rate"), measure, row, {}
    retrieval = optional("retrieval")
    recalls = {name: row["recall_at_10"] for name, row in _by_name(retrieval.get("rows", [])).items()}
    if "dupq" in recalls:
        yield (
            f"search among {retrieval['texts']:,} texts",
            retrieval["queries"],
            None,
            "recall_at_10",
            recalls["dupq"],
            recalls,
        )


def _by_name(rows: Any) -> dict[str, Any]:
    return rows if isinstance(rows, dict) else {row["name"]: row for row in rows}


def _cluster_sets() -> dict[str, dict[str, Any]]:
    """Sets of `worlds.json` by name, in the form of the rows of `elsewhere.json`."""
    results = optional("worlds")
    sets = _by_name(results.get("sets", []))
    for name in CLUSTERS.keys() & results.keys():
        row = results[name]
        if isinstance(row, list):  # all pairs, and then their parts
            row = row[0]
        scorers = dict(row["scorers"])
        metrics = scorers.pop("dupq")
        sets[name] = {**row, "metrics": metrics, "encoders": scorers}
    return sets


def quality() -> str:
    """Each network alone and together."""
    results = load("quality")
    test = results["splits"]["test"]
    lines = [
        "| scorer | average precision | accuracy | ECE |",
        "|---|---|---|---|",
    ]
    for row in results["rows"]:
        metrics = row["metrics"]
        cells = (figure(metrics["average_precision"]), figure(metrics["accuracy"]), figure(metrics["ece_mass"]))
        lines.append(f"| {row['name']} | {' | '.join(cells)} |")
    size = f"{test['pairs']:,} pairs, {test['base_rate']:.1%} duplicates"
    form = "; the trained networks in int8" if "onnx-int8" in results.get("forms", {}).values() else ""
    lines += ["", f"Test split: {size}; 95 % intervals over question groups{form}."]
    return "\n".join(lines) + "\n"


def output_score() -> str:
    """What the first command prints."""
    from dupq.cli.main import main as dupq

    with contextlib.redirect_stdout(io.StringIO()) as printed:
        dupq(["score", "How old are you?", "What is your age?"])
    return f"```text\n{printed.getvalue()}```\n"


def shipped() -> str:
    """What was measured of the shipped model, by its own report."""
    report = json.loads((ROOT / "dupq" / "pretrained" / "report.json").read_text(encoding="utf-8"))
    names = {
        "average_precision": "average precision",
        "accuracy": "accuracy",
        "f1": "F1",
        "ece_mass": "ECE (15 bins of equal mass)",
        "brier": "Brier score",
        "log_loss": "log loss",
    }
    lines = ["| shipped model, int8 | value (95 % interval) |", "|---|---|"]
    lines += [f"| {name} | {figure(report['metrics'][key])} |" for key, name in names.items()]
    return "\n".join(lines) + "\n"


def _gains(measure: str) -> str:
    """Other worlds by one measure, beside encoders as published."""
    shown = [name for name in ENCODERS if any(name in row["encoders"] for row in load("elsewhere")["rows"])]
    heads = [part for name in shown for part in (f"{name} as published", "gain")]
    lines = [f"| pairs of | number | dupq | {' | '.join(heads)} |", "|---" * (3 + len(heads)) + "|"]
    for row in load("elsewhere")["rows"]:
        if measure not in row["metrics"]:
            continue
        cells = [row["name"], f"{row['pairs']:,}", figure(row["metrics"][measure])]
        for metrics in (row["encoders"].get(name) for name in shown):
            gain = metrics and metrics["gain"][measure]
            cells += [figure(metrics[measure])] if metrics else ["-"]
            cells += [f"{gain['value']:+.3f} ({gain['low']:+.3f} to {gain['high']:+.3f})"] if gain else ["-"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def elsewhere() -> str:
    """Other worlds, by average precision."""
    return _gains("average_precision")


def elsewhere_auc() -> str:
    """Other worlds, by ROC AUC."""
    return _gains("roc_auc")


def elsewhere_calibration() -> str:
    """How far probabilities and the shipped threshold carry over to other worlds."""
    lines = [
        "| pairs of | number | duplicates | accuracy | ECE | debiased ECE | debiased ECE, 200 labels |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in load("elsewhere")["rows"]:
        metrics, adapted = row["metrics"], row.get("adapted")
        if "ece_debiased" not in metrics:
            continue
        name = row["name"] if row["enough_for_calibration"] else f"{row['name']} (few)"
        cells = [name, f"{row['pairs']:,}", f"{row['duplicates']:.0%}"]
        cells += [figure(metrics[key]) for key in ("accuracy", "ece", "ece_debiased")]
        cells.append(figure(adapted["ece_debiased"]) if adapted else "-")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def contrast() -> str:
    """How pairs of nearly the same words are decided."""
    results = load("contrast")
    lines = ["| what was changed | pairs | of them duplicates | decided wrongly |", "|---|---|---|---|"]
    for row in results["rows"]:
        lines.append(f"| {row['kind']} | {row['pairs']:,} | {row['duplicates']:.0%} | {figure(row['error'], 2)} |")
    return "\n".join(lines) + "\n"


def worlds() -> str:
    """Questions and posts that were written for this project, whole and by part."""
    results = load("worlds")
    heads = ["dupq: ROC AUC", *(ENCODERS.values()), "dupq: average precision", *(ENCODERS.values())]
    columns = ["pairs of", "number", "duplicates", *heads, "accuracy", "always the more frequent answer"]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for name, (kind, _) in CLUSTERS.items():
        for row in results[name] if isinstance(results[name], list) else [results[name]]:
            part = row.get("part", "all")
            cells = [kind if part == "all" else part, f"{row['pairs']:,}", f"{row['duplicates']:.0%}"]
            for measure in ("roc_auc", "average_precision"):
                cells.append(figure(row["scorers"]["dupq"][measure]))
                cells += [f"{row['scorers'][encoder][measure]['value']:.3f}" for encoder in ENCODERS]
            majority = max(row["duplicates"], 1 - row["duplicates"])
            lines.append(f"| {' | '.join([*cells, figure(row['accuracy']), f'{majority:.3f}'])} |")
    return "\n".join(lines) + "\n"


def worlds_kinds() -> str:
    """Paraphrases and near misses that were written for this project, by kind."""
    results = load("worlds")["worlds_dev"]
    missed = next(row["wrong"] for row in results["kinds"] if row["kind"] == "paraphrase")
    lines = [
        f"**The largest failure: questions that ask the same in other words.** At its threshold the shipped model does"
        f" not flag {missed['value']:.1%}\n({missed['low']:.1%} to {missed['high']:.1%}) of the paraphrases that were"
        f" written for this project. It errs far less on near misses:",
        "",
        "| kind of pair | pairs | label | decided wrongly |",
        "|---|---|---|---|",
    ]
    for row in results["kinds"]:
        same = "duplicate" if row["kind"] == "paraphrase" else "distinct"
        lines.append(f"| {row['kind']} | {row['pairs']:,} | {same} | {figure(row['wrong'], 2)} |")
    return "\n".join(lines) + "\n"


MINED = {
    "metrics": "calibrator of candidates, with the cosine",
    "score_alone": "calibrator of candidates, score alone",
    "without": "decided like labelled pairs",
}
"""Part of `mined.json` -> way to decide candidates."""


def mined() -> str:
    """How mined candidates are decided, with and without a calibrator of their own."""
    results = load("mined")
    heads = ("precision of flagged pairs", "stated precision", "share of duplicates flagged", "average precision")
    lines = [f"| decided by | {' | '.join(heads)} |", "|---" * (1 + len(heads)) + "|"]
    for key, name in MINED.items():
        cells = [figure(results[key][measure]) for measure in ("precision", "stated", "recall", "average_precision")]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", "With the cosine, at other expected precisions:", ""]
    lines += [
        "| expected precision | flagged of the sample | precision | share of duplicates flagged |",
        "|---|---|---|---|",
    ]
    for row in results["trade_off"]["metrics"]:
        cells = [f"{row['level']:g}", f"{row['flagged']:,}", figure(row["precision"]), figure(row["recall"])]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def mined_share() -> str:
    """Right and found among mined pairs, in two sentences."""
    results = load("mined")
    precision, recall = results["metrics"]["precision"], results["metrics"]["recall"]
    wide = min(results["trade_off"]["metrics"], key=lambda row: float(row["level"]))
    return (
        f"**Expect neither all duplicates nor only duplicates.** On Quora questions, {share(precision)} of the pairs\n"
        f"that the shipped model flagged were duplicates, and it flagged {share(recall)} of the duplicates among the\n"
        "candidates. A lower `--threshold` finds more, and more of what it finds is wrong: with\n"
        f'`--policy "precision>={wide["level"]:g}"` it flagged {100 * wide["recall"]["value"]:.0f} % of the duplicates,'
        f" and {100 * wide['precision']['value']:.0f} % of the flagged pairs were\nduplicates.\n"
    )


def share(metric: Metric) -> str:
    """`64 % (48 to 81 %)`"""
    value, low, high = (f"{100 * metric[key]:.0f}" for key in ("value", "low", "high"))
    return f"{value} % ({low} to {high} %)"


def retrieval() -> str:
    """Search among the questions of all worlds."""
    results = load("retrieval")
    lines = ["| bi-encoder | recall@10 | share of duplicates that are candidates | ROC AUC |", "|---|---|---|---|"]
    for name, row in _by_name(results["rows"]).items():
        title = name if name == "dupq" else f"{name} as published"
        cells = [figure(row[key]) for key in ("recall_at_10", "candidates", "roc_auc")]
        if name != "dupq":
            cells[1] = "-"  # the minimum cosine of the candidate rule was fitted for ours
        lines.append(f"| {title} | {' | '.join(cells)} |")
    lines += ["", f"{results['queries']:,} searches among {results['texts']:,} texts."]
    return "\n".join(lines) + "\n"


def verdicts() -> str:
    """What the verdicts of a simulated moderator are worth."""
    results = load("verdicts")
    head = (
        "calibration error before",
        "after",
        "without weights",
        "bias of the recall",
        "without weights",
        "intervals of precision and recall that hold",
    )
    lines = [f"| verdicts | {' | '.join(head)} |", f"|--:{'|---' * len(head)}|"]
    for count, step in results["steps"].items():
        cells = [f"{step['shipped error']['value']:.3f}", figure(step["calibrated error"])]
        cells.append(figure(step["without weights error"]))
        cells += [signed(step[name]) for name in ("recall bias", "recall bias without weights")]
        cells.append(f"{step['precision holds']['value']:.0%}, {step['recall holds']['value']:.0%}")
        lines.append(f"| {int(count):,} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def signed(metric: Metric) -> str:
    """`+0.01 (-0.02 to +0.04)`"""
    value, low, high = (f"{metric[key]:+.2f}" for key in ("value", "low", "high"))
    return f"{value} ({low} to {high})"


TABLES: dict[str, Callable[[], str]] = {
    "contrast": contrast,
    "elsewhere": elsewhere,
    "elsewhere_auc": elsewhere_auc,
    "elsewhere_calibration": elsewhere_calibration,
    "own_graph": lambda: int8_tables.contenders(optional("int8")),
    "own_graph_reading": lambda: int8_tables.reading(optional("int8")),
    "index_adds": lambda: tables.adds(optional("index")),
    "index_busy": lambda: tables.busy(optional("index")),
    "index_crashes": lambda: tables.crashes(optional("index")),
    "index_flags": lambda: tables.flags(optional("index")),
    "index_recalls": lambda: tables.recalls(optional("index")),
    "index_sizes": lambda: tables.sizes(optional("index")),
    "mined": mined,
    "mined_share": mined_share,
    "overview": overview,
    "quality": quality,
    "output_score": output_score,
    "retrieval": retrieval,
    "roofline_batches": lambda: roofline.batches(optional("roofline")),
    "roofline_operators": lambda: roofline.operators(optional("roofline")),
    "roofline_padding": lambda: roofline.padding(optional("roofline")),
    "roofline_peaks": lambda: roofline.peaks(optional("roofline")),
    "roofline_pruning": lambda: roofline.pruning(optional("roofline")),
    "roofline_reading": lambda: roofline.reading(optional("roofline")),
    "roofline_shares": lambda: roofline.shares(optional("roofline")),
    "roofline_threads": lambda: roofline.threads(optional("roofline")),
    "service_capacity": lambda: service_tables.capacity(optional("service")),
    "service_crashes": lambda: service_tables.crashes(optional("service")),
    "service_latency": lambda: service_tables.latency(optional("service")),
    "service_loads": lambda: service_tables.loads(optional("service")),
    "service_pressure": lambda: service_tables.pressure(optional("service")),
    "service_starts": lambda: service_tables.starts(optional("service")),
    "scale_costs": lambda: scale.costs(optional("scale")),
    "scale_end_to_end": lambda: scale.end_to_end(optional("scale")),
    "scale_engines": lambda: scale.engines(optional("scale")),
    "scale_peers": lambda: scale.peers(optional("scale")),
    "scale_recalls": lambda: scale.recalls(optional("scale")),
    "scale_scans": lambda: scale.scans(optional("scale")),
    "search_speed": lambda: search_tables.speed(optional("search")),
    "shipped": shipped,
    "speed": lambda: speed.readme(speed.results(RESULTS)),
    "speed_energy": lambda: speed.energy(speed.results(RESULTS)),
    "speed_flags": lambda: speed.flags(speed.results(RESULTS), optional("index")),
    "speed_mining": lambda: speed.mining(speed.results(RESULTS)),
    "speed_pairs": lambda: speed.pairs(speed.results(RESULTS)),
    "speed_sentences": lambda: speed.sentences(speed.results(RESULTS)),
    "speed_start": lambda: speed.start(speed.results(RESULTS)),
    "speed_stored": lambda: speed.stored(speed.results(RESULTS)),
    "speed_training": lambda: speed.training(speed.results(RESULTS)),
    "verdicts": verdicts,
    "worlds": worlds,
    "worlds_kinds": worlds_kinds,
}


def rendered(text: str) -> str:
    """Return the text of a page with every table written again from its results."""
    return _TABLE.sub(lambda match: match[1] + TABLES[match[2]]() + match[3], text)


def rewrite(page: Path) -> None:
    """Write the tables of one page again."""
    page.write_text(rendered(page.read_text(encoding="utf-8")), encoding="utf-8")


def write_pages(check: bool = False) -> bool:
    """Write every page whose tables differ from their results, or only look for one; return True if there was one."""
    stale = False
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        fresh = rendered(text)
        stale |= fresh != text
        if fresh != text and not check:
            page.write_text(fresh, encoding="utf-8")
    return stale


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    return int(write_pages(args.check) and args.check)


if __name__ == "__main__":
    sys.exit(main())
