from __future__ import annotations

import csv
import gzip
import io
import json
import lzma
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dupq.data.reading import Columns, Skipped, read_pairs
from dupq.data.splits import load_pairs
from dupq.data.writing import write_rows
from dupq.errors import InputError
from dupq.records import QuestionPair

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
    assert write_rows(plain, rows_of(ODD), COLUMNS) == len(ODD)
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


@given(st.lists(st.tuples(usable, usable, st.integers(0, 1)), max_size=8), st.sampled_from(["tsv", "csv", "jsonl"]))
def test_any_text_survives_the_journey(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[str, str, int]], kind: str
) -> None:
    # Null characters are beyond the csv module of Python 3.10.
    pairs = [(a.replace("\0", "0"), b.replace("\0", "0"), label) for a, b, label in pairs]
    path = tmp_path_factory.mktemp("journey") / f"pairs.{kind}"
    write_rows(path, rows_of(pairs), COLUMNS)
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
        buffer = io.BytesIO(b"text1\ttext2\na\tb\n")

    monkeypatch.setattr("sys.stdin", Standard)
    assert texts(read_pairs("-", file_format="tsv")) == [("a", "b", None)]
    with pytest.raises(InputError, match="standard input: the format is not known"):
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
    with pytest.raises(InputError, match=r"the dataset, row 1: this is a (tuple|str), not a mapping"):
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
    assert caught.value.where == "the dataset"


@pytest.mark.parametrize(
    ("value", "label"),
    [(0, 0), (1, 1), (1.0, 1), ("1", 1), (" 0 ", 0), ("0.0", 0), (True, 1), ("False", 0), ("TRUE", 1)],
)
def test_labels(value: object, label: int) -> None:
    assert next(read_pairs([{"q1": "a", "q2": "b", "label": value}], labelled=True)).label == label


@pytest.mark.parametrize("value", [2, -1, 0.5, "", None, float("nan"), "yes", "duplicate"])
def test_other_labels_are_refused(value: object) -> None:
    with pytest.raises(InputError, match=r"row 1, column 'label': the label is .*, not 0 or 1"):
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
    assert caught.value.where == f"{path}, row 2, column 'question2'"
    assert caught.value.problem == "the text is blank"


def test_broken_utf8_is_named_and_the_rows_after_it_keep_their_numbers(write: Callable[..., Path]) -> None:
    path = write("pairs.tsv", b"q1\tq2\tnote\na\tb\t-\ncaf\xe9\tb\t-\nc\td\tcaf\xe9\n\te\t-\n")
    with pytest.raises(InputError, match=r"pairs.tsv, row 2, column 'q1': .*not valid UTF-8 \(the byte 0xE9"):
        list(read_pairs(path))
    skipped = Skipped()
    pairs = list(read_pairs(path, skipped=skipped))
    # A column that is not of the pair may hold what it likes.
    assert [(pair.question1, pair.row) for pair in pairs] == [("a", 1), ("c", 3)]
    assert skipped.count == 2
    assert "row 4, column 'q1': the text is blank" in skipped.reasons[1]


@pytest.mark.parametrize("name", ["pairs.tsv", "pairs.csv", "pairs.jsonl"])
def test_utf16_is_told_to_be_no_utf8(write: Callable[..., Path], name: str) -> None:
    path = write(name, '{"q1": "a"}\nq1,q2\n'.encode("utf-16"))
    with pytest.raises(InputError, match="not valid UTF-8"):
        list(read_pairs(path))


