"""Residual pair head with a generator that regularises its training."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from dupq.models.pair_heads.vectors import ResidualPairs


class GenerativeResidualPairs(ResidualPairs):
    """Skip-residual pairwise network with a generative regulariser.

    It scores a pair as `ResidualPairs` does. In training, `dupq.training.losses.GenerativeLoss` also takes the score
    f(u, G(u, z)) of each question u, where G(u, z) = √dimensions · norm(B relu(A [u, z])) and z is normal noise. The
    network must find this pair distinct, and G learns to make it score as a duplicate.

    Source: Mehrotra & Dukkipati 2017, whose generator makes images. The generator is saved with the network, so that an
    interrupted training resumes; scores do not depend on it. Prefer it to `ResidualPairs` with few labels.

    Args:
        dimensions: Dimensions of a token embedding.
        hidden: Dimensions of the similarity vector, and size of the generator's hidden layer.
        blocks: Number of residual blocks.
        noise: Dimensions of z.
    """

    def __init__(self, dimensions: int, hidden: int = 128, blocks: int = 3, noise: int = 32) -> None:
        super().__init__(dimensions, hidden, blocks)
        self._sizes["noise"] = self.noise = noise
        self.generator = nn.Sequential(nn.Linear(dimensions + noise, hidden), nn.ReLU(), nn.Linear(hidden, dimensions))

    def compare_generated(self, vectors: Tensor) -> Tensor:
        """Return raw logits (n,) of n vectors, each with one generated from it.

        The vectors are (n, dimensions). Gradients reach the generator reversed, and do not pass through it to the
        vectors.
        """
        noise = torch.randn(len(vectors), self.noise, device=vectors.device, dtype=vectors.dtype)
        made = self.generator(torch.cat([vectors.detach(), noise], dim=1))
        made = functional.normalize(made, dim=1) * self.dimensions**0.5
        # The value of `made`, exactly, and the opposite of its gradient.
        return self.compare_vectors(vectors, 2 * made.detach() - made)
