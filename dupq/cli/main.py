"""The command `dupq`. argparse, because it is there: a first answer must not wait for the import of a framework."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

from dupq import __version__
from dupq.cli.console import note
from dupq.errors import DupqError

FAMILIES = ("scoring", "explaining", "data", "training", "distilling", "deciding", "sharing", "forum", "index")


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", action="store_true", help="machine-readable output")
    parser = argparse.ArgumentParser(
        prog="dupq", description="Tell whether two questions ask the same thing, and find the duplicates of a forum."
    )
    parser.add_argument("--version", action="version", version=f"dupq {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for family in FAMILIES:
        import_module(f"dupq.cli.{family}").add_commands(commands, shared)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command; returns the exit status: 0 = done, 2 = an error that was told, 130 = interrupted."""
    args = build_parser().parse_args(argv)
    # The tokenizers' own threads only get in the way of the networks', and warn when a process forks.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # Loading and saving take a moment each; their bars would only flash between ours.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    try:
        return int(args.run(args))
    except DupqError as error:
        note(f"dupq: {error}")
        return 2
    except BrokenPipeError:
        # The reader of a pipe has gone, as `head` does: no error of ours. Python would still flush on exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        note("dupq: interrupted; the same command goes on from where it can")
        return 130


if __name__ == "__main__":
    sys.exit(main())
