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

from dupq.errors import InputError
from dupq.models.pair_heads.generative import GenerativeResidualPairs
from dupq.models.pair_heads.pairs import PairEncoder
from dupq.training.losses import (
    AdaptedTripletLoss,
    AngularLoss,
    GapCoSENTLoss,
    GenerativeLoss,
    HardTripletLoss,
    LinearHingeLoss,
    LogisticDistanceLoss,
    LogisticTripletLoss,
    MultiViewLoss,
    NPairAngularLoss,
    RDropLoss,
    SemiHardTripletLoss,
    StructurePreservingLoss,
    UnorderedBinaryCrossEntropyLoss,
    all_distances,
)
from tests.networks import HIDDEN, MAX_TOKENS
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


def logits_of(model: CrossEncoder, pairs: list[tuple[str, str]]) -> list[float]:
    return [
        float(model.predict([pair], activation_fn=torch.nn.Identity(), show_progress_bar=False)[0]) for pair in pairs
    ]


def slow_cross_entropy(logits: list[float], labels: list[float]) -> float:
    p = [1 / (1 + math.exp(-logit)) for logit in logits]
    costs = [-y * math.log(q) - (1 - y) * math.log(1 - q) for q, y in zip(p, labels, strict=True)]
    return sum(costs) / len(costs)


def test_r_drop_is_the_cross_entropy_of_two_views_and_their_divergence(model: CrossEncoder) -> None:
    table = labelled_table(2)
    pairs = list(zip(table.left[:8], table.right[:8], strict=True))
    labels = [0.0, 1.0, 0.25, 0.5, 0.75, 1.0, 0.0, 1.0]
    first, second = logits_of(model, pairs), logits_of(model, [(b, a) for a, b in pairs])
    divergence = 0.0
    for s, t in zip(first, second, strict=True):
        p, q = 1 / (1 + math.exp(-s)), 1 / (1 + math.exp(-t))
        forth = p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
        back = q * math.log(q / p) + (1 - q) * math.log((1 - q) / (1 - p))
        divergence += 0.5 * (forth + back) / len(pairs)
    assert divergence > 1e-3
    task = (slow_cross_entropy(first, labels) + slow_cross_entropy(second, labels)) / 2
    columns = [[a for a, _ in pairs], [b for _, b in pairs]]
    loss = RDropLoss(model, weight=3.0)(columns, torch.tensor(labels)).item()
    assert loss == pytest.approx(task + 3.0 * divergence, rel=1e-4)
    assert RDropLoss(model, weight=3.0)(columns[::-1], torch.tensor(labels)).item() == pytest.approx(loss, rel=1e-5)


def test_r_drop_holds_two_dropout_masks_together(tiny_cross_encoder: Path) -> None:
    model = CrossEncoder(str(tiny_cross_encoder), device="cpu").train()
    columns, labels = [["Is it?"] * 8] * 2, torch.full((8,), 0.5)
    torch.manual_seed(0)
    task, whole = (RDropLoss(model, weight) for weight in (0.0, 1e4))
    state = torch.get_rng_state()
    alone = task(columns, labels).item()
    torch.set_rng_state(state)
    assert whole(columns, labels).item() > alone + 1e-4  # the order is the same, so dropout alone parts the views
    model.eval()
    assert whole(columns, labels).item() == pytest.approx(task(columns, labels).item(), abs=1e-6)


@pytest.fixture
def generative(tiny_base: Path) -> CrossEncoder:
    encoder = PairEncoder(str(tiny_base), max_seq_length=MAX_TOKENS, config_kwargs={"num_labels": 1})
    torch.manual_seed(0)
    return CrossEncoder(modules=[encoder, GenerativeResidualPairs(HIDDEN, 16, 2, noise=4)], device="cpu").eval()


