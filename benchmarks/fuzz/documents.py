"""Small files as programs export them, and damage to their bytes."""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import json
import lzma
import random
from collections.abc import Callable
from functools import cache

PAIRS = [
    ("How can I learn chess?", "What is the best way to learn chess?", 1),
    ("Who invented origami?", "Where does origami come from originally?", 1),
    ("Is rowing dangerous for children?", "How much does rowing cost?", 0),
    ('Is "go" hard, or not?', "Why do people enjoy go so much?", 0),
    ("Where can I\nbuy a kayak?", "Who sells kayaks; and where?", 1),
    ("What makes pottery fun?", "What makes weaving fun?", 0),
]
QUESTIONS = [
    (1, "How can I learn chess?", "I know the rules.\nWhat now?", "2021-05-03T10:00:00"),
    (2, "What is the best way to learn chess?", "", "2020-01-01"),
    (3, "Is rowing dangerous for children?", 'My son is 7, and "brave".', "2022-12-31 23:59:59"),
    (4, "Would rowing hurt a young child?", "<p>He is <b>seven</b> &amp; small</p>", "2019-07-04"),
    (5, "Qui a inventé l'origami ?", "C'est pour l'école.", "2018-02-28"),
    (6, "你好吗\uff1f", "我想知道。", "2023-03-03"),
    (7, "Why do people like 🎣 so much?", "👍👍", "2023-03-04"),
]
PAIR_NAMES = ["question1", "question2", "is_duplicate"]
QUESTION_NAMES = ["id", "title", "body", "created"]


def _delimited(
    names: list[str], rows: list[tuple[object, ...]], delimiter: str = ",", end: str = "\n", **how: int
) -> str:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=delimiter, lineterminator=end, **how)  # type: ignore[arg-type]
    writer.writerow(names)
    writer.writerows(rows)
    return text.getvalue()


def _objects(names: list[str], rows: list[tuple[object, ...]]) -> list[dict[str, object]]:
    return [dict(zip(names, row, strict=True)) for row in rows]


def _lines(values: list[dict[str, object]], ascii_only: bool = False) -> str:
    return "".join(json.dumps(value, ensure_ascii=ascii_only) + "\n" for value in values)


def _parquet(names: list[str], rows: list[tuple[object, ...]]) -> bytes:
    import pyarrow
    import pyarrow.parquet

    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(_objects(names, rows)), sink)
    return sink.getvalue()


def _dump() -> str:
    rows = "".join(
        f'  <row Id="{id_}" PostTypeId="1" CreationDate="2020-01-0{id_}T00:00:00.000" Title="{title}" '
        f'Body="&lt;p&gt;Tell me.&lt;/p&gt;" Tags="&lt;games&gt;&lt;go&gt;" Score="3" />\n'
        for id_, title, *_ in QUESTIONS[:5]
    )
    return f'\ufeff<?xml version="1.0" encoding="utf-8"?>\n<posts>\n{rows}</posts>\n'


LINKS = (
    '<?xml version="1.0" encoding="utf-8"?>\n<postlinks>\n'
    '  <row Id="1" CreationDate="2020-02-01T00:00:00.000" PostId="2" RelatedPostId="1" LinkTypeId="3" />\n'
    '  <row Id="2" CreationDate="2020-02-02T00:00:00.000" PostId="4" RelatedPostId="3" LinkTypeId="3" />\n'
    "</postlinks>\n"
)


