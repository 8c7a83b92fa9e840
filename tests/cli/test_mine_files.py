"""`dupq mine` of several files: the same bytes with an engine, which reads them as a stream, and without."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dupq.cli.main import main
from dupq.data.writing import write_rows
from dupq.engine.work_folder import WorkFolder
from dupq.mining import checkpoint, distinct_texts, units
from dupq.pipeline import DuplicatePipeline
from tests.fakes import WordEmbedder, WordScorer
from tests.questions import INTENTS, THINGS, labelled_table

TEXTS = [phrase.format(thing=thing) for thing in THINGS[:3] for asked in INTENTS for phrase in asked]
ENGINE = ["--engine", "local", "--work", "w"]


@pytest.fixture(scope="module")
def counted() -> DuplicatePipeline:
    return DuplicatePipeline(WordScorer(), WordEmbedder()).calibrate(labelled_table())


@pytest.fixture(autouse=True)
def _files(monkeypatch: pytest.MonkeyPatch, counted: DuplicatePipeline, tmp_path: Path) -> None:
    monkeypatch.setattr(checkpoint, "PART", 16)
    monkeypatch.setattr(distinct_texts, "RUN", 1)
    monkeypatch.setattr("dupq.cli.mine.open_pipeline", lambda args: counted)
    monkeypatch.setattr(units, "open_pipeline", lambda work: counted)
    monkeypatch.chdir(tmp_path)
    rows = [{"id": at, "text": text, "created": f"20{40 - at % 30:02}-01-02"} for at, text in enumerate(TEXTS)]
    rows += [{"id": 1000 + at, "text": f"<p>{text.upper()}</p>", "created": ""} for at, text in enumerate(TEXTS[::6])]
    for name, part in (("a.jsonl", rows[:20]), ("b.parquet", rows[20:45]), ("c.jsonl", rows[45:])):
        write_rows(name, part, ["id", "text", "created"])
    write_rows("texts.csv", [{"id": f"t{row['id']}", "text": row["text"]} for row in rows[40:50]], ["id", "text"])
    write_rows("old.jsonl", [{"id": at, "text": text} for at, text in enumerate(TEXTS[5:30])], ["id", "text"])
    write_rows("more.jsonl", [{"id": 5000 + at, "text": text} for at, text in enumerate(TEXTS[5:30])], ["id", "text"])
    bad = [
        {"id": 2000, "text": " "},
        {"id": 0, "text": TEXTS[0]},
        {"id": 1, "text": "Why?"},
        {"id": 2001, "text": "How?"},
    ]
    write_rows("bad.jsonl", bad, ["id", "text"])
    write_rows("bare.csv", [{"text": text} for text in TEXTS[:10]], ["text"])
    write_rows("bare2.csv", [{"text": text.lower()} for text in TEXTS[5:15]], ["text"])


def run(capsys: pytest.CaptureFixture[str], *arguments: str, files: str = "jsonl") -> dict[str, Any]:
    """Mine without and with an engine, require equal outputs, and return the summary."""
    found, written = [], []
    for options in ([], ENGINE):
        outputs = ["-o", f"pairs.{files}", "--groups", f"groups.{files}"]
        assert main(["mine", *arguments, *outputs, *options, "--min-cosine", "0.5", "--json"]) == 0
        captured = capsys.readouterr()
        notes = [line for line in captured.err.splitlines() if line.startswith("  ") or "file" in line]
        found.append((json.loads(captured.out), notes))
        written.append([Path(f"{name}.{files}").read_bytes() for name in ("pairs", "groups")])
    assert found[0] == found[1]
    assert written[0] == written[1]
    return found[0][0]  # type: ignore[no-any-return]


CASES: dict[str, list[str]] = {
    "one": ["a.jsonl"],
    "several": ["a.jsonl", "b.parquet", "c.jsonl"],
    "the oldest": ["c.jsonl", "a.jsonl", "b.parquet", "--representative", "oldest"],
    "all pairs, folded": ["a.jsonl", "b.parquet", "c.jsonl", "--all-pairs", "--fold-templates"],
    "ids of both types": ["a.jsonl", "texts.csv", "c.jsonl"],
    "common ids": ["a.jsonl", "b.parquet", "--against", "old.jsonl"],
    "other ids": ["a.jsonl", "c.jsonl", "--against", "more.jsonl"],
    "bad rows": ["a.jsonl", "bad.jsonl", "c.jsonl", "--skip-bad"],
    "no ids": ["bare.csv", "bare2.csv"],
    "no ids on either side": ["bare.csv", "--against", "bare2.csv"],
    "HTML kept": ["a.jsonl", "c.jsonl", "--html", "keep"],
}


@pytest.mark.parametrize("case", CASES)
def test_an_engine_writes_the_same_bytes(capsys: pytest.CaptureFixture[str], case: str) -> None:
    summary = run(capsys, *CASES[case], files="parquet" if "ids" in case else "jsonl")
    assert summary["pairs_written"] > 0
    if case == "several":
        assert summary["questions"] == len(TEXTS) + len(TEXTS[::6])
        assert summary["copies"] == len(TEXTS[::6])
        shown = [json.loads(line)["question2"] for line in Path("pairs.jsonl").read_text("utf-8").splitlines()]
        assert any(text.startswith("<p>") for text in shown)
    if case == "no ids":
        assert summary["questions"] == 20


def test_one_file_in_parts_gives_what_it_gives_whole(capsys: pytest.CaptureFixture[str]) -> None:
    run(capsys, "a.jsonl", "c.jsonl")
    parts = Path("pairs.jsonl").read_bytes()
    Path("whole.jsonl").write_bytes(Path("a.jsonl").read_bytes() + Path("c.jsonl").read_bytes())
    assert main(["mine", "whole.jsonl", "-o", "whole.out.jsonl", "--min-cosine", "0.5"]) == 0
    assert Path("whole.out.jsonl").read_bytes() == parts


@pytest.mark.parametrize("options", [[], ENGINE])
@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (["a.jsonl", "bad.jsonl"], "bad.jsonl, row 1"),
        (["a.jsonl", "missing.jsonl"], "missing.jsonl"),
        (["a.jsonl", "./a.jsonl"], "./a.jsonl: the file is given twice"),
        (["a.jsonl", "bare.csv"], "all files must have ids, or none of them, got none after ids in a.jsonl"),
        (["bare.csv", "a.jsonl"], "got ids after none in bare.csv"),
        (["a.jsonl", "b.parquet", "--representative", "oldest", "--date-format", "%d"], "created, question 0"),
        (["more.jsonl", "--representative", "oldest"], "no question has one"),
        (["a.jsonl", "b.parquet", "-o", "b.parquet"], "-o must be another file than the input QUESTIONS"),
    ],
)
def test_what_is_wrong_is_named_with_its_file(
    capsys: pytest.CaptureFixture[str], arguments: list[str], printed: str, options: list[str]
) -> None:
    output = [] if "-o" in arguments else ["-o", "pairs.jsonl"]
    assert main(["mine", *arguments, *output, *options]) == 2
    captured = capsys.readouterr().err
    assert printed in captured
    assert "Traceback" not in captured
    assert not Path("pairs.jsonl").exists()


@pytest.mark.parametrize("options", [[], ENGINE])
def test_an_id_with_two_texts_is_named_with_both_files(capsys: pytest.CaptureFixture[str], options: list[str]) -> None:
    rows = [{"id": 7, "text": TEXTS[7]}, {"id": 3, "text": "Another question?"}]
    write_rows("again.jsonl", rows, ["id", "text"])
    arguments = ["mine", "a.jsonl", "again.jsonl", "-o", "pairs.jsonl", *options]
    assert main(arguments) == 2
    printed = capsys.readouterr().err
    assert "again.jsonl, row 2" in printed
    assert "the id 3 has two texts (a.jsonl, row 4 and again.jsonl, row 2)" in printed
    rows[1]["id"] = 900
    write_rows("again.jsonl", rows, ["id", "text"])
    assert main([*arguments, "--skip-bad", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["questions"] == 21
    assert "a.jsonl, row 8 and again.jsonl, row 1 hold the same text" in captured.err


class Killed(BaseException):
    pass


def test_a_killed_run_goes_on_from_any_point(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = ["a.jsonl", "b.parquet", "c.jsonl"]
    run(capsys, *files)
    expected, parts = Path("pairs.jsonl").read_bytes(), len(WorkFolder("w").names())
    arguments = ["mine", *files, "-o", "pairs.jsonl", "--engine", "local", "--min-cosine", "0.5"]
    write, left = WorkFolder.write, 0

    def dying(self: WorkFolder, name: str, data: bytes) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise Killed
        write(self, name, data)

    for writes in range(1, 24, 4):
        Path("pairs.jsonl").unlink(missing_ok=True)
        work, left = f"w{writes}", writes
        with monkeypatch.context() as patch:
            patch.setattr(WorkFolder, "write", dying)
            with pytest.raises(Killed):
                main([*arguments, "--work", work])
        assert not Path("pairs.jsonl").exists()
        if writes == 5:  # while it reads: there is no list of the input yet, and any may follow
            assert not Path(work, "input.json").exists()
        assert main([*arguments, "--work", work]) == 0
        assert Path("pairs.jsonl").read_bytes() == expected
        assert len(WorkFolder(work).names()) == parts
    lines = Path("c.jsonl").read_text("utf-8").splitlines(keepends=True)
    for changed in (lines[:-1], [lines[1], lines[0], *lines[2:]], [*lines, '{"id": 9999, "text": "Why?"}\n']):
        Path("c.jsonl").write_text("".join(changed), encoding="utf-8")
        assert main([*arguments, "--work", "w"]) == 2
        assert "the work folder is of another input" in capsys.readouterr().err
    assert main([*arguments, "--work", "w", "--fresh"]) == 0
