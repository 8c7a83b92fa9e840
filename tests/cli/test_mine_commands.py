"""`dupq mine`: what is refused before the work, what survives a kill, and what is stated of the result."""

from __future__ import annotations

import csv
import json
import logging
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest

from dupq.cli.main import main
from dupq.data.writing import write_rows
from dupq.mining import checkpoint as work
from dupq.pipeline import DuplicatePipeline
from dupq.types import TextWarning
from tests.fakes import WordEmbedder, WordScorer
from tests.questions import INTENTS, THINGS, labelled_table

ROOT = Path(__file__).parents[2]
TEXTS = [phrase.format(thing=thing) for thing in THINGS[:5] for asked in INTENTS for phrase in asked]


@pytest.fixture(scope="module")
def counted() -> DuplicatePipeline:
    return DuplicatePipeline(WordScorer(), WordEmbedder()).calibrate(labelled_table())


@pytest.fixture(autouse=True)
def pipeline(monkeypatch: pytest.MonkeyPatch, counted: DuplicatePipeline, tmp_path: Path) -> DuplicatePipeline:
    """What the command opens; it runs in a folder of its own, so that short names do."""
    monkeypatch.setattr("dupq.cli.mine.open_pipeline", lambda args: counted)
    monkeypatch.chdir(tmp_path)
    write_rows("questions.csv", [{"id": f"q{at}", "text": text} for at, text in enumerate(TEXTS)], ["id", "text"])
    return counted


@pytest.fixture
def never_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def opened(args: Any) -> Any:
        raise AssertionError("the model was opened")

    monkeypatch.setattr("dupq.cli.mine.open_pipeline", opened)


