"""The scoring options of both networks: the order of a pair, and long texts."""

from __future__ import annotations

from copy import copy
from typing import TypeVar, get_args

from dupq.models.long_text import LongPairs, LongTexts
from dupq.models.symmetry import Symmetry

SCORING_OPTIONS: dict[str, tuple[str, ...]] = {
    "symmetry": get_args(Symmetry),
    "long_texts": get_args(LongTexts),
    "long_pairs": get_args(LongPairs),
}
"""Name of each option, which is the attribute of the network too -> its values, the default first.

`symmetry` and `long_pairs` are options of the cross-encoder, see `dupq.models.symmetry` and `dupq.models.long_text`;
`long_texts` is one of the bi-encoder.
"""

Network = TypeVar("Network")


def with_symmetry(scorer: Network, symmetry: Symmetry) -> Network:
    """Return the cross-encoder with another symmetry and the same weights."""
    return _with_option(scorer, "symmetry", symmetry)


def with_long_texts(embedder: Network, long_texts: LongTexts) -> Network:
    """Return the bi-encoder with another rule for long texts, and the same weights."""
    return _with_option(embedder, "long_texts", long_texts)


def with_long_pairs(scorer: Network, long_pairs: LongPairs) -> Network:
    """Return the cross-encoder with another rule for long texts, and the same weights."""
    return _with_option(scorer, "long_pairs", long_pairs)


def _with_option(network: Network, option: str, value: str) -> Network:
    changed = copy(network)
    vars(changed).pop("fingerprint", None)  # the cached one belongs to the old value
    setattr(changed, option, value)
    return changed
