"""Files of single questions with their ids: CSV, TSV, JSONL, Parquet, or the dump of a Stack Exchange forum."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dupq.data.reading import Skipped, file_rows, require_columns
from dupq.data.stackexchange import read_posts
from dupq.data.text import check_text
from dupq.errors import InputError

ID_COLUMNS = ("id", "Id", "ID", "qid", "question_id", "post_id")
TEXT_COLUMNS = ("text", "question", "title", "Title", "Text", "Question")
CREATED_COLUMNS = ("created", "created_at", "CreationDate", "date", "timestamp")


@dataclass(frozen=True, slots=True)
class Question:
    """A question of a file.

    Attributes:
        id: As the file has it: text from CSV and TSV, a number where JSONL, Parquet or a dump has one; the row, counted
            from 1, where the file has no ids.
        text: The text columns, joined by a line break where there are several.
        created: When it was asked, as the file has it, or None.
    """

    id: int | str
    text: str
    created: str | None = None


def read_questions(
    source: str | Path,
    *,
    id_column: str | None = None,
    text_columns: Sequence[str] = (),
    created_column: str | None = None,
    file_format: str | None = None,
    skipped: Skipped | None = None,
) -> Iterator[Question]:
    """Reads questions one at a time, in constant memory.

    Args:
        source: A file, `-` for standard input, a `Posts.xml`, or the folder of a Stack Exchange dump.
        id_column, created_column: None: looked for among the usual names, and done without where there is none.
        text_columns: One or more; none: looked for among the usual names.
        file_format: "tsv", "csv", "jsonl" or "parquet", where the name does not tell.
        skipped: Where to note bad rows and go on; None: the first bad row raises.

    Raises:
        InputError: Naming file and row; for a missing file, unknown columns, a bad text or id.
    """
    path = Path(source)
    if path.is_dir() or ".xml" in path.suffixes:
        for post in read_posts(path, skipped):
            yield Question(post.id, post.title, post.created)
        return

    def refuse(error: InputError) -> None:
        if skipped is None:
            raise error
        skipped.add(error)

    name = "standard input" if str(source) == "-" else str(source)
    columns: tuple[str | None, Sequence[str], str | None] | None = None
    for number, row in file_rows(source, file_format, name, refuse):
        if columns is None:
            columns = _columns(list(row), id_column, text_columns, created_column, name)
        at = f"{name}, row {number}"
        try:
            parts = [check_text(row.get(column), f"{at}, column {column!r}") for column in columns[1]]
            text = parts[0] if len(parts) == 1 else check_text("\n".join(parts), at)
            id_ = number if columns[0] is None else row.get(columns[0])
            if isinstance(id_, bool) or not isinstance(id_, (int, str)) or id_ == "":
                raise InputError(
                    f"the id is {id_!r}", where=f"{at}, column {columns[0]!r}", mend="give a number or a word"
                )
        except InputError as error:
            refuse(error)
            continue
        created = row.get(columns[2]) if columns[2] else None
        yield Question(id_, text, None if created is None or created == "" else str(created))


def _columns(
    names: list[str], id_column: str | None, text_columns: Sequence[str], created_column: str | None, source: str
) -> tuple[str | None, Sequence[str], str | None]:
    require_columns(filter(None, (id_column, created_column, *text_columns)), names, source)

    def usual(known: Sequence[str]) -> str | None:
        return next((name for name in known if name in names), None)

    if not text_columns:
        text = usual(TEXT_COLUMNS)
        if text is None:
            raise InputError(
                "no column of questions was found",
                where=source,
                mend=f"name it with --text-column NAME; columns: {', '.join(names)}",
            )
        text_columns = [text]
    return id_column or usual(ID_COLUMNS), text_columns, created_column or usual(CREATED_COLUMNS)
