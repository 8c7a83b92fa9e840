"""Pair networks of the Siamese family, as sentence-transformers modules.

`CrossEncoder(modules=[PairEncoder(base), pair_head])` is a stock cross-encoder for the trainer, `predict` and
`save_pretrained`. Stock sentence-transformers opens its folder only with `trust_remote_code=True`, because these
classes are not its own; dupq opens it without, because they are in `MODULE_CLASSES`.
"""

from __future__ import annotations

from sentence_transformers.base.modules import Module

from dupq.models.pair_heads.convolution import ArcApart, ArcMerged
from dupq.models.pair_heads.generative import GenerativeResidualPairs
from dupq.models.pair_heads.joint import JointLayers
from dupq.models.pair_heads.pairs import PairEncoder, PairHead, VectorPairHead
from dupq.models.pair_heads.streams import PseudoSiamese, TwoChannel
from dupq.models.pair_heads.template import TemplateMatching
from dupq.models.pair_heads.tokens import NeighbourhoodDifferences, NormalisedCorrelation, RecurrentComparator
from dupq.models.pair_heads.vectors import (
    ConditionalSimilarity,
    Hybrid,
    LearnedMetric,
    ResidualPairs,
    SimilarityNetwork,
)

PAIR_HEADS: dict[str, type[PairHead]] = {
    kind.__name__: kind
    for kind in (
        ArcApart,
        ArcMerged,
        ConditionalSimilarity,
        GenerativeResidualPairs,
        Hybrid,
        JointLayers,
        LearnedMetric,
        NeighbourhoodDifferences,
        NormalisedCorrelation,
        PseudoSiamese,
        RecurrentComparator,
        ResidualPairs,
        SimilarityNetwork,
        TemplateMatching,
        TwoChannel,
    )
}
"""Pair head classes by name."""

_CLASSES: tuple[type[Module], ...] = (PairEncoder, *PAIR_HEADS.values())
MODULE_CLASSES = {f"{kind.__module__}.{kind.__name__}": kind for kind in _CLASSES}
"""Classes by their name in `modules.json`; no other class outside sentence-transformers is loaded from a folder."""

__all__ = [
    "MODULE_CLASSES",
    "PAIR_HEADS",
    "ArcApart",
    "ArcMerged",
    "ConditionalSimilarity",
    "GenerativeResidualPairs",
    "Hybrid",
    "JointLayers",
    "LearnedMetric",
    "NeighbourhoodDifferences",
    "NormalisedCorrelation",
    "PairEncoder",
    "PairHead",
    "PseudoSiamese",
    "RecurrentComparator",
    "ResidualPairs",
    "SimilarityNetwork",
    "TemplateMatching",
    "TwoChannel",
    "VectorPairHead",
]
