"""What the issue of sharing asks in figures, on the folder that ships: tens of megabytes, so these are slow."""

from __future__ import annotations

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from dupq.errors import ModelFolderError
from dupq.hub.folder import open_folder
from dupq.hub.manifest import MANIFEST
from dupq.pipeline import SHIPPED, DuplicatePipeline
from tests.hub.conftest import Run
from tests.hub.loopback import Hub

pytestmark = pytest.mark.slow

Pairs = tuple[list[str], list[str]]

FETCHED = """
import json, sys
from dupq import DuplicatePipeline

left, right = json.load(open(sys.argv[1]))
pipeline = DuplicatePipeline.from_pretrained("me/shipped")
parts = (pipeline.raw_scores, pipeline.probabilities)
found = [[value.hex() for value in part(left, right).tolist()] for part in parts]
json.dump([*found, pipeline.guarantee, pipeline.report.to_dict()], open(sys.argv[2], "w"))
"""


@pytest.fixture(scope="module")
def shipped() -> DuplicatePipeline:
    return DuplicatePipeline.from_pretrained()


@pytest.fixture(scope="module")
def scores(shipped: DuplicatePipeline, thousand: Pairs) -> np.ndarray:
    return shipped.raw_scores(*thousand)


def test_saved_and_opened_it_scores_a_thousand_pairs_the_same_to_the_bit(
    shipped: DuplicatePipeline, scores: np.ndarray, thousand: Pairs, tmp_path: Path
) -> None:
    shipped.save(tmp_path / "again")
    assert open_folder(tmp_path / "again")["files"].keys() == open_folder(SHIPPED)["files"].keys()
    assert np.array_equal(DuplicatePipeline.from_pretrained(tmp_path / "again").raw_scores(*thousand), scores)


def test_pushed_and_fetched_by_a_fresh_process_it_says_the_same_of_a_thousand_pairs(
    hub: Hub, run: Run, shipped: DuplicatePipeline, scores: np.ndarray, thousand: Pairs, tmp_path: Path
) -> None:
    pushed = run("model", "push", SHIPPED, "me/shipped")
    assert pushed.returncode == 0, pushed.stderr
    (tmp_path / "pairs.json").write_text(json.dumps(thousand))
    fetched = run(tmp_path / "pairs.json", tmp_path / "found.json", code=FETCHED)
    assert fetched.returncode == 0, fetched.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found[0] == [value.hex() for value in scores.tolist()]
    assert found[1] == [value.hex() for value in shipped.probabilities(*thousand).tolist()]
    assert found[2:] == [shipped.guarantee, json.loads(json.dumps(shipped.report.to_dict()))]


def test_of_a_hundred_single_byte_corruptions_each_is_refused_by_name_or_white_space_of_the_manifest(
    scores: np.ndarray, thousand: Pairs, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(SHIPPED, tmp_path / "pipeline"))
    # A licence beside them is for people: no loader reads it.
    names = [*sorted(json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]), MANIFEST]
    draw = random.Random(11)
    harmless = 0
    for _ in range(100):
        name = draw.choice(names)
        with (folder / name).open("r+b") as file:
            place = draw.randrange((folder / name).stat().st_size)
            file.seek(place)
            whole = file.read(1)
            file.seek(place)
            file.write(bytes([whole[0] ^ draw.randrange(1, 256)]))
        try:
            opened = DuplicatePipeline.from_pretrained(folder)
        except ModelFolderError as error:
            told = str(error)
        else:
            told, harmless = name, harmless + 1
            assert name == MANIFEST
            assert np.array_equal(opened.raw_scores(*thousand), scores)
        assert name in told
        with (folder / name).open("r+b") as file:
            file.seek(place)
            file.write(whole)
    assert harmless <= 5