def mine(capsys: pytest.CaptureFixture[str], *arguments: object) -> Any:
    assert main(["mine", *map(str, arguments), "--min-cosine", "0.5", "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def read(path: str | Path) -> list[dict[str, str]]:
    with Path(path).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


# ---- before the work ----------------------------------------------------------------------------------------------


def contents() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(Path().rglob("*")) if path.is_file()}


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (["-o", "questions.csv"], "-o must be another file than the input QUESTIONS"),
        (["-o", "folder/../questions.csv"], "-o must be another file than the input QUESTIONS"),
        (["-o", "hard.csv"], "-o must be another file than the input QUESTIONS"),
        (["-o", "soft.csv"], "-o must be another file than the input QUESTIONS"),
        (["--against", "old.tsv", "-o", "old.tsv"], "-o must be another file than the input --against"),
        (["-o", "out.csv", "--groups", "questions.csv"], "--groups must be another file than the input QUESTIONS"),
        (["-o", "out.csv", "--groups", "out.csv"], "--groups must be another file than -o"),
        (["-o", "out.jsonl", "--groups", "folder/../out.jsonl"], "--groups must be another file than -o"),
        (["-o", "-", "--groups", "-"], "--groups must be another file than -o"),
        (["-o", "out.csv", "--work", "out.csv"], "got one with -o out.csv in it"),
        (["-o", "work/out.csv", "--work", "work"], "got one with -o work/out.csv in it"),
        (["-o", "out.csv", "--groups", "work/sub/g.csv", "--work", "work"], "got one with --groups"),
        (["-o", "out.csv", "--work", "."], "got one with -o out.csv in it"),
        (["-o", "out.csv", "--work", "old.tsv"], "must be a folder, got a file"),
        (["-o", "out.csv", "--work", "folder"], "got notes.txt"),
        (["-o", "out.xls"], "'xls' cannot be written"),
        (["-o", "out.csv", "--groups", "out.txt"], "'txt' cannot be written"),
        (["-o", "folder.csv"], "got a folder"),
        (["-o", "questions.csv/out.csv"], "Not a directory"),
        (["-o", "out.csv", "--groups", "/proc/none/groups.csv"], "could not be written"),
        (["-o", "out.csv", "--threshold", "2"], "threshold must be a probability in (0, 1], got 2.0"),
        (["-o", "out.csv", "--threshold", "0"], "threshold must be a probability"),
        (["-o", "out.csv", "--threshold", "nan"], "threshold must be a probability"),
        (["-o", "out.csv", "--base-rate", "1.5"], "base_rate must be a number in (0, 1), got 1.5"),
        (["-o", "out.csv", "--base-rate", "0"], "base_rate must be a number in (0, 1), got 0"),
        (["-o", "out.csv", "--min-cosine", "0"], "min_cosine must be a number in (0, 1], got 0.0"),
        (["-o", "out.csv", "--min-cosine", "1.1"], "min_cosine must be a number in (0, 1], got 1.1"),
        (["-o", "out.csv", "--neighbours", "-1"], "neighbours must be an integer between 0 and 1000, got -1"),
        (["-o", "out.csv", "--max-pairs", "0"], "max_pairs must be an integer of at least 1, got 0"),
        (["-o", "out.csv", "--max-judged", "5"], "max_judged must be an integer of at least 100, got 5"),
        (["-o", "out.csv", "--approximate-above", "0"], "approximate_above must be an integer of at least 1"),
        (["-o", "out.csv", "--representative", "oldest"], "no question has one"),
        (["-o", "out.csv", "--representative", "oldest", "--created-column", "text"], "question 'q0'"),
        (["-o", "out.csv", "--representative", "oldest", "--date-format", "day"], "must be a format of strptime"),
        (["--against", "both.jsonl", "-o", "out.parquet"], "the number 7 and the text '7'"),
    ],
)
def test_what_is_wrong_is_found_before_the_model_is_opened(
    never_opened: None, capsys: pytest.CaptureFixture[str], arguments: list[str], printed: str
) -> None:
    Path("folder").mkdir()
    Path("folder.csv").mkdir()
    Path("folder/notes.txt").write_text("mine", encoding="utf-8")
    os.link("questions.csv", "hard.csv")
    os.symlink("questions.csv", "soft.csv")
    write_rows("old.tsv", [{"id": 1, "text": "Who invented chess?"}], ["id", "text"])
    write_rows("both.jsonl", [{"id": 7, "text": "Why?"}, {"id": "7", "text": "How?"}], ["id", "text"])
    before = contents()
    assert main(["mine", "questions.csv", *arguments]) == 2
    captured = capsys.readouterr()
    assert printed in captured.err
    assert "Traceback" not in captured.err
    assert contents() == before


@pytest.mark.parametrize("option", ["--linkage", "--representative"])
def test_choices_are_named(never_opened: None, capsys: pytest.CaptureFixture[str], option: str) -> None:
    with pytest.raises(SystemExit):
        main(["mine", "questions.csv", "-o", "out.csv", option, "nonsense"])
    assert "choose from" in capsys.readouterr().err


def test_outputs_may_be_links_devices_and_new_folders(capsys: pytest.CaptureFixture[str]) -> None:
    os.symlink("real.csv", "link.csv")
    assert mine(capsys, "questions.csv", "-o", "link.csv", "--groups", "new/folder/groups.tsv")["pairs_written"] > 1
    assert Path("link.csv").is_symlink()
    assert read("real.csv")
    assert Path("new/folder/groups.tsv").is_file()


