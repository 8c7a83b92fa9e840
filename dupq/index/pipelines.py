"""Pipelines of an open index.

The model that the store uses at a moment chooses one of them.
"""

from __future__ import annotations

from dataclasses import dataclass

from dupq.decisions.decider import PairScorer, embedder_of
from dupq.errors import InputError
from dupq.index.stores.base import StoredModel
from dupq.index.stores.sql import View
from dupq.types import Embedder


@dataclass(frozen=True, slots=True)
class Pipelines:
    """Pipelines with different bi-encoders; immutable, so that threads may share it.

    Attributes:
        known: The pipelines, the one that the index should use last at the end.
    """

    known: tuple[PairScorer, ...] = ()

    def with_last(self, pipeline: PairScorer) -> Pipelines:
        """Return these pipelines with another one at the end.

        It replaces one with the same bi-encoder.
        """
        own = embedder_of(pipeline).fingerprint
        return Pipelines((*(held for held in self.known if embedder_of(held).fingerprint != own), pipeline))

    def present(self, view: View) -> PairScorer:
        """Return the pipeline with the bi-encoder that the store uses.

        Raises:
            InputError: There is none, because the model was switched after the index was opened.
        """
        model = view.model()
        for pipeline in self.known:
            if model is not None and embedder_of(pipeline).fingerprint == model.fingerprint:
                return pipeline
        raise InputError(
            "the index was switched to another model"
            + ("" if model is None else f" ({model.fingerprint}) after it was opened"),
            location=view.location,
            hint="open it again with that model",
        )

    def embedding(self, view: View) -> list[tuple[StoredModel, Embedder]]:
        """Return the models that a new text is embedded with.

        They are the present one, and those that will follow it.

        Raises:
            InputError: As `present`.
        """
        stored = {model.fingerprint: model for model in view.models()}
        present = self.present(view)
        found: list[tuple[StoredModel, Embedder]] = []
        for pipeline in self.known:
            embedder = embedder_of(pipeline)
            if (pipeline is present or found) and embedder.fingerprint in stored:
                found.append((stored[embedder.fingerprint], embedder))
        return found
