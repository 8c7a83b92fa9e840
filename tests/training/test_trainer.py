from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from sentence_transformers import CrossEncoder, SentenceTransformer
from sklearn.metrics import average_precision_score
from transformers import Trainer

import dupq.training.trainer
from dupq.data.pairs import PairTable
from dupq.data.text import fingerprints
from dupq.errors import TrainingError
from dupq.models.sentence_transformers_io import QUESTIONS, RECORD
from dupq.training.trainer import TrainSettings, train
from tests.networks import save_tiny_base
from tests.questions import labelled_table

KINDS = ("bi-encoder", "cross-encoder")


@pytest.fixture(scope="module", params=KINDS)
def trained(
    request: pytest.FixtureRequest, settings: TrainSettings, pairs: PairTable, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, Path, dict[str, Any]]:
    """Kind, folder and record of a run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("trained") / request.param
    return request.param, folder, train(request.param, pairs, folder, settings, validation=labelled_table(4))


@pytest.fixture
def interrupted_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Has every training end at a step as by Ctrl-C, until `interrupted_after(0)`."""
    whole = Trainer.training_step

    def interrupt(steps: int) -> None:
        def step(self: Trainer, *args: Any, **kwargs: Any) -> Any:
            if self.state.global_step == steps:
                raise KeyboardInterrupt
            return whole(self, *args, **kwargs)

        monkeypatch.setattr(Trainer, "training_step", step if steps else whole)

    return interrupt


def weights(folder: Path) -> dict[str, np.ndarray[Any, Any]]:
    return {
        f"{path.relative_to(folder)}:{name}": value
        for path in sorted(folder.rglob("*.safetensors"))
        if path.name != QUESTIONS
        for name, value in load_file(path).items()
    }


def same_weights(one: Path, other: Path) -> bool:
    a, b = weights(one), weights(other)
    assert a.keys() == b.keys()
    return all((a[name] == b[name]).all() for name in a)


def left_beside(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.parent.iterdir() if path.name.startswith("."))


# ---- what a run leaves --------------------------------------------------------------------------------------------


def test_a_stock_library_opens_the_folder(trained: tuple[Any, Path, dict[str, Any]]) -> None:
    kind, folder, _ = trained
    assert left_beside(folder) == []
    assert not [path for path in folder.rglob("*") if path.suffix in (".bin", ".pt", ".pth", ".pkl")]
    if kind == "bi-encoder":
        model = SentenceTransformer(str(folder), device="cpu")
        assert model.max_seq_length == 32
        assert model.encode(["Who invented chess?"]).shape == (1, 32)
    else:
        model = CrossEncoder(str(folder), device="cpu")
        assert model.num_labels == 1
        assert model.predict([("Who invented chess?", "Is chess fun?")]).shape == (1,)


def test_validation_is_logged_after_each_epoch(trained: tuple[Any, Path, dict[str, Any]]) -> None:
    kind, _, record = trained
    name = {"bi-encoder": "eval_validation_cosine_ap", "cross-encoder": "eval_validation_average_precision"}[kind]
    scores = {entry["epoch"]: entry[name] for entry in record["log"] if name in entry}
    assert list(scores) == [1.0, 2.0]
    assert all(0 < score <= 1 for score in scores.values())


def test_a_bi_encoder_learns_its_pairs(settings: TrainSettings, tiny_base: Path, tmp_path: Path) -> None:
    pairs = labelled_table(16)
    train("bi-encoder", pairs, tmp_path / "network", replace(settings, dropout=0.0, freeze_embeddings=False))
    before, after = (
        average_precision_score(pairs.labels, cosines(SentenceTransformer(str(folder), device="cpu"), pairs))
        for folder in (tiny_base, tmp_path / "network")
    )
    assert before < 0.7
    assert after > 0.95


def cosines(model: SentenceTransformer, pairs: PairTable) -> Any:
    left, right = (model.encode(texts, normalize_embeddings=True) for texts in (pairs.left, pairs.right))
    return (left * right).sum(axis=1)