def test_generated_pairs_are_distinct_to_the_network(generative: CrossEncoder) -> None:
    table, weight = labelled_table(2), 0.7
    left, right, labels = table.left[:6], table.right[:6], table.labels[:6].astype(float).tolist()
    real = slow_cross_entropy(logits_of(generative, list(zip(left, right, strict=True))), labels)
    head = generative[1]
    made: list[float] = []
    torch.manual_seed(3)
    noise = torch.randn(12, 4)
    features = generative[0](generative.preprocess(list(zip(left, right, strict=True))))
    for tokens, mask, z in zip(features["token_embeddings"], features["attention_mask"].bool(), noise, strict=True):
        vector = tokens[mask].mean(0)
        vector = vector / vector.norm() * HIDDEN**0.5
        hidden = torch.relu(head.generator[0](torch.cat([vector, z])))
        image = head.generator[2](hidden)
        image = image / image.norm() * HIDDEN**0.5
        made.append(head.compare_vectors(vector[None], image[None]).item())
    torch.manual_seed(3)
    loss = GenerativeLoss(generative, weight)([left, right], torch.tensor(labels)).item()
    assert loss == pytest.approx(real + weight * slow_cross_entropy(made, [0.0] * 12), rel=1e-4)


def test_the_generator_climbs_the_loss_that_the_network_descends(generative: CrossEncoder) -> None:
    table = labelled_table(2)
    columns, labels = [table.left[:6], table.right[:6]], torch.tensor(table.labels[:6]).float()
    loss = GenerativeLoss(generative, 1.0)

    def value() -> torch.Tensor:
        torch.manual_seed(3)
        return loss(columns, labels)

    value().backward()
    head = generative[1]
    for weight, sign in ((head.generator[0].weight, -1), (head.generator[2].bias, -1), (head.merge.weight, 1)):
        at = tuple(int(place) for place in torch.unravel_index(weight.grad.abs().argmax(), weight.shape))
        slope, step = float(weight.grad[at]), 1e-2
        values = []
        for move in (step, -2 * step):
            with torch.no_grad():
                weight[at] += move
                values.append(value().item())
        with torch.no_grad():
            weight[at] += step
        assert (values[0] - values[1]) / (2 * step) == pytest.approx(sign * slope, rel=0.05)


def test_the_encoder_learns_nothing_through_the_generator(generative: CrossEncoder) -> None:
    vectors = torch.randn(5, HIDDEN, requires_grad=True)
    head = generative[1]
    torch.manual_seed(1)
    head.compare_generated(vectors).sum().backward()
    torch.manual_seed(1)
    noise, other = torch.randn(5, 4), vectors.detach().clone().requires_grad_()
    image = torch.nn.functional.normalize(head.generator(torch.cat([other, noise], dim=1)), dim=1) * HIDDEN**0.5
    head.compare_vectors(other, image.detach()).sum().backward()
    assert torch.allclose(vectors.grad, other.grad, atol=1e-6)


def test_a_network_without_a_generator_is_refused(model: CrossEncoder) -> None:
    with pytest.raises(InputError, match="pair head GenerativeResidualPairs, got Transformer"):
        GenerativeLoss(model)


def test_a_generator_learns_to_be_taken_for_a_duplicate(generative: CrossEncoder) -> None:
    head = generative[1]
    vectors = torch.nn.functional.normalize(torch.randn(40, HIDDEN), dim=1) * HIDDEN**0.5
    optimiser = torch.optim.Adam(head.generator.parameters(), lr=1e-2)
    torch.manual_seed(0)
    before = float(head.compare_generated(vectors).mean().detach())
    for _ in range(30):
        optimiser.zero_grad()
        torch.nn.functional.softplus(head.compare_generated(vectors)).mean().backward()
        optimiser.step()
    assert float(head.compare_generated(vectors).mean().detach()) > before + 0.1


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


def keyed(components: Any) -> torch.Tensor:
    """Labels (n, 2, 2) of rows of two components, each place of which is a question of its own."""
    components = torch.as_tensor(components)
    return torch.stack([components, torch.arange(components.numel()).reshape(components.shape)], dim=2)


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
    """All questions are different ones, so that only a side has the anchor among its questions."""
    sides = ((left, [key for key, _ in keys]), (right, [key for _, key in keys]))

    def ranking(one: int, other: int) -> float:
        (points, own), (others, theirs) = sides[one], sides[other]
        costs = [
            0.3 + apart(points[i], others[j]) - apart(points[i], others[k])
            for i in range(len(keys))
            for j in range(len(keys))
            for k in range(len(keys))
            if own[i] == theirs[j] and own[i] != theirs[k] and not (one == other and i == j)
        ]
        costs = [cost for cost in costs if cost > 0]
        return sum(costs) / max(1, len(costs))

    return ranking(0, 1) + ranking(1, 0) + 0.2 * (ranking(0, 0) + ranking(1, 1))


