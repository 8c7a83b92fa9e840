from __future__ import annotations

import bz2
import csv
import gzip
import io
import itertools
import json
import lzma
import re
import tracemalloc
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dupq.data.pairs import load_pairs
from dupq.data.reading import (
    Columns,
    FileOptions,
    ReadReport,
    file_rows,
    read_pairs,
)
from dupq.data.writing import write_rows
from dupq.errors import InputError
from dupq.types import QuestionPair

CASES = Path(__file__).parent / "cases"
COLUMNS = ["question1", "question2", "label"]
ODD = [
    ("Is it 5 o'clock, or 6?", 'What does "déjà vu" mean?', 1),
    ("A line\nbroken in two?", "tab\there, and comma, there?", 0),
    ('"', '""quoted""', 0),
    ("Windows\r\nline end, and a lone \r return?", "  space around  ", 1),
    ("日本語の質問ですか", "سؤال؟ 🤔", 0),
    ("ends in a backslash \\", "null \\N and {json: true}?", 1),
    ("=1+1", "-", 1),
]


def rows_of(pairs: list[tuple[str, str, int]]) -> list[dict[str, Any]]:
    return [dict(zip(COLUMNS, pair, strict=True)) for pair in pairs]


def texts(pairs: Any) -> list[tuple[str, str, int | None]]:
    return [(pair.question1, pair.question2, pair.label) for pair in pairs]


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], Path]:
    def write(name: str, content: str | bytes) -> Path:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


# ---- what goes in comes out ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("packing", ["", ".gz", ".xz"])
@pytest.mark.parametrize("kind", ["tsv", "csv", "jsonl"])
def test_every_format_and_packing_gives_back_what_was_written(tmp_path: Path, kind: str, packing: str) -> None:
    plain = tmp_path / f"pairs.{kind}"
    assert write_rows(plain, rows_of(ODD), COLUMNS, escape_formulas=False) == len(ODD)
    pack = {"": bytes, ".gz": gzip.compress, ".xz": lzma.compress}[packing]
    packed = tmp_path / f"packed.v1.{kind.upper()}{packing}"
    packed.write_bytes(pack(plain.read_bytes()))
    assert texts(read_pairs(packed, labelled=True)) == ODD


def test_parquet_gives_back_what_was_written(tmp_path: Path) -> None:
    write_rows(tmp_path / "pairs.parquet", rows_of(ODD), COLUMNS)
    pairs = list(read_pairs(tmp_path / "pairs.parquet", labelled=True))
    assert texts(pairs) == ODD
    assert [pair.row for pair in pairs] == list(range(1, len(ODD) + 1))


usable = st.text(min_size=1, max_size=30).filter(lambda text: any(c.isalnum() for c in text))


@given(
    st.lists(st.tuples(usable, usable, st.integers(0, 1)), min_size=1, max_size=8),
    st.sampled_from(["tsv", "csv", "jsonl"]),
)
def test_any_text_survives_the_journey(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str, int]], kind: str
) -> None:
    # A row with a null character is refused.
    pairs = [(a.replace("\0", "0"), b.replace("\0", "0"), label) for a, b, label in pairs]
    path = tmp_path_factory.mktemp("journey") / f"pairs.{kind}"
    write_rows(path, rows_of(pairs), COLUMNS, escape_formulas=False)
    assert texts(read_pairs(path, labelled=True)) == pairs


def test_a_tsv_without_quoting_keeps_its_quotation_marks(write: Callable[..., Path]) -> None:
    path = write("pairs.tsv", 'question1\tquestion2\tis_duplicate\n"What?\tSay "hi" to "them"\t0\n')
    assert texts(read_pairs(path, labelled=True)) == [('"What?', 'Say "hi" to "them"', 0)]


def test_a_tsv_with_a_quoted_header_is_unquoted(write: Callable[..., Path]) -> None:
    path = write("pairs.tsv", '"question1"\t"question2"\n"Say ""hi""\nnow"\t"tab\there"\n')
    assert texts(read_pairs(path)) == [('Say "hi"\nnow', "tab\there", None)]


