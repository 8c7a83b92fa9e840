"""Joint layers: the upper part of a decomposed transformer.

They read the token states of both questions.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dupq.models.pair_heads.pairs import PairHead, masked_mean

EPSILON = 1e-12
"""Epsilon of the layer normalisations, that of BERT."""
BERT_NAMES = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "mix": "attention.output.dense",
    "mixed_norm": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "norm": "output.LayerNorm",
}


class JointLayer(nn.Module):
    """Layer of BERT (Devlin et al. 2019) that attends to both questions.

    The attention logit of a token of the other question has a learned bias, one for each head.

    Args:
        dimensions: Dimensions of a token state.
        heads: Number of attention heads.
        inner: Dimensions between the two products of the feed-forward network.
    """

    def __init__(self, dimensions: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.mix = (nn.Linear(dimensions, dimensions) for _ in range(4))
        self.up, self.down = nn.Linear(dimensions, inner), nn.Linear(inner, dimensions)
        self.mixed_norm, self.norm = (nn.LayerNorm(dimensions, eps=EPSILON) for _ in range(2))
        self.other = nn.Parameter(torch.zeros(heads))

    def forward(self, states: Tensor, mask: Tensor, first_only: bool = False) -> Tensor:
        """Return the new states of all tokens, (m, dimensions).

        With `first_only` they are those of first tokens, (2n, dimensions).

        Args:
            states: States of the m tokens of 2n questions, (m, dimensions), without padding.
            mask: Their places, bool (2n, tokens). Rows i and i + n are the questions of a pair. A row attends to its
                own tokens, then to those of the other row, so its result does not depend on which of both it is.
            first_only: Compute the states of first tokens alone.
        """
        asking = states[_first_tokens(mask)] if first_only else states
        asked = torch.ones_like(mask[:, :1]) if first_only else mask
        query = self._by_head(self.query(asking), asked)
        keys, values = (self._by_head(product(states), mask) for product in (self.key, self.value))
        logits = query @ _and_other(keys).transpose(2, 3) / query.shape[3] ** 0.5
        weights = (logits + self._bias(mask)).softmax(3)
        mixed = (weights.to(values.dtype) @ _and_other(values)).transpose(1, 2).flatten(2)[asked]
        mixed = self.mixed_norm(self.mix(mixed) + asking)
        new: Tensor = self.norm(self.down(functional.gelu(self.up(mixed))) + mixed)
        return new

    def _by_head(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Pad tokens: (m, dimensions) to (2n, heads, tokens, dimensions / heads)."""
        padded = tokens.new_zeros(*mask.shape, tokens.shape[1])
        padded[mask] = tokens
        return padded.view(*mask.shape, self.heads, -1).transpose(1, 2)

    def _bias(self, mask: Tensor) -> Tensor:
        """Return what is added to the attention logits, (2n, heads, 1, 2 tokens)."""
        padding = torch.zeros_like(mask, dtype=self.other.dtype).masked_fill(~mask, torch.finfo(self.other.dtype).min)
        own = padding[:, None, None].expand(-1, self.heads, -1, -1)
        return torch.cat([own, own.roll(len(mask) // 2, 0) + self.other[:, None, None]], dim=3)

    def copy_bert(self, layer: nn.Module) -> None:
        """Copy the weights of a `BertLayer`; `other` becomes 0."""
        weights = layer.state_dict()
        own = {f"{name}.{kind}": weights[f"{BERT_NAMES[name]}.{kind}"] for name in BERT_NAMES for kind in _KINDS}
        self.load_state_dict({**own, "other": torch.zeros_like(self.other)})


_KINDS = ("weight", "bias")


def _and_other(tokens: Tensor) -> Tensor:
    """Append the tokens of the other question of the pair.

    The input is (2n, h, t, d), the output (2n, h, 2t, d).
    """
    return torch.cat([tokens, tokens.roll(len(tokens) // 2, 0)], dim=2)


def _first_tokens(mask: Tensor) -> Tensor:
    """Return the rows of first tokens among all tokens, (2n,)."""
    lengths = mask.sum(1)
    return lengths.cumsum(0) - lengths


class JointLayers(PairHead):
    """Upper layers of a decomposed transformer, over both questions together.

    The encoder reads each question by itself, so that its states can be kept; these layers compare two. Every token
    attends to both questions, and a learned bias marks the other one. The score is read from the mean of both first
    tokens, h and h', and from how the means m and m' of the encoder's states differ and agree:
    score = w · tanh(W (h + h') / 2 + U [|m - m'|, m ∘ m'] + b) + c. No question comes first, so a pair has no order.
    U starts at 0.

    Sources: Cao et al. 2020 (DeFormer); MacAvaney et al. 2020 (PreTTR); for U, Conneau et al. 2017 (InferSent). Prefer
    it where each question is in many pairs.

    Args:
        dimensions: Dimensions of a token state.
        layers: Number of layers.
        heads: Number of attention heads; 0 = one for every 32 dimensions.
        inner: Dimensions within the feed-forward network; 0 = four times as many.
    """

    def __init__(self, dimensions: int, layers: int = 2, heads: int = 0, inner: int = 0) -> None:
        heads, inner = heads or max(1, dimensions // 32), inner or 4 * dimensions
        super().__init__(dimensions=dimensions, layers=layers, heads=heads, inner=inner)
        self.layers = nn.ModuleList(JointLayer(dimensions, heads, inner) for _ in range(layers))
        self.pooler, self.classifier = nn.Linear(dimensions, dimensions), nn.Linear(dimensions, 1)
        self.agreement = nn.Linear(2 * dimensions, dimensions, bias=False)
        nn.init.zeros_(self.agreement.weight)

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Add `scores`, raw logits (n, 1), and `pooled`, (n, dimensions).

        The scores are read from the pooled vectors. Unlike other heads these layers run in bfloat16 where the encoder
        does: they cost as much as its own.
        """
        features["pooled"] = self.pool(features["token_embeddings"], features["attention_mask"].bool())
        features["scores"] = self._classify(features["pooled"]).unsqueeze(1)
        return features

    def compare(self, left: Tensor, right: Tensor, left_mask: Tensor, right_mask: Tensor) -> Tensor:
        return self._classify(self.pool(torch.cat([left, right]), torch.cat([left_mask, right_mask])))

    def pool(self, states: Tensor, mask: Tensor) -> Tensor:
        """Return the pooled vectors of n pairs, float32 (n, dimensions).

        The states are (2n, tokens, dimensions).
        """
        first, compared = self.read(states, mask)
        with torch.autocast(states.device.type, enabled=False):
            return torch.tanh(self.pooler(first) + self.agreement(compared))

    def read(self, states: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the two inputs of the pooled vectors, float32.

        They are (n, dimensions) and (n, 2 * dimensions).
        """
        tokens = states[mask]
        for layer in self.layers:
            tokens = layer(tokens, mask, first_only=layer is self.layers[-1])
        with torch.autocast(states.device.type, enabled=False):
            left, right = tokens.float().chunk(2)
            mean_left, mean_right = masked_mean(states.float(), mask).chunk(2)
            return (left + right) / 2, torch.cat([(mean_left - mean_right).abs(), mean_left * mean_right], dim=1)

    def _classify(self, pooled: Tensor) -> Tensor:
        with torch.autocast(pooled.device.type, enabled=False):
            scores: Tensor = self.classifier(pooled).squeeze(1)
        return scores

    def copy_bert(self, layers: Iterable[nn.Module]) -> None:
        """Copy the weights of a `BertLayer` into each layer."""
        for own, layer in zip(self.layers, layers, strict=True):
            own.copy_bert(layer)  # type: ignore[operator]
