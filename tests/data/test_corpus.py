"""Files made by rule: every record of each is accepted or rejected once, or one error names the row."""

from __future__ import annotations

import csv
import gzip
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import pytest

from dupq.data.reading import (
    Columns,
    FileOptions,
    ReadReport,
    file_rows,
    read_rows,
)
from dupq.errors import InputError

DELIMITERS = (",", ";", "\t", "|")
QUOTINGS = ("minimal", "all", "backslash", "none")
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "cp1252")
ENDS = ("\n", "\r\n", "\r")
DAMAGES = (
    "none",
    "short row",
    "long row",
    "text after a closing quote",
    "text after a closing quote, many lines",
    "broken byte",
    "unclosed quote",
    "unclosed quote at the end",
    "blank lines",
    "NUL",
)
ROWS, HURT = 26, 13
HEADER = ["id", "title", "body", "created"]
BROKEN = "\ue000"
"""Stands for a byte that cannot be decoded."""
CASES = Path(__file__).parent / "cases"


@dataclass(frozen=True)
class Rule:
    delimiter: str
    quoting: str
    encoding: str
    end: str
    damage: str

    @property
    def name(self) -> str:
        return " ".join(repr(part) for part in (self.delimiter, self.quoting, self.encoding, self.end, self.damage))

    @property
    def quotes(self) -> bool:
        return self.quoting != "none"


def rules() -> Iterator[Rule]:
    """Every way of writing with every fourth kind of damage, and every kind of damage in plain UTF-8."""
    seen = set()
    for number, (delimiter, quoting, encoding, end) in enumerate(product(DELIMITERS, QUOTINGS, ENCODINGS, ENDS)):
        for damage in ("none", DAMAGES[number % len(DAMAGES)]):
            seen.add(Rule(delimiter, quoting, encoding, end, damage))
    for delimiter, quoting, damage in product(DELIMITERS, QUOTINGS, DAMAGES):
        seen.add(Rule(delimiter, quoting, "utf-8", "\n", damage))
    possible = (rule for rule in seen if rule.quotes or "quote" not in rule.damage)
    return iter(sorted(possible, key=lambda rule: rule.name))


def fields_of(rule: Rule, row: int) -> list[str]:
    mark = rule.delimiter
    bodies = [
        f"naïve m{row}_2 words, many; of | them",
        f'say "hi" m{row}_2 now\\then',
        f"first{mark} m{row}_2\nsecond line{mark} of{mark} m{row}_2{mark} fields\n\nend",
        f'{mark} m{row}_2 ends in a quote "so"',
    ]
    fields = [f"x{row}", f"How m{row}_1, zurück?", bodies[row % 4], "2021-02-05"]
    if rule.quotes:
        return fields
    marks = {mark, "\n", "\\", '"'}
    return ["".join(" " if character in marks else character for character in field) for field in fields]


def written(rule: Rule, field: str) -> str:
    if rule.quoting == "none":
        return field
    if rule.quoting == "backslash":
        return '"' + field.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if rule.quoting == "all" or any(character in field for character in (rule.delimiter, '"', "\n", "\r")):
        return '"' + field.replace('"', '""') + '"'
    return field


def content(rule: Rule) -> bytes:
    lines = [rule.delimiter.join(written(rule, name) for name in HEADER)]
    hurt = ROWS if rule.damage == "unclosed quote at the end" else HURT
    for row in range(1, ROWS + 1):
        fields = [written(rule, field) for field in fields_of(rule, row)]
        if row == hurt and rule.damage != "none":
            fields = damaged(rule, fields, row)
        lines.append(rule.delimiter.join(fields))
        if row == hurt and rule.damage == "blank lines":
            lines += ["", ""]
    text = rule.end.join(lines) + rule.end
    before, *after = text.split(BROKEN)
    broken = {"utf-16": b"\x00\xd8", "cp1252": b"\x81"}.get(rule.encoding, b"\xe9")
    plain = rule.encoding if rule.encoding != "utf-16" else "utf-16-le"
    start = b"\xff\xfe" if rule.encoding == "utf-16" else b""
    later = "utf-8" if rule.encoding == "utf-8-sig" else plain
    return start + broken.join([before.encode(plain), *(part.encode(later) for part in after)])


def damaged(rule: Rule, fields: list[str], row: int) -> list[str]:
    if rule.damage == "short row":
        return fields[:-1]
    if rule.damage == "long row":
        return [*fields, f"m{row}_4"]
    if rule.damage == "broken byte":
        return [fields[0], fields[1].replace("How", f"How {BROKEN}"), *fields[2:]]
    if rule.damage == "NUL":
        return [fields[0], fields[1].replace("How", "How \0"), *fields[2:]]
    if rule.damage.startswith("unclosed"):
        return [fields[0], '"' + fields[1].strip('"'), *fields[2:]]
    if rule.damage.startswith("text after"):
        body = written(rule, fields_of(rule, 2)[2].replace("m2", f"m{row}")) if "many" in rule.damage else fields[2]
        return [fields[0], f'"How m{row}_1" then?', body, fields[3]]
    return fields


