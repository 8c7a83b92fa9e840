"""Distillation of one trunk and two heads: its loss against a slow loop, and runs that are interrupted."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from data_scripts import one_trunk
from data_scripts.one_trunk_rows import Taught
from dupq.training.one_trunk_loss import OneTrunkLoss, TeacherTable, TermWeights, embed
from tests.networks import HIDDEN, save_tiny_base, save_tiny_bi_encoder, save_tiny_cross_encoder
from tests.questions import labelled_table

DIMENSIONS = 6


def taught() -> Taught:
    """Pairs with teachers of random outputs."""
    pairs = labelled_table(6)
    pairs = pairs.take(np.arange(96) % len(pairs))
    texts = list(dict.fromkeys([*pairs.left, *pairs.right]))
    draw = np.random.default_rng(0)
    vectors = draw.standard_normal((len(texts), DIMENSIONS)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    labels = pairs.labels.copy()
    labels[::5] = -1
    logits = draw.normal(0, 2, len(pairs)).astype(np.float32)
    pooled = draw.uniform(-1, 1, (len(pairs), HIDDEN)).astype(np.float16)
    return Taught(pairs.left, pairs.right, labels, logits, pooled, texts, vectors)


def test_the_table_holds_the_questions_in_canonical_order() -> None:
    given = taught()
    table = one_trunk.teacher_table(given)
    for row in (0, 3, 7):
        texts = [given.texts[question] for question in table.questions[row].tolist()]
        assert texts == sorted((given.left[row], given.right[row]))
        p = 1 / (1 + math.exp(-float(given.logits[row])))
        label = int(given.labels[row])
        expected = p if label < 0 else 0.7 * p + 0.3 * label
        assert float(table.soft_labels[row]) == pytest.approx(expected, abs=1e-6)
    assert float(table.soft_labels[0]) == pytest.approx(1 / (1 + math.exp(-float(given.logits[0]))), abs=1e-6)


def cosine(u: list[float], v: list[float]) -> float:
    product = sum(a * b for a, b in zip(u, v, strict=True))
    return product / math.sqrt(sum(a * a for a in u) * sum(b * b for b in v))


def slow_loss(outputs: dict[str, Tensor], rows: list[int], table: TeacherTable, projection: Tensor) -> dict[str, float]:
    """Every term by a loop over pairs and questions."""
    n = len(rows)
    scores = outputs["scores"].flatten().tolist()
    label = logit = pooled = 0.0
    for at, row in enumerate(rows):
        p, y = 1 / (1 + math.exp(-scores[at])), float(table.soft_labels[row])
        label -= (y * math.log(p) + (1 - y) * math.log(1 - p)) / n
        logit += (scores[at] - float(table.logits[row])) ** 2 / n
        differences = outputs["pooled"][at] - table.pooled[row].float()
        pooled += sum(float(d) ** 2 for d in differences) / len(differences) / n
    own, theirs = [], []
    for side in (0, 1):
        for at, row in enumerate(rows):
            kept = [
                token
                for token, real in zip(
                    outputs["token_embeddings"][side * n + at], outputs["attention_mask"][side * n + at], strict=True
                )
                if real
            ]
            own.append((projection @ torch.stack(kept).mean(0)).tolist())
            theirs.append(table.vectors[table.questions[row, side]].tolist())
    pairs = [(i, j) for i in range(2 * n) for j in range(2 * n)]
    return {
        "label": label,
        "logit": logit,
        "pooled": pooled,
        "cosine": sum(1 - cosine(u, v) for u, v in zip(own, theirs, strict=True)) / (2 * n),
        "similarity": sum((cosine(own[i], own[j]) - cosine(theirs[i], theirs[j])) ** 2 for i, j in pairs) / len(pairs),
    }


def test_the_loss_is_that_of_a_slow_loop() -> None:
    table, rows = one_trunk.teacher_table(taught()), [5, 0, 17, 4]
    draw = torch.Generator().manual_seed(0)
    mask = torch.arange(7) < torch.tensor([3, 7, 2, 5, 6, 4, 1, 7])[:, None]
    outputs = {
        "scores": torch.randn(4, 1, generator=draw),
        "pooled": torch.randn(4, HIDDEN, generator=draw),
        "token_embeddings": torch.randn(8, 7, HIDDEN, generator=draw),
        "attention_mask": mask.long(),
    }
    projection = torch.randn(DIMENSIONS, HIDDEN, generator=draw)
    weights = TermWeights(label=0.5, logit=2.0, pooled=3.0, cosine=5.0, similarity=7.0)
    loss = OneTrunkLoss(torch.nn.Identity(), table, projection, weights)  # type: ignore[arg-type]
    total = float(loss.compare(outputs, torch.tensor(rows)))
    expected = slow_loss(outputs, rows, table, projection)
    assert loss.terms == pytest.approx(expected, rel=1e-4)
    assert total == pytest.approx(sum(getattr(weights, name) * term for name, term in expected.items()), rel=1e-4)


def test_an_embedding_that_is_the_teachers_costs_nothing() -> None:
    tokens, mask = torch.randn(4, 5, HIDDEN), torch.ones(4, 5)
    projection = torch.randn(DIMENSIONS, HIDDEN)
    vectors = embed(tokens, mask, projection)
    table = TeacherTable(
        *(torch.zeros(2) for _ in range(2)), torch.zeros(2, HIDDEN), torch.arange(4).view(2, 2).T, vectors
    )
    loss = OneTrunkLoss(torch.nn.Identity(), table, projection)  # type: ignore[arg-type]
    scores, pooled = torch.zeros(2, 1), torch.zeros(2, HIDDEN)
    loss.compare(
        {"scores": scores, "pooled": pooled, "token_embeddings": tokens, "attention_mask": mask}, torch.arange(2)
    )
    assert loss.terms["cosine"] == pytest.approx(0, abs=1e-5)
    assert loss.terms["similarity"] == pytest.approx(0, abs=1e-5)


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bi-encoder and a cross-encoder of four layers each."""
    folder = tmp_path_factory.mktemp("shipped")
    base = save_tiny_base(folder / "base", layers=4)
    save_tiny_bi_encoder(folder / "bi-encoder", base)
    save_tiny_cross_encoder(folder / "cross-encoder", base)
    return folder


