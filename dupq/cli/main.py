"""Run the command line `dupq`.

It is built on argparse, which is imported in milliseconds.
"""

from __future__ import annotations

import argparse
import errno
import os
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from typing import Any

from dupq.cli.console import note
from dupq.errors import DupqError, require_extra
from dupq.version import __version__

GROUPS = {
    "Everyday": ("score", "explain", "mine", "embed", "index"),
    "Service": ("serve", "token", "webhook"),
    "Making a model": ("train", "distill", "calibrate"),
    "Data": ("data",),
    "Model folders": ("model",),
}
"""Heading of `dupq --help` -> the modules of this folder that add the commands below it."""

SHELLS = ("bash", "zsh", "fish")
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class _Parser(argparse.ArgumentParser):
    """A parser that takes options and positional arguments in any order."""

    _intermixing = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if _subcommands(self) is not None or self._intermixing:
            return super().parse_known_args(args, namespace)
        self._intermixing = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._intermixing = False


class _GroupedParser(_Parser):
    """A parser whose help lists all commands below the headings of `headings`."""

    headings: dict[str, list[str]]

    def format_help(self) -> str:
        formatter = argparse.HelpFormatter(self.prog, max_help_position=27)
        formatter.add_usage(self.usage, self._actions, self._mutually_exclusive_groups)
        formatter.add_text(self.description)
        for heading, names in self.headings.items():
            formatter.start_section(heading)
            formatter.add_arguments([line for name in names for line in _help_lines(self, name)])
            formatter.end_section()
        formatter.start_section("Options")
        formatter.add_arguments(self._optionals._group_actions)
        formatter.end_section()
        formatter.add_text("Run dupq COMMAND --help for the options of a command.")
        return formatter.format_help()


def _subcommands(parser: argparse.ArgumentParser) -> argparse._SubParsersAction[Any] | None:
    return next((action for action in parser._actions if isinstance(action, argparse._SubParsersAction)), None)


def _help_lines(parser: argparse.ArgumentParser, name: str) -> Iterator[argparse.Action]:
    """Yield one line of help for a command, or for each command below it."""
    commands = _subcommands(parser)
    if commands is None:
        return
    below = _subcommands(commands.choices[name])
    for line in commands._choices_actions if below is None else below._choices_actions:
        if below is not None or line.dest == name:
            full_name = name if below is None else f"{name} {line.dest}"
            yield argparse.Action([], dest=full_name, metavar=full_name, help=line.help)


class _PrintCompletion(argparse.Action):
    """An option that prints a completion script for a shell, and ends the program."""

    def __call__(self, parser: argparse.ArgumentParser, _: Any, shell: Any, option: str | None = None) -> None:
        require_extra("completion", "shell completion")
        import shtab

        _complete_files(parser, shtab.FILE)
        print(shtab.complete(parser, shell=shell))
        parser.exit()


def _complete_files(parser: argparse.ArgumentParser, files: Any) -> None:
    """Complete file names for every argument that is neither a choice nor a number."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                _complete_files(below, files)
        elif action.nargs != 0 and action.choices is None and action.type is None:
            action.complete = files  # type: ignore[attr-defined]


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--json", action="store_true", help="print the result as JSON")
    parser = _GroupedParser(prog="dupq", description="Find duplicate questions, with calibrated probabilities.")
    parser.add_argument("--version", action="version", version=f"dupq {__version__}", help="print the version")
    parser.add_argument(
        "--print-completion",
        action=_PrintCompletion,
        choices=SHELLS,
        help="print a completion script for this shell (needs dupq[completion])",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    parser.headings = {}
    for heading, modules in GROUPS.items():
        before = [*commands.choices]
        for module in modules:
            import_module(f"dupq.cli.{module}").add_commands(commands, shared)
        parser.headings[heading] = [name for name in commands.choices if name not in before]
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    An error that a user can act on becomes one message on standard error. Any other exception is a bug and is raised.

    Args:
        argv: The words after `dupq`; those of this process if None.

    Returns:
        The exit status: 0 = done, 1 = done with a negative finding, 2 = an error was reported, 130 = interrupted.
    """
    arguments = sys.argv[1:] if argv is None else [*argv]
    parser = build_parser()
    # The networks have threads of their own, and the tokenizers warn about theirs when a process forks.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    # Loading and saving are short; their bars would flash between ours.
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    try:
        if not arguments:
            print(parser.format_help(), end="")
            status = 0
        else:
            args = parser.parse_args(arguments)
            status = int(args.run(args))
        # A full disk behind standard output is found here, where it can still be reported.
        sys.stdout.flush()
    except DupqError as error:
        note(f"dupq: {error}")
        status = 2
    except BrokenPipeError:
        # The reader of the pipe has closed it, as `head` does: this is no error.
        _silence_stdout()
        status = 0
    except OSError as error:
        location = f"{error.filename}: " if error.filename else ""
        hint = "free space, or write elsewhere" if error.errno in _DISK_FULL else "check the path and the permissions"
        note(f"dupq: {location}{error.strerror or error}\n  -> {hint}")
        _silence_stdout()
        status = 2
    except UnicodeEncodeError as error:
        character = ascii(error.object[error.start : error.end])
        note(f"dupq: {error.encoding} cannot encode {character} of the output\n  -> set PYTHONIOENCODING=utf-8")
        _silence_stdout()
        status = 2
    except MemoryError:
        note("dupq: there is not enough memory\n  -> give fewer questions or pairs at a time, or free memory")
        status = 2
    except KeyboardInterrupt:
        note("dupq: interrupted; run the same command again to resume")
        status = 130
    return status


def _silence_stdout() -> None:
    """Discard the rest of standard output.

    Python flushes it on exit, which would fail a second time.
    """
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):  # standard output is no file
        return
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), descriptor)


if __name__ == "__main__":
    sys.exit(main())
