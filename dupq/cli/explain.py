"""`dupq explain`: show which words two questions share and where they conflict."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from dupq.cli.console import emit, note
from dupq.cli.pipeline_options import add_model_options, open_pipeline
from dupq.cli.score import note_warnings


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    explain = commands.add_parser("explain", parents=[shared], help="compare two questions word by word")
    explain.add_argument("question1", metavar="QUESTION1", help="first question")
    explain.add_argument("question2", metavar="QUESTION2", help="second question")
    explain.add_argument("--html", metavar="FILE", help="also write the explanation as a page (default: none)")
    add_model_options(explain)
    explain.set_defaults(run=run_explain)


def run_explain(args: argparse.Namespace) -> int:
    from dupq.data.writing import write_text

    explanation = open_pipeline(args).explain(args.question1, args.question2)
    if args.html:
        write_text(args.html, explanation.to_html())
        note(f"page -> {args.html}")
    result = explanation.result
    emit(args, explanation.to_dict(), explanation.to_text(colour=_terminal_has_colour()))
    if result is not None and not args.json:
        note_warnings(result)
    return 0


def _terminal_has_colour() -> bool:
    """Return True for a colour terminal without NO_COLOR (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