def test_a_tsv_that_quotes_only_fields_with_quotation_marks_is_unquoted(write: Callable[..., Path]) -> None:
    """As pandas writes it, and as Quora's own release is: the header and most fields without quotation marks."""
    pairs = [
        ("What is chess?", "Is chess fun?", 0),
        ('What does "mate" mean?', 'Why is it called "mate"?', 1),
        ('"Check" is said when?', "When does one say\n'check'?", 0),
        ('Who wrote "a"\nand "b"?', 'Is "a" good?', 0),
    ]
    rows = [(left, right, str(label)) for left, right, label in pairs]
    text = io.StringIO()
    writer = csv.writer(text, delimiter="\t", lineterminator="\n")
    writer.writerows([("question1", "question2", "is_duplicate"), *rows])
    assert texts(read_pairs(write("quoted.tsv", text.getvalue()), labelled=True)) == pairs
    # One field that could not be quoted so tells that the file knows no quoting, whatever else is in it.
    plain = 'question1\tquestion2\n"Say ""hi"" now"\ta\n"Oh" is what?\tb\n'
    assert [pair.question1 for pair in read_pairs(write("plain.tsv", plain))] == ['"Say ""hi"" now"', '"Oh" is what?']
    # Quotation marks round a question, with none within, are its own.
    told = 'question1\tquestion2\n"Why me?"\t"Oh?"\n'
    assert texts(read_pairs(write("told.tsv", told))) == [('"Why me?"', '"Oh?"', None)]


def test_byte_order_mark_windows_line_ends_and_blank_lines(write: Callable[..., Path]) -> None:
    path = write("pairs.csv", "\ufeffquestion1, question2 ,label\r\n\r\na,b,1\r\n\r\nc,d,0\r\n".encode())
    pairs = list(read_pairs(path, labelled=True))
    assert texts(pairs) == [("a", "b", 1), ("c", "d", 0)]
    assert [pair.row for pair in pairs] == [2, 4]


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    class Standard:
        buffer = io.BytesIO()

    monkeypatch.setattr("sys.stdin", Standard)
    for content, options in (
        (b"text1\ttext2\na\tb\n", FileOptions("tsv")),
        (b"text1|text2\na|b\n", None),
        (b'{"text1": "a", "text2": "b"}\n', None),
        (b'[{"text1": "a", "text2": "b"}]', None),
        (gzip.compress(b"text1;text2\na;b\n"), None),
    ):
        Standard.buffer = io.BytesIO(content)
        assert texts(read_pairs("-", options=options)) == [("a", "b", None)]
    Standard.buffer = io.BytesIO(b"Once upon a time there was a question.\n")
    with pytest.raises(InputError, match="standard input: the format is unknown"):
        next(read_pairs("-"))


def test_a_hugging_face_dataset_is_a_source() -> None:
    from datasets import Dataset, DatasetDict

    data = Dataset.from_dict({"sentence1": ["a", "c"], "sentence2": ["b", "d"], "label": [1, 0], "idx": [7, 8]})
    assert texts(read_pairs(data, labelled=True)) == [("a", "b", 1), ("c", "d", 0)]
    assert len(load_pairs(data)) == 2
    with pytest.raises(InputError, match="several sets of rows"):
        next(read_pairs(DatasetDict({"train": data})))


@pytest.mark.parametrize("rows", [[("a", "b")], ["ab"]])
def test_rows_without_columns_are_refused(rows: list[Any]) -> None:
    with pytest.raises(
        InputError, match=r"the dataset, row 1: a row must be a mapping from column to value, got (tuple|str)"
    ):
        next(read_pairs(rows))


# ---- columns and labels -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [("question1", "question2"), ("sentence1", "sentence2"), ("text1", "text2"), ("q1", "q2"), ("left", "right")],
)
@pytest.mark.parametrize("label", ["label", "is_duplicate", "duplicate"])
def test_the_usual_columns_are_found(names: tuple[str, str], label: str) -> None:
    row = {"id": 9, label: "1", names[1]: "b", names[0]: "a"}
    assert list(read_pairs([row], labelled=True)) == [QuestionPair("a", "b", 1, 1)]


def test_columns_are_taken_by_name() -> None:
    row = {"question1": "x", "question2": "y", "label": 0, "Title": "a", "Other": "b", "same": 1}
    columns = Columns("Title", "Other", "same")
    assert list(read_pairs([row], columns=columns)) == [QuestionPair("a", "b", 1, 1)]


@pytest.mark.parametrize(
    ("row", "columns", "problem"),
    [
        ({"a": "x", "b": "y"}, None, "no columns of a question pair"),
        ({"q1": "x", "q2": "y", "text1": "x", "text2": "y"}, None, "several pairs of columns"),
        ({"q1": "x", "q2": "y"}, Columns("q1", "qq"), "no column 'qq'"),
        ({"q1": "x", "q2": "y"}, Columns("q1"), "only one of the two"),
        ({"q1": "x", "q2": "y"}, None, "no label column"),
        ({"q1": "x", "q2": "y", "label": 1, "is_duplicate": 1}, None, "several label columns"),
        ({"q1": "x", "q2": "y"}, Columns(label="gold"), "no column 'gold'"),
    ],
)
def test_missing_and_doubtful_columns_are_told(row: dict[str, Any], columns: Columns | None, problem: str) -> None:
    with pytest.raises(InputError, match=problem) as caught:
        list(read_pairs([row], columns=columns, labelled=True))
    assert caught.value.location == "the dataset"


