"""`dupq explain`: which words of two questions answer to each other, and what conflicts."""

from __future__ import annotations

import argparse
import os
import sys
from typing import Any

from dupq.cli.console import emit, note
from dupq.cli.scoring import add_model_options, open_pipeline


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    explain = commands.add_parser("explain", parents=[shared], help="lay two questions side by side, word by word")
    explain.add_argument("question1", metavar="QUESTION1")
    explain.add_argument("question2", metavar="QUESTION2")
    explain.add_argument("--html", metavar="FILE", help="write it as a page too")
    add_model_options(explain)
    explain.set_defaults(run=run_explain)


def run_explain(args: argparse.Namespace) -> int:
    from dupq.data.writing import write_text

    explanation = open_pipeline(args).explain(args.question1, args.question2)
    if args.html:
        write_text(args.html, explanation.to_html())
        note(f"page -> {args.html}")
    emit(args, explanation.to_dict(), explanation.to_text(colour=_colour_wanted()))
    return 0


def _colour_wanted() -> bool:
    """A terminal that can show colour, whose user has not set NO_COLOR (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
