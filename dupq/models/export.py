"""From a stock BERT network to the int8 form that `runtime` runs, its ranges fitted on real questions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from dupq.errors import InputError, ModelFolderError
from dupq.models.bert import PROJECTION, Bert, product_names, read_bert
from dupq.models.graph import Int8Product, build_graph, row_scales
from dupq.models.runtime import FORMAT, Runner, RuntimeNetwork, unit_rows
from dupq.models.scorers import UniquePairs
from dupq.models.words import Words

FITTING_PAIRS = 512
"""Pairs whose activations set the ranges; the shift is measured on as many others."""

_SAMPLED_ROWS = 1024
_EXPONENTS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)


def export(
    source: str | Path, left: Sequence[str], right: Sequence[str], word_bits: Literal[4, 8] = 8
) -> RuntimeNetwork:
    """The int8 form of a stock network.

    Weights are int8 with one scale a column (embeddings: a row); activations uint8 with one fixed scale a product, or,
    inside the feed-forward layers, one a token. Outlier channels are first moved from the activations to the weights
    (SmoothQuant, Xiao et al. 2023), for each product by the exponent that errs least on the questions given here.

    Args:
        source: Folder of a stock `SentenceTransformer` or `CrossEncoder` whose encoder is a BERT.
        left, right: Real pairs of questions, no labels needed; 1,024 are enough, and no more are used.
        word_bits: Of the word embeddings. 4 halve their file, which is half of a small network.

    Returns:
        The network; `settings["shift"]` says how far int8 moves its score, a logit or a cosine, on pairs that the
        ranges were not fitted on: "pairs", "mean", "rms", "largest", and "spread", the score's own standard deviation.

    Raises:
        ModelFolderError: The network is damaged, unsafe, or no stock BERT.
        InputError: Fewer than two distinct pairs, or onnx is not installed.
    """
    source = Path(source)
    unique = UniquePairs.of(left, right)
    if len(unique.left) < 2:
        raise InputError("int8 ranges need at least two different pairs", mend="give some hundred real ones")
    picked = np.random.default_rng(0).permutation(len(unique.left))[: 2 * FITTING_PAIRS]
    pairs = [(unique.left[index], unique.right[index]) for index in picked]
    half = (len(pairs) + 1) // 2
    bert = read_bert(source)
    tokenizer, typed = _stock_tokenizer(source)
    bert = replace(bert, typed=typed and bert.kind == "cross-encoder")
    settings: dict[str, Any] = {"format": FORMAT, "kind": bert.kind, "max_length": bert.max_length}
    if bert.kind == "bi-encoder":
        settings["dimensions"] = len(bert.tensors.get(PROJECTION, bert.tensors["embeddings.LayerNorm.weight"]))
    exact = RuntimeNetwork(_model(bert, taps=True), tokenizer, settings)
    smoothed, products = quantise(bert, _observe(exact, bert, pairs[:half]))
    words = Words.rounded(bert.tensors["embeddings.word_embeddings.weight"], word_bits)
    network = RuntimeNetwork(_model(smoothed, products), tokenizer, settings, words)
    settings["shift"] = _shift(_scores(exact, pairs[half:]), _scores(network, pairs[half:]))
    return network


def _model(bert: Bert, products: Mapping[str, Int8Product] | None = None, taps: bool = False) -> bytes:
    try:
        return bytes(build_graph(bert, products, taps).SerializeToString())
    except ImportError as error:
        raise InputError("onnx is needed to export a network", mend="pip install 'dupq[export]'") from error


def _stock_tokenizer(folder: Path) -> tuple[bytes, bool]:
    """The tokenizer just as transformers builds it, and whether it marks the tokens of a second text."""
    from transformers import AutoTokenizer

    try:
        stock = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        return stock.backend_tokenizer.to_str().encode(), "token_type_ids" in stock.model_input_names
    except (OSError, ValueError, AttributeError) as error:
        raise ModelFolderError(
            f"the tokenizer cannot be read ({error})", where=str(folder), mend="save the network with a fast tokenizer"
        ) from error


# ---- what flows through the network ----------------------------------------------------------------------------------


@dataclass
class Activations:
    """The inputs of one product.

    Attributes:
        low, high: Smallest and largest value of each channel, (inputs,).
        rows: A sample of them, (rows, inputs).
    """

    low: NDArray[np.float32]
    high: NDArray[np.float32]
    rows: NDArray[np.float32]


def _observe(network: RuntimeNetwork, bert: Bert, pairs: list[tuple[str, str]]) -> dict[str, Activations]:
    inputs: list[Any] = pairs if bert.kind == "cross-encoder" else [text for pair in pairs for text in pair]
    names = product_names(bert)
    seen: dict[str, list[Activations]] = {name: [] for name in names}
    each = max(1, _SAMPLED_ROWS // len(inputs))
    draw = np.random.default_rng(0)
    for rows, outputs in Runner(network).run(inputs):
        for name, values in zip(names, outputs[1:], strict=True):
            flat = values.reshape(-1, values.shape[-1])
            sample = flat[draw.permutation(len(flat))[: each * len(rows)]]
            seen[name].append(Activations(flat.min(axis=0), flat.max(axis=0), sample))
    return {
        name: Activations(
            np.min([part.low for part in parts], axis=0),
            np.max([part.high for part in parts], axis=0),
            np.concatenate([part.rows for part in parts]),
        )
        for name, parts in seen.items()
    }


def _scores(network: RuntimeNetwork, pairs: list[tuple[str, str]]) -> NDArray[np.float64]:
    scores = np.empty(len(pairs))
    runner = Runner(network)
    if network.settings["kind"] == "cross-encoder":
        for rows, outputs in runner.run(pairs):
            scores[rows] = outputs[0]
        return scores
    vectors = np.empty((2 * len(pairs), network.settings["dimensions"]), dtype=np.float32)
    for rows, outputs in runner.run([text for pair in pairs for text in pair]):
        vectors[rows] = unit_rows(outputs[0])
    scores[:] = (vectors[::2] * vectors[1::2]).sum(axis=1)
    return scores


def _shift(exact: NDArray[np.float64], rounded: NDArray[np.float64]) -> dict[str, float]:
    moved = rounded - exact
    return {
        "pairs": len(moved),
        "mean": round(float(moved.mean()), 5),
        "rms": round(float(np.sqrt((moved**2).mean())), 5),
        "largest": round(float(np.abs(moved).max()), 5),
        "spread": round(float(exact.std()), 5),
    }


# ---- rounding --------------------------------------------------------------------------------------------------------


def quantise(bert: Bert, activations: Mapping[str, Activations]) -> tuple[Bert, dict[str, Int8Product]]:
    """Every product in int8.

    Returns:
        The network, its attention values rescaled where the product that takes them was smoothed, and the products.
    """
    products = {}
    # Last to first: smoothing the attention's output changes the weights that make its values.
    for name in reversed(product_names(bert)):
        weight, _ = bert.product(name)
        if name.endswith(".down"):
            # A few tokens are ten times as large here as all others, so one scale for all would be too coarse for most.
            products[name] = Int8Product(*round_weight(weight))
            continue
        product = _best_product(weight, activations[name])
        if name.endswith(".mix") and product.smoothing is not None:
            # What enters this product is a mean of values, so the division can be done in the weights that make them.
            bert = _with_scaled_values(bert, name.split(".")[0], product.smoothing)
            product = replace(product, smoothing=None)
        products[name] = product
    return bert, products


def _with_scaled_values(bert: Bert, layer: str, smoothing: NDArray[np.float32]) -> Bert:
    """The same function: what the values are divided by, the product that takes their means is multiplied by."""
    value, mix = (f"encoder.layer.{layer}.attention.{part}" for part in ("self.value", "output.dense"))
    scaled = {
        f"{value}.weight": bert.tensors[f"{value}.weight"] / smoothing[:, None],
        f"{value}.bias": bert.tensors[f"{value}.bias"] / smoothing,
        f"{mix}.weight": bert.tensors[f"{mix}.weight"] * smoothing,
    }
    return replace(bert, tensors={**bert.tensors, **scaled})


def _best_product(weight: NDArray[np.float32], seen: Activations) -> Int8Product:
    wanted = seen.rows @ weight
    errors, candidates = [], []
    for exponent in _EXPONENTS:
        product = _product(weight, seen, exponent)
        got = _dequantised(seen.rows, product) @ (product.weight * product.weight_scales)
        candidates.append(product)
        errors.append(float(((got - wanted) ** 2).mean()))
    return candidates[int(np.argmin(errors))]


def _product(weight: NDArray[np.float32], seen: Activations, exponent: float) -> Int8Product:
    smoothing = None
    low, high = seen.low, seen.high
    if exponent:
        reach = np.maximum(np.maximum(np.abs(low), np.abs(high)), 1e-5)
        raw = reach**exponent / np.maximum(np.abs(weight).max(axis=1), 1e-5) ** (1 - exponent)
        smoothing = (raw / np.exp(np.log(raw).mean())).astype(np.float32)
        low, high, weight = low / smoothing, high / smoothing, weight * smoothing[:, None]
    bottom, top = min(float(low.min()), 0.0), max(float(high.max()), 0.0)
    scale = max(top - bottom, 1e-8) / 255
    rounded, scales = round_weight(weight)
    return Int8Product(rounded, scales, scale, round(-bottom / scale), smoothing)


def _dequantised(rows: NDArray[np.float32], product: Int8Product) -> NDArray[np.float32]:
    smooth = rows if product.smoothing is None else rows / product.smoothing
    scale = row_scales(smooth) if product.scale is None else np.float32(product.scale)
    steps = np.clip(np.round(smooth / scale) + product.zero_point, 0, 255) - product.zero_point
    return np.asarray(steps * scale, dtype=np.float32)


def round_weight(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """A weight (inputs, outputs) as int8, and float32 (outputs,): what a step of each column is worth.

    Processors without VNNI add the products of two neighbouring inputs in 16 bits: 255 * 128 fits, 255 * 129 does not.
    The scale keeps two neighbours of one sign at 128 or less together, so that every processor gives the same sum.
    """
    even = weight if len(weight) % 2 == 0 else np.concatenate([weight, np.zeros_like(weight[:1])])
    neighbours = even.reshape(-1, 2, weight.shape[1])
    sums = np.maximum(neighbours.clip(min=0).sum(axis=1), neighbours.clip(max=0).sum(axis=1) * -1)
    scales = np.maximum(sums.max(axis=0), 1e-12) / 127
    return np.round(weight / scales).astype(np.int8), scales.astype(np.float32)