@pytest.mark.parametrize(
    ("value", "label"),
    [(0, 0), (1, 1), (1.0, 1), ("1", 1), (" 0 ", 0), ("0.0", 0), (True, 1), ("False", 0), ("TRUE", 1)],
)
def test_labels(value: object, label: int) -> None:
    assert next(read_pairs([{"q1": "a", "q2": "b", "label": value}], labelled=True)).label == label


@pytest.mark.parametrize("value", [2, -1, 0.5, "", None, float("nan"), "maybe", "duplicates", "01", "0_1"])
def test_other_labels_are_refused(value: object) -> None:
    with pytest.raises(InputError, match=r"row 1, column 'label': the label must be 0 or 1, got "):
        next(read_pairs([{"q1": "a", "q2": "b", "label": value}], labelled=True))


def test_an_unasked_label_column_is_not_looked_at() -> None:
    assert next(read_pairs([{"q1": "a", "q2": "b", "label": "nonsense"}])).label is None


# ---- bad rows -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["tsv", "csv", "jsonl", "parquet"])
def test_a_blank_text_is_named_by_file_row_and_column(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"pairs.{kind}"
    write_rows(path, rows_of([("a", "b", 1), ("c", "  ", 0)]), COLUMNS)
    with pytest.raises(InputError) as caught:
        list(read_pairs(path))
    assert caught.value.location == f"{path}, row 2, column 'question2'"
    assert caught.value.message == "the text is blank"


def test_broken_utf8_is_named_and_the_rows_after_it_keep_their_numbers(write: Callable[..., Path]) -> None:
    path = write("pairs.tsv", b"q1\tq2\tnote\na\tb\t\xc3\xa9\ncaf\xe9\tb\t-\nc\td\tcaf\xe9\n\te\t-\n")
    with pytest.raises(InputError, match=r"pairs.tsv, row 2, column 'q1': .*not valid UTF-8 \(the byte 0xE9"):
        list(read_pairs(path))
    report = ReadReport(True)
    pairs = list(read_pairs(path, report=report))
    # A column that is not of the pair may hold what it likes.
    assert [(pair.question1, pair.row) for pair in pairs] == [("a", 1), ("c", 3)]
    assert report.rejected == 2
    assert "row 4, column 'q1': the text is blank" in report.reasons[1]


@pytest.mark.parametrize("name", ["pairs.tsv", "pairs.csv", "pairs.jsonl"])
def test_utf16_named_utf8_is_an_error(write: Callable[..., Path], name: str) -> None:
    path = write(name, '{"q1": "a"}\nq1,q2\n'.encode("utf-16"))
    with pytest.raises(InputError, match=r"not valid UTF-8|NUL|the bytes are not"):
        list(read_pairs(path, options=FileOptions(encoding="utf-8")))


def test_json_lines_that_are_no_objects(write: Callable[..., Path]) -> None:
    good = json.dumps({"q1": "a", "q2": "b"})
    lone = '{"q1": "a", "q2": "\\ud800"}'
    path = write("pairs.jsonl", "\n".join([good, "[1]", '{"q1": ', lone, "", '{"q1": "a"}', good, "[" * 100_000]))
    report = ReadReport(True)
    assert [pair.row for pair in read_pairs(path, report=report)] == [1, 7]
    assert [reason.split(": ")[0].removeprefix(f"{path}, ") for reason in report.reasons] == [
        "row 2", "row 3", "row 4, column 'q2'", "row 6, column 'q2'", "row 8",
    ]  # fmt: skip
    with pytest.raises(InputError, match="row 2: this line is not a JSON object"):
        list(read_pairs(path))


@pytest.mark.parametrize("kind", ["tsv", "csv"])
def test_a_wrong_number_of_fields(write: Callable[..., Path], kind: str) -> None:
    content = "q1,q2\na,b\nc\nd,e,f\ng,h\n".replace(",", "\t" if kind == "tsv" else ",")
    path = write(f"pairs.{kind}", content)
    with pytest.raises(InputError, match="row 2: 1 fields where the header has 2"):
        list(read_pairs(path))
    report = ReadReport(True)
    assert [pair.question1 for pair in read_pairs(path, report=report)] == ["a", "g"]
    assert report.rejected == 2


def test_a_quotation_mark_that_is_never_closed_swallows_nothing(write: Callable[..., Path]) -> None:
    path = write("pairs.csv", 'q1,q2\na,b\nc,"d\ne,f\ng,h\n')
    for skip_bad in (False, True):
        with pytest.raises(InputError, match="row 2: a quotation mark opened in this row is not closed"):
            list(read_pairs(path, report=ReadReport(skip_bad)))


def test_a_column_that_stands_twice_is_refused(write: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="line 1: the header names the column 'q1' twice"):
        list(read_pairs(write("pairs.csv", "q1,q1,q2,,\na,b,c,d,e\n")))


@pytest.mark.parametrize("name", ["pairs.csv", "pairs.tsv"])
def test_a_field_of_a_million_characters(write: Callable[..., Path], name: str) -> None:
    path = write(name, f"q1,q2\na,b\n{'x' * 1_000_000},c\nd,e\n".replace(",", "\t" if name == "pairs.tsv" else ","))
    rows = [row for _, row in file_rows(path, None, name, ReadReport())]
    assert [len(row["q1"]) for row in rows] == [1, 1_000_000, 1]
    with pytest.raises(InputError, match=f"{name}: there are no rows"):
        list(read_pairs(write(name, "x" * 1_000_000)))


def test_only_the_first_reasons_are_kept() -> None:
    report = ReadReport(True, keep=2)
    assert list(read_pairs([{"q1": "", "q2": "b"}] * 5, report=report)) == []
    assert (report.rejected, len(report.reasons)) == (5, 2)


# ---- bad files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pairs.csv.gz", "pairs.tsv.xz", "pairs.jsonl.gz", "pairs.jsonl.xz"])
@pytest.mark.parametrize("harm", ["cut", "flipped"])
def test_a_damaged_archive(write: Callable[..., Path], name: str, harm: str) -> None:
    pack = gzip.compress if name.endswith("gz") else lzma.compress
    between = {"c": ",", "t": "\t"}.get(name[6])
    rows = [("q1", "q2"), *((f"a{n * 7919}", f"b{n * 104729}") for n in range(2000))]
    lines = [between.join(row) if between else json.dumps(dict(zip(rows[0], row, strict=True))) for row in rows]
    data = pack("\n".join(lines).encode())
    middle = len(data) // 2
    flipped = data[:middle] + bytes(byte ^ 255 for byte in data[middle : middle + 8]) + data[middle + 8 :]
    path = write(name, {"cut": data[:-20], "flipped": flipped}[harm])
    with pytest.raises(InputError, match=f"{name}: the archive is damaged or cut short"):
        list(read_pairs(path, report=ReadReport(True)))


@pytest.mark.parametrize("cut", [0, 10, 400, -5])
def test_a_damaged_parquet_file(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "pairs.parquet"
    write_rows(path, rows_of(ODD), COLUMNS)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(InputError, match=r"pairs.parquet: unreadable as Parquet"):
        list(read_pairs(path))


def test_parquet_types_are_read_as_text_and_labels(tmp_path: Path) -> None:
    table = pyarrow.table(
        {
            "q1": pyarrow.array(["a", "b"]).dictionary_encode(),
            "q2": pyarrow.array(["c", None], pyarrow.large_string()),
            "label": pyarrow.array([True, False]),
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "pairs.parquet")
    pairs = read_pairs(tmp_path / "pairs.parquet", labelled=True)
    assert texts([next(pairs)]) == [("a", "c", 1)]
    with pytest.raises(InputError, match="row 2, column 'q2': the text is missing"):
        next(pairs)


@pytest.mark.parametrize("name", ["none.csv", "none.jsonl.gz", "none.tsv.xz", "none.parquet"])
def test_a_missing_file_and_a_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=f"{name}: it cannot be read"):
        list(read_pairs(tmp_path / name))
    (tmp_path / name).mkdir()
    with pytest.raises(InputError, match=f"{name}: it cannot be read"):
        list(read_pairs(tmp_path / name))


@pytest.mark.parametrize("name", ["pairs", "pairs.txt", "pairs.zip", "pairs.html.bz2", ".gz"])
@pytest.mark.parametrize(
    "content", ["A note, and\nmore\nof it\nhere\n", "one\ntwo\n", "<html>\n<p>a, b</p>\n</html>\n"]
)
def test_an_unknown_format(write: Callable[..., Path], name: str, content: str) -> None:
    with pytest.raises(InputError, match=r"the format is unknown"):
        list(read_pairs(write(name, content)))
    assert texts(read_pairs(write("pairs.txt", "q1,q2\na,b\n"), options=FileOptions("csv"))) == [("a", "b", None)]


def test_packed_parquet_is_refused(write: Callable[..., Path], tmp_path: Path) -> None:
    write_rows(write("pairs.parquet", ""), rows_of(ODD), COLUMNS)
    packed = gzip.compress((tmp_path / "pairs.parquet").read_bytes())
    for name in ("pairs.parquet.gz", "pairs.csv"):
        with pytest.raises(InputError, match="Parquet can be read from a plain file only"):
            list(read_pairs(write(name, packed)))


@pytest.mark.parametrize("content", ["", "q1,q2\n", "q1,q2"])
def test_nothing_to_read(write: Callable[..., Path], content: str) -> None:
    with pytest.raises(InputError, match=r"the file is empty|there are no rows"):
        load_pairs(write("pairs.csv", content), labelled=False)


# ---- choosing rows, and memory ------------------------------------------------------------------------------------


def test_where_chooses_rows_before_they_are_judged() -> None:
    rows = [
        {"q1": "a", "q2": "b", "natural": 1, "part": "x"},
        {"q1": "", "q2": "", "natural": 0, "part": "x"},
        {"q1": "c", "q2": "d", "natural": 1, "part": "y"},
    ]
    assert [pair.row for pair in read_pairs(rows, where={"natural": "1"})] == [1, 3]
    assert [pair.row for pair in read_pairs(rows, where={"natural": "1", "part": "y"})] == [3]
    with pytest.raises(InputError, match="no column 'Natural'"):
        list(read_pairs(rows, where={"Natural": "1"}))


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_memory_does_not_grow_with_the_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"pairs.{kind}"
    rows = ({"question1": f"{n} " + "a" * 1000, "question2": "b" * 1000, "label": 1} for n in range(8_000))
    write_rows(path, rows, COLUMNS)
    assert next(read_pairs(path)).row == 1  # imports and caches are none of the file's
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_pairs(path)) == 8_000
        # The texts of the whole file take 16 MB; those of a batch of Parquet 2 MB, twice for a moment.
        assert tracemalloc.get_traced_memory()[1] < 7_000_000
    finally:
        tracemalloc.stop()


# ---- files as they are in life ------------------------------------------------------------------------------------


def rows_in(path: Path, **options: Any) -> tuple[list[dict[str, Any]], ReadReport]:
    report = ReadReport(skip_bad=True)
    rows = [dict(row) for _, row in file_rows(path, FileOptions(**options), path.name, report)]
    assert report.rows == len(rows) + report.rejected
    assert report.accepted == len(rows)
    return rows, report


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("lines", [3, 6_000])
def test_backslash_quotes_and_long_fields_make_up_no_rows(
    write: Callable[..., Path], delimiter: str, lines: int
) -> None:
    body = "\n".join(delimiter.join((str(n), f'He said \\"no {n}\\"', "please, advise")) for n in range(lines))
    names = ["id", "title", "body"]
    cells = [names, ["1", "a", "x"], ["2", 'He said \\"hi\\" to me', body], ["3", "c", "y"]]
    content = "\n".join(delimiter.join(f'"{cell}"' for cell in row) for row in cells)
    rows, report = rows_in(write("mysql.csv", content))
    plain = [[cell.replace('\\"', '"') for cell in row] for row in cells[1:]]
    assert [list(row.values()) for row in rows] == plain
    assert "mysql.csv: quotation marks in fields follow a backslash" in report.notes


@pytest.mark.parametrize("delimiter", [",", ";", "|"])
@pytest.mark.parametrize("characters", [131_072, 3_000_000])
@pytest.mark.parametrize("kind", ["csv", "txt"])
def test_a_field_over_many_lines_is_one_field(
    write: Callable[..., Path], delimiter: str, characters: int, kind: str
) -> None:
    line = delimiter.join(("7", "How is this?", "no row"))
    body = "\n".join([line] * (characters // len(line) + 1))
    lines = [["id", "title", "body"], ["1", "a", "x"], ["2", "b", f'"{body}"'], ["3", "c", "y"]]
    rows, report = rows_in(write(f"long.{kind}", "\n".join(delimiter.join(row) for row in lines)))
    assert [row["body"] for row in rows] == ["x", body, "y"]
    assert report.rejected == 0


@pytest.mark.parametrize("delimiter", [",", ";"])
@pytest.mark.parametrize(("number", "rows"), [(2, 2_002), (2, 4), (1_500, 2_002), (2_002, 2_002)])
@pytest.mark.parametrize("closed", [False, True])
def test_an_open_quotation_mark_swallows_nothing(
    write: Callable[..., Path], delimiter: str, number: int, rows: int, closed: bool
) -> None:
    """Also where a quotation mark many rows below closes it."""
    lines = [delimiter.join(("id", "title", "created"))]
    for n in range(1, rows + 1):
        title = f"How do I do thing {n}?"
        if n == number:
            title = f'"{title}'
        elif closed and n in (number + 40, rows):
            title = f'"{title}{delimiter} fast"'
        lines.append(delimiter.join((str(n), title, "2020")))
    path = write("swallow.csv", "\n".join(lines) + "\n")
    with pytest.raises(InputError) as caught:
        rows_in(path)
    assert caught.value.location == f"swallow.csv, row {number}"
    assert re.search(r"is not closed|may hold other rows", caught.value.message)


def test_rows_behind_a_damaged_one_are_not_made_of_its_lines(write: Callable[..., Path]) -> None:
    head = "id,title,body\n" + "".join(f"{n},How is {n}?,fine\n" for n in range(1, 6))
    bad = '6,"not closed,"x\nfirst of all, second, third\nlast line"\n'
    rows, report = rows_in(write("a.csv", head + bad + "7,How is 7?,fine\n"))
    assert [row["id"] for row in rows] == ["1", "2", "3", "4", "5", "7"]
    assert report.rejected == 3


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("semi.csv", "fields are separated by semicolons"),
        ("excel_semi.csv", "fields are separated by semicolons"),
        ("sep_line.csv", "fields are separated by semicolons"),
        ("tabs_named.csv", "fields are separated by tabs"),
        ("utf16.csv", "read as utf-16"),
        ("cp1252.csv", "read as cp1252"),
        ("isgz.csv", "decompressed with gzip"),
        ("cr_only.csv", None),
        ("bom_crlf.csv", None),
        ("plain.tsv", None),
        ("array.json", None),
        ("array.jsonl", "read as a JSON array"),
        ("pretty.jsonl", "read as a JSON array"),
    ],
)
def test_one_export_written_in_many_ways(name: str, note: str | None) -> None:
    rows, report = rows_in(CASES / name)
    plain, _ = rows_in(CASES / "plain.csv")
    assert report.rejected == 0
    assert [line.split(": ", 1)[1].split(";")[0] for line in report.notes][:1] == ([note] if note else [])
    encodable = {"cp1252.csv": "cp1252"}.get(name, "utf-8")
    for row, expected in zip(rows, plain, strict=True):
        lost = {key: value.encode(encodable, "replace").decode(encodable) for key, value in expected.items()}
        row = {key: value.replace("\r\n", "\n") for key, value in row.items()}
        assert row in (lost, expected)


@pytest.mark.parametrize(
    ("name", "titles"),
    [
        ("excel2.tsv", ["How do I pick a router, quickly?", "How do I choose a router fast?"]),
        (
            "excel.txt",
            ["How do I pick a router, quickly?", "How do I choose a router fast?", 'He said "hi", what now?'],
        ),
        ("ml.tsv", ["How do I pick a router?", "How do I choose a router fast?"]),
        ("mysql2.csv", ["How old are you?", 'He said "hi" to me', "What is your age?"]),
    ],
)
def test_quoting_of_databases_and_spreadsheets(name: str, titles: list[str]) -> None:
    rows, _ = rows_in(CASES / name)
    assert [row["title"] for row in rows] == titles


def test_what_mysql_writes(write: Callable[..., Path]) -> None:
    rows, _ = rows_in(CASES / "mysql.csv")
    assert rows[3] == {"id": "4", "title": "", "created": "2020-01-03"}
    assert rows[4]["title"] == "C:\\path\\"
    assert rows[5]["title"] == 'Why is "x" here\nand on line two, "y" there, z'
    path = write("nul.csv", '"id","t"\n"0","a \\"b\\" c"\n"1","a \\"b\\" c"\n"2","a\\0b"\n"3","c\\\\0"\n')
    rows, report = rows_in(path)
    assert [row["t"] for row in rows] == ['a "b" c', 'a "b" c', "c\\0"]
    assert report.reasons == ["nul.csv, row 3: it holds a NUL byte"]


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8", "naïve 日本 🤔"),
        ("utf-8-sig", "naïve"),
        ("utf-16", "日本 🤔"),
        ("utf-16-le", "plain words and naïve"),
        ("utf-16-be", "plain words and naïve"),
        ("utf-32", "日本"),
        ("cp1252", "Wie setze ich es zurück? L\u2019été à Paris \u2013 \u201cso\u201d it\u2019s 5 €"),
        ("latin-1", "¿Cómo está el niño?"),
    ],
)
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_encodings_are_found(write: Callable[..., Path], encoding: str, text: str, kind: str) -> None:
    lines = ["id,title", *(f'{n},"{text}, {n}"' for n in range(9))]
    if kind == "jsonl":
        lines = [json.dumps({"id": str(n), "title": f"{text}, {n}"}, ensure_ascii=False) for n in range(9)]
    rows, report = rows_in(write(f"a.{kind}", "\r\n".join(lines).encode(encoding)))
    assert [row["title"] for row in rows] == [f"{text}, {n}" for n in range(9)]
    assert bool(report.notes) == (encoding not in ("utf-8", "utf-8-sig"))