def test_a_cross_encoder_learns_what_holds_beyond_its_pairs(settings: TrainSettings, tmp_path: Path) -> None:
    pairs = labelled_table(32)
    asks_how = [
        left.startswith("How can") or right.startswith("How can")
        for left, right in zip(pairs.left, pairs.right, strict=True)
    ]
    pairs = replace(pairs, labels=np.array(asks_how, dtype=np.int8))
    seen = np.arange(len(pairs)) < 240
    easy = replace(settings, learning_rate=5e-3, dropout=0.0, freeze_embeddings=False)
    train("cross-encoder", pairs.take(seen), tmp_path / "network", easy)
    unseen = pairs.take(~seen)
    model = CrossEncoder(str(tmp_path / "network"), device="cpu")
    for left, right in ((unseen.left, unseen.right), (unseen.right, unseen.left)):
        assert average_precision_score(unseen.labels, model.predict(list(zip(left, right, strict=True)))) > 0.95


def test_the_record(trained: tuple[Any, Path, dict[str, Any]], settings: TrainSettings, pairs: PairTable) -> None:
    kind, folder, record = trained
    assert record == json.loads((folder / RECORD).read_text())
    assert record["kind"] == kind
    assert record["settings"]["learning_rate"] == settings.learning_rate
    assert record["data"] == {"pairs": 80, "base_rate": pytest.approx(0.6), "fingerprint": pairs.fingerprint}
    assert record["bfloat16"] is False
    assert record["resumed"] is False
    assert record["versions"]["torch"] == torch.__version__
    seen = load_file(folder / QUESTIONS)["fingerprints"]
    assert seen.tolist() == sorted(set(fingerprints([*pairs.left, *pairs.right]).tolist()))


def test_frozen_embeddings_stay_and_the_rest_moves(trained: tuple[Any, Path, dict[str, Any]], tiny_base: Path) -> None:
    _, folder, _ = trained
    before = load_file(tiny_base / "model.safetensors")
    after = {name.split(":")[1].removeprefix("bert."): value for name, value in weights(folder).items()}
    assert (after["embeddings.word_embeddings.weight"] == before["embeddings.word_embeddings.weight"]).all()
    assert (after["encoder.layer.1.output.dense.weight"] != before["encoder.layer.1.output.dense.weight"]).any()


# ---- the same again -----------------------------------------------------------------------------------------------


def test_a_seed_repeats_a_run_to_the_last_bit(
    trained: tuple[Any, Path, dict[str, Any]], settings: TrainSettings, pairs: PairTable, tmp_path: Path
) -> None:
    kind, folder, record = trained
    # Whether it is watched on validation pairs makes no difference.
    again = train(kind, pairs, tmp_path / "again", settings)
    assert again["identity"] == record["identity"]
    assert same_weights(folder, tmp_path / "again")
    train(kind, pairs, tmp_path / "other", replace(settings, seed=1))
    assert not same_weights(folder, tmp_path / "other")


@pytest.mark.parametrize("step", [6, 18])
def test_an_interrupted_run_ends_as_if_it_had_not_been(
    trained: tuple[Any, Path, dict[str, Any]],
    settings: TrainSettings,
    pairs: PairTable,
    tmp_path: Path,
    interrupted_after: Callable[[int], None],
    step: int,
) -> None:
    kind, folder, record = trained
    output = tmp_path / "network"
    interrupted_after(step)
    with pytest.raises(KeyboardInterrupt):
        train(kind, pairs, output, settings)
    assert not output.exists()
    checkpoints = tmp_path / ".network.checkpoints"
    last = max(path.name for path in checkpoints.glob(f"checkpoint-{step - 2}"))
    # What a cut-off save leaves: a folder without its state, and one whose state is half there.
    shutil.copytree(checkpoints / last, checkpoints / "checkpoint-91")
    (checkpoints / "checkpoint-91" / "trainer_state.json").unlink()
    shutil.copytree(checkpoints / last, checkpoints / "checkpoint-92")
    state = checkpoints / "checkpoint-92" / "trainer_state.json"
    state.write_text(state.read_text()[:100])
    interrupted_after(0)
    resumed = train(kind, pairs, output, settings)
    assert resumed["resumed"] is True
    assert resumed["identity"] == record["identity"]
    assert left_beside(output) == []
    a, b = weights(folder), weights(output)
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_allclose(b[name], a[name], rtol=1e-5, atol=1e-6, err_msg=name)


