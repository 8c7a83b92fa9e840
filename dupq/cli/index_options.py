"""Arguments that the commands of an index share."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

from dupq.cli.pipeline_options import add_running_options
from dupq.errors import InputError

if TYPE_CHECKING:
    from dupq.index.question_index import QuestionIndex

ID_TYPES = ("auto", "int", "text")
DB_HELP = "index made by `dupq index add`: a file, or postgresql://user@host/database"


def add_index(parser: argparse.ArgumentParser, help_text: str = DB_HELP) -> None:
    """Add the argument DB and the option `--wait`."""
    parser.add_argument("index", metavar="DB", help=help_text)
    parser.add_argument(
        "--wait", type=float, metavar="SECONDS", default=60.0, help="seconds to wait for another writer (default: 60)"
    )


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the options that open the pipeline as it is."""
    parser.add_argument("--model", metavar="DIR|ID", help="pipeline folder or Hub id (default: the shipped model)")
    add_running_options(parser)
    parser.set_defaults(policy=None, miss_rate=None, delta=None, base_rate=None, allow_unknown_language=False)


def add_id_type(parser: argparse.ArgumentParser) -> None:
    """Add the option that sets the type of ids on the command line."""
    parser.add_argument(
        "--id-type",
        choices=ID_TYPES,
        default="auto",
        help="read ids as whole numbers or as text (default: auto, as they are stored)",
    )


def open_without_model(args: argparse.Namespace) -> QuestionIndex:
    """Open the index of a command to inspect and maintain it."""
    from dupq.index.question_index import QuestionIndex

    return QuestionIndex(args.index, wait=args.wait)


def index_files(args: argparse.Namespace) -> dict[str, str]:
    """Return the files of an index, which no output may replace; none for a URL."""
    from dupq.index.stores import is_url

    endings = () if is_url(args.index) else ("", "-wal", "-shm", ".vectors")
    return {f"DB{ending}": f"{args.index}{ending}" for ending in endings}


def typed_ids(given: Sequence[str], id_type: str, index: QuestionIndex) -> list[int | str]:
    """Return the ids of the command line as int or str.

    Where the index holds both, `--id-type` has to choose.

    Raises:
        InputError: An id is no number under `--id-type int`, or is stored as a number and as a text.
    """
    ids: list[int | str] = []
    for text in given:
        number = _whole_number(text)
        if id_type == "int" and number is None:
            raise InputError(
                f"ID must be a whole number of at most 64 bits, got {text!r}", hint="use --id-type text for a text"
            )
        if id_type != "auto" or number is None:
            ids.append(text if number is None or id_type == "text" else number)
        elif number in index and text in index:
            raise InputError(
                f"the number {number} and the text {text!r} are two ids of the index; nothing was changed",
                hint="add --id-type int or --id-type text",
            )
        else:
            ids.append(number if number in index else text)
    return ids


def _whole_number(text: str) -> int | None:
    """Return the 64-bit integer that has exactly this text, or None."""
    if not (text.isascii() and text.lstrip("-").isdigit() and len(text) <= 20):
        return None
    number = int(text) if text.count("-") <= 1 else 0
    return number if str(number) == text and -(2**63) <= number < 2**63 else None