@pytest.mark.parametrize(
    ("encoding", "text"),
    [("cp1251", "Как сбросить пароль?"), ("cp1250", "Jak zresetować hasło?"), ("mac-roman", "café")],
)
def test_an_encoding_that_is_not_clear_is_named(write: Callable[..., Path], encoding: str, text: str) -> None:
    path = write("a.csv", f"q1,q2\na,b\n{text},c\n".encode(encoding))
    report = ReadReport(skip_bad=True)
    assert [pair.row for pair in read_pairs(path, report=report)] == [1]
    assert "not valid UTF-8" in report.reasons[0]
    assert texts(read_pairs(path, options=FileOptions(encoding=encoding)))[1:] == [(text, "c", None)]


def test_a_file_read_as_cp1252_that_turns_to_utf8_is_an_error(write: Callable[..., Path]) -> None:
    lines = ["id,title", *(f"{n},zurück" for n in range(40_000))]
    path = write("a.csv", "\n".join(lines).encode("cp1252") + "\n1,zurück\n".encode())
    with pytest.raises(InputError, match=r"a.csv: line 40,002 is UTF-8, and the lines before it are not"):
        rows_in(path)


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, bz2.compress])
@pytest.mark.parametrize("name", ["a.csv", "a", "a.csv.gz", "a.csv.xz"])
def test_packing_is_found(write: Callable[..., Path], pack: Callable[[bytes], bytes], name: str) -> None:
    rows, _ = rows_in(write(name, pack(b"id,title\n1,a\n")))
    assert rows == [{"id": "1", "title": "a"}]
    assert rows_in(write(name, b"id,title\n1,a\n"))[0] == rows


