"""Int8 quantisation of a BERT's matrix products by observed activations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dupq.models.onnx.bert_weights import Bert, product_names

ROW_ZERO = 20
"""Zero point where a token has its own scale: it leaves room for the minimum of GELU, -0.17."""
MIN_ROW_SCALE = 0.17 / ROW_ZERO
"""Smallest scale of a token, at which that room just suffices."""

_EXPONENTS = (0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Candidates for the smoothing exponent; 0 is no smoothing."""


@dataclass
class Activations:
    """Observed inputs of one product.

    Attributes:
        low, high: Minimum and maximum of each channel, float32 (inputs,).
        rows: A sample of the inputs, float32 (rows, inputs).
    """

    low: NDArray[np.float32]
    high: NDArray[np.float32]
    rows: NDArray[np.float32]

    @classmethod
    def joined(cls, parts: Sequence[Activations]) -> Activations:
        """Return the activations of all parts."""
        return cls(
            np.min([part.low for part in parts], axis=0),
            np.max([part.high for part in parts], axis=0),
            np.concatenate([part.rows for part in parts]),
        )


@dataclass(frozen=True)
class Int8Product:
    """Matrix product in int8.

    It computes `x @ weight`, with x divided by `smoothing`, then scaled and rounded to uint8.

    Attributes:
        weight: int8 (inputs, outputs).
        weight_scales: float32 (outputs,), scale of each column.
        scale: x / smoothing = scale * (uint8 - zero_point), the same for every input. None: x is the output of GELU,
            and each token has its own scale, by its largest value, with the zero point `ROW_ZERO`. Either way a score
            depends on its own pair only.
        zero_point: 0 to 255.
        smoothing: float32 (inputs,), or None for 1.
    """

    weight: NDArray[np.int8]
    weight_scales: NDArray[np.float32]
    scale: float | None = None
    zero_point: int = ROW_ZERO
    smoothing: NDArray[np.float32] | None = None


def row_scales(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the scale of each token, float32 (tokens, 1), by its largest value."""
    scales = rows.max(axis=1, keepdims=True) / np.float32(255 - ROW_ZERO)
    return np.asarray(np.maximum(scales, np.float32(MIN_ROW_SCALE)))


def quantise(bert: Bert, activations: Mapping[str, Activations]) -> tuple[Bert, dict[str, Int8Product]]:
    """Quantise every product of a network to int8.

    Outliers are moved from activations to weights (SmoothQuant, Xiao et al. 2023).

    Args:
        bert: The network.
        activations: Name of each product, see `product_names` -> its observed inputs.

    Returns:
        The network, with attention values rescaled where the product that takes them was smoothed, and the products.
    """
    products = {}
    # Last to first, because smoothing the attention's output changes the weights of its values.
    for name in reversed(product_names(bert)):
        weight, _ = bert.product(name)
        if name.endswith(".down"):
            # A few tokens are ten times as large here as all others, so one scale would be too coarse for most.
            products[name] = Int8Product(*quantise_weight(weight))
            continue
        product = _best_product(weight, activations[name])
        if name.endswith(".mix") and product.smoothing is not None:
            # The input of this product is a mean of values, so the weights of the values can do the division.
            bert = _with_scaled_values(bert, name.split(".")[0], product.smoothing)
            product = replace(product, smoothing=None)
        products[name] = product
    return bert, products


def quantise_weight(weight: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Quantise a weight to int8 with one scale a column.

    It is float32 (inputs, outputs), the scales are float32 (outputs,).

    Processors without VNNI add the products of two neighbouring inputs in 16 bits: 255 * 128 fits, 255 * 129 does not.
    The scale keeps the sum of two neighbours of one sign at 128 or less, so every processor computes the same.
    """
    even = weight if len(weight) % 2 == 0 else np.concatenate([weight, np.zeros_like(weight[:1])])
    neighbours = even.reshape(-1, 2, weight.shape[1])
    sums = np.maximum(neighbours.clip(min=0).sum(axis=1), neighbours.clip(max=0).sum(axis=1) * -1)
    scales = np.maximum(sums.max(axis=0), 1e-12) / 127
    return np.round(weight / scales).astype(np.int8), scales.astype(np.float32)


def _with_scaled_values(bert: Bert, layer: str, smoothing: NDArray[np.float32]) -> Bert:
    """Divide the attention values of a layer by `smoothing`.

    The product of their means is multiplied by it, so the function stays the same.
    """
    value, mix = (f"encoder.layer.{layer}.attention.{part}" for part in ("self.value", "output.dense"))
    scaled = {
        f"{value}.weight": bert.tensors[f"{value}.weight"] / smoothing[:, None],
        f"{value}.bias": bert.tensors[f"{value}.bias"] / smoothing,
        f"{mix}.weight": bert.tensors[f"{mix}.weight"] * smoothing,
    }
    return replace(bert, tensors={**bert.tensors, **scaled})


def _best_product(weight: NDArray[np.float32], activations: Activations) -> Int8Product:
    """Return the product with the least squared error on the sampled inputs."""
    exact = activations.rows @ weight
    candidates = [_product(weight, activations, exponent) for exponent in _EXPONENTS]
    errors = []
    for product in candidates:
        output = _dequantised(activations.rows, product) @ (product.weight * product.weight_scales)
        errors.append(float(((output - exact) ** 2).mean()))
    return candidates[int(np.argmin(errors))]


def _product(weight: NDArray[np.float32], activations: Activations, exponent: float) -> Int8Product:
    smoothing = None
    low, high = activations.low, activations.high
    if exponent:
        largest = np.maximum(np.maximum(np.abs(low), np.abs(high)), 1e-5)
        raw = largest**exponent / np.maximum(np.abs(weight).max(axis=1), 1e-5) ** (1 - exponent)
        smoothing = (raw / np.exp(np.log(raw).mean())).astype(np.float32)
        low, high, weight = low / smoothing, high / smoothing, weight * smoothing[:, None]
    bottom, top = min(float(low.min()), 0.0), max(float(high.max()), 0.0)
    scale = max(top - bottom, 1e-8) / 255
    return Int8Product(*quantise_weight(weight), scale, round(-bottom / scale), smoothing)


def _dequantised(rows: NDArray[np.float32], product: Int8Product) -> NDArray[np.float32]:
    """Return inputs as the int8 product represents them."""
    smooth = rows if product.smoothing is None else rows / product.smoothing
    scale = row_scales(smooth) if product.scale is None else np.float32(product.scale)
    steps = np.clip(np.round(smooth / scale) + product.zero_point, 0, 255) - product.zero_point
    return np.asarray(steps * scale, dtype=np.float32)
