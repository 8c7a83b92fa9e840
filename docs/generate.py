"""Write the pages and pictures that follow from the code, so that none of them can be out of date."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import dupq
from dupq.cli.main import build_parser

FOLDERS = {
    "data": "Reading, writing and splitting",
    "models": "Networks and scores",
    "calibration": "Scores to probabilities",
    "decisions": "Probabilities to decisions",
    "evaluation": "Measuring",
    "explain": "Two questions side by side",
    "training": "Training and distillation",
    "hub": "Folders and the Hub",
    "search": "Near vectors",
    "engine": "Units of work on several machines",
    "mining": "Mining a collection",
    "index": "The live index",
}
"""The folders of `dupq/` that the reference describes, in the order of the layers."""


def write_all(folder: Path) -> None:
    """Write all generated pages and pictures into a folder, which is made again."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "commands.md").write_text(command_page(), encoding="utf-8")
    (folder / "names.md").write_text(names_page(), encoding="utf-8")
    for name, title in FOLDERS.items():
        (folder / f"{name}.md").write_text(module_page(name, title), encoding="utf-8")
    for name, svg in pictures().items():
        (folder / f"{name}.svg").write_text(svg, encoding="utf-8")


# ---- commands -------------------------------------------------------------------------------------------------------


def commands(parser: argparse.ArgumentParser, words: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """Yield each command that can be run, in the order of the help, with its help text."""
    nested = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not nested:
        yield " ".join(words), parser.format_help()
    for action in nested:
        for name, child in action.choices.items():
            yield from commands(child, (*words, name))


def command_page() -> str:
    """Return the page of all commands, as MyST Markdown: the help of each, 100 columns wide."""
    before = {name: os.environ.get(name) for name in ("COLUMNS", "NO_COLOR")}
    os.environ.update(COLUMNS="100", NO_COLOR="1")
    try:
        found = list(commands(build_parser()))
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})
    sections = [f"## `dupq {name}`\n\n```text\n{text.strip()}\n```\n" for name, text in found]
    return "# Commands\n\nThe output of `dupq COMMAND --help`, for every command.\n\n" + "\n".join(sections)


# ---- modules --------------------------------------------------------------------------------------------------------


def modules(folder: str) -> list[str]:
    """Return the dotted names of the public modules in a folder of the package."""
    root = Path(dupq.__file__).parent
    paths = [path.relative_to(root).with_suffix("") for path in (root / folder).rglob("*.py")]
    return sorted(".".join(("dupq", *path.parts)) for path in paths if not path.name.startswith("_"))


def module_page(folder: str, title: str) -> str:
    """Return the page of a folder's modules, as MyST Markdown."""
    parts = [f"# {title}: `dupq.{folder}`\n"]
    for name in modules(folder):
        parts.append(
            f"## `{name}`\n\n```{{eval-rst}}\n.. automodule:: {name}\n   :members:\n   :show-inheritance:\n```\n"
        )
    return "\n".join(parts)


def names_page() -> str:
    """Return the public names with their documentation, as MyST Markdown without a title."""
    parts = []
    for name in dupq.__all__:
        if name.startswith("__"):
            continue
        is_class = name[0].isupper()  # by its name, because training cannot be imported without its extra
        kind, members = ("class", "   :members:\n") if is_class else ("function", "")
        parts.append(f"## `{name}`\n\n```{{eval-rst}}\n.. auto{kind}:: dupq.{name}\n{members}```\n")
    return "\n".join(parts)


# ---- pictures -------------------------------------------------------------------------------------------------------


def pictures() -> dict[str, str]:
    """Return the pictures of the explanations by name, as SVG text."""
    from scipy.special import expit, logit
    from scipy.stats import beta

    from dupq.evaluation.plots import COLOURS, PALE, Plot

    shipped = Path(dupq.__file__).parent / "pretrained"
    found = {path.stem: path.read_text(encoding="utf-8") for path in sorted(shipped.glob("*.svg"))}

    steps = [step / 100 for step in range(1, 100)]
    plot = Plot(
        "The same score at other base rates", "probability at a base rate of 35 %", "probability", (0, 1), (0, 1)
    )
    plot.line([(0, 0), (1, 1)], PALE, "at 35 %", dashed=True)
    for rate, colour in ((0.1, COLOURS[0]), (0.01, COLOURS[1])):
        shift = logit(rate) - logit(0.35)
        plot.line([(0, 0), *((p, float(expit(logit(p) + shift))) for p in steps), (1, 1)], colour, f"at {rate:.0%}")
    found["base_rate"] = plot.svg()

    sizes = range(10, 501, 10)
    plot = Plot(
        "Evidence and the precision that it supports",
        "flagged pairs in the evidence, one per question group",
        "lower bound, confidence 0.95",
        (0, 500),
        (0.6, 1),
    )
    for share, colour in ((0.98, COLOURS[2]), (0.95, COLOURS[0]), (0.9, COLOURS[1])):
        bounds = [(n, float(beta.ppf(0.05, share * n, n - share * n + 1))) for n in sizes]
        plot.line(bounds, colour, f"{share:.0%} of them are duplicates")
    plot.line([(0, 0.9), (500, 0.9)], PALE, "guarantee wanted: 0.9", dashed=True)
    found["evidence"] = plot.svg(legend="bottom-right")
    return found