# ---- ids and types ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["out.parquet", "out.jsonl"])
def test_numbers_and_text_as_ids_are_written_as_text_to_parquet_only(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    import pyarrow.parquet

    rows = [{"id": at if at % 2 else f"q{at}", "text": text} for at, text in enumerate(TEXTS)]
    write_rows("mixed.jsonl", rows, ["id", "text"])
    assert main(["mine", "mixed.jsonl", "-o", name, "--min-cosine", "0.5", "--groups", f"groups-{name}"]) == 0
    noted = "written as text" in capsys.readouterr().err
    if name.endswith("parquet"):
        found = pyarrow.parquet.read_table(name).to_pylist()
        members = pyarrow.parquet.read_table(f"groups-{name}").to_pylist()
        assert {type(row["id"]) for row in members} == {str}
    else:
        found = [json.loads(line) for line in Path(name).read_text(encoding="utf-8").splitlines()]
    assert noted == name.endswith("parquet")
    assert {type(row["id1"]) for row in found} == ({str} if noted else {int, str})


def test_parquet_takes_many_copies_before_the_first_score(capsys: pytest.CaptureFixture[str]) -> None:
    import pyarrow.parquet

    rows = [{"id": at, "text": f"What is thing {at % 2200}{'?' * (at // 2200)}"} for at in range(6600)]
    write_rows(
        "many.jsonl", [*rows, *({"id": 7000 + at, "text": text} for at, text in enumerate(TEXTS))], ["id", "text"]
    )
    summary = mine(capsys, "many.jsonl", "-o", "out.parquet", "--max-pairs", 500)
    assert summary["copies"] == 4400
    table = pyarrow.parquet.read_table("out.parquet")
    assert table.num_rows == summary["pairs_written"] > 4400
    assert str(table.schema.field("score").type) == "double"


# ---- groups and dates ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
def test_both_files_name_a_group_alike(capsys: pytest.CaptureFixture[str], ending: str) -> None:
    from dupq.data.questions import read_questions

    summary = mine(capsys, "questions.csv", "-o", f"pairs.{ending}", "--groups", f"groups.{ending}")
    members = [*read_any(f"groups.{ending}")]
    of = {row["id"]: (str(row["group"]), row["representative"]) for row in members}
    assert len({*of.values()}) == summary["groups"] > 1
    assert {number for number, _ in of.values()} == {str(at) for at in range(1, summary["groups"] + 1)}
    named = [row for row in read_any(f"pairs.{ending}") if row["group"] not in (None, "")]
    assert named
    for row in named:
        assert (str(row["group"]), row["representative"]) == of[row["id1"]] == of[row["id2"]]
    for row in members:
        assert (str(row["is_representative"]) == "True") == (row["id"] == row["representative"])
    # A list of groups can itself be mined.
    assert len([*read_questions(f"groups.{ending}", id_column="id")]) == len(members)


def read_any(path: str) -> Any:
    if path.endswith("parquet"):
        import pyarrow.parquet

        return pyarrow.parquet.read_table(path).to_pylist()
    if path.endswith("jsonl"):
        return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]
    with Path(path).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream, delimiter="\t" if path.endswith("tsv") else ","))


@pytest.mark.parametrize(
    ("dates", "options", "oldest"),
    [
        (["1/5/2022", "30/12/2021", "2/1/2023"], ["--date-format", "%d/%m/%Y"], "1"),
        (["1/5/2022", "12/30/2021", "2/1/2023"], ["--date-format", "%m/%d/%Y"], "1"),
        (["1700000000", "999999999", "1600000000000"], [], "1"),
        (["2022-05-01T10:00:00+02:00", "2022-05-01T09:30:00+00:00", ""], [], "0"),
        (["NaT", "2022-05-01", "2021-12-30 23:59:59"], [], "2"),
    ],
)
def test_the_oldest_is_found_by_parsed_dates(
    capsys: pytest.CaptureFixture[str], dates: list[str], options: list[str], oldest: str
) -> None:
    rows = [{"id": at, "text": "How do I learn chess" + "?" * at, "asked": date} for at, date in enumerate(dates)]
    write_rows("dated.csv", rows, ["id", "text", "asked"])
    arguments = ["dated.csv", "-o", "out.csv", "--groups", "groups.csv", "--created-column", "asked", *options]
    mine(capsys, *arguments, "--representative", "oldest")
    assert [row["id"] for row in read("groups.csv") if row["is_representative"] == "True"] == [oldest]