def slow_unit(vectors: list[list[float]]) -> list[list[float]]:
    return [[x / math.sqrt(sum(y * y for y in vector)) for x in vector] for vector in vectors]


def slow_dot(a: list[float], b: list[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def slow_adapted(vectors: list[list[float]], keys: list[int], margin: float, weight: float) -> float:
    unit = slow_unit(vectors)
    distances = [[sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) for b in unit] for a in unit]
    hard, every = slow_triplets(distances, keys, "hard"), slow_triplets(distances, keys, "all")
    if not hard:
        return 0.0
    loss = sum(max(0.0, distances[a][p] - distances[a][n] + margin) for a, p, n in hard) / len(hard)
    for role in (1, 2):
        for axis in range(len(unit[0])):
            mined = sum(unit[triplet[role]][axis] for triplet in hard) / len(hard)
            original = 0.0
            for anchor, _, _ in hard:
                of_anchor = [unit[triplet[role]][axis] for triplet in every if triplet[0] == anchor]
                original += sum(of_anchor) / len(of_anchor) / len(hard)
            loss += weight * (mined - original) ** 2
    return loss


def slow_angular(vectors: list[list[float]], keys: list[int], angle: float) -> float:
    unit, costs = slow_unit(vectors), []
    square = math.tan(angle * math.pi / 180) ** 2
    for a, first in enumerate(unit):
        for p, second in enumerate(unit):
            if a == p or keys[a] != keys[p]:
                continue
            total = 1.0
            for n, third in enumerate(unit):
                if keys[n] != keys[a]:
                    middle = [(x + y) / 2 for x, y in zip(first, second, strict=True)]
                    apart_from_middle = sum((x - y) ** 2 for x, y in zip(third, middle, strict=True))
                    gap = sum((x - y) ** 2 for x, y in zip(first, second, strict=True)) - 4 * square * apart_from_middle
                    # Without its constant terms, for unit vectors.
                    total += math.exp(gap - 2 + 4 * square + 2 * square)
            costs.append(math.log(total))
    return sum(costs) / max(1, len(costs))


def slow_n_pair(vectors: list[list[float]], keys: list[int], scale: float) -> float:
    unit, costs = slow_unit(vectors), []
    for a, first in enumerate(unit):
        for p, second in enumerate(unit):
            if a != p and keys[a] == keys[p]:
                others = [unit[n] for n in range(len(unit)) if keys[n] != keys[a]]
                gaps = [scale * (slow_dot(first, third) - slow_dot(first, second)) for third in others]
                costs.append(math.log(1 + sum(math.exp(gap) for gap in gaps)))
    return sum(costs) / max(1, len(costs))


def slow_views(vectors: list[list[float]], keys: list[int], scale: float) -> float:
    unit, costs = slow_unit(vectors), []
    for i, one in enumerate(unit):
        pools = {key: [unit[j] for j in range(len(unit)) if j != i and keys[j] == key] for key in dict.fromkeys(keys)}
        if not pools[keys[i]]:
            continue
        exponentials = {}
        for key, pool in pools.items():
            highest = [max(column) for column in zip(*pool, strict=True)]
            exponentials[key] = math.exp(scale * slow_dot(one, slow_unit([highest])[0]))
        costs.append(-math.log(exponentials[keys[i]] / sum(exponentials.values())))
    return sum(costs) / max(1, len(costs))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=6), st.integers(0, 10_000))