def test_json_lines_that_are_no_objects(write: Callable[..., Path]) -> None:
    good = json.dumps({"q1": "a", "q2": "b"})
    lone = '{"q1": "a", "q2": "\\ud800"}'
    path = write("pairs.jsonl", "\n".join([good, "[1]", '{"q1": ', lone, "", '{"q1": "a"}', good, "[" * 100_000]))
    skipped = Skipped()
    assert [pair.row for pair in read_pairs(path, skipped=skipped)] == [1, 7]
    assert [reason.split(": ")[0].removeprefix(f"{path}, ") for reason in skipped.reasons] == [
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
    skipped = Skipped()
    assert [pair.question1 for pair in read_pairs(path, skipped=skipped)] == ["a", "g"]
    assert skipped.count == 2


def test_a_quotation_mark_that_is_never_closed_swallows_nothing(write: Callable[..., Path]) -> None:
    path = write("pairs.csv", 'q1,q2\na,b\nc,"d\ne,f\ng,h\n')
    with pytest.raises(InputError, match="row 2: not readable"):
        list(read_pairs(path))


def test_a_column_that_stands_twice_is_refused(write: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="line 1: the header names the column 'q1' twice"):
        list(read_pairs(write("pairs.csv", "q1,q1,q2,,\na,b,c,d,e\n")))


@pytest.mark.parametrize("name", ["pairs.csv", "pairs.tsv"])
def test_a_field_of_a_million_characters(write: Callable[..., Path], name: str) -> None:
    path = write(name, f"q1,q2\na,b\n{'x' * 1_000_000},c\nd,e\n".replace(",", "\t" if name == "pairs.tsv" else ","))
    with pytest.raises(InputError, match="row 2"):
        list(read_pairs(path))
    assert [pair.row for pair in read_pairs(path, skipped=Skipped())] == [1, 3]
    with pytest.raises(InputError, match="line 1: the header is not readable"):
        list(read_pairs(write(name, "x" * 1_000_000)))


def test_only_the_first_reasons_are_kept() -> None:
    skipped = Skipped(keep=2)
    assert list(read_pairs([{"q1": "", "q2": "b"}] * 5, skipped=skipped)) == []
    assert (skipped.count, len(skipped.reasons)) == (5, 2)


# ---- bad files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["pairs.csv.gz", "pairs.tsv.xz", "pairs.jsonl.gz", "pairs.jsonl.xz"])
@pytest.mark.parametrize("harm", ["cut", "flipped", "not packed"])
def test_a_damaged_archive(write: Callable[..., Path], name: str, harm: str) -> None:
    pack = gzip.compress if name.endswith("gz") else lzma.compress
    between = {"c": ",", "t": "\t"}.get(name[6])
    rows = [("q1", "q2"), *((f"a{n * 7919}", f"b{n * 104729}") for n in range(2000))]
    lines = [between.join(row) if between else json.dumps(dict(zip(rows[0], row, strict=True))) for row in rows]
    data = pack("\n".join(lines).encode())
    middle = len(data) // 2
    flipped = data[:middle] + bytes(byte ^ 255 for byte in data[middle : middle + 8]) + data[middle + 8 :]
    path = write(name, {"cut": data[:-20], "flipped": flipped, "not packed": b"q1,q2\na,b\n"}[harm])
    with pytest.raises(InputError, match=f"{name}: the archive is damaged or cut short"):
        list(read_pairs(path, skipped=Skipped()))


@pytest.mark.parametrize("cut", [0, 10, 400, -5])
def test_a_damaged_parquet_file(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "pairs.parquet"
    write_rows(path, rows_of(ODD), COLUMNS)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(InputError, match=r"pairs.parquet: not readable as Parquet"):
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


@pytest.mark.parametrize("name", ["pairs", "pairs.txt", "pairs.zip", "pairs.csv.bz2", ".gz"])
def test_an_unknown_format(write: Callable[..., Path], name: str) -> None:
    with pytest.raises(InputError, match=r"format .*is not known"):
        list(read_pairs(write(name, "q1,q2\na,b\n")))
    assert texts(read_pairs(write("pairs.txt", "q1,q2\na,b\n"), file_format="csv")) == [("a", "b", None)]


def test_packed_parquet_is_refused(write: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match="Parquet can be read from a plain file only"):
        list(read_pairs(write("pairs.parquet.gz", b"")))


@pytest.mark.parametrize("content", ["", "q1,q2\n", "q1,q2"])
def test_nothing_to_read(write: Callable[..., Path], content: str) -> None:
    with pytest.raises(InputError, match=r"the file is empty|no pairs were read"):
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
