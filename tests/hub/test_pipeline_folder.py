"""The folder of a real pipeline: damaged, opened by strangers, in both forms, and stock networks in its place."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from dupq.cli.main import main
from dupq.data.pairs import PairTable
from dupq.decisions.candidate_rule import CandidateRule
from dupq.errors import InputError, ModelFolderError, NotCalibratedError
from dupq.hub.manifest import MANIFEST, checksum
from dupq.hub.save_load import resolve
from dupq.models.scoring_options import with_symmetry
from dupq.pipeline import DuplicatePipeline

Pairs = tuple[list[str], list[str]]


@pytest.fixture
def folder(saved: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(saved, tmp_path / "pipeline"))


def reseal(folder: Path, **changes: Any) -> None:
    content = {**json.loads((folder / MANIFEST).read_text()), **changes}
    content.pop("checksum")
    (folder / MANIFEST).write_text(json.dumps({**content, "checksum": checksum(content)}))


def complaint(folder: Path) -> str | None:
    """What is said when the pipeline is opened; None if it opens. Any error but ours comes through."""
    try:
        DuplicatePipeline.from_pretrained(folder)
    except ModelFolderError as error:
        return str(error)
    return None


def test_a_hundred_single_byte_corruptions_are_refused_by_name_or_harmless(
    pipeline: DuplicatePipeline, folder: Path, thousand: Pairs
) -> None:
    draw = random.Random(7)
    names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    refused, harmless = 0, []
    for _ in range(100):
        name = draw.choice(names)
        whole = (folder / name).read_bytes()
        damaged = bytearray(whole)
        damaged[draw.randrange(len(damaged))] ^= draw.randrange(1, 256)
        (folder / name).write_bytes(damaged)
        told = complaint(folder)
        if told is None:
            harmless.append(name)
            opened = DuplicatePipeline.from_pretrained(folder)
            assert np.array_equal(opened.raw_scores(*thousand), pipeline.raw_scores(*thousand))
        else:
            refused += 1
            assert name in told
        (folder / name).write_bytes(whole)
    # What may pass is white space of the manifest, which reads the same.
    assert refused >= 95
    assert set(harmless) <= {MANIFEST}


def test_stock_sentence_transformers_opens_the_parts_with_equal_logits(
    pipeline: DuplicatePipeline, saved: Path, thousand: Pairs
) -> None:
    import torch
    from sentence_transformers import CrossEncoder, SentenceTransformer

    left, right = thousand
    assert pipeline.cross_encoder is not None
    assert pipeline.bi_encoder is not None
    ours = with_symmetry(pipeline.cross_encoder, "canonical").score(left, right)
    pairs = [(min(pair), max(pair)) for pair in zip(left, right, strict=True)]
    for place in (saved, saved / "cross-encoder"):
        stock = CrossEncoder(str(place), device="cpu", local_files_only=True)
        assert np.abs(stock.predict(pairs, activation_fn=torch.nn.Identity()) - ours).max() <= 1e-5
    encoder = SentenceTransformer(str(saved / "bi-encoder"), device="cpu", local_files_only=True)
    assert np.abs(encoder.encode(left) - pipeline.bi_encoder.embed(left)).max() <= 1e-5


def test_a_bi_encoder_alone_opens_as_a_stock_sentence_transformer(tiny_bi_encoder: Path, tmp_path: Path) -> None:
    from sentence_transformers import SentenceTransformer

    pipeline = DuplicatePipeline.from_networks(None, tiny_bi_encoder)
    pipeline.save(tmp_path / "alone")
    stock = SentenceTransformer(str(tmp_path / "alone"), device="cpu", local_files_only=True)
    assert pipeline.bi_encoder is not None
    assert (
        np.abs(stock.encode(["Who invented chess?"]) - pipeline.bi_encoder.embed(["Who invented chess?"])).max() <= 1e-5
    )


def test_the_int8_form_travels_in_the_same_folder(pipeline: DuplicatePipeline, thousand: Pairs, tmp_path: Path) -> None:
    left, right = thousand
    scores = pipeline.raw_scores(left, right)
    exported = pipeline.export(PairTable(left, right, (scores > np.median(scores)).astype(np.int8)))
    exported.save(tmp_path / "int8")
    assert not (tmp_path / "int8/modules.json").exists()
    assert {path.suffix for path in (tmp_path / "int8").rglob("*") if path.is_file()} >= {".onnx"}
    tables = {path.parent.name: path.stat().st_size for path in (tmp_path / "int8").rglob("words_int8.safetensors")}
    assert tables.keys() == {"bi-encoder"}  # both tiny networks have the words of one base: they share its table
    opened = DuplicatePipeline.from_pretrained(tmp_path / "int8")
    assert np.array_equal(opened.raw_scores(left, right), exported.raw_scores(left, right))
    assert "sentence-transformers does not open them" in (tmp_path / "int8/README.md").read_text()
    (tmp_path / "int8/cross-encoder/model_int8.onnx").write_bytes(b"\x08")
    assert "model_int8.onnx" in str(complaint(tmp_path / "int8"))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"calibrator": {"kind": "platt"}}, "calibrator"),
        ({"calibrator": {"kind": "pickle", "base_rate": 0.5, "pairs": 1}}, "pickle"),
        ({"rule": {"duplicate": {}}}, "threshold"),
        ({"networks": {"cross-encoder": {"form": "torchscript", "fingerprint": "x"}}, "blend": None}, "torchscript"),
        ({"networks": {"cross-encoder": {"form": "sentence-transformers", "fingerprint": "x"}}}, "one network only"),
    ],
)
def test_what_a_manifest_says_wrongly_is_told_with_its_file(folder: Path, changes: dict[str, Any], word: str) -> None:
    reseal(folder, **changes)
    told = complaint(folder)
    assert told is not None
    assert word in told
    assert MANIFEST in told or "cross-encoder" in told


@pytest.mark.parametrize(
    "changes", [{"calibrator": {"kind": "platt"}}, {"rule": {"duplicate": {"score": 1}}}, {"rule": {"duplicate": [1]}}]
)
def test_a_manifest_that_says_nonsense_is_told_by_inspect(
    folder: Path, changes: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    reseal(folder, **changes)
    assert main(["model", "inspect", str(folder)]) == 2
    assert MANIFEST in capsys.readouterr().err


def test_code_asked_for_in_a_sealed_folder_is_refused(folder: Path) -> None:
    config = folder / "bi-encoder/1_Pooling/config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "auto_map": {"AutoModel": "evil.Model"}}))
    files = json.loads((folder / MANIFEST).read_text())["files"]
    reseal(folder, files={**files, "bi-encoder/1_Pooling/config.json": hashlib.sha256(config.read_bytes()).hexdigest()})
    assert "auto_map" in str(complaint(folder))


@pytest.mark.parametrize("kind", ["tiny_cross_encoder", "tiny_bi_encoder"])
def test_a_stock_network_is_an_uncalibrated_pipeline_and_says_so(
    request: pytest.FixtureRequest, kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    network = request.getfixturevalue(kind)
    pipeline = DuplicatePipeline.from_pretrained(network)
    assert np.isfinite(pipeline.raw_scores(["What is chess?"], ["Who invented chess?"])).all()
    with pytest.raises(NotCalibratedError, match="uncalibrated"):
        pipeline.score("What is chess?", "Who invented chess?")
    assert main(["model", "inspect", str(network)]) == 0
    assert "uncalibrated" in capsys.readouterr().out


def test_a_plain_transformers_classifier_is_taken_for_a_cross_encoder(tiny_cross_encoder: Path, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    shutil.copytree(tiny_cross_encoder, plain)
    for name in ("modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"):
        (plain / name).unlink()
    pipeline = DuplicatePipeline.from_pretrained(plain)
    expected = DuplicatePipeline.from_pretrained(tiny_cross_encoder).raw_scores(
        ["What is chess?"], ["Who invented it?"]
    )
    assert pipeline.cross_encoder is not None
    assert pipeline.raw_scores(["What is chess?"], ["Who invented it?"]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("kind", ["tiny_cross_encoder", "tiny_bi_encoder"])
def test_whatever_a_stock_network_says_it_scores_or_one_of_our_errors_comes_out(
    request: pytest.FixtureRequest, kind: str, tmp_path: Path
) -> None:
    draw = random.Random(3)
    wrong: list[Any] = [None, -1, 1.5, "x", [], {}, {"a": 1}, [1, "a"], 0, 10**6, True]
    texts = ["Who invented chess?", "chess " * 900]
    told = 0
    for trial in range(30):
        folder = Path(shutil.copytree(request.getfixturevalue(kind), tmp_path / str(trial)))
        path = draw.choice([path for path in sorted(folder.rglob("*.json")) if path.name != "tokenizer.json"])
        content = json.loads(path.read_text())
        entry = content if isinstance(content, dict) else content[0]
        if entry:
            entry[draw.choice(sorted(entry))] = draw.choice(wrong)
        path.write_text(json.dumps(content))
        found = complaint(folder)
        if found is None:
            scores = DuplicatePipeline.from_pretrained(folder).raw_scores(texts, texts[::-1])
            assert np.isfinite(scores).all()
        else:
            assert str(folder) in found
            told += 1
        shutil.rmtree(folder)
    assert told >= 8


@pytest.mark.parametrize("kind", ["tiny_cross_encoder", "tiny_bi_encoder"])
@pytest.mark.parametrize(("damage", "file"), [("not a number", "model.safetensors"), ("more tokens", "tokenizer.json")])
def test_damage_that_loads_without_a_complaint_is_told_with_its_file(
    request: pytest.FixtureRequest, kind: str, damage: str, file: str, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(request.getfixturevalue(kind), tmp_path / "network"))
    if damage == "not a number":
        tensors = load_file(folder / file)
        name = next(name for name in tensors if name.endswith("LayerNorm.weight"))
        save_file({**tensors, name: np.full_like(tensors[name], np.nan)}, folder / file, {"format": "pt"})
    else:
        tokenizer = json.loads((folder / file).read_text())
        vocabulary = tokenizer["model"]["vocab"]
        vocabulary |= {f"unheard{number}": len(vocabulary) + number for number in range(50)}
        (folder / file).write_text(json.dumps(tokenizer))
    assert str(folder / file) in str(complaint(folder))
    networks = (folder, None) if kind == "tiny_cross_encoder" else (None, folder)
    with pytest.raises(ModelFolderError, match=file):
        DuplicatePipeline.from_networks(*networks)


def test_a_damaged_tokenizer_is_told(tiny_bi_encoder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tiny_bi_encoder, tmp_path / "network"))
    (folder / "tokenizer.json").write_text('{"version": "1.0", "model": {"type": "Unheard"}, "added_tokens": []}')
    assert str(folder) in str(complaint(folder))


class AskedError(Exception):
    """Stands for a request to the Hub, which no test of a path may make."""


def _asked(*_: Any) -> None:
    raise AskedError


@pytest.mark.parametrize(
    "name",
    [
        "./missing",
        "models/missing",
        "missing-folder",
        "missing/",
        "../x/y",
        "~nobody/x",
        "a b/c",
        "x" * 300,
        "a\\b",
        "",
    ],
)
def test_a_missing_folder_is_not_asked_of_the_hub(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dupq.hub.save_load.fetch", _asked)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    with pytest.raises(ModelFolderError, match=r"no such folder|cannot be read|neither a pipeline folder") as caught:
        DuplicatePipeline.from_pretrained(name)
    assert "Hub cannot be reached" not in str(caught.value)
    with pytest.raises(ModelFolderError):
        resolve(Path(name) / "missing")


def test_owner_and_name_are_asked_of_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dupq.hub.save_load.fetch", _asked)
    monkeypatch.chdir(tmp_path)
    for name in ("owner/name", "me/forum-duplicates.v2", "Owner_1/x"):
        with pytest.raises(AskedError):
            resolve(name)
    # A folder of the owner's name hides it, unless a revision shows that the Hub is meant, or one asks from elsewhere.
    (tmp_path / "owner").mkdir()
    with pytest.raises(ModelFolderError, match="from another folder"):
        resolve("owner/name")
    with pytest.raises(AskedError):
        resolve("owner/name", revision="main")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    with pytest.raises(AskedError):
        resolve("owner/name")


@pytest.mark.parametrize("name", [5, b"folder", ["folder"], 0.5])
def test_what_is_no_name_is_refused(name: Any) -> None:
    with pytest.raises(InputError, match="name must be"):
        resolve(name)


def test_names_of_folders_and_of_the_hub_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no revisions"):
        resolve(tmp_path, revision="v1")
    for name in ("./nothing", "/nothing", "~/nothing", "a/b/c", "a\\b", tmp_path / "nothing"):
        with pytest.raises(ModelFolderError, match="no such folder"):
            resolve(name)
    (tmp_path / "file").write_text("x")
    with pytest.raises(ModelFolderError, match="no such folder"):
        resolve(tmp_path / "file")


def test_the_candidate_rule_travels_in_the_folder(
    pipeline: DuplicatePipeline, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert json.loads((folder / MANIFEST).read_text())["candidate_rule"] is None
    assert DuplicatePipeline.from_pretrained(folder).candidate_rule == CandidateRule(0, 0.8)
    rule = CandidateRule(12, 0.35, recall=0.9, duplicates=70, questions=3000, candidates=8.5)
    ruled = pipeline.with_candidate_rule(rule)
    assert ruled != pipeline
    ruled.save(tmp_path / "ruled")
    opened = DuplicatePipeline.from_pretrained(tmp_path / "ruled")
    assert opened.candidate_rule == rule
    assert opened == ruled
    assert main(["model", "inspect", str(tmp_path / "ruled")]) == 0
    assert "the 12 nearest of each question from 0.35 on; it found 90.0% of 70" in capsys.readouterr().out
    for damaged in (7, {"neighbours": 12}, {**rule.to_dict(), "min_cosine": 2}):
        reseal(tmp_path / "ruled", candidate_rule=damaged)
        assert MANIFEST in (complaint(tmp_path / "ruled") or "")
    content = json.loads((folder / MANIFEST).read_text())
    del content["candidate_rule"], content["checksum"]
    (folder / MANIFEST).write_text(json.dumps({**content, "checksum": checksum(content)}))
    assert DuplicatePipeline.from_pretrained(folder).candidate_rule == CandidateRule()
