"""The graph of the int8 product, and the bounds of kernels and projections."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from dupq.search import exact, kernels
from dupq.search.exact import SimilarPairs, similar_pairs
from dupq.search.kernels import KERNELS, Block, Kernel, RoughProduct, choose_kernel, error_bound, int8_levels
from dupq.search.projection import Projection, fit_projection
from tests.search.vectors import all_pairs, clustered, unit


def int8_graph() -> ModelProto:
    """Return the graph of `int8_product.onnx`."""
    nodes = [
        helper.make_node("MatMulInteger", ["left", "right", "zero"], ["product"]),
        helper.make_node("GreaterOrEqual", ["product", "least"], ["reached"]),
    ]
    inputs = [
        helper.make_tensor_value_info("left", TensorProto.UINT8, ["r", "k"]),
        helper.make_tensor_value_info("right", TensorProto.INT8, ["k", "c"]),
        helper.make_tensor_value_info("least", TensorProto.INT32, ["rows", 1]),
    ]
    outputs = [
        helper.make_tensor_value_info("product", TensorProto.INT32, ["r", "c"]),
        helper.make_tensor_value_info("reached", TensorProto.BOOL, ["r", "c"]),
    ]
    zero = helper.make_tensor("zero", TensorProto.UINT8, [], [128])
    graph = helper.make_graph(nodes, "int8_product", inputs, outputs, [zero])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 16)], ir_version=8)


def test_the_graph_of_the_int8_product_is_this_one() -> None:
    held = ModelProto.FromString((Path(kernels.__file__).parent / "int8_product.onnx").read_bytes())
    assert held == int8_graph()


def vectors_of(kind: str, n: int, d: int, seed: int) -> NDArray[np.float32]:
    """Return unit vectors that are hard to bound."""
    draw = np.random.default_rng(seed)
    rows = {
        "clusters": lambda: clustered(n, d, seed),
        "few large numbers": lambda: draw.standard_normal((n, d)) * np.where(draw.random((n, d)) < 0.1, 30, 1),
        "axes": lambda: np.eye(d)[draw.integers(d, size=n)] * draw.choice([-1.0, 1.0], (n, 1)),
        "one direction": lambda: np.ones((n, d)) + 1e-6 * draw.standard_normal((n, d)),
        "few directions": lambda: draw.standard_normal((n, 2)) @ draw.standard_normal((2, d)),
        "equal numbers": lambda: draw.choice([-1.0, 1.0], (n, d)),
    }[kind]()
    return unit(np.asarray(rows))


KINDS = ("clusters", "few large numbers", "axes", "one direction", "few directions", "equal numbers")


@pytest.fixture(params=[127, 79])
def levels(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Largest number of the int8 products, as on a processor with VNNI and on one without."""
    monkeypatch.setattr(kernels, "int8_levels", lambda: request.param)
    return int(request.param)


def test_this_machine_multiplies_integers_exactly() -> None:
    assert int8_levels() in (127, 79)