@cache
def seeds() -> tuple[tuple[str, bytes], ...]:
    """Return names and bytes of intact files, from which all others are made."""
    pairs, questions = _objects(PAIR_NAMES, PAIRS), _objects(QUESTION_NAMES, QUESTIONS)
    csv_pairs, csv_questions = _delimited(PAIR_NAMES, PAIRS), _delimited(QUESTION_NAMES, QUESTIONS)
    typed: list[tuple[object, ...]] = [(2**62 + n, title, n / 3, n % 2 == 0) for n, title, *_ in QUESTIONS]
    texts = {
        "pairs.csv": csv_pairs,
        "pairs.tsv": _delimited(PAIR_NAMES, PAIRS, "\t"),
        "pairs.jsonl": _lines(pairs),
        "pairs.json": json.dumps(pairs, ensure_ascii=False),
        "pretty.json": json.dumps(pairs, indent=2),
        "pairs_crlf.csv": _delimited(PAIR_NAMES, PAIRS, end="\r\n", quoting=csv.QUOTE_ALL),
        "pairs_plain.tsv": "".join(f"{a}\t{b}\t{c}\n" for a, b, c in [PAIR_NAMES, *PAIRS[:3]]),
        "many.csv": _delimited(PAIR_NAMES, PAIRS * 40),
        "questions.csv": csv_questions,
        "questions.tsv": _delimited(QUESTION_NAMES, QUESTIONS, "\t"),
        "semicolon.csv": _delimited(QUESTION_NAMES, QUESTIONS, ";"),
        "separator.csv": "sep=;\r\n" + _delimited(QUESTION_NAMES, QUESTIONS, ";", "\r\n"),
        "pipe.txt": _delimited(QUESTION_NAMES, QUESTIONS, "|"),
        "old_mac.csv": _delimited(QUESTION_NAMES, QUESTIONS, end="\r", quoting=csv.QUOTE_ALL),
        "bom.csv": "\ufeff" + csv_questions,
        "questions.jsonl": _lines(questions),
        "ascii.jsonl": _lines(questions, ascii_only=True),
        "questions.json": json.dumps(questions, ensure_ascii=False),
        "nested.jsonl": _lines([{"id": 1, "title": {"text": "Is go hard?"}}, {"id": [2], "title": ["a", None]}]),
        "mixed.jsonl": _lines([{"id": "1", "title": "a b?"}, {"id": 1, "text": "c d?"}, {"title": None, "id": 2.0}]),
        "backslash.csv": 'id,title,body\n1,"Is \\"go\\" hard?","a\\nb, \\\\"\n2,"Is it, \\"so\\"?","two\nlines"\n',
        "unclosed.csv": 'id,title\n1,Is go hard?\n2,"Is chess hard?\n'
        + "".join(f"{n},Why {n}?\n" for n in range(3, 40)),
        "repeated.csv": "id,title\n1,Is go hard?\n1,Is go hard?\n1,Is chess hard?\n01,Why?\n1.0,Who?\n",
        "dates.csv": "id,title,created\n1,a b?,1/5/2022\n2,c d?,1672531200\n3,e f?,2022-01-05T00:00:00Z\n4,g h?,soon\n",
        "formulas.csv": "id,title\n=1+1,=HYPERLINK(A1)\n@x,+49 is what?\n-3,-why?\n",
        "uneven.csv": "id,title,body\n1,a b?\n2,c d?,e,f,g\n\n,,\n3,h i?,j\n",
        "huge.csv": f'id,title\n1,"{"word " * 28_000}"\n2,Is it?\n',
        "wide.csv": ",".join(f"c{n}" for n in range(600)) + "\n" + ",".join("x" * 600) + "\n",
        "no_header.csv": "1,How can I learn chess?\n2,Who invented go?\n",
        "header.csv": "id,title\n",
        "twice.csv": "id,title,title\n1,a b?,c d?\n",
        "blank.csv": "\n\n \n",
        "null.csv": "id,title\n1,a\0b?\n2,c d?\n",
        "number.json": "1e999",
        "surrogate.jsonl": '{"id": 1, "title": "a \\ud800 b?"}\n{"id": 2, "title": "c \\udfff\\ud800?"}\n',
        "deep.json": "[" * 3000 + "]" * 3000,
        "Posts.xml": _dump(),
    }
    files = {name: text.encode("utf-8") for name, text in texts.items()}
    files |= {
        "empty.csv": b"",
        "utf16.csv": csv_questions.encode("utf-16"),
        "utf16be.csv": csv_pairs.encode("utf-16-be"),
        "cp1252.csv": _delimited(QUESTION_NAMES, QUESTIONS[:5]).encode("cp1252"),
        "shift_jis.csv": "id,title\n1,日本語は難しいですか\n".encode("shift_jis"),
        "pairs.parquet": _parquet(PAIR_NAMES, PAIRS),
        "questions.parquet": _parquet(QUESTION_NAMES, QUESTIONS),
        "typed.parquet": _parquet(["id", "title", "share", "flag"], typed),
        "pairs.csv.gz": gzip.compress(csv_pairs.encode(), mtime=0),
        "questions.jsonl.xz": lzma.compress(texts["questions.jsonl"].encode()),
        "questions.csv.bz2": bz2.compress(csv_questions.encode()),
        "packed.csv": gzip.compress(csv_questions.encode(), mtime=0),
        "picture.csv": b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\1\0\0\0\1\x08\2\0\0\0\x90wS\xde",
    }
    return tuple(files.items())


