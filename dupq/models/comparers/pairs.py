"""What every pair network stands on: one encoder for both questions, and what a comparer is handed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from sentence_transformers.base.modules import Module, Transformer
from torch import Tensor
from torch.nn import functional


class PairEncoder(Transformer):
    """A shared encoder that reads the two questions of a pair apart: the first module of a pair network.

    n pairs of texts become 2n texts: first the one of each pair that sorts first by code point, then the others. So the
    network runs on the same rows whichever question was named first. Output: `token_embeddings` (2n, tokens,
    dimensions) and `attention_mask` (2n, tokens).

    Source: the shared branches of a Siamese network (Bromley et al. 1993).
    """

    def preprocess(self, inputs: Sequence[Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
        texts = list(inputs)
        # Single texts, which the trainer counts the tokens of, are left as they are.
        if texts and not isinstance(texts[0], str):
            ordered = [(a, b) if a <= b else (b, a) for a, b in texts]
            texts = [first for first, _ in ordered] + [second for _, second in ordered]
        features: dict[str, Any] = super().preprocess(texts, *args, **kwargs)
        return features


class Comparer(Module):
    """The second module of a pair network: the tokens of two questions to one raw score.

    A subclass gives `compare`. It must be symmetric to the last bit and must not see padding.

    Args:
        sizes: The arguments of the subclass.
    """

    def __init__(self, **sizes: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._sizes = sizes

    def get_config_dict(self) -> dict[str, Any]:
        """What `save` writes to `config.json`, and `load` hands to the class."""
        return dict(self._sizes)

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Adds to what a `PairEncoder` gives for n pairs `scores`: (n, 1) raw logits, higher = more alike."""
        tokens, mask = features["token_embeddings"], features["attention_mask"].bool()
        # In float32 even where the encoder runs in bfloat16: a comparer costs little, and lives on small differences.
        with torch.autocast(tokens.device.type, enabled=False):
            left, right = tokens.float().chunk(2)
            features["scores"] = self.compare(left, right, *mask.chunk(2)).unsqueeze(1)
        return features

    @abstractmethod
    def compare(self, left: Tensor, right: Tensor, left_mask: Tensor, right_mask: Tensor) -> Tensor:
        """Two times (n, tokens, dimensions) with bool masks (n, tokens) -> raw logits (n,)."""

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **kwargs: Any) -> None:
        """Writes `config.json` and `model.safetensors` into a folder."""
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
    ) -> Comparer:
        """Opens what `save` wrote."""
        place: dict[str, Any] = {
            "subfolder": subfolder,
            "token": token,
            "cache_folder": cache_folder,
            "revision": revision,
            "local_files_only": local_files_only,
        }
        config = cls.load_config(model_name_or_path, **place)
        opened: Comparer = cls.load_torch_weights(model_name_or_path, model=cls(**config), **place)
        return opened


def masked_mean(tokens: Tensor, mask: Tensor) -> Tensor:
    """The mean of a text's tokens: (n, tokens, dimensions) and (n, tokens) -> (n, dimensions)."""
    weights = mask.unsqueeze(-1).to(tokens.dtype)
    mean: Tensor = (tokens * weights).sum(1) / weights.sum(1).clamp(min=1)
    return mean


class VectorComparer(Comparer):
    """A comparer that sees one vector a question: the mean of its tokens, scaled to entries of about unit size."""

    def compare(self, left: Tensor, right: Tensor, left_mask: Tensor, right_mask: Tensor) -> Tensor:
        return self.compare_vectors(self.embed(left, left_mask), self.embed(right, right_mask))

    @staticmethod
    def embed(tokens: Tensor, mask: Tensor) -> Tensor:
        """(n, tokens, dimensions) -> (n, dimensions), of length √dimensions."""
        # An entry of a unit vector of 384 dimensions is so small that a fresh head would learn from it too slowly.
        scale: float = tokens.shape[2] ** 0.5
        return functional.normalize(masked_mean(tokens, mask), dim=1) * scale

    @abstractmethod
    def compare_vectors(self, left: Tensor, right: Tensor) -> Tensor:
        """Two times (n, dimensions) -> raw logits (n,)."""
