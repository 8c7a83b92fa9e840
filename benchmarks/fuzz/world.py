"""The environment of all inputs: a tiny pipeline, an index, and files in one temporary folder."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.fuzz.documents import LINKS, QUESTIONS, seeds

if TYPE_CHECKING:
    from dupq.data.pairs import PairTable
    from dupq.pipeline import DuplicatePipeline

MODEL = "model"
"""The folder of the tiny pipeline."""


@dataclass
class World:
    """The tiny pipeline and the folders of a run.

    Attributes:
        root: A temporary folder; nothing is written outside it.
        folder: Folder of the current input, below `root`; empty before it.
        files: Files that the inputs copy.
        pipeline: Calibrated pipeline that counts words.
        bare: The same pipeline, uncalibrated.
        table: Labelled pairs that the pipeline was not calibrated on; some labels are wrong.
        networks: True if `files` also holds stock and int8 networks, which some of the commands open.
        length: Length of the sequences of the current input.
    """

    root: Path
    folder: Path
    files: Path
    pipeline: DuplicatePipeline
    bare: DuplicatePipeline
    table: PairTable
    networks: bool
    length: int = 3
    facts: dict[str, Any] = field(default_factory=dict)

    def fresh_folder(self) -> Path:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        return self.folder


def noisy(table: PairTable) -> PairTable:
    """Return the pairs with random labels; P(1) rises with the number of shared words."""
    from dupq.data.pairs import PairTable
    from tests.fakes import WordScorer

    scores = WordScorer().score(table.left, table.right)
    odds = 3 * (scores - scores.mean()) / scores.std()
    draw = np.random.default_rng(0).random(len(table))
    return PairTable(table.left, table.right, (draw < 1 / (1 + np.exp(-odds))).astype(np.int8))


def build_world(root: Path, networks: bool = True) -> World:
    """Create the world in an empty folder, or open the one that exists."""
    from dupq.pipeline import DuplicatePipeline
    from tests.fakes import WordEmbedder, WordScorer
    from tests.questions import labelled_table

    table = noisy(labelled_table())
    bare = DuplicatePipeline(cross_encoder=WordScorer(), bi_encoder=WordEmbedder())  # type: ignore[arg-type]
    half = len(table) // 2
    known, table = table.take(np.arange(half)), table.take(np.arange(half, len(table)))
    pipeline = bare.calibrate(known, policy="cost=3:1", miss_rate=0.3)
    files = root / "files"
    if not files.is_dir():
        made = root / "making"
        shutil.rmtree(made, ignore_errors=True)
        made.mkdir(parents=True)
        _write_files(made, pipeline, table)
        if networks:
            _write_networks(made, table)
        os.replace(made, files)
    folder = root / "input"
    return World(root, folder, files, pipeline, bare, table, networks)


def _write_files(files: Path, pipeline: DuplicatePipeline, table: PairTable) -> None:
    from dupq.data.splits import split_file
    from dupq.data.writing import write_json, write_rows
    from dupq.index.question_index import QuestionIndex

    for name, data in seeds():
        (files / name).write_bytes(data)
    labelled = [
        {"question1": a, "question2": b, "label": int(label)}
        for a, b, label in zip(table.left, table.right, table.labels, strict=True)
    ]
    write_rows(files / "labelled.jsonl", labelled, ["question1", "question2", "label"])
    write_rows(files / "few.jsonl", labelled[:40], ["question1", "question2", "label"])
    split_file(files / "labelled.jsonl", files / "splits")
    dump = files / "dump"
    dump.mkdir()
    (dump / "Posts.xml").write_bytes(dict(seeds())["Posts.xml"])
    (dump / "PostLinks.xml").write_text(LINKS, encoding="utf-8")
    (files / "folder").mkdir()
    with QuestionIndex(files / "index.db", pipeline) as index:
        index.add([1, 2, "3", "q4"], [question[1] for question in QUESTIONS[:4]])
    write_json(files / "report.json", pipeline.evaluate(table).to_dict())
    write_json(files / "about.json", {"title": "A forum", "languages": ["en"]})


def _write_networks(files: Path, table: PairTable) -> None:
    from dupq.pipeline import DuplicatePipeline
    from tests.networks import save_tiny_base, save_tiny_bi_encoder, save_tiny_cross_encoder

    base = save_tiny_base(files / "base")
    bi_encoder = save_tiny_bi_encoder(files / "bi", base)
    cross_encoder = save_tiny_cross_encoder(files / "cross", base)
    stock = DuplicatePipeline.from_networks(cross_encoder, bi_encoder)
    scores = stock.raw_scores(table.left, table.right)
    odds = 2 * (scores - scores.mean()) / scores.std()
    labels = (np.random.default_rng(0).random(len(table)) < 1 / (1 + np.exp(-odds))).astype(np.int8)
    known = type(table)(table.left, table.right, labels)
    half = len(known) // 2
    stock = stock.calibrate(known.take(np.arange(half)))
    stock.save(files / "stock")
    stock.export(known.take(np.arange(half))).save(files / MODEL)