@pytest.mark.parametrize("magic", [b"PK\x03\x04", b"\xd0\xcf\x11\xe0", b"7z\xbc\xaf\x27\x1c", b"SQLite format 3\x00"])
def test_what_is_no_text_file_is_named(write: Callable[..., Path], magic: bytes) -> None:
    with pytest.raises(InputError, match=r"a.csv: this is .*, not a text file"):
        rows_in(write("a.csv", magic + bytes(100)))


@pytest.mark.parametrize("values", [{"delimiter": ""}, {"delimiter": ",,"}, {"delimiter": '"'}, {"delimiter": "\n"}])
def test_a_delimiter_must_divide(values: dict[str, str]) -> None:
    with pytest.raises(InputError, match="delimiter must be one character"):
        FileOptions(**values)


def test_options_are_checked_and_used(write: Callable[..., Path]) -> None:
    for encoding in ("utf-99", "", "base64"):
        with pytest.raises(InputError, match="encoding must be a text codec of Python"):
            FileOptions(encoding=encoding)
    with pytest.raises(InputError, match="file_format must be one of"):
        FileOptions("xml")
    assert FileOptions(delimiter="tab").delimiter == FileOptions(delimiter="\\t").delimiter == "\t"
    assert rows_in(write("a.csv", "a~b\n1~2\n"), delimiter="~")[0] == [{"a": "1", "b": "2"}]
    assert rows_in(write("a.csv", "a;b,c\n1;2,3\n"), delimiter=";")[0] == [{"a": "1", "b,c": "2,3"}]


