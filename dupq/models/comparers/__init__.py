"""The pair networks of the Siamese family, as sentence-transformers modules.

`CrossEncoder(modules=[PairEncoder(base), comparer])` is a stock cross-encoder: the stock trainer trains it, and
`predict`, `save_pretrained` and dupq's own loader know it. Stock sentence-transformers opens its folder with
`trust_remote_code=True`, since these classes are not its own; dupq opens it without, since they are on its list.
"""

from __future__ import annotations

from dupq.models.comparers.convolution import ArcApart, ArcMerged
from dupq.models.comparers.pairs import Comparer, PairEncoder, VectorComparer
from dupq.models.comparers.tokens import NeighbourhoodDifferences, NormalisedCorrelation, RecurrentComparator
from dupq.models.comparers.vectors import (
    ConditionalSimilarity,
    Hybrid,
    LearnedMetric,
    ResidualPairs,
    SimilarityNetwork,
)

COMPARERS: dict[str, type[Comparer]] = {
    kind.__name__: kind
    for kind in (
        ArcApart,
        ArcMerged,
        ConditionalSimilarity,
        Hybrid,
        LearnedMetric,
        NeighbourhoodDifferences,
        NormalisedCorrelation,
        RecurrentComparator,
        ResidualPairs,
        SimilarityNetwork,
    )
}
"""Every comparer, by name."""

MODULE_CLASSES = {f"{kind.__module__}.{kind.__name__}": kind for kind in (PairEncoder, *COMPARERS.values())}
"""What `modules.json` calls them: no other class outside sentence-transformers is ever loaded from a folder."""

__all__ = [
    "COMPARERS",
    "MODULE_CLASSES",
    "ArcApart",
    "ArcMerged",
    "Comparer",
    "ConditionalSimilarity",
    "Hybrid",
    "LearnedMetric",
    "NeighbourhoodDifferences",
    "NormalisedCorrelation",
    "PairEncoder",
    "RecurrentComparator",
    "ResidualPairs",
    "SimilarityNetwork",
    "VectorComparer",
]
