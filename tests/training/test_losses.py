from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers import CrossEncoder, SentenceTransformer
from sentence_transformers.sentence_transformer.losses import BatchHardTripletLoss, CoSENTLoss

from dupq.training.losses import (
    GapCoSENTLoss,
    HardTripletLoss,
    LinearHingeLoss,
    LogisticDistanceLoss,
    LogisticTripletLoss,
    SemiHardTripletLoss,
    StructurePreservingLoss,
    UnorderedBinaryCrossEntropyLoss,
    all_distances,
)
from tests.questions import labelled_table


@pytest.fixture
def model(tiny_cross_encoder: Path) -> CrossEncoder:
    model = CrossEncoder(str(tiny_cross_encoder), device="cpu")
    # In an untrained network it would hardly show which text is first.
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.normal_(0, 0.5)
    return model.eval()


def slow_loss(model: CrossEncoder, left: list[str], right: list[str], labels: list[float], coins: list[bool]) -> float:
    total = 0.0
    for a, b, label, coin in zip(left, right, labels, coins, strict=True):
        pair = (b, a) if coin else (a, b)
        logit = float(model.predict([pair], activation_fn=torch.nn.Identity(), show_progress_bar=False)[0])
        probability = 1 / (1 + math.exp(-logit))
        total -= label * math.log(probability) + (1 - label) * math.log(1 - probability)
    return total / len(left)


def test_it_is_the_cross_entropy_of_pairs_swapped_by_a_coin(model: CrossEncoder) -> None:
    table = labelled_table(2)
    left, right, labels = table.left[:12], table.right[:12], table.labels[:12].astype(float).tolist()
    torch.manual_seed(5)
    loss = UnorderedBinaryCrossEntropyLoss(model)([left, right], torch.tensor(labels)).item()
    torch.manual_seed(5)
    coins = (torch.rand(12) < 0.5).tolist()
    assert 2 < sum(coins) < 10
    assert loss == pytest.approx(slow_loss(model, left, right, labels, coins), rel=1e-5)
    assert loss != pytest.approx(slow_loss(model, left, right, labels, [False] * 12), rel=1e-2)


def test_both_orders_are_learnt_from_as_often(model: CrossEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[str, str]] = []

    def watched(pairs: list[tuple[str, str]], **kwargs: object) -> dict[str, torch.Tensor]:
        seen.extend(pairs)
        return whole(pairs, **kwargs)

    whole = model.preprocess
    monkeypatch.setattr(model, "preprocess", watched)
    torch.manual_seed(0)
    loss = UnorderedBinaryCrossEntropyLoss(model)
    for _ in range(20):
        loss([["a"] * 50, ["b"] * 50], torch.ones(50))
    swapped = sum(pair == ("b", "a") for pair in seen)
    assert len(seen) == 1000
    assert abs(swapped - 500) < 5 * math.sqrt(250)


def test_the_gradient_reaches_the_network(model: CrossEncoder) -> None:
    UnorderedBinaryCrossEntropyLoss(model)(
        [["Is it?", "Who?"], ["Was it?", "What?"]], torch.tensor([1.0, 0.0])
    ).backward()
    assert all(parameter.grad is not None for name, parameter in model.named_parameters() if "pooler" not in name)


# ---- losses of embeddings -----------------------------------------------------------------------------------------

Point = tuple[float, float]


def unit(point: Point) -> Point:
    length = math.hypot(*point)
    return point[0] / length, point[1] / length


def apart(a: Point, b: Point) -> float:
    (ax, ay), (bx, by) = unit(a), unit(b)
    return (ax - bx) ** 2 + (ay - by) ** 2


def slow_hinge(left: list[Point], right: list[Point], labels: list[int]) -> float:
    costs = [
        apart(a, b) if label else max(0, 1.0 - apart(a, b)) for a, b, label in zip(left, right, labels, strict=True)
    ]
    return sum(costs) / len(costs)