def problem_of(rule: Rule, path: Path) -> str:
    """Read a file, and return what is wrong with the account of its records, or ""."""
    path.write_bytes(content(rule))
    # Where a byte is broken, nothing shows that a file is cp1252.
    options = FileOptions(encoding="cp1252") if (rule.encoding, rule.damage) == ("cp1252", "broken byte") else None
    report = ReadReport(skip_bad=True)
    hurt = {"none": 0, "blank lines": 0, "unclosed quote at the end": ROWS}.get(rule.damage, HURT)
    moved = 2 if rule.damage == "blank lines" else 0
    accepted: dict[int, list[str]] = {}
    try:
        for pair, row in read_rows(path, columns=Columns("title", "body"), options=options, report=report):
            if pair.row in accepted:
                return f"row {pair.row} twice"
            accepted[pair.row] = list(row.values())
    except InputError as error:
        if rule.damage.startswith("unclosed") and error.location == f"{path}, row {hurt}":
            return ""
        return f"{type(error).__name__}: {error}"
    if report.rows != len(accepted) + report.rejected or report.accepted != len(accepted):
        return f"{report.rows} rows, {len(accepted)} accepted, {report.rejected} rejected"
    good = [row for row in range(1, ROWS + 1) if row != hurt]
    # A quotation mark that is not closed may divide its own record, and so move the numbers of those after it.
    numbers = sorted(accepted) if rule.damage.startswith("unclosed") else [row + moved * (row > HURT) for row in good]
    if sorted(accepted) != numbers or len(accepted) != len(good):
        return f"rows {sorted(accepted)} accepted; {report.reasons}"
    for number, row in zip(numbers, good, strict=True):
        if accepted[number] != fields_of(rule, row):
            return f"row {number} is {accepted[number]}, not {fields_of(rule, row)}; notes {report.notes}"
    if hurt and not report.rejected:
        return "the damaged row was not rejected"
    if hurt and not rule.damage.startswith("unclosed") and report.rejected != 1:
        return f"{report.rejected} rejected: {report.reasons}"
    return ""


def test_every_record_of_every_file_is_accepted_or_rejected_once(tmp_path: Path) -> None:
    every = list(rules())
    assert len(every) >= 200
    problems = {rule.name: problem_of(rule, tmp_path / "corpus.csv") for rule in every}
    assert {name: problem for name, problem in problems.items() if problem} == {}


@pytest.mark.parametrize("path", sorted(CASES.glob("*.*sv")), ids=lambda path: path.name)
def test_every_line_of_a_real_export_is_accounted_for(path: Path) -> None:
    """The words of the file are those of its rows, where none was rejected; else the rejected ones are counted."""
    report = ReadReport(skip_bad=True)
    try:
        rows = [row for _, row in file_rows(path, None, path.name, report)]
    except InputError as error:
        known = {
            "badquote.csv": "row 13: a quotation",
            "dup_hdr.csv": "line 1: the header names the column 'title' twice",
        }
        known |= {"empty.csv": "the file is empty", "header_only.csv": "there are no rows"}
        if known[path.name] in str(error):
            return
        raise
    assert report.rows == len(rows) + report.rejected
    if report.rejected:
        assert (path.name, report.rejected) in {("long_row.csv", 1), ("short_row.csv", 1), ("nul.csv", 1)}
        return
    text = "\n".join(str(value) for row in rows for value in row.values())
    raw = path.read_bytes()
    for packing in ("gzip", "utf-16", "cp1252"):
        if any(packing in note for note in report.notes):
            raw = gzip.decompress(raw) if packing == "gzip" else raw.decode(packing).encode()
    below = raw.decode("utf-8-sig").replace("\\N", "").split(next(iter(rows[0])), 1)[1]
    words = sorted(re.findall(r"\w+", below.partition("\n" if b"\n" in raw.splitlines(True)[0] else "\r")[2]))
    assert words == sorted(re.findall(r"\w+", text))


def test_the_writer_of_python_is_read_back_in_every_dialect(tmp_path: Path) -> None:
    for delimiter, quoting, end in product(DELIMITERS, (csv.QUOTE_MINIMAL, csv.QUOTE_ALL), ("\n", "\r\n")):
        stream = io.StringIO()
        writer = csv.writer(stream, delimiter=delimiter, quoting=quoting, lineterminator=end)
        rows = [["1", 'a "b" c', f"x{delimiter}y\nz"], ["2", "d", 'e\r"'], ["3", " f ", "g, h; i | j"]]
        writer.writerows([["id", "one", "two"], *rows])
        (tmp_path / "a.csv").write_bytes(stream.getvalue().encode())
        found = file_rows(tmp_path / "a.csv", None, "a.csv", ReadReport())
        assert [list(row.values()) for _, row in found] == rows
