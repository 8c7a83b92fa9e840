"""Print results, notes, tables and progress bars."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import StringIO
from shutil import get_terminal_size
from textwrap import fill
from threading import Timer
from typing import Any

SLOW_SECONDS = 1.0
"""Work that takes longer is announced, or gets a progress bar."""


def emit(args: argparse.Namespace, data: Any, text: str) -> None:
    """Print `data` as JSON under `--json`, and `text` otherwise.

    If the output file is `-`, print `text` on standard error.
    """
    if getattr(args, "output", None) == "-":
        note(text)
    else:
        print(json.dumps(data, ensure_ascii=False, indent=1) if args.json else text)


def note(text: str) -> None:
    """Print a line on standard error."""
    print(text, file=sys.stderr)


def join_lines(lines: Iterable[str]) -> str:
    """Join lines; for a terminal, wrap those that are too long for it."""
    if not sys.stdout.isatty():
        return "\n".join(lines)
    width = get_terminal_size().columns
    return "\n".join(line if "\n" in line else fill(line, width, subsequent_indent="  ") for line in lines)


def format_table(rows: Sequence[Sequence[object]], headers: Sequence[str] = (), indent: int = 0) -> str:
    """Return a table as text, numbers aligned at the right.

    Cells wrap to the width of a terminal. Elsewhere each row is one line, and there is no colour.

    Args:
        rows: Cells, m in each row; an int is written with thousands separators.
        headers: m column names; none if empty.
        indent: Spaces before each line.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    terminal = sys.stdout.isatty()
    stream = StringIO()
    width = get_terminal_size().columns if terminal else 1_000_000
    console = Console(file=stream, width=width - indent, force_terminal=terminal, highlight=False)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=bool(headers))
    for number in range(len(rows[0]) if rows else len(headers)):
        numeric = bool(rows) and all(isinstance(row[number], (int, float)) for row in rows)
        table.add_column(headers[number] if headers else "", justify="right" if numeric else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(f"{cell:,}" if isinstance(cell, int) else str(cell)) for cell in row))
    console.print(table)
    return "\n".join(" " * indent + line.rstrip() for line in stream.getvalue().splitlines())


@contextmanager
def note_if_slow(text: str) -> Iterator[None]:
    """Print a line on standard error if the work takes more than a second."""
    timer = Timer(SLOW_SECONDS, note, [text])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@contextmanager
def progress_bar(title: str, total: int | None = None) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on standard error once the work has taken a second.

    Yields:
        A function of (done, total), which updates the bar.
    """
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
