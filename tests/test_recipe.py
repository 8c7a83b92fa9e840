"""The shipped model's recipe as the one command that it is documented as, on tiny networks and questions of our own."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType

import pytest

from dupq import DuplicatePipeline
from dupq.data.writing import write_rows
from dupq.models.stock import training_record
from tests.networks import save_tiny_base, save_tiny_bi_encoder
from tests.questions import labelled_pairs

SCRIPT = Path(__file__).parents[1] / "data_scripts" / "shipped_model.py"


@pytest.fixture
def recipe(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """The script as a module, which writes nowhere but under `tmp_path`, and trains for a moment."""
    monkeypatch.syspath_prepend(SCRIPT.parent)  # as of a script that is run
    spec = importlib.util.spec_from_file_location("shipped_model", SCRIPT)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "PRETRAINED", tmp_path / "pretrained")
    monkeypatch.setattr(module, "CARD", tmp_path / "card.md")
    monkeypatch.setattr(module, "JUDGED_FIRST", 20)
    monkeypatch.setattr(module, "REDUCED", ("--dimensions", "12", "--power", "0.1"))
    steps = sys.modules["steps"]
    whole = steps.dupq

    def short(arguments: list[str]) -> int:
        for option, value in (("--per-kind", "20"), ("--epochs", "1"), ("--miss-rate", "0.5")):
            if option in arguments:
                arguments[arguments.index(option) + 1] = value
        return int(whole(arguments))

    monkeypatch.setattr(steps, "dupq", short)
    return module


def world(path: Path, name: str) -> Path:
    """Labelled pairs of which no question is another world's; near questions are duplicates, so that a cosine tells."""
    asked = sorted({f"{pair.question1.rstrip('?')} {name}" for pair in labelled_pairs()})
    rows = [{"question1": a, "question2": f"please {a}", "label": 1} for a in asked]
    rows += [{"question1": a, "question2": b, "label": 0} for a, b in zip(asked, reversed(asked), strict=True)]
    write_rows(path, rows, ["question1", "question2", "label"])
    return path


@pytest.mark.slow
def test_the_recipe_runs_from_its_start_to_a_pipeline_that_decides(
    recipe: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    base, deep, teacher = (
        save_tiny_bi_encoder(tmp_path / name, save_tiny_base(tmp_path / f"{name}-base", layers=layers, tokens=192))
        for name, layers in (("small", 2), ("deep", 7), ("large", 5))
    )
    pairs = [  # ten a question group; of every fourth group the duplicates alone, which then only train
        {"question1": pair.question1, "question2": pair.question2, "is_duplicate": pair.label, "natural": natural}
        for number, pair in enumerate(labelled_pairs())
        if (natural := int(number // 10 % 4 > 0)) or pair.label
    ]
    write_rows(tmp_path / "pairs.csv", pairs, ["question1", "question2", "is_duplicate", "natural"])
    files = {
        name: world(tmp_path / f"{name}.csv", name) for name in ("paws", "mrpc", "twitter", "posts", "more", "new")
    }
    arguments = ["--work", tmp_path / "work", "--base", base, "--teacher-base", teacher, "--cross-base", deep]
    arguments += ["--pairs", tmp_path / "pairs.csv", "--posts", files["posts"], files["more"]]
    arguments += [part for name in ("paws", "mrpc", "twitter") for part in (f"--{name}", files[name])]
    arguments += ["--elsewhere", f"New={files['new']}"]
    monkeypatch.setattr(sys, "argv", ["shipped_model.py", *map(str, arguments)])
    recipe.main()
    trained = [
        tmp_path / "work" / name / "model.safetensors"
        for name in ("fourth", "bi-encoder-6", "deeper-2", "bi-encoder-8")
    ]
    written = [path.stat().st_mtime_ns for path in trained]
    recipe.main()  # goes on where it was, here at its end: nothing is trained again
    assert [path.stat().st_mtime_ns for path in trained] == written
    score = DuplicatePipeline.from_pretrained(tmp_path / "pretrained").score("Is chess fun?", "Is chess dangerous?")
    assert score.threshold is not None
    manifest = json.loads((tmp_path / "pretrained" / "dupq.json").read_text(encoding="utf-8"))
    assert [form["form"] for form in manifest["networks"].values()] == ["onnx-int8", "onnx-int8"]
    # One table of words, in 4 bits, and one of seven layers left out.
    assert [path.name for path in (tmp_path / "pretrained").rglob("words_*")] == ["words_int4.safetensors"]
    config = json.loads((tmp_path / "work" / "deeper" / "config.json").read_text(encoding="utf-8"))
    assert config["num_hidden_layers"] == 6
    assert "New" in (tmp_path / "card.md").read_text(encoding="utf-8")
    # The last stage alone, from what now ships.
    arguments += ["--go-on-from", shutil.copytree(tmp_path / "pretrained", tmp_path / "before")]
    arguments[1] = tmp_path / "work-on"
    monkeypatch.setattr(sys, "argv", ["shipped_model.py", *map(str, arguments)])
    recipe.main()
    after = json.loads((tmp_path / "pretrained" / "dupq.json").read_text(encoding="utf-8"))
    networks = [content["networks"] for content in (manifest, after)]
    assert networks[0]["bi-encoder"]["fingerprint"] != networks[1]["bi-encoder"]["fingerprint"]
    assert not (tmp_path / "work-on" / "teacher").exists()
    assert [path.name for path in (tmp_path / "pretrained").rglob("words_*")] == ["words_int4.safetensors"]
    # What the networks had met that it goes on from is not forgotten, or test pairs could be among it.
    met, known = (training_record(tmp_path / "work-on" / name)[1] for name in ("between/bi-encoder", "bi-encoder-9"))
    assert met is not None
    assert known is not None
    assert set(met) <= set(known)
    # And what is fitted around the networks alone.
    arguments[1] = tmp_path / "work-anew"
    monkeypatch.setattr(sys, "argv", ["shipped_model.py", *map(str, arguments), "--train-nothing"])
    recipe.main()
    anew = json.loads((tmp_path / "pretrained" / "dupq.json").read_text(encoding="utf-8"))
    assert anew["networks"] == networks[0]
    assert not (tmp_path / "work-anew" / "bi-encoder-8").exists()
