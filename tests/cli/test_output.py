"""The output for people: short by default, in full under `--verbose`, wrapped and coloured for a terminal only."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dupq.cli import console
from dupq.cli.main import main
from dupq.cli.pipeline_options import format_percent, threshold_line
from dupq.data.writing import write_rows
from dupq.pipeline import DuplicatePipeline
from tests.fakes import WordEmbedder, WordScorer
from tests.questions import INTENTS, labelled_table

TEXTS = [phrase.format(thing="chess") for asked in INTENTS for phrase in asked]


@pytest.fixture(scope="module")
def pipeline() -> DuplicatePipeline:
    return DuplicatePipeline(WordScorer(), WordEmbedder()).calibrate(labelled_table())


# ---- the line on the threshold ---------------------------------------------------------------------------------------


def test_the_line_names_policy_pairs_and_confidence(pipeline: DuplicatePipeline) -> None:
    plain = threshold_line(pipeline.decider)
    assert plain == "Threshold: highest F1 on 960 labelled pairs; no guarantee (--verbose: details)"
    guaranteed = pipeline.with_policy("recall>=0.6", 0.3, delta=0.1).decider
    assert threshold_line(guaranteed) == "Threshold: recall >= 0.6 with confidence 90 % (--verbose: details)"
    assert threshold_line(guaranteed, distinct=True) == (
        "At most 30 % of duplicates fall below it, confidence 90 % (--verbose: details)"
    )
    assert threshold_line(pipeline.decider, distinct=True) == plain  # it has no distinct threshold


def test_a_warning_of_the_rule_is_never_hidden(pipeline: DuplicatePipeline) -> None:
    decider = pipeline.decider
    warned = replace(decider, rule=replace(decider.rule, warning="the pairs are old"))
    assert threshold_line(warned).splitlines()[1:] == ["WARNING: the pairs are old"]


def test_a_threshold_by_hand_or_another_base_rate_has_no_guarantee(pipeline: DuplicatePipeline) -> None:
    decider = pipeline.decider
    assert threshold_line(decider.at(threshold=0.7)).startswith("Threshold: 0.7, set by hand; no guarantee")
    moved = replace(decider, rule=replace(decider.rule, table=None).at_base_rate(0.015))
    assert threshold_line(moved).startswith("Threshold: no guarantee at a base rate of 1.5 %")
    unsupported = replace(decider, warning="too few pairs", base_rate=0.015)
    assert threshold_line(unsupported).startswith("Threshold: no guarantee at a base rate of 1.5 %")


def test_percentages_have_three_digits() -> None:
    assert [format_percent(share) for share in (0.35294, 0.05, 1, 0.00012345)] == ["35.3 %", "5 %", "100 %", "0.0123 %"]


# ---- flags -----------------------------------------------------------------------------------------------------------


def test_flags_hide_distinct_questions_unless_verbose(
    pipeline: DuplicatePipeline,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("dupq.cli.index.open_pipeline", lambda args: pipeline)
    write_rows("q.csv", [{"id": f"q{at}", "text": text} for at, text in enumerate(TEXTS)], ["id", "text"])
    assert main(["index", "add", "my.db", "q.csv"]) == 0
    capsys.readouterr()
    assert main(["flag", "my.db", TEXTS[0], "-k", "18", "--threshold", "0.9"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith(f"of the 18 nearest of {len(TEXTS)} stored questions")
    assert lines[1].split() == ["decision", "probability", "id", "question"]
    assert lines[2].split(maxsplit=3) == ["duplicate", "1.000", "q0", TEXTS[0]]
    assert "  distinct" not in "\n".join(lines)
    assert lines[-1] == "Threshold: 0.9, set by hand; no guarantee (--verbose: details)"
    assert main(["flag", "my.db", TEXTS[0], "-k", "18", "--threshold", "0.9", "--verbose"]) == 0
    verbose = capsys.readouterr().out
    assert "  distinct" in verbose
    assert "threshold: duplicate from a probability of 0.900, set by hand: nothing is guaranteed" in verbose
    assert "\033" not in verbose


# ---- tables and terminals --------------------------------------------------------------------------------------------


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(console, "get_terminal_size", lambda: os.terminal_size((40, 24)))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)


ROWS: list[tuple[Any, ...]] = [(12000, "[bold]a[/bold]"), (3, "b " * 30)]


def test_a_table_is_plain_text_where_there_is_no_terminal() -> None:
    table = console.format_table(ROWS, ("count", "text"), indent=2)
    assert table.splitlines() == [
        "   count  text",
        "  12,000  [bold]a[/bold]",
        "       3  " + ("b " * 30).rstrip(),
    ]


def test_a_table_fits_the_terminal(terminal: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    assert max(map(len, console.format_table(ROWS, indent=2).splitlines())) <= 40


def test_only_a_terminal_has_colour(terminal: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "\033[1m" in console.format_table(ROWS, ("count", "text"))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False, raising=False)
    assert "\033" not in console.format_table(ROWS, ("count", "text"))


def test_long_lines_wrap_in_a_terminal_only(terminal: None, monkeypatch: pytest.MonkeyPatch) -> None:
    table = "a" * 50 + "\n" + "b" * 50
    wrapped = console.join_lines(["word " * 12, table])
    assert wrapped.splitlines()[1].startswith("  word")
    assert wrapped.endswith(table)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False, raising=False)
    assert console.join_lines(["word " * 12, "short"]) == "word " * 12 + "\nshort"