@pytest.mark.parametrize(("source", "kept"), [("cross-encoder", [0, 1]), ("bi-encoder", [0, 3])])
def test_a_network_starts_from_the_layers_of_the_shipped_ones(source: str, kept: list[int], shipped: Path) -> None:
    given = taught()
    network, projection = one_trunk.start(one_trunk.Shape(2, 1, source), shipped, given)
    whole = one_trunk.open_stock("cross-encoder", str(shipped / "cross-encoder"), "cpu")[0].model
    for layer, number in enumerate(kept):
        found = network[0].model.encoder.layer[layer].output.dense.weight
        expected = whole.bert.encoder.layer[number].output.dense.weight  # both tiny networks have the same base
        assert torch.equal(found, expected)
    assert torch.equal(network[1].layers[0].up.weight, whole.bert.encoder.layer[3].intermediate.dense.weight)
    assert torch.equal(network[1].classifier.weight, whole.classifier.weight)
    assert projection.shape == (DIMENSIONS, HIDDEN)


def test_the_first_projection_fits_the_teachers_vectors(shipped: Path) -> None:
    given = taught()
    network, _ = one_trunk.start(one_trunk.Shape(2, 1, "bi-encoder"), shipped, given)
    features = network[0](network[0].preprocess(given.texts))
    tokens, mask = features["token_embeddings"].detach(), features["attention_mask"]
    truth = torch.randn(DIMENSIONS, HIDDEN)
    targets = embed(tokens, mask, truth)
    found = one_trunk.fit_projection(network, given.texts, targets.numpy())
    assert float((embed(tokens, mask, found) * targets).sum(1).mean()) > 0.9


def test_the_first_readout_fits_the_teachers_pooled_vectors(shipped: Path) -> None:
    given = taught()
    network, _ = one_trunk.start(one_trunk.Shape(2, 1, "bi-encoder"), shipped, given)
    with torch.no_grad():
        network[1].pooler.weight.normal_(0, 0.3)
        network[1].agreement.weight.normal_(0, 3)
    features = network(network.preprocess(list(zip(given.left, given.right, strict=True))))
    known = replace(given, pooled=features["pooled"].detach().numpy())
    network, _ = one_trunk.start(one_trunk.Shape(2, 1, "bi-encoder"), shipped, known)
    found = network(network.preprocess(list(zip(given.left, given.right, strict=True))))["pooled"]
    truth = features["pooled"].detach()
    spread = float(truth.var(0).mean())
    assert float((found.detach() - truth).square().mean()) < 0.1 * spread


def weights(network: Any) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


def test_an_interrupted_run_ends_with_the_same_weights(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(one_trunk, "CHECKPOINT_SECONDS", -1.0)  # after every step
    monkeypatch.setattr(one_trunk, "BATCH_SIZE", 16)
    monkeypatch.setattr(one_trunk, "bfloat16_is_faster", lambda: False)
    given = taught()

    def run(checkpoints: Path, steps_until_kill: int = 0) -> dict[str, Tensor]:
        torch.manual_seed(0)
        network, projection = one_trunk.start(one_trunk.Shape(2, 1, "bi-encoder"), shipped, given)
        loss = OneTrunkLoss(network, one_trunk.teacher_table(given), projection)
        if steps_until_kill:
            compare, calls = loss.compare, iter(range(1000))

            def killed(outputs: dict[str, Tensor], rows: Tensor) -> Tensor:
                if next(calls) == steps_until_kill:
                    raise KeyboardInterrupt
                return compare(outputs, rows)

            monkeypatch.setattr(loss, "compare", killed)
        one_trunk.distil(network, loss, given, checkpoints, epochs=2)
        return weights(network)

    through = run(tmp_path / "through")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "stopped", steps_until_kill=5)
    assert one_trunk.last_checkpoint(tmp_path / "stopped") is not None
    resumed = run(tmp_path / "stopped")
    first = one_trunk.start(one_trunk.Shape(2, 1, "bi-encoder"), shipped, given)[0]
    moved = [name for name, value in weights(first).items() if not torch.equal(value, through[name])]
    assert {name.split(".")[0] for name in moved} == {"0", "1"}
    assert all(torch.equal(value, resumed[name]) for name, value in through.items())