def slow_logistic(left: list[Point], right: list[Point], labels: list[int]) -> float:
    total = 0.0
    for a, b, label in zip(left, right, labels, strict=True):
        p = (1 + math.exp(-5.0)) / (1 + math.exp(10.0 * apart(a, b) - 5.0))
        total -= math.log(p if label else 1 - p)
    return total / len(left)


def slow_order(left: list[Point], right: list[Point], labels: list[float]) -> float:
    cosines = [1 - apart(a, b) / 2 for a, b in zip(left, right, strict=True)]
    total = 1.0
    for above, high in zip(labels, cosines, strict=True):
        for below, low in zip(labels, cosines, strict=True):
            if above > below:
                total += (above - below) * math.exp(20.0 * (low - high))
    return math.log(total)


def slow_triplets(distances: list[list[float]], keys: list[int], mining: str) -> list[tuple[int, int, int]]:
    found = []
    for a, far in enumerate(distances):
        duplicates = [i for i in range(len(far)) if i != a and keys[i] == keys[a]]
        others = [i for i in range(len(far)) if keys[i] != keys[a]]
        if not duplicates or not others:
            continue
        if mining == "hard":
            found.append((a, max(duplicates, key=far.__getitem__), min(others, key=far.__getitem__)))
        elif mining == "semi-hard":
            for p in duplicates:
                beyond = [i for i in others if far[i] > far[p]]
                found.append((a, p, min(beyond, key=far.__getitem__) if beyond else max(others, key=far.__getitem__)))
        else:
            found += [(a, p, n) for p in duplicates for n in others]
    return found


def slow_structure(left: list[Point], right: list[Point], keys: list[tuple[int, int]]) -> float:
    sides = ((left, [key for key, _ in keys]), (right, [key for _, key in keys]))

    def ranking(one: int, other: int) -> float:
        (points, own), (others, theirs) = sides[one], sides[other]
        costs = [
            0.3 + apart(points[i], others[j]) - apart(points[i], others[k])
            for i in range(len(keys))
            for j in range(len(keys))
            for k in range(len(keys))
            if own[i] == theirs[j] and own[i] != theirs[k]
        ]
        costs = [cost for cost in costs if cost > 0]
        return sum(costs) / max(1, len(costs))

    return ranking(0, 1) + ranking(1, 0) + 0.2 * (ranking(0, 0) + ranking(1, 1))


