"""The shipped model's recipe as the one command that it is documented as, on tiny networks and questions of our own."""

from __future__ import annotations

import json
import lzma
import sys
from pathlib import Path

import numpy as np
import pytest

from data_scripts import clusters, compare, mix, shipped_model, starts
from dupq import DuplicatePipeline
from dupq.data.pairs import load_pairs
from dupq.data.writing import write_rows
from dupq.models.sentence_transformers_io import QUESTIONS, training_record, write_fingerprints
from tests.networks import save_tiny_base, save_tiny_bi_encoder, save_tiny_cross_encoder
from tests.questions import labelled_pairs, labelled_table

POSITIONS = 64
"""Positions of the tiny networks; the start of the cross-encoder has twice as many."""


def labelled_file(path: Path, name: str) -> Path:
    """Write labelled pairs of which no question is in another file."""
    asked = sorted({f"{pair.question1.rstrip('?')} {name}" for pair in labelled_pairs()})
    rows = [{"sentence1": a, "sentence2": f"please {a}", "label": 1} for a in asked]
    rows += [{"sentence1": a, "sentence2": b, "label": 0} for a, b in zip(asked, reversed(asked), strict=True)]
    write_rows(path, rows, ["sentence1", "sentence2", "label"])
    return path


def packed(source: Path, folder: Path) -> Path:
    """Pack a labelled file as the sets of `OTHER_SETS` come."""
    folder.mkdir()
    table = load_pairs(source)
    lines = [f"{a}\t{b}\t{label}" for a, b, label in zip(table.left, table.right, table.labels.tolist(), strict=True)]
    for name in compare.OTHER:
        with lzma.open(folder / f"{name}.tsv.xz", "wt", encoding="utf-8") as file:
            file.write("\n".join(["sentence1\tsentence2\tlabel", *lines]))
    return folder


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Write nowhere but under `tmp_path`, draw few rows, and train for a moment."""
    monkeypatch.setattr(shipped_model, "PRETRAINED", tmp_path / "pretrained")
    monkeypatch.setattr(shipped_model, "CARD", tmp_path / "card.md")
    monkeypatch.setattr(shipped_model, "SCORES", tmp_path / "scores.json")
    (tmp_path / "scores.json").write_text('[{"question1": "Is it new?", "question2": "Is it old?"}]')
    monkeypatch.setattr(starts, "MAX_LENGTH", 2 * POSITIONS)
    monkeypatch.setattr(mix, "OTHER_SETS", dict.fromkeys(compare.OTHER, 20))
    monkeypatch.setattr(mix, "QUORA", {"natural": 400, "duplicates": 100, "implied": 20})
    monkeypatch.setattr(shipped_model, "REDUCTION", {"dimensions": 12, "power": 0.1})
    averages = {"bi-encoder": ("0.1", "0.9"), "cross-encoder": ("0.05", "0.05", "0.9")}
    monkeypatch.setattr(shipped_model, "AVERAGES", averages)
    monkeypatch.setattr(mix, "CONTRAST_PER_KIND", 5)
    held_out = min(clusters.HELD_OUT_WORLDS)

    def few(name: str) -> list[dict[str, object]]:
        every = clusters.read_clusters(name)
        return every[:6] + [cluster for cluster in every if cluster["w"] == held_out][:2]

    monkeypatch.setattr(mix, "read_clusters", few)
    whole = shipped_model.dupq

    # Tiny networks begin untrained, so they need larger steps, and more of them, to rank at all.
    options = {"--max-length": "64", "--batch-size": "16", "--learning-rate": "3e-3", "--miss-rate": "0.5"}

    def short(arguments: list[str]) -> int:
        for option, value in options.items():
            if option in arguments:
                arguments[arguments.index(option) + 1] = value
        return int(whole(arguments))

    monkeypatch.setattr(shipped_model, "dupq", short)


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_the_recipe_runs_from_its_start_to_a_pipeline_that_decides(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    longer = save_tiny_base(tmp_path / "longer", tokens=2 * POSITIONS)
    base = save_tiny_bi_encoder(tmp_path / "base", longer)
    networks = (
        save_tiny_bi_encoder(tmp_path / "bi", save_tiny_base(tmp_path / "one", 1, tokens=POSITIONS)),
        save_tiny_cross_encoder(tmp_path / "cross", save_tiny_base(tmp_path / "two", 1, tokens=POSITIONS)),
    )
    stock = DuplicatePipeline.from_networks(bi_encoder=networks[0], cross_encoder=networks[1])
    stock.calibrate(labelled_table()).export(labelled_table(), word_bits=4).save(tmp_path / "previous")
    pairs = [  # ten a question group; of every fourth group the duplicates alone, which then only train
        {"question1": pair.question1, "question2": pair.question2, "is_duplicate": pair.label, "natural": natural}
        for number, pair in enumerate(labelled_pairs())
        if (natural := int(number // 10 % 4 > 0)) or pair.label
    ]
    write_rows(tmp_path / "pairs.csv", pairs, ["question1", "question2", "is_duplicate", "natural"])
    names = ("paws", "mrpc", "twitter", "posts", "new")
    files = {name: labelled_file(tmp_path / f"{name}.csv", name) for name in names}
    other = packed(labelled_file(tmp_path / "other.csv", "other"), tmp_path / "other")
    work = tmp_path / "work"
    arguments = ["--work", work, "--previous", tmp_path / "previous", "--base", base, "--other", other]
    arguments += ["--pairs", tmp_path / "pairs.csv", "--mined", files["new"], "--elsewhere", f"New={files['new']}"]
    arguments += [part for name in ("paws", "mrpc", "twitter", "posts") for part in (f"--{name}", files[name])]
    monkeypatch.setattr(sys, "argv", ["shipped_model", *map(str, arguments)])
    shipped_model.main()
    trained = [work / name / "model.safetensors" for name in ("bi-encoder-1", "cross-encoder-1")]
    written = [path.stat().st_mtime_ns for path in trained]
    shipped_model.main()  # it resumes where it was, here at its end: nothing is trained again
    assert [path.stat().st_mtime_ns for path in trained] == written
    shipped = DuplicatePipeline.from_pretrained(tmp_path / "pretrained")
    assert shipped.score("Is chess fun?", "Is chess dangerous?").threshold is not None
    manifest = json.loads((tmp_path / "pretrained" / "dupq.json").read_text(encoding="utf-8"))
    assert [form["form"] for form in manifest["networks"].values()] == ["onnx-int8", "onnx-int8"]
    (row,) = json.loads((tmp_path / "scores.json").read_text(encoding="utf-8"))
    assert row["score"] == pytest.approx(shipped.raw_scores([row["question1"]], [row["question2"]])[0], abs=1e-5)
    assert "New" in (tmp_path / "card.md").read_text(encoding="utf-8")
    # The questions that the previous release was trained on are not forgotten, or test pairs could be among them.
    rows = mix.read(work / "rows.jsonl")
    assert {"quora", "implied", "worlds", "posts", "contrast", *compare.OTHER} <= {row["source"] for row in rows}
    assert all(0 <= float(row["soft_label"]) <= 1 for row in rows)
    capsys.readouterr()
    command = [
        "compare",
        "--work",
        str(work),
        "--other",
        str(other),
        str(work / "bi-encoder"),
        str(work / "cross-encoder"),
    ]
    monkeypatch.setattr(sys, "argv", command)
    compare.main()
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        "network",
        "work/bi-encoder",
        "work/cross-encoder",
    ]


@pytest.mark.slow
def test_a_start_remembers_what_the_previous_network_was_trained_on(tmp_path: Path) -> None:
    base = save_tiny_base(tmp_path / "base", tokens=2 * POSITIONS)
    encoder = save_tiny_bi_encoder(tmp_path / "encoder", base)
    previous = save_tiny_bi_encoder(tmp_path / "previous", save_tiny_base(tmp_path / "one", 1))
    write_fingerprints(previous / QUESTIONS, np.array([3, 5], dtype=np.int64))
    start = starts.start_bi_encoder(previous, encoder, tmp_path / "start")
    _, seen = training_record(start)
    assert seen is not None
    assert seen.tolist() == [3, 5]
