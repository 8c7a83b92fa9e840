"""Where in a network two questions meet: before each is a vector, by a head over two vectors, or by their distance."""

from __future__ import annotations

from typing import Literal, get_args

from dupq.training.methods import METHODS

Stage = Literal["early", "merged", "late"]
STAGES = get_args(Stage)
LINES = {
    "early": "the tokens of both questions meet before either is one vector",
    "merged": "each question is one vector, and a trained head compares the two",
    "late": "each question is one vector, and a distance compares the two",
}
CROSS_ENCODERS: dict[str, Stage] = {
    "classification": "early",
    "recurrent": "early",
    "neighbourhood": "early",
    "correlation": "early",
    "arc-2": "early",
    "template": "early",
    "two-channel": "early",
    "r-drop": "early",
    "decomposed": "early",
    "hybrid": "merged",
    "similarity": "merged",
    "conditional": "merged",
    "residual": "merged",
    "arc-1": "merged",
    "pseudo-siamese": "merged",
    "residual-generative": "merged",
}
"""Stage of every trained cross-encoder: a new one needs a row here. All else compares late."""


def stage_of(name: str) -> Stage:
    """The stage of a method; a `KeyError` for a cross-encoder that is not in `CROSS_ENCODERS`."""
    method = METHODS[name]
    return "late" if method.kind == "bi-encoder" or method.metric else CROSS_ENCODERS[name]