@pytest.mark.parametrize("content", ["1,How old are you?,2020\n2,What is it?,2021\n", "Who?\nWhat?\n", "1,2\n3,4\n"])
def test_a_missing_header_is_said(write: Callable[..., Path], content: str) -> None:
    with pytest.raises(InputError, match="the first line looks like a row: add a header above it"):
        list(read_pairs(write("a.csv", content)))
    with pytest.raises(InputError, match=r"columns: id, title\Z"):
        list(read_pairs(write("a.csv", "id,title\n1,a\n")))


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[{"a": 1}, {"a": 2', "row 2: not valid JSON"),
        ('[{"a": 1}, {"a": 2}', "row 3: the array is not closed"),
        ('[{"a": 1} {"a": 2}]', "row 2: a comma is missing"),
        ('[{"a": 1}] x', "row 2: text follows the array"),
        ('[{"a": 1},]', "row 2: not valid JSON"),
        ('[{"a": 1}, ' + "[" * 100_000, "row 2: not valid JSON"),
        ("[]", "there are no rows"),
    ],
)
def test_damaged_arrays(write: Callable[..., Path], text: str, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        rows_in(write("a.json", text))


def test_arrays_are_read_element_by_element(write: Callable[..., Path]) -> None:
    values = [{"a": 2**80, "b": "x" * 100_000}, {"a": 1.5, "b": None}, *({"a": n, "b": str(n)} for n in range(5_000))]
    for indent in (None, 2):
        rows, report = rows_in(write("a.json", json.dumps(values, indent=indent)))
        assert rows == values
    rows, report = rows_in(write("a.json", '[1, {"a": 2}, "x", [3], {"a": 12}]'))
    assert rows == [{"a": 2}, {"a": 12}]
    assert report.reasons[0] == "a.json, row 1: this element is not a JSON object"
    rows, _ = rows_in(write("a.json", '{"a": 1}\n{"a": 2}\n'))
    assert rows == [{"a": 1}, {"a": 2}]


def test_parquet_keeps_ids_and_times(tmp_path: Path) -> None:
    moment = datetime(2021, 5, 1, 10, 0, 0, 5, tzinfo=timezone.utc)
    table = pyarrow.table(
        {
            "int": pyarrow.array([2**63 - 1, None]),
            "bytes": pyarrow.array([b"1", b"\xff"]),
            "float": pyarrow.array([1.0, float("nan")]),
            "time": pyarrow.array([moment, None], pyarrow.timestamp("us", tz="Asia/Tokyo")),
            "local": pyarrow.array([moment.replace(tzinfo=None), None], pyarrow.timestamp("us")),
        }
    )
    pyarrow.parquet.write_table(table, tmp_path / "a.parquet")
    rows, _ = rows_in(tmp_path / "a.parquet")
    assert rows[0] == {
        "int": 2**63 - 1,
        "bytes": b"1",
        "float": 1.0,
        "time": moment,
        "local": moment.replace(tzinfo=None),
    }
    assert rows[1]["int"] is None
    assert rows[1]["time"] is None
    (tmp_path / "named.csv").write_bytes((tmp_path / "a.parquet").read_bytes())
    assert rows_in(tmp_path / "named.csv")[1].notes == ["named.csv: read as Parquet"]


def test_counts_add_up_with_texts_that_are_refused(write: Callable[..., Path]) -> None:
    report = ReadReport(skip_bad=True)
    path = write("pairs.csv", 'q1,q2\na,b\n,c\nd\n\n"e" x,f\ng,h\n')
    assert [pair.row for pair in read_pairs(path, report=report)] == [1, 6]
    assert (report.rows, report.accepted, report.rejected) == (5, 2, 3)


@pytest.mark.parametrize(("delimiter", "quoting"), list(itertools.product(",;\t", (csv.QUOTE_MINIMAL, csv.QUOTE_ALL))))
def test_a_quotation_mark_too_many_or_too_few_makes_up_no_rows(tmp_path: Path, delimiter: str, quoting: Any) -> None:
    """Bodies whose lines have as many fields as a row; each mark of one row in turn is dropped, and one put in."""
    body = delimiter.join(("line", " one")) + "\n" + delimiter.join(("line", " two", " three", " four")) + "\nend"
    bodies = [body, 'he said "no"\nand\n"yes"', "fine", ""]
    rows = [[str(n), f'How is "{n}"{delimiter} then?', bodies[n % 4], "2020"] for n in range(30)]
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=delimiter, quoting=quoting, lineterminator="\n")
    writer.writerow(["id", "title", "body", "created"])
    starts = []
    for row in rows:
        starts.append(stream.tell())
        writer.writerow(row)
    text = stream.getvalue()
    for hurt in (12, 13, 14):
        record = text[starts[hurt] : starts[hurt + 1]]
        harmed = [record[:at] + record[at + 1 :] for at, mark in enumerate(record) if mark == '"']
        harmed += [f'{record[:at]}"{record[at:]}' for at in range(len(record))]
        for one in harmed:
            path = tmp_path / "a.csv"
            path.write_text(text[: starts[hurt]] + one + text[starts[hurt + 1] :], newline="")
            try:
                found = [list(row.values()) for row in rows_in(path)[0]]
            except InputError as error:
                assert error.location in (f"a.csv, row {hurt + 1}", f"a.csv, row {hurt + 2}")  # noqa: PT017
                continue
            others = [row for row in found if row not in rows]
            assert all(row[0].replace('"', "") == str(hurt) for row in others), one
            assert [row for row in found if row in rows and row != rows[hurt]] == rows[:hurt] + rows[hurt + 1 :], one