ODD = [
    *(b'"', b'""', b"'", b",", b";", b"\t", b"|", b"\n", b"\r", b"\r\n", b"\\", b'\\"', b"\0", b"\x1a", b" ", b"\x0b"),
    *(b"\xff", b"\xfe\xff", b"\xff\xfe", b"\xef\xbb\xbf", b"\x85", b"\xc2\x85", b"\xe2\x80\xa8", b"\xed\xa0\x80"),
    *(b"{", b"}", b"[", b"]", b":", b"null", b"NaN", b"-Infinity", b"1e999", b"\\ud800", b"\\u0000", b"9" * 400),
    *(b"sep=|\n", b"<", b"&", b"&#0;", b"<row ", b"PAR1", b"\x1f\x8b", b"\xf0\x9f\x8e\xa3", b"=1+1", b"nan", b"-"),
]
ENCODINGS = (
    "utf-8",
    "utf-8-sig",
    "utf-16",
    "utf-16-le",
    "utf-16-be",
    "utf-32",
    "cp1252",
    "latin-1",
    "shift_jis",
    "utf-7",
)
PACKERS: tuple[Callable[[bytes], bytes], ...] = (
    lambda data: gzip.compress(data, 1, mtime=0),
    lambda data: lzma.compress(data, preset=0),
    lambda data: bz2.compress(data, 1),
)


def mutated(rng: random.Random, data: bytes) -> bytes:
    """Return the bytes with one damage."""
    size = len(data)
    at, other = sorted((rng.randint(0, size), rng.randint(0, size)))
    near = min(other, at + rng.choice((1, 2, 8, 80)))
    kind = rng.randrange(13)
    if kind == 0 and size:
        at = min(at, size - 1)
        return data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
    if kind == 1:
        return data[:at] + rng.choice(ODD) + data[at:]
    if kind == 2:
        return data[:at] + rng.randbytes(rng.choice((1, 2, 3, 16))) + data[at:]
    if kind == 3:
        return data[:at] + data[near:]
    if kind == 4:
        return data[:at] + data[at:near] * rng.choice((2, 3, 50)) + data[near:]
    if kind == 5:
        return data[:at]
    if kind == 6:
        return data[at:]
    if kind == 7:
        second = rng.choice(seeds())[1]
        return data[:at] + second[rng.randint(0, len(second)) :]
    if kind == 8:
        lines = data.splitlines(keepends=True)
        rng.shuffle(lines)
        return b"".join(lines)
    if kind == 9:
        return data.replace(
            rng.choice((b",", b"\t", b";", b"|", b'"')), rng.choice((b",", b"\t", b";", b"|", b'"', b"'", b""))
        )
    if kind == 10:
        ends = (b"\r\n", b"\n", b"\r", b"\n\r", b"\x85", b"")
        return data.replace(b"\r\n", b"\n").replace(b"\n", rng.choice(ends))
    if kind == 11:
        text = data.decode("utf-8", "replace")
        encoding = rng.choice(ENCODINGS)
        mark = codecs.BOM_UTF16_LE if rng.random() < 0.1 else b""
        return mark + text.encode(encoding, "replace")
    return rng.choice(PACKERS)(data)


ENDINGS = (
    "",
    ".csv",
    ".tsv",
    ".txt",
    ".json",
    ".jsonl",
    ".ndjson",
    ".parquet",
    ".csv.gz",
    ".gz",
    ".xz",
    ".bz2",
    ".xml",
)


def document(rng: random.Random) -> tuple[str, bytes]:
    """Return the name and bytes of a file: a seed with 0 to 6 damages, sometimes under another name."""
    name, data = rng.choice(seeds())
    for _ in range(rng.choice((0, 1, 1, 1, 2, 2, 3, 6))):
        data = mutated(rng, data)[:300_000]
    if rng.random() < 0.2:
        name = name.split(".")[0] + rng.choice(ENDINGS)
    return name, data
