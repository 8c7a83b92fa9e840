"""Shared encoder of a pair network, and the base classes of its pair heads."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from sentence_transformers.base.modules import Module, Transformer
from torch import Tensor
from torch.nn import functional

ROWS = 32
"""Texts of nearly the same length that are encoded together on a CPU."""


class PairEncoder(Transformer):
    """First module of a pair network: an encoder that both questions share.

    n pairs of texts become 2n texts: first the one of each pair that sorts first by code point, then the others. So the
    network runs on the same rows for either order of a pair. Output: `token_embeddings` (2n, tokens, dimensions) and
    `attention_mask` (2n, tokens).

    Source: the shared branches of a Siamese network (Bromley et al. 1993).
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # Pair heads count places from the first token.
        if self.tokenizer is not None:
            self.tokenizer.padding_side = "right"

    def preprocess(self, inputs: Sequence[Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
        texts = list(inputs)
        # The trainer passes single texts to count their tokens.
        if texts and not isinstance(texts[0], str):
            ordered = [(a, b) if a <= b else (b, a) for a, b in texts]
            texts = [first for first, _ in ordered] + [second for _, second in ordered]
        features: dict[str, Any] = super().preprocess(texts, *args, **kwargs)
        return features

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Add `token_embeddings`, (2n, tokens, dimensions), to the output of `preprocess`.

        On a CPU a batch is encoded in parts of similar lengths, because padding costs as much as text.
        """
        mask = features["attention_mask"]
        if mask.device.type != "cpu" or len(mask) <= ROWS:
            encoded: dict[str, Any] = super().forward(features, **kwargs)
            return encoded
        lengths = mask.sum(1)
        order = lengths.argsort(stable=True)
        parts = []
        for rows in order.split(ROWS):
            part = {
                name: value[rows, : int(lengths[rows[-1]])] if torch.is_tensor(value) and value.ndim == 2 else value
                for name, value in features.items()
            }
            tokens = super().forward(part, **kwargs)["token_embeddings"]
            parts.append(functional.pad(tokens, (0, 0, 0, mask.shape[1] - tokens.shape[1])))
        return {**features, "token_embeddings": torch.cat(parts)[order.argsort()]}


class PairHead(Module):
    """Second module of a pair network: the tokens of two questions to one raw score.

    A subclass implements `compare`, symmetric to the last bit and independent of padding.

    Args:
        sizes: The arguments of the subclass, which `save` stores.
    """

    def __init__(self, **sizes: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._sizes = sizes

    def get_config_dict(self) -> dict[str, Any]:
        """Return the arguments of the class, as `config.json` stores them."""
        return dict(self._sizes)

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Add `scores`, raw logits (n, 1), to the output of a `PairEncoder` for n pairs."""
        tokens, mask = features["token_embeddings"], features["attention_mask"].bool()
        # In float32 even where the encoder runs in bfloat16: a head costs little, and needs small differences.
        with torch.autocast(tokens.device.type, enabled=False):
            left, right = tokens.float().chunk(2)
            features["scores"] = self.compare(left, right, *mask.chunk(2)).unsqueeze(1)
        return features

    @abstractmethod
    def compare(self, left: Tensor, right: Tensor, left_mask: Tensor, right_mask: Tensor) -> Tensor:
        """Return raw logits (n,).

        `left` and `right` are (n, tokens, dimensions), the masks bool (n, tokens).
        """

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Write `config.json` and `model.safetensors` into a folder."""
        self.save_config(output_path)
        self.save_torch_weights(output_path)

    @classmethod
    def load(
        cls,
        model_name_or_path: str,
        subfolder: str = "",
        token: bool | str | None = None,
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        init_defaults: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> PairHead:
        """Open a head that `save` wrote, from a folder or the Hub."""
        source: dict[str, Any] = {
            "subfolder": subfolder,
            "token": token,
            "cache_folder": cache_folder,
            "revision": revision,
            "local_files_only": local_files_only,
        }
        config = cls.load_config(model_name_or_path, **source)
        head: PairHead = cls.load_torch_weights(model_name_or_path, model=cls(**config), **source)
        return head


def masked_mean(tokens: Tensor, mask: Tensor) -> Tensor:
    """Return the mean of each text's tokens, (n, dimensions).

    Tokens are (n, tokens, dimensions), the mask is (n, tokens).
    """
    weights = mask.unsqueeze(-1).to(tokens.dtype)
    mean: Tensor = (tokens * weights).sum(1) / weights.sum(1).clamp(min=1)
    return mean


class VectorPairHead(PairHead):
    """Pair head on one vector a question, the scaled mean of its tokens."""

    def compare(self, left: Tensor, right: Tensor, left_mask: Tensor, right_mask: Tensor) -> Tensor:
        return self.compare_vectors(self.embed(left, left_mask), self.embed(right, right_mask))

    @staticmethod
    def embed(tokens: Tensor, mask: Tensor) -> Tensor:
        """Return one vector a question, (n, dimensions), of length √dimensions."""
        # The entries of a unit vector of 384 dimensions are so small that a new head would learn too slowly.
        scale: float = tokens.shape[2] ** 0.5
        return functional.normalize(masked_mean(tokens, mask), dim=1) * scale

    @abstractmethod
    def compare_vectors(self, left: Tensor, right: Tensor) -> Tensor:
        """Return raw logits (n,) for two tensors (n, dimensions)."""
