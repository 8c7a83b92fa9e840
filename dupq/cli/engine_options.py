"""Options of commands that run their heavy stages through an engine."""

from __future__ import annotations

import argparse
from contextlib import AbstractContextManager, closing, nullcontext
from typing import TYPE_CHECKING

from dupq.errors import InputError

if TYPE_CHECKING:
    from dupq.engine.base import Engine
    from dupq.engine.work_folder import WorkFolder


def add_engine_options(parser: argparse.ArgumentParser, *, work: str | None = None) -> None:
    """Add the options that choose an engine.

    Args:
        parser: The parser of a command.
        work: Default of the work folder in its help; None: the command has another place for it.
    """
    group = parser.add_argument_group("engine")
    group.add_argument(
        "--engine",
        choices=("local", "ray"),
        help="run the heavy stages in processes of this machine, or on Ray (default: in this process)",
    )
    group.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes of the engine; without --engine, on this machine (default: 1, on Ray every free CPU)",
    )
    group.add_argument(
        "--address", metavar="ADDRESS", help="address of a Ray cluster; `auto` for a running one (default: a new one)"
    )
    if work is not None:
        group.add_argument(
            "--work",
            metavar="DIR|URL",
            help="folder that keeps the work of an interrupted run; an engine needs one that every worker reaches "
            f"(default: {work})",
        )
    group.add_argument("--fresh", action="store_true", help="delete the work of an interrupted run and start again")


def open_engine(args: argparse.Namespace) -> Engine | None:
    """Return the engine that the options of `add_engine_options` describe.

    It is None without `--engine` and `--workers`.

    Raises:
        InputError: An option is out of its range, or needs another one.
        MissingExtraError: Ray is not installed.
    """
    if args.address is not None and args.engine != "ray":
        raise InputError("--address needs --engine ray", hint="add it, or leave out --address")
    if args.engine is None and args.workers is None:
        return None
    if args.engine == "ray":
        from dupq.engine.ray import RayEngine

        ray: Engine = RayEngine(address=args.address, actors=args.workers)
        return ray
    from dupq.engine.local import LocalEngine

    return LocalEngine(1 if args.workers is None else args.workers)


def closing_engine(engine: Engine | None) -> AbstractContextManager[object]:
    """Return a context that closes an engine, if there is one."""
    return nullcontext() if engine is None else closing(engine)


def open_work(args: argparse.Namespace) -> WorkFolder:
    """Return the work folder of an engine.

    Raises:
        InputError: None is named.
        MissingExtraError: A URL needs the extra "ray".
    """
    from dupq.engine.work_folder import WorkFolder

    if not args.work:
        raise InputError("--engine needs --work", hint="add --work FOLDER, a folder or URL that every worker reaches")
    return WorkFolder(args.work)
