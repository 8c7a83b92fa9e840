"""Mining, scoring and embedding on Ray write what they write on one machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from dupq.cli.main import main
from dupq.data.writing import write_rows
from dupq.engine import ray as ray_module
from dupq.engine.local import LocalEngine
from dupq.engine.ray import RayEngine
from dupq.engine.work_folder import WorkFolder
from dupq.mining import checkpoint
from dupq.mining.find_duplicates import MiningSettings, find_duplicates
from dupq.mining.streams import StreamPair, embed_stream, score_stream
from dupq.pipeline import DuplicatePipeline
from tests.mining.test_engine import assert_same, contents
from tests.mining.test_find_duplicates import forum

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def engine(ray_engine: RayEngine) -> RayEngine:
    return ray_engine


@pytest.fixture(scope="module")
def shipped() -> DuplicatePipeline:
    return DuplicatePipeline.from_pretrained(threads=1)


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checkpoint, "PART", 64)


def test_mining_on_ray_gives_the_result_of_one_process(
    engine: RayEngine, shipped: DuplicatePipeline, tmp_path: Path
) -> None:
    settings = MiningSettings(min_cosine=0.6, max_judged=150)
    result = find_duplicates(shipped, forum(), settings=settings, engine=engine, work=tmp_path / "ray")
    assert_same(result, find_duplicates(shipped, forum(), settings=settings))
    find_duplicates(shipped, forum(), settings=settings, engine=LocalEngine(), work=tmp_path / "local")
    assert contents(tmp_path / "ray") == contents(tmp_path / "local")


def test_streams_on_ray_give_equal_files(engine: RayEngine, shipped: DuplicatePipeline, tmp_path: Path) -> None:
    texts = forum()
    pairs = [StreamPair(at, a, b, a, b) for at, (a, b) in enumerate(zip(texts, texts[5:], strict=False), 1)]
    found = []
    for name, used in (("ray", engine), ("local", LocalEngine())):
        work = WorkFolder(tmp_path / f"{name}-score")
        found.append(list(score_stream(used, work, shipped, pairs)))
        embed_stream(used, WorkFolder(tmp_path / f"{name}-embed"), shipped, enumerate(texts))
    assert found[0] == found[1]
    for command in ("score", "embed"):
        assert contents(tmp_path / f"ray-{command}") == contents(tmp_path / f"local-{command}")


def test_an_address_that_does_not_answer_is_one_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_module, "_is_joined", lambda: False)  # the Ray of the other tests is not seen
    monkeypatch.chdir(tmp_path)
    write_rows("questions.csv", [{"id": at, "text": text} for at, text in enumerate(forum())], ["id", "text"])
    address = ["--engine", "ray", "--address", "127.0.0.1:1", "--work", "work"]
    assert main(["mine", "questions.csv", "-o", "pairs.csv", *address]) == 2
    assert "address 127.0.0.1:1" in capsys.readouterr().err
    assert not Path("pairs.csv").exists()
