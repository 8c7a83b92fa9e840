"""What the commands share: speaking to the user, progress bars, and options that stand in several commands."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Timer
from typing import Any

from dupq.data.reading import FORMATS, Columns, Skipped
from dupq.errors import InputError

SLOW_SECONDS = 1.0
"""What takes longer is told of."""

Handler = Callable[[argparse.Namespace], int]


def emit(args: argparse.Namespace, data: Any, text: str) -> None:
    """Prints `data` as JSON under `--json`, and `text` otherwise."""
    print(json.dumps(data, ensure_ascii=False, indent=1) if args.json else text)


def note(text: str) -> None:
    """Says something beside the result: on standard error."""
    print(text, file=sys.stderr)


@contextmanager
def told_if_slow(text: str) -> Iterator[None]:
    """Says what goes on, on standard error, once it has taken a second: for work that cannot say how far it is."""
    timer = Timer(SLOW_SECONDS, note, [text])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def progress_bar(title: str, total: int | None = None) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error that appears once the work has taken a second; gives a function of (done, total)."""
    started = time.monotonic()
    bar: Any = None
    task: Any = None

    def update(done: int, of: int) -> None:
        nonlocal bar, task
        if bar is None:
            if time.monotonic() - started < SLOW_SECONDS:
                return
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )

            bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TimeRemainingColumn(),
                console=Console(stderr=True),
                transient=not sys.stderr.isatty(),
            )
            bar.start()
            task = bar.add_task(title, total=total)
        bar.update(task, completed=done, total=of or total)

    try:
        yield update
    finally:
        if bar is not None:
            bar.stop()


def add_reading_options(parser: argparse.ArgumentParser, labelled: bool = True) -> None:
    """The options of a command that reads a file of pairs."""
    parser.add_argument("--columns", nargs=2, metavar=("NAME1", "NAME2"), help="the two question columns")
    if labelled:
        parser.add_argument("--label-column", metavar="NAME", help="the column of labels: 1 = duplicate, 0 = distinct")
    parser.add_argument("--format", choices=FORMATS, help="format of the input, where its name does not tell")
    parser.add_argument("--skip-bad", action="store_true", help="leave out bad rows, count and list them")


def reading_options(args: argparse.Namespace) -> dict[str, Any]:
    """The keyword arguments for `read_pairs` and its like that `add_reading_options` asked for."""
    first, second = args.columns or (None, None)
    return {
        "columns": Columns(first, second, getattr(args, "label_column", None)),
        "file_format": args.format,
        "skipped": Skipped() if args.skip_bad else None,
    }


def report_skipped(skipped: Skipped | None) -> None:
    """Lists on standard error what was left out."""
    if skipped is not None and skipped.count:
        note(f"left out {skipped.count:,} bad rows:")
        for reason in skipped.reasons[:20]:
            note(f"  {reason}")
        if skipped.count > 20:
            note(f"  ... and {skipped.count - 20:,} more")


def parse_where(values: list[str] | None) -> dict[str, str] | None:
    """`["natural=1"]` -> `{"natural": "1"}`."""
    if not values:
        return None
    pairs = [value.partition("=") for value in values]
    for name, equals, _ in pairs:
        if not name or not equals:
            raise InputError(f"{name!r} is not COLUMN=VALUE", mend="write it as natural=1")
    return {name: value for name, _, value in pairs}
