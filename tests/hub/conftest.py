"""A pipeline of tiny networks, made once; and a loopback Hub, with commands that run against it in fresh processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from dupq.data.pairs import PairTable
from dupq.decisions.thresholds import Policy
from dupq.pipeline import DuplicatePipeline
from tests.hub.loopback import Hub, running_hub
from tests.questions import labelled_table

ROOT = Path(__file__).resolve().parents[2]


class Answer(NamedTuple):
    """What a command gave back."""

    returncode: int
    stdout: str
    stderr: str


Run = Callable[..., Answer]
RunSeveral = Callable[..., list[Answer]]


@pytest.fixture(scope="session")
def pipeline(tiny_cross_encoder: Path, tiny_bi_encoder: Path) -> DuplicatePipeline:
    """Both networks blended, calibrated, with a review zone, and measured on other pairs than those."""
    made = DuplicatePipeline.from_networks(tiny_cross_encoder, tiny_bi_encoder)
    made = replace(made, blend=(0.7, 0.3, -0.1), trained_on=np.arange(-50, -10))
    table = labelled_table()
    scores = made.raw_scores(table.left, table.right)
    odds = 2 * (scores - scores.mean()) / scores.std()
    labels = np.random.default_rng(0).random(len(table)) < 1 / (1 + np.exp(-odds))
    table = PairTable(table.left, table.right, labels.astype(np.int8))
    first = np.arange(len(table)) < len(table) // 2
    made = made.calibrate(table.take(first), policy=Policy.min_cost(3, 1), miss_rate=0.3)
    return replace(made, evaluation=made.evaluate(table.take(~first)))


@pytest.fixture(scope="session")
def saved(pipeline: DuplicatePipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its folder; no test may write to it."""
    folder = tmp_path_factory.mktemp("saved") / "pipeline"
    pipeline.save(folder)
    return folder


@pytest.fixture(scope="session")
def thousand() -> tuple[list[str], list[str]]:
    """1,000 pairs of questions, none of them twice."""
    table = labelled_table()
    return [*table.left, *table.left[:40]], [*table.right, *table.right[200:240]]


@pytest.fixture
def hub() -> Iterator[Hub]:
    with running_hub() as running:
        yield running


@pytest.fixture
def run(hub: Hub, tmp_path: Path) -> Run:
    """Runs a dupq command, or Python code, in a fresh process that knows this Hub alone and has an empty cache."""

    def start(*arguments: str | Path, token: str | None = "hf_good", code: str = "", **variables: str) -> Answer:
        result = subprocess.run(
            command(*arguments, code=code),
            env=environment(hub.url, tmp_path, token) | variables,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        return Answer(result.returncode, result.stdout, result.stderr)

    return start


SEVERAL = """
import contextlib, io, json, os, sys
from dupq.cli.main import main

answers = []
for token, arguments in json.loads(sys.argv[1]):
    os.environ.pop("HF_TOKEN", None)
    os.environ |= {"HF_TOKEN": token} if token else {}
    with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
        status = main(arguments)
    answers.append((status, out.getvalue(), err.getvalue()))
print(json.dumps(answers))
"""


@pytest.fixture
def run_several(run: Run) -> RunSeveral:
    """Runs (token, arguments) one after the other in one fresh process, which is quicker than one each."""

    def start(*steps: tuple[str | None, list[str]]) -> list[Answer]:
        result = run(json.dumps(steps), code=SEVERAL)
        assert result.returncode == 0, result.stderr
        return [Answer(*answer) for answer in json.loads(result.stdout)]

    return start


def command(*arguments: str | Path, code: str = "") -> list[str]:
    return [sys.executable, *(["-c", code] if code else ["-m", "dupq.cli.main"]), *map(str, arguments)]


def environment(url: str, home: Path, token: str | None = "hf_good") -> dict[str, str]:
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    kept |= {"HF_ENDPOINT": url, "HF_HOME": str(home / "hf"), "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "*"}
    kept |= {"PYTHONPATH": str(ROOT), "HF_HUB_DISABLE_PROGRESS_BARS": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    return kept | ({"HF_TOKEN": token} if token else {})
