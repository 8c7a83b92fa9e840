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


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.rglob("*")) if path.suffix in (".npy", ".csv")}


def test_commands_on_ray_write_the_files_of_one_process(
    engine: RayEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    texts = forum()[:100]
    write_rows("questions.csv", [{"id": at, "text": text} for at, text in enumerate(texts)], ["id", "text"])
    pairs = [{"question1": a, "question2": b} for a, b in zip(texts, texts[5:], strict=False)]
    write_rows("judge.csv", pairs, ["question1", "question2"])
    commands = {
        "mine": ["questions.csv", "--min-cosine", "0.7", "-o", "{}/pairs.csv", "--groups", "{}/groups.csv"],
        "score": ["--pairs", "judge.csv", "-o", "{}/scores.csv"],
        "embed": ["questions.csv", "-o", "{}/vectors"],
    }
    for name, options in commands.items():
        for folder, more in (("one", []), ("ray", ["--engine", "ray", "--workers", "2"])):
            Path(folder).mkdir(exist_ok=True)
            work = ["--work", f"work-{name}"] if more and name != "embed" else []
            filled = [option.format(folder) for option in options]
            assert main([name, *filled, "--threads", "1", *more, *work]) == 0, capsys.readouterr().err
    one = files_of(Path("one"))
    assert {*one} >= {"pairs.csv", "groups.csv", "scores.csv", "00000.npy", "00001.npy"}
    assert files_of(Path("ray")) == one


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