def test_a_resumed_run_keeps_the_precision_it_began_with(
    settings: TrainSettings,
    pairs: PairTable,
    tmp_path: Path,
    interrupted_after: Callable[[int], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    short = replace(settings, precision="auto", max_steps=6)
    monkeypatch.setattr(dupq.training.trainer, "bfloat16_is_faster", lambda: True)
    interrupted_after(5)
    with pytest.raises(KeyboardInterrupt):
        train("cross-encoder", pairs, tmp_path / "network", short)
    interrupted_after(0)
    monkeypatch.setattr(dupq.training.trainer, "bfloat16_is_faster", lambda: False)
    record = train("cross-encoder", pairs, tmp_path / "network", short)
    assert (record["resumed"], record["bfloat16"]) == (True, True)


def test_a_finished_run_is_left_alone(
    trained: tuple[Any, Path, dict[str, Any]],
    settings: TrainSettings,
    pairs: PairTable,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    kind, folder, record = trained
    monkeypatch.setattr(Trainer, "train", lambda *args, **kwargs: pytest.fail("it trained again"))
    # Neither the order of the pairs nor the place of the base makes another run of it.
    mixed = pairs.take(np.arange(len(pairs))[::-1])
    moved = Path(shutil.copytree(settings.base, tmp_path / "moved"))
    assert train(kind, mixed, folder, replace(settings, base=str(moved))) == record | {"settings": record["settings"]}


def test_another_run_is_refused_unless_it_may_start_anew(
    trained: tuple[Any, Path, dict[str, Any]], settings: TrainSettings, pairs: PairTable, tmp_path: Path
) -> None:
    kind, folder, record = trained
    folder = Path(shutil.copytree(folder, tmp_path / "network"))
    other_base = save_tiny_base(tmp_path / Path(settings.base).name, seed=1)
    short = replace(settings, max_steps=2)
    for others, table in (
        (short, pairs),
        (settings, pairs.take(np.arange(79))),
        (replace(settings, base=str(other_base)), pairs),
    ):
        with pytest.raises(TrainingError, match=r"network: this folder holds a network trained otherwise") as caught:
            train(kind, table, folder, others)
        assert "--restart" in str(caught.value.hint)
    assert json.loads((folder / RECORD).read_text()) == record
    assert train(kind, pairs, folder, short, restart=True)["settings"]["max_steps"] == 2


def test_checkpoints_of_another_run_are_refused_unless_it_may_start_anew(
    settings: TrainSettings, pairs: PairTable, tmp_path: Path, interrupted_after: Callable[[int], None]
) -> None:
    interrupted_after(5)
    with pytest.raises(KeyboardInterrupt):
        train("cross-encoder", pairs, tmp_path / "network", settings)
    interrupted_after(0)
    short = replace(settings, max_steps=2)
    with pytest.raises(TrainingError, match="the checkpoints here are of a run with other settings"):
        train("cross-encoder", pairs, tmp_path / "network", short)
    (tmp_path / ".network.checkpoints" / "run.json").write_text("{")
    with pytest.raises(TrainingError, match=r"run.json: the file is damaged"):
        train("cross-encoder", pairs, tmp_path / "network", settings)
    assert train("cross-encoder", pairs, tmp_path / "network", short, restart=True)["resumed"] is False


def test_nothing_but_a_trained_network_is_thrown_away(
    settings: TrainSettings, pairs: PairTable, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("ten years")
    (tmp_path / "file").write_text("kept")
    for name in ("mine", "file"):
        for restart in (False, True):
            with pytest.raises(TrainingError, match="name another folder"):
                train("bi-encoder", pairs, tmp_path / name, settings, restart=restart)
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "ten years"
    assert (tmp_path / "file").read_text() == "kept"


def test_a_network_learnt_from_another_has_seen_its_questions_too(
    trained: tuple[Any, Path, dict[str, Any]], settings: TrainSettings, pairs: PairTable, tmp_path: Path
) -> None:
    _, folder, _ = trained
    more = labelled_table(12)
    more = more.take(np.arange(len(more)) >= 90)
    train("cross-encoder", more, tmp_path / "next", replace(settings, base=str(folder), max_steps=1))
    seen = load_file(tmp_path / "next" / QUESTIONS)["fingerprints"]
    expected = fingerprints([*pairs.left, *pairs.right, *more.left, *more.right])
    assert seen.tolist() == sorted(set(expected.tolist()))
