"""Every method by name: it trains, its network opens by itself, and what it learns lives in the network."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import Trainer

from dupq.cli.main import main
from dupq.data.pairs import PairTable
from dupq.errors import InputError
from dupq.models.bi_encoder import BiEncoder
from dupq.models.cross_encoder import CrossEncoderScorer
from dupq.models.ensemble import CosineScorer
from dupq.models.sentence_transformers_io import RECORD
from dupq.training.base_models import NEW_MODULES, open_base
from dupq.training.callbacks import CollapseWarning, describe_collapse
from dupq.training.losses import LinearHingeLoss, UnorderedBinaryCrossEntropyLoss
from dupq.training.methods import METHODS, find_method
from dupq.training.trainer import TrainSettings, train
from dupq.types import Scorer
from tests.questions import labelled_table

HELD = labelled_table(3)


def scorer_of(kind: str, folder: Path) -> Scorer:
    return CosineScorer(BiEncoder(folder)) if kind == "bi-encoder" else CrossEncoderScorer(folder)


@pytest.mark.parametrize("name", METHODS)
def test_a_method_trains_a_network_that_opens_by_itself(
    name: str, pairs: PairTable, settings: TrainSettings, tmp_path: Path
) -> None:
    method = METHODS[name]
    if method.closed_form:
        # An untrained encoder finds duplicates near where they are the same but for case.
        right = [a.upper() if label else b for a, b, label in zip(pairs.left, pairs.right, pairs.labels, strict=True)]
        pairs = PairTable(pairs.left, right, pairs.labels)
    record = train(method.kind, pairs, tmp_path / "net", replace(settings, max_steps=3), method=name)
    assert json.loads((tmp_path / "net" / RECORD).read_text())["identity"] == record["identity"]
    assert record.get("method", find_method(method.kind).name) == name
    end = scorer_of(method.kind, tmp_path / "net")
    scores = end.score(HELD.left, HELD.right)
    assert np.isfinite(scores).all()
    assert np.std(scores) > 0
    assert np.array_equal(scores, end.score(HELD.right, HELD.left))
    if method.completion:  # its module comes with the fit
        return
    start = open_base(method, settings).state_dict()
    model = end.embedder.model if isinstance(end, CosineScorer) else end.model  # type: ignore[attr-defined]
    moved = {key for key, value in model.state_dict().items() if not torch.equal(value, start[key])}
    encoder = any(key.startswith("0.") for key in moved)
    assert encoder != bool(method.metric)
    if method.network:
        assert any(re.match(NEW_MODULES, f"model.{key}") for key in moved)


@pytest.mark.parametrize("name", ["hybrid", "two-branch", "triplet-hard", "r-drop", "residual-generative"])
def test_a_resumed_run_is_the_run_that_nothing_interrupted(
    name: str,
    pairs: PairTable,
    settings: TrainSettings,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kind, settings = METHODS[name].kind, replace(settings, max_steps=5, save_steps=3)
    train(kind, pairs, tmp_path / "whole", settings, method=name)
    whole: Callable[..., Any] = Trainer.training_step

    def interrupted(self: Trainer, *args: Any, **kwargs: Any) -> Any:
        if self.state.global_step == 4:
            raise KeyboardInterrupt
        return whole(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "training_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            train(kind, pairs, tmp_path / "cut", settings, method=name)
    assert train(kind, pairs, tmp_path / "cut", settings, method=name)["resumed"]
    one, other = (scorer_of(kind, tmp_path / folder) for folder in ("whole", "cut"))
    assert one.fingerprint == other.fingerprint


def test_only_what_is_put_behind_the_encoder_learns_at_the_fresh_rate(settings: TrainSettings) -> None:
    hybrid = open_base(METHODS["hybrid"], settings)
    names = [name for name, _ in UnorderedBinaryCrossEntropyLoss(hybrid).named_parameters()]  # type: ignore[arg-type]
    assert {name.split(".")[1] for name in names if re.search(NEW_MODULES, name)} == {"1"}
    assert any(not re.search(NEW_MODULES, name) for name in names)
    branch = open_base(METHODS["two-branch"], settings)
    losses = torch.nn.Sequential()
    losses.add_module("components", LinearHingeLoss(branch))  # type: ignore[arg-type]
    fresh = [name for name, _ in losses.named_parameters() if re.search(NEW_MODULES, name)]
    assert len(fresh) == 4
    assert all(".linear." in name for name in fresh)


def test_a_network_trained_otherwise_is_kept(pairs: PairTable, settings: TrainSettings, tmp_path: Path) -> None:
    settings = replace(settings, max_steps=1)
    train("bi-encoder", pairs, tmp_path / "net", settings, method="logistic")
    from dupq.errors import TrainingError

    with pytest.raises(TrainingError, match="trained otherwise"):
        train("bi-encoder", pairs, tmp_path / "net", settings)


# ---- refusals -----------------------------------------------------------------------------------------------------


def test_a_method_of_another_kind_or_name_is_refused(pairs: PairTable, settings: TrainSettings, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="trains a cross-encoder, not a bi-encoder"):
        train("bi-encoder", pairs, tmp_path / "net", settings, method="hybrid")
    with pytest.raises(InputError, match="unknown method 'nothing'") as told:
        train("bi-encoder", pairs, tmp_path / "net", settings, method="nothing")
    assert "triplet-hard" in str(told.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["triplet-hard", "ranking", "kissme"])
def test_soft_labels_are_refused_where_they_would_not_be_learnt(
    name: str, pairs: PairTable, settings: TrainSettings, tmp_path: Path
) -> None:
    soft_labels = np.clip(pairs.labels.astype(float), 0.1, 0.9)
    with pytest.raises(InputError, match="cannot learn from soft labels"):
        train(METHODS[name].kind, pairs, tmp_path / "net", settings, method=name, soft_labels=soft_labels)


def test_views_by_dropout_need_dropout_and_contrast_no_labels(settings: TrainSettings, tmp_path: Path) -> None:
    table = labelled_table(3)
    unlabelled = PairTable(table.left, table.right, np.full(len(table), -1, dtype=np.int8))
    with pytest.raises(InputError, match="dropout"):
        train("bi-encoder", unlabelled, tmp_path / "net", replace(settings, dropout=0.0), method="dropout-contrast")
    with pytest.raises(InputError, match="dropout must be above 0 for the method 'r-drop', got 0"):
        train("cross-encoder", table, tmp_path / "net", replace(settings, dropout=0.0), method="r-drop")
    settings = replace(settings, max_steps=2)
    record = train("bi-encoder", unlabelled, tmp_path / "net", settings, method="dropout-contrast")
    assert record["data"]["base_rate"] is None


# ---- collapse -----------------------------------------------------------------------------------------------------


def test_a_loss_that_only_pulls_collapses_and_is_told(
    pairs: PairTable, settings: TrainSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = replace(settings, max_steps=50, learning_rate=3e-3, dropout=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", CollapseWarning)
        record = train("bi-encoder", pairs, tmp_path / "sound", settings, method="linear-hinge")
    assert "collapse" not in record

    def pulled(self: LinearHingeLoss, model: Any) -> None:
        whole(self, model, margin=0.0)

    whole = LinearHingeLoss.__init__
    monkeypatch.setattr(LinearHingeLoss, "__init__", pulled)
    with pytest.warns(CollapseWarning, match=r"step 50: the cosines between the last 16 questions have mean (0\.99|1)"):
        record = train("bi-encoder", pairs, tmp_path / "net", settings, method="linear-hinge")
    assert "standard deviation" in record["collapse"]
    scores = scorer_of("bi-encoder", tmp_path / "net").score(HELD.left, HELD.right)
    sound = scorer_of("bi-encoder", tmp_path / "sound").score(HELD.left, HELD.right)
    assert np.std(scores) < 0.1 * np.std(sound)


def test_what_a_collapse_is() -> None:
    draw = torch.Generator().manual_seed(0)
    spread = torch.randn(20, 8, generator=draw)
    assert describe_collapse("sentence_embedding", [spread]) is None
    assert "mean 1.0000" in str(describe_collapse("sentence_embedding", [spread * 1e-4 + 1]))
    assert describe_collapse("scores", [torch.randn(20, 1, generator=draw)]) is None
    assert "20 pairs have mean 0.700" in str(describe_collapse("scores", [torch.full((20, 1), 0.7)]))
    assert describe_collapse("scores", [torch.zeros(2, 1)]) is None


# ---- the command --------------------------------------------------------------------------------------------------


def test_the_command_lists_every_method_with_its_source(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--list-methods"]) == 0
    text = capsys.readouterr().out
    for method in METHODS.values():
        assert re.search(rf"^  {re.escape(method.name)} .*\[.+\]$", text, re.MULTILINE), method.name
    assert main(["train", "--list-methods", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert [entry["name"] for entry in listed] == list(METHODS)
    assert all(entry["line"] and entry["source"] for entry in listed)


def test_the_command_trains_by_a_method(
    pairs: PairTable, tiny_base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "pairs.jsonl"
    rows = zip(pairs.left, pairs.right, pairs.labels.tolist(), strict=True)
    file.write_text("\n".join(json.dumps({"question1": a, "question2": b, "label": y}) for a, b, y in rows))
    options = ["--base", str(tiny_base), "--max-steps", "1", "--max-length", "32", "--json"]
    output = ["-o", str(tmp_path / "net")]
    assert main(["train", "cross-encoder", str(file), *output, "--method", "arc-1", *options]) == 0
    assert json.loads(capsys.readouterr().out)["method"] == "arc-1"
    assert main(["train", "bi-encoder", str(file), *output, "--method", "arc-1", *options]) == 2
    assert "trains a cross-encoder" in capsys.readouterr().err