coordinate = st.integers(-30, 30).map(lambda value: value / 10 + 0.05)
points = st.tuples(coordinate, coordinate)
pair_rows = st.lists(st.tuples(points, points, st.integers(0, 1)), min_size=1, max_size=8)
keyed_rows = st.lists(st.tuples(points, points, st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=6)


def tensors(*columns: Any) -> list[torch.Tensor]:
    return [torch.tensor(column, dtype=torch.float64) for column in columns]


@given(pair_rows)
@settings(max_examples=40)
def test_losses_of_pairs_are_those_of_a_slow_loop(rows: list[tuple[Point, Point, int]]) -> None:
    left, right, labels = ([row[side] for row in rows] for side in range(3))
    embeddings = tensors(left, right)
    hinge = LinearHingeLoss(None).compute_loss_from_embeddings(embeddings, torch.tensor(labels))
    assert float(hinge) == pytest.approx(slow_hinge(left, right, labels), abs=1e-9)
    if all(label or apart(a, b) > 1e-6 for a, b, label in rows):
        logistic = LogisticDistanceLoss(None).compute_loss_from_embeddings(embeddings, torch.tensor(labels))
        assert float(logistic) == pytest.approx(slow_logistic(left, right, labels), abs=1e-5)


@given(st.lists(st.tuples(points, points, st.floats(0, 1, width=32)), min_size=1, max_size=8))
@settings(max_examples=40)
def test_the_loss_of_orders_is_that_of_a_slow_loop(rows: list[tuple[Point, Point, float]]) -> None:
    left, right, labels = ([row[side] for row in rows] for side in range(3))
    order = GapCoSENTLoss(None).compute_loss_from_embeddings(tensors(left, right), torch.tensor(labels))
    assert float(order) == pytest.approx(slow_order(left, right, labels), abs=1e-6)


@given(pair_rows)
@settings(max_examples=40)
def test_the_loss_of_orders_is_cosent_where_labels_are_0_and_1(rows: list[tuple[Point, Point, int]]) -> None:
    embeddings, labels = (
        tensors(*([row[side] for row in rows] for side in range(2))),
        torch.tensor([r[2] for r in rows]),
    )
    ours, stock = (loss(None).compute_loss_from_embeddings(embeddings, labels) for loss in (GapCoSENTLoss, CoSENTLoss))
    assert float(ours) == pytest.approx(float(stock), abs=1e-9)


def test_an_order_that_a_teacher_hardly_tells_hardly_counts() -> None:
    # Two pairs in the wrong order: by targets that are far apart, and by such that are as good as one.
    embeddings = tensors([(1.0, 0.0)] * 2, [(1.0, 1.0), (1.0, 0.1)])
    told, hardly = (
        float(GapCoSENTLoss(None).compute_loss_from_embeddings(embeddings, torch.tensor(targets)))
        for targets in ([0.9, 0.1], [0.002, 0.001])
    )
    assert told > 20 * hardly
    stock = float(CoSENTLoss(None).compute_loss_from_embeddings(embeddings, torch.tensor([0.002, 0.001])))
    assert stock > told


@given(keyed_rows, st.sampled_from(["hard", "semi-hard", "all"]))
@settings(max_examples=60)
def test_triplet_losses_are_those_of_a_slow_loop(rows: list[tuple[Point, Point, int, int]], mining: Any) -> None:
    left, right = ([row[side] for row in rows] for side in range(2))
    keys = [(row[2], row[3]) for row in rows]
    every, every_key = [*left, *right], [*(key for key, _ in keys), *(key for _, key in keys)]
    embeddings, labels = tensors(left, right), torch.tensor(keys)
    # Which of two equally far questions is taken is left to rounding, so both go by the same distances.
    distances = all_distances(torch.cat(embeddings)).tolist()
    gaps = [
        apart(every[a], every[p]) - apart(every[a], every[n]) for a, p, n in slow_triplets(distances, every_key, mining)
    ]
    loss = {"hard": HardTripletLoss, "semi-hard": SemiHardTripletLoss, "all": LogisticTripletLoss}[mining](None)
    costs = [math.log1p(math.exp(10 * gap)) if mining == "all" else max(0, gap + 0.3) for gap in gaps]
    fast = loss.compute_loss_from_embeddings(embeddings, labels)
    assert float(fast) == pytest.approx(sum(costs) / max(1, len(costs)), abs=1e-9)
    structure = StructurePreservingLoss(None).compute_loss_from_embeddings(embeddings, labels)
    assert float(structure) == pytest.approx(slow_structure(left, right, keys), abs=1e-9)


def test_hard_triplets_are_those_of_sentence_transformers_where_every_question_has_a_duplicate() -> None:
    vectors = torch.nn.functional.normalize(torch.randn(12, 5, generator=torch.Generator().manual_seed(0)), dim=1)
    keys = torch.tensor([0, 0, 1, 1, 1, 2, 2, 3, 3, 3, 3, 2])
    halves, labels = [vectors[:6], vectors[6:]], torch.stack([keys[:6], keys[6:]], dim=1)
    stock = BatchHardTripletLoss(None, all_distances, margin=0.3)  # type: ignore[arg-type]
    ours = HardTripletLoss(None)  # type: ignore[arg-type]
    expected = float(stock.compute_loss_from_embeddings([vectors], keys))
    assert float(ours.compute_loss_from_embeddings(halves, labels)) == pytest.approx(expected, abs=1e-6)
    # A question without a duplicate is no anchor of ours.
    keys[0] = 9
    labels = torch.stack([keys[:6], keys[6:]], dim=1)
    expected = float(stock.compute_loss_from_embeddings([vectors], keys))
    assert float(ours.compute_loss_from_embeddings(halves, labels)) != pytest.approx(expected, abs=1e-3)


LOSSES: list[tuple[Any, bool]] = [
    (GapCoSENTLoss(None), False),
    (LinearHingeLoss(None), False),
    (LogisticDistanceLoss(None), False),
    (HardTripletLoss(None), True),
    (SemiHardTripletLoss(None), True),
    (LogisticTripletLoss(None), True),
    (StructurePreservingLoss(None), True),
]


@pytest.mark.parametrize(("loss", "keyed"), LOSSES, ids=lambda value: type(value).__name__)
def test_gradients_are_those_of_small_steps(loss: Any, keyed: bool) -> None:
    draw = torch.Generator().manual_seed(4)
    left, right = (torch.randn(6, 3, dtype=torch.float64, generator=draw, requires_grad=True) for _ in range(2))
    labels = torch.tensor([[0, 0], [0, 1], [1, 2], [2, 2], [3, 3], [3, 0]]) if keyed else torch.tensor([1, 0] * 3)
    assert torch.autograd.gradcheck(lambda a, b: loss.compute_loss_from_embeddings([a, b], labels), (left, right))


@pytest.mark.parametrize(("loss", "keyed"), LOSSES, ids=lambda value: type(value).__name__)
def test_gradients_are_finite_where_all_is_one_point_and_where_there_is_no_triplet(loss: Any, keyed: bool) -> None:
    for keys in ([[0, 0], [1, 1]], [[0, 1], [2, 3]], [[0, 0], [0, 0]]):
        left, right = (torch.ones(2, 3, requires_grad=True) for _ in range(2))
        labels = torch.tensor(keys) if keyed else torch.tensor([0, 1])
        loss.compute_loss_from_embeddings([left, right], labels).backward()
        assert left.grad is not None
        assert bool(left.grad.isfinite().all())


def taught(loss: Any) -> float:
    """The mean cosine between the embeddings of 8 questions after a loss has had its way with them."""
    vectors = torch.randn(8, 2, generator=torch.Generator().manual_seed(0)).requires_grad_()
    labels = torch.tensor([1, 0, 0, 1] * 7)
    left, right = torch.triu_indices(8, 8, 1)
    optimiser = torch.optim.Adam([vectors], lr=0.05)
    for _ in range(300):
        optimiser.zero_grad()
        loss.compute_loss_from_embeddings([vectors[left], vectors[right]], labels).backward()
        optimiser.step()
    unit_vectors = torch.nn.functional.normalize(vectors.detach(), dim=1)
    return float((unit_vectors @ unit_vectors.T)[left, right].mean())


def test_without_a_term_that_pushes_all_embeddings_become_one() -> None:
    assert taught(LinearHingeLoss(None, margin=0.0)) > 0.999
    assert taught(LinearHingeLoss(None)) < 0.9


def test_a_loss_embeds_what_it_is_given(tiny_bi_encoder: Path) -> None:
    model = SentenceTransformer(str(tiny_bi_encoder), device="cpu")
    columns = [model.preprocess(["Who sings?", "Why?"]), model.preprocess(["Who is singing at night?", "How?"])]
    loss = LinearHingeLoss(model)(columns, torch.tensor([1, 0]))
    vectors = model.encode(["Who sings?", "Why?", "Who is singing at night?", "How?"], convert_to_tensor=True)
    expected = LinearHingeLoss(model).compute_loss_from_embeddings([vectors[:2], vectors[2:]], torch.tensor([1, 0]))
    assert float(loss.detach()) == pytest.approx(float(expected), abs=1e-5)
    loss.backward()
    assert all(parameter.grad is not None for name, parameter in model.named_parameters() if "pooler" not in name)