def test_an_ambiguous_date_matters_only_where_dates_are_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"id": at, "text": "Why?" * (at + 1), "created": f"{at + 1}/5/2022"} for at in range(3)]
    write_rows("dated.csv", rows, ["id", "text", "created"])
    mine(capsys, "dated.csv", "-o", "out.csv")
    assert main(["mine", "dated.csv", "-o", "out.csv", "--representative", "oldest"]) == 2
    printed = capsys.readouterr().err
    assert "'1/5/2022'" in printed
    assert "--date-format" in printed
    assert not Path("out.csv.work").exists()


# ---- what is stated -----------------------------------------------------------------------------------------------


def test_a_cut_is_stated_at_the_top(capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> None:
    whole = mine(capsys, "questions.csv", "-o", "out.csv")
    assert not whole["truncated"]
    assert (whole["dropped_at_least"], whole["complete_above"]) == (0, 0.5)
    assert not caplog.records
    cut = mine(capsys, "questions.csv", "-o", "out.csv", "--max-pairs", 50)
    assert cut["truncated"]
    assert (cut["candidates"], cut["min_cosine"]) == (50, 0.5)
    assert 0.5 < cut["complete_above"] <= 1
    assert 0 < cut["dropped_at_least"] <= whole["candidates"] - 50
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert main(["mine", "questions.csv", "-o", "out.csv", "--min-cosine", "0.5", "--max-pairs", "50"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[3].startswith(f"NOT ALL PAIRS: at least {cut['dropped_at_least']:,} pairs with a cosine of 0.5000")
    assert f"{cut['complete_above']:.4f}" in lines[3]


def test_a_budget_is_spent_near_the_threshold_of_the_option(capsys: pytest.CaptureFixture[str]) -> None:
    def share_near(threshold: float) -> float:
        mine(capsys, "questions.csv", "-o", "all.csv", "--all-pairs", "--max-judged", 120, "--threshold", threshold)
        judged = [float(row["probability"]) for row in read("all.csv") if row["kind"] == "judged"]
        assert len(judged) == 120
        return sum(abs(probability - 0.95) < 0.1 for probability in judged) / 120

    assert share_near(0.95) > share_near(0.1)


def test_no_precision_is_stated_that_nobody_checked(capsys: pytest.CaptureFixture[str]) -> None:
    summary = mine(capsys, "questions.csv", "-o", "out.csv")
    assert "not verified on mined candidates" in summary["expected"]["rests_on"]
    assert "computed on the labelled calibration pairs, not on mined candidates" in summary["guarantee"]
    assert main(["mine", "questions.csv", "-o", "out.csv", "--min-cosine", "0.5", "--verbose"]) == 0
    printed = capsys.readouterr().out
    assert "expected precision" not in printed
    assert "an estimate from the calibrated probabilities, for pairs drawn like the calibration pairs" in printed
    assert "computed on the labelled calibration pairs, not on mined candidates" in printed
    by_hand = mine(capsys, "questions.csv", "-o", "out.csv", "--threshold", 0.9)
    assert by_hand["guarantee"].endswith("nothing is guaranteed")


@dataclass(frozen=True)
class Reading(DuplicatePipeline):
    """Warns of what is not ASCII, and of what is longer than 60 characters."""

    def text_warnings(self, texts: Any) -> Any:
        return [
            tuple(
                TextWarning(kind, kind)  # type: ignore[arg-type]
                for kind, found in (("truncated", len(text) > 60), ("unknown_language", not text.isascii()))
                if found
            )
            for text in texts
        ]


def test_texts_of_an_unknown_language_are_counted_and_held_back(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, counted: DuplicatePipeline
) -> None:
    values = {field.name: getattr(counted, field.name) for field in fields(counted)}
    strange = [
        "你好 朋友 吗 今天 好",
        "你好 朋友 吗 今天 好 呢",
        "How much would it really cost a beginner to take up archery in the long run?",
    ]
    rows = [{"id": at, "text": text} for at, text in enumerate([*strange, *TEXTS, strange[0] + "\uff1f"])]
    write_rows("strange.jsonl", rows, ["id", "text"])
    for allowed in (False, True):
        reading = Reading(**{**values, "allow_unknown_language": allowed})
        monkeypatch.setattr("dupq.cli.mine.open_pipeline", lambda args, reading=reading: reading)
        summary = mine(capsys, "strange.jsonl", "-o", "out.jsonl")
        assert (summary["unknown_language"], summary["truncated_texts"]) == (2, 1)
        assert summary["held_back_for_language"] == (0 if allowed else 1)
        found = {(row["id1"], row["id2"]): row for row in read_any("out.jsonl")}
        pair = next(row for row in found.values() if {row["question1"], row["question2"]} >= {strange[1]})
        assert pair["decision"] == ("duplicate" if allowed else "review")
        assert pair["warnings"] == "question1: unknown_language; question2: unknown_language"
        copy = next(row for row in found.values() if row["kind"] == "copy")
        assert (copy["decision"], {copy["question1"], copy["question2"]}) == (
            "duplicate",
            {strange[0], strange[0] + "\uff1f"},
        )
        assert main(["mine", "strange.jsonl", "-o", "out.jsonl", "--min-cosine", "0.5"]) == 0
        printed = capsys.readouterr().out
        assert "2 texts seem to be in a language the model was not trained on" in printed
        assert "1 texts are longer than the model reads" in printed


# ---- killed runs --------------------------------------------------------------------------------------------------

RUNNER = """
import os, signal, sys
import dupq.cli.mine as forum
import dupq.mining.checkpoint as work
from dupq.cli.main import main
from dupq.pipeline import DuplicatePipeline
from tests.fakes import WordEmbedder, WordScorer
from tests.questions import labelled_table

pipeline = DuplicatePipeline(WordScorer(), WordEmbedder()).calibrate(labelled_table())
forum.open_pipeline = lambda args: pipeline
work.PART = 20

def dying(method, calls):
    def called(self, *arguments):
        nonlocal calls
        calls -= 1
        if calls < 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return method(self, *arguments)
    return called

stage, calls = sys.argv[1], int(sys.argv[2])
if stage == "embedding":
    WordEmbedder.embed = dying(WordEmbedder.embed, calls)
if stage == "judging":
    WordScorer.score = dying(WordScorer.score, calls)
sys.exit(main(["mine", *sys.argv[3:], "--min-cosine", "0.5"]))
"""


def start(stage: str, calls: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", RUNNER, stage, str(calls), *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


class Counts:
    """How many texts were embedded, and pairs scored."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.embedded = self.scored = 0
        embed, score = WordEmbedder.embed, WordScorer.score

        def embedding(network: WordEmbedder, texts: Any, *arguments: Any) -> Any:
            self.embedded += len(texts)
            return embed(network, texts, *arguments)

        def scoring(network: WordScorer, left: Any, *arguments: Any) -> Any:
            self.scored += len(left)
            return score(network, left, *arguments)

        monkeypatch.setattr(WordEmbedder, "embed", embedding)
        monkeypatch.setattr(WordScorer, "score", scoring)


@pytest.mark.parametrize("stage", ["embedding", "judging"])
def test_a_killed_run_goes_on_and_does_not_block_the_next(
    stage: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "PART", 20)
    whole = mine(capsys, "questions.csv", "-o", "whole.csv")
    killed = start(stage, 3, "questions.csv", "-o", "out.csv")
    assert killed.returncode == -signal.SIGKILL
    assert Path("out.csv.work").is_dir()
    assert not Path("out.csv").exists()
    with monkeypatch.context() as patch:
        counts = Counts(patch)
        again = mine(capsys, "questions.csv", "-o", "out.csv")
    assert counts.embedded == (30 if stage == "embedding" else 0)
    assert counts.scored == whole["candidates"] - (60 if stage == "judging" else 0)
    assert again == whole
    assert Path("out.csv").read_bytes() == Path("whole.csv").read_bytes()
    assert not Path("out.csv.work").exists()


def test_a_killed_run_gives_way_to_one_with_another_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert start("judging", 3, "questions.csv", "-o", "out.jsonl").returncode == -signal.SIGKILL
    write_rows("questions.csv", [{"id": at, "text": text} for at, text in enumerate(TEXTS[:60])], ["id", "text"])
    done = start("", 0, "questions.csv", "-o", "out.jsonl")
    assert done.returncode == 0
    assert done.stderr.count("the files of another run were deleted") == 1
    assert not Path("out.jsonl.work").exists()
    found = Path("out.jsonl").read_bytes()
    mine(capsys, "questions.csv", "-o", "whole.jsonl")
    assert found == Path("whole.jsonl").read_bytes()


def test_another_setting_uses_the_vectors_again_and_fresh_does_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    arguments = ["questions.csv", "-o", "out.csv", "--work", "nightly"]
    whole = mine(capsys, *arguments)
    assert Path("nightly").is_dir()
    for options, embedded, printed in (
        ([], 0, ""),
        (["--max-pairs", 100], 0, "the files of another run were deleted, except for its vectors"),
        (["--fresh"], 90, ""),
    ):
        caplog.clear()
        with monkeypatch.context() as patch:
            counts = Counts(patch)
            found = mine(capsys, *arguments, *options)
        assert counts.embedded == embedded
        assert (counts.scored > 0) == bool(options)
        assert sum("files of another run" in record.getMessage() for record in caplog.records) == bool(printed)
        assert printed in caplog.text
        assert options == ["--max-pairs", 100] or found == whole


def test_two_runs_do_not_share_a_work_folder(capsys: pytest.CaptureFixture[str]) -> None:
    from filelock import FileLock

    Path("out.csv.work").mkdir()
    with FileLock("out.csv.work/.dupq-lock"):
        assert main(["mine", "questions.csv", "-o", "out.csv"]) == 2
        assert "another run is using this work folder" in capsys.readouterr().err
        assert Path("out.csv.work").is_dir()
        assert not Path("out.csv").exists()
    mine(capsys, "questions.csv", "-o", "out.csv")
    assert not Path("out.csv.work").exists()


@pytest.mark.parametrize("name", ["notes.txt", "vectors.f32", "search.npz", "questions.csv"])
def test_files_of_others_in_a_work_folder_are_never_deleted(capsys: pytest.CaptureFixture[str], name: str) -> None:
    Path("mine").mkdir()
    Path(f"mine/{name}").write_text("dear to me", encoding="utf-8")
    for options in ([], ["--fresh"]):
        assert main(["mine", "questions.csv", "-o", "out.csv", "--work", "mine", *options]) == 2
        assert f"got {name}" in capsys.readouterr().err
    assert Path(f"mine/{name}").read_text(encoding="utf-8") == "dear to me"
    assert len([*Path("mine").iterdir()]) == 1


def test_neighbours_are_candidates_below_the_near_pairs(capsys: pytest.CaptureFixture[str]) -> None:
    every = mine(capsys, "questions.csv", "-o", "every.csv", "--all-pairs")
    few = mine(capsys, "questions.csv", "-o", "few.csv", "--all-pairs", "--neighbours", "2")
    assert (every["neighbours"], few["neighbours"]) == (0, 2)
    assert len(read("few.csv")) < len(read("every.csv"))
    near = [row for row in read("every.csv") if float(row["cosine"]) >= 0.8]
    assert near
    assert {row["id1"] + row["id2"] for row in near} <= {row["id1"] + row["id2"] for row in read("few.csv")}
    assert "among the 2 nearest of a question" in few["search"]