def test_a_product_that_overflows_is_ruled_out(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = kernels.int8_product

    def saturated(most: int) -> None:
        """Let sums of two products be at most 2¹⁵ - 1 where factors exceed `most`, as without VNNI."""

        def product(output: str, left: NDArray[np.int8], columns: NDArray[np.int8], least: NDArray[np.int32]) -> object:
            result = whole(output, left, columns, least)
            return np.minimum(result, 2**15 - 1) if np.abs(left.astype(int)).max() > most else result

        monkeypatch.setattr(kernels, "int8_product", product)
        int8_levels.cache_clear()

    try:
        for most, expected in ((127, 127), (79, 79), (10, 0)):
            saturated(most)
            assert int8_levels() == expected
            assert choose_kernel(clustered(30, 8, 0), 0.8, bounds=True)[0] == ("int8" if expected else "float32")
    finally:
        int8_levels.cache_clear()


def test_integers_up_to_79_do_not_overflow_in_16_bits() -> None:
    """Without VNNI, two products of an unsigned and a signed byte are added in 16 bits."""
    assert 2 * (128 + 79) * 79 < 2**15 <= 2 * (128 + 80) * 80


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("d", [9, 64, 384])
@pytest.mark.parametrize("fewer", [False, True])
def test_the_error_bound_holds_for_every_entry(kind: str, d: int, fewer: bool, levels: int) -> None:
    rows = vectors_of(kind, 200, d, seed=d)
    projection = fit_projection(rows[:100], d // 2 + 4) if fewer else None
    left, right = Block(rows[:90], "int8", projection), Block(rows[90:], "int8", projection)
    product = RoughProduct("int8")._product(left, right, slice(None)) * (left.step * right.step)
    true = left.exact.astype(np.float64) @ right.exact.astype(np.float64).T
    error, bound = product - true, error_bound(left, right)
    assert -error.min() <= bound  # nothing is ruled out that may reach the floor
    assert fewer or error.max() <= bound
    assert bound < 0.3 * 127 / levels


@pytest.mark.parametrize("kind", KINDS)
@given(seed=st.integers(0, 10**6), d=st.integers(6, 90), width=st.integers(5, 90), fitted=st.integers(1, 40))
@settings(max_examples=15)
def test_a_projection_is_an_upper_bound(kind: str, seed: int, d: int, width: int, fitted: int) -> None:
    rows = vectors_of(kind, 40, d, seed)
    projection = fit_projection(rows[:fitted], min(width, d - 1))
    mapped = projection.apply(rows, np.einsum("ij,ij->i", rows, rows)).astype(np.float64)
    assert mapped.shape == (40, projection.dimensions)
    true = rows.astype(np.float64) @ rows.astype(np.float64).T
    assert (mapped @ mapped.T >= true - 2.01 * projection.slack).all()
    assert projection.slack < 1e-3


@pytest.mark.parametrize("kernel", KERNELS)
@given(
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 10**6),
    n=st.integers(0, 60),
    d=st.integers(6, 80),
    width=st.integers(5, 80),
    threshold=st.floats(0.05, 1.0),
    levels=st.sampled_from([127, 79]),
)
def test_every_kernel_and_projection_finds_the_same_pairs(
    kernel: Kernel, kind: str, seed: int, n: int, d: int, width: int, threshold: float, levels: int
) -> None:
    vectors = vectors_of(kind, n, d, seed) if n else np.zeros((0, d), np.float32)
    projection = fit_projection(vectors[: n // 2], min(width, d - 1))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "int8_levels", lambda: levels)
        patch.setattr(exact, "PANEL", 23)
        patch.setattr(exact, "TILE_ROWS", 7)
        patch.setattr(exact, "TILE_COLUMNS", 11)
        bounded = similar_pairs(vectors, threshold=threshold, kernel=kernel, projection=projection)
    whole = similar_pairs(vectors, threshold=threshold, kernel="float32")
    assert_same(bounded, whole)
    assert {*zip(whole.left.tolist(), whole.right.tolist(), strict=True)} == {*all_pairs(vectors, None, threshold)}


def assert_same(one: SimilarPairs, other: SimilarPairs) -> None:
    """Compare pairs and cosines to the last bit."""
    assert one.left.tolist() == other.left.tolist()
    assert one.right.tolist() == other.right.tolist()
    assert one.cosine.tolist() == other.cosine.tolist()


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("fewer", [False, True])
def test_a_pair_that_lies_on_the_threshold_is_found(kernel: Kernel, fewer: bool) -> None:
    vectors = clustered(70, 33, seed=5)
    projection = fit_projection(vectors, 20) if fewer else None
    pairs = similar_pairs(vectors, threshold=0.3, kernel=kernel, projection=projection)
    for place in range(0, len(pairs), 5):
        cosine = float(pairs.cosine[place])
        at = similar_pairs(vectors, threshold=cosine, kernel=kernel, projection=projection)
        assert len(at) == int((pairs.cosine >= cosine).sum())


def test_a_large_search_measures_its_projection(monkeypatch: pytest.MonkeyPatch) -> None:
    whole, clock = kernels.int8_product, [0]

    def product(output: str, left: NDArray[np.int8], columns: NDArray[np.int8], least: NDArray[np.int32]) -> object:
        clock[0] += left.shape[1]
        return whole(output, left, columns, least)

    monkeypatch.setattr(kernels, "int8_product", product)
    monkeypatch.setattr("dupq.search.kernels.time.perf_counter", lambda: clock[0])
    monkeypatch.setattr(kernels, "_CHOSEN", {})
    monkeypatch.setattr(exact, "MIN_MEASURED_PAIRS", 1)
    draw = np.random.default_rng(0)
    # Nearly all of a vector lies in 40 of 300 dimensions, which are not the first.
    vectors = unit(draw.standard_normal((2100, 300)) * np.where(np.arange(300) < 260, 0.01, 1))
    vectors[1000:] = vectors[:1100]
    found = similar_pairs(vectors, threshold=0.8)
    assert found.search_guarantee.method == "int8 scan, pairs in float64"
    assert_same(found, similar_pairs(vectors, threshold=0.8, kernel="float32"))
    assert len(kernels._CHOSEN) == 1
    chosen = [*kernels._CHOSEN.values()]
    assert chosen[0].projection is not None
    assert chosen[0].projection.dimensions == 64
    similar_pairs(vectors[::-1].copy(), threshold=0.8)
    assert [*kernels._CHOSEN.values()] == chosen  # not measured again
    similar_pairs(vectors[:, ::-1].copy(), threshold=0.8)
    assert [*kernels._CHOSEN.values()] != chosen  # these lie outside the fitted directions


def test_neighbours_are_searched_without_a_projection() -> None:
    kernel, projection = choose_kernel(clustered(300, 96, seed=5), 0.8, bounds=False)
    assert (kernel, projection) == ("int8", None)


def test_few_rows_are_multiplied_in_float32() -> None:
    few, many = clustered(3, 96, seed=5), clustered(600, 96, seed=6)
    assert exact.kernel_for(few, many, 0.8, bounds=True) == ("float32", None)


def test_a_projection_is_fitted_to_rows_without_variance() -> None:
    same = np.repeat(unit(np.ones((1, 70))), 50, axis=0)
    projection = fit_projection(same, 20)
    assert isinstance(projection, Projection)
    pairs = similar_pairs(same, threshold=1 - 1e-6, kernel="int8", projection=projection)
    assert len(pairs) == 50 * 49 // 2