@settings(max_examples=60)
def test_losses_of_components_are_those_of_a_slow_loop(rows: list[tuple[int, int]], seed: int) -> None:
    vectors = torch.randn(2 * len(rows), 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    keys, points = [*(key for key, _ in rows), *(key for _, key in rows)], vectors.tolist()
    expected = {
        AdaptedTripletLoss(None, margin=0.5, weight=0.7): slow_adapted(points, keys, 0.5, 0.7),
        AngularLoss(None, angle=40.0): slow_angular(points, keys, 40.0),
        NPairAngularLoss(None, angle=50.0, weight=0.3, scale=7.0): slow_n_pair(points, keys, 7.0)
        + 0.3 * slow_angular(points, keys, 50.0),
        MultiViewLoss(None, scale=6.0): slow_views(points, keys, 6.0),
    }
    halves, labels = list(vectors.chunk(2)), keyed(rows)
    for loss, value in expected.items():
        assert float(loss.compute_loss_from_embeddings(halves, labels)) == pytest.approx(value, abs=1e-9)
        # Neither side of a row is first, and neither is any row.
        turned = loss.compute_loss_from_embeddings([half.flip(0) for half in halves[::-1]], labels.flip(0, 1))
        assert float(turned) == pytest.approx(value, abs=1e-9)


def test_mined_questions_are_held_to_those_they_were_mined_from() -> None:
    draw = torch.Generator().manual_seed(0)
    vectors = torch.randn(12, 6, generator=draw)
    labels = keyed([[0, 0], [0, 0], [0, 0], [1, 1], [1, 1], [1, 1]])
    halves = list(vectors.chunk(2))
    hard = float(HardTripletLoss(None).compute_loss_from_embeddings(halves, labels))
    assert float(AdaptedTripletLoss(None, weight=0.0).compute_loss_from_embeddings(halves, labels)) == pytest.approx(
        hard, abs=1e-6
    )
    assert float(AdaptedTripletLoss(None).compute_loss_from_embeddings(halves, labels)) > hard + 1e-3
    # With one duplicate and one other question there is nothing to mine.
    pair = [torch.randn(2, 6, generator=draw), torch.randn(2, 6, generator=draw)]
    few = keyed([[0, 0], [1, 2]])
    kept = [pair[0], pair[1]]
    kept[1][1] = kept[0][1]
    assert float(AdaptedTripletLoss(None).compute_loss_from_embeddings(kept, few)) == pytest.approx(
        float(HardTripletLoss(None).compute_loss_from_embeddings(kept, few)), abs=1e-6
    )


@pytest.mark.parametrize("kind", [AngularLoss, NPairAngularLoss])
@pytest.mark.parametrize("angle", [0, 90, float("nan"), "45"])
def test_an_angle_out_of_range_is_refused(kind: Any, angle: Any) -> None:
    with pytest.raises(InputError, match="angle must be a number"):
        kind(None, angle=angle)


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
    embeddings, labels = tensors(left, right), keyed(keys)
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
    halves, labels = [vectors[:6], vectors[6:]], keyed(keys.reshape(2, 6).T)
    stock = BatchHardTripletLoss(None, all_distances, margin=0.3)  # type: ignore[arg-type]
    ours = HardTripletLoss(None)  # type: ignore[arg-type]
    expected = float(stock.compute_loss_from_embeddings([vectors], keys))
    assert float(ours.compute_loss_from_embeddings(halves, labels)) == pytest.approx(expected, abs=1e-6)
    # A question without a duplicate is no anchor of ours.
    keys[0] = 9
    labels = keyed(keys.reshape(2, 6).T)
    expected = float(stock.compute_loss_from_embeddings([vectors], keys))
    assert float(ours.compute_loss_from_embeddings(halves, labels)) != pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    "loss",
    [
        HardTripletLoss(None),
        SemiHardTripletLoss(None),
        LogisticTripletLoss(None),
        AdaptedTripletLoss(None),
        AngularLoss(None),
        NPairAngularLoss(None),
        MultiViewLoss(None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_question_of_several_pairs_counts_once_and_is_no_duplicate_of_itself(loss: Any) -> None:
    # Questions 0, 1 and 2 are one component, 3 and 4 another, and 5 has no duplicate.
    components, vectors = (
        torch.tensor([0, 0, 0, 1, 1, 2]),
        torch.randn(6, 4, generator=torch.Generator().manual_seed(3)),
    )

    def loss_of(left: list[int], right: list[int]) -> float:
        questions = torch.tensor([left, right]).T
        labels = torch.stack([components[questions], questions], dim=2)
        return float(loss.compute_loss_from_embeddings([vectors[left], vectors[right]], labels))

    once = loss_of([0, 2, 4], [1, 3, 5])
    assert once > 0
    assert loss_of([0, 0, 1, 2, 5, 5], [1, 2, 2, 3, 3, 4]) == pytest.approx(once, abs=1e-6)
    assert loss_of([0, 0], [5, 3]) == pytest.approx(0, abs=1e-6)


LOSSES: list[tuple[Any, bool]] = [
    (GapCoSENTLoss(None), False),
    (LinearHingeLoss(None), False),
    (LogisticDistanceLoss(None), False),
    (HardTripletLoss(None), True),
    (SemiHardTripletLoss(None), True),
    (LogisticTripletLoss(None), True),
    (StructurePreservingLoss(None), True),
    (AdaptedTripletLoss(None), True),
    (AngularLoss(None), True),
    (NPairAngularLoss(None), True),
    (MultiViewLoss(None), True),
]


@pytest.mark.parametrize(("loss", "of_components"), LOSSES, ids=lambda value: type(value).__name__)
def test_gradients_are_those_of_small_steps(loss: Any, of_components: bool) -> None:
    draw = torch.Generator().manual_seed(4)
    left, right = (torch.randn(6, 3, dtype=torch.float64, generator=draw, requires_grad=True) for _ in range(2))
    rows = [[0, 0], [0, 1], [1, 2], [2, 2], [3, 3], [3, 0]]
    labels = keyed(rows) if of_components else torch.tensor([1, 0] * 3)
    assert torch.autograd.gradcheck(lambda a, b: loss.compute_loss_from_embeddings([a, b], labels), (left, right))


@pytest.mark.parametrize(("loss", "of_components"), LOSSES, ids=lambda value: type(value).__name__)
def test_gradients_are_finite_where_all_is_one_point_and_where_there_is_no_triplet(
    loss: Any, of_components: bool
) -> None:
    for keys in ([[0, 0], [1, 1]], [[0, 1], [2, 3]], [[0, 0], [0, 0]]):
        left, right = (torch.ones(2, 3, requires_grad=True) for _ in range(2))
        labels = keyed(keys) if of_components else torch.tensor([0, 1])
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


@pytest.mark.parametrize("kind", [AdaptedTripletLoss, AngularLoss, NPairAngularLoss, MultiViewLoss])
def test_losses_of_components_part_them_and_join_each(kind: Any) -> None:
    keys = torch.arange(8) // 2
    left, right = torch.triu_indices(8, 8, 1)
    same = keys[left] == keys[right]
    vectors = torch.randn(8, 6, generator=torch.Generator().manual_seed(0)).requires_grad_()
    optimiser = torch.optim.Adam([vectors], lr=0.05)
    for _ in range(200):
        optimiser.zero_grad()
        kind(None).compute_loss_from_embeddings([vectors[::2], vectors[1::2]], keyed(keys.reshape(-1, 2))).backward()
        optimiser.step()
    unit_vectors = torch.nn.functional.normalize(vectors.detach(), dim=1)
    cosines = (unit_vectors @ unit_vectors.T)[left, right]
    assert cosines[same].min() > cosines[~same].max()
    assert cosines.mean() < 0.8


def test_a_loss_embeds_what_it_is_given(tiny_bi_encoder: Path) -> None:
    model = SentenceTransformer(str(tiny_bi_encoder), device="cpu")
    columns = [model.preprocess(["Who sings?", "Why?"]), model.preprocess(["Who is singing at night?", "How?"])]
    loss = LinearHingeLoss(model)(columns, torch.tensor([1, 0]))
    vectors = model.encode(["Who sings?", "Why?", "Who is singing at night?", "How?"], convert_to_tensor=True)
    expected = LinearHingeLoss(model).compute_loss_from_embeddings([vectors[:2], vectors[2:]], torch.tensor([1, 0]))
    assert float(loss.detach()) == pytest.approx(float(expected), abs=1e-5)
    loss.backward()
    assert all(parameter.grad is not None for name, parameter in model.named_parameters() if "pooler" not in name)
