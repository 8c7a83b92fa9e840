"""Records of pipeline and index as the API answers them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from dupq.decisions.decider import Decider
from dupq.errors import NotCalibratedError
from dupq.index.flags import FlagReport
from dupq.index.groups import Group, Link
from dupq.index.stores.base import StoredDecision, StoredQuestion, StoredVerdict
from dupq.service.state import Service
from dupq.types import Id, PairScore, TextWarning

OUTDATED = "no guarantee: it was decided with another model or calibration than the one in use; decide it again"


def plain(value: Any) -> Any:
    """Return plain data that JSON can hold.

    Each number that is not finite becomes None.
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): plain(held) for key, held in value.items()}
    return [plain(held) for held in value] if isinstance(value, (list, tuple)) else value


def warned(warnings: Iterable[TextWarning]) -> list[dict[str, Any]]:
    """Return warnings."""
    return [{"kind": warning.kind, "message": warning.message, "side": warning.side} for warning in warnings]


def scored(pair: PairScore, decider: Decider, model: str) -> dict[str, Any]:
    """Return the score of a pair.

    Args:
        pair: The score.
        decider: The pipeline's decider.
        model: Fingerprint of the pipeline.
    """
    return {
        "score": pair.score,
        "probability": pair.probability,
        "decision": str(pair.decision),
        "threshold": pair.threshold,
        "guarantee": decider.guarantee,
        "base_rate": pair.base_rate,
        "model": model,
        "warnings": warned(pair.warnings),
    }


def flagged(report: FlagReport, model: str, id_: Id | None = None) -> dict[str, Any]:
    """Return the flags of a question.

    Args:
        report: The flags.
        model: Fingerprint of the pipeline.
        id_: Id of a stored question, or None.
    """
    decider = report.decider
    shared = {
        "threshold": decider.threshold,
        "guarantee": decider.guarantee,
        "base_rate": decider.base_rate,
        "model": model,
    }
    flags = [
        {
            "id": flag.id,
            "text": flag.text,
            "cosine": flag.cosine,
            "score": flag.score,
            "probability": flag.probability,
            "decision": str(flag.decision),
            "copy": flag.copy,
            "warnings": warned(flag.warnings),
            **shared,
        }
        for flag in report.flags
    ]
    return {
        "question": report.question,
        "id": id_,
        "flags": flags,
        "stored": report.stored,
        "warnings": warned(report.warnings),
        **shared,
    }


def question(stored: StoredQuestion) -> dict[str, Any]:
    """Return a stored question."""
    return {
        "id": stored.id,
        "text": stored.text,
        "created": stored.created,
        "reach": stored.reach,
        "details": stored.details,
    }


def verdict(row: StoredVerdict) -> dict[str, Any]:
    """Return a row of the history of verdicts."""
    return {
        "number": row.number,
        "id1": row.id,
        "id2": row.other,
        "answer": row.answer,
        "by": row.by,
        "at": row.at,
        "note": row.note,
        "undoes": row.undoes,
        "chosen": row.chosen,
        "sampled": row.sampled,
        "probability": row.probability,
        "decision": row.decision,
        "threshold": row.threshold,
        "base_rate": row.base_rate,
        "model": row.scorer,
    }


def decided(row: StoredDecision, decider: Decider | None, model: str) -> dict[str, Any]:
    """Return a stored decision; its warnings are not stored.

    Args:
        row: The decision.
        decider: The decider in use, whose guarantee holds for the decision if it was made with it; None: there is none.
        model: Fingerprint of the pipeline.
    """
    same = (
        decider is not None
        and row.scorer == model
        and math.isclose(row.threshold, decider.threshold)
        and math.isclose(row.base_rate, decider.base_rate)
    )
    return {
        "score": row.score,
        "probability": row.probability,
        "decision": row.decision,
        "threshold": row.threshold,
        "guarantee": decider.guarantee if decider is not None and same else OUTDATED,
        "base_rate": row.base_rate,
        "model": row.scorer,
        "warnings": [],
    }


def link(found: Link) -> dict[str, Any]:
    """Return a link of a group."""
    return {"id1": found.id, "id2": found.other, "probability": found.probability}


def group(found: Group) -> dict[str, Any]:
    """Return a duplicate group."""
    return {
        "canonical": found.canonical,
        "members": list(found.members),
        "links": [link(row) for row in found.links],
        "weakest": None if found.weakest is None else link(found.weakest),
        "merges": list(found.merges),
        "disputed": [list(pair) for pair in found.disputed],
    }


def decider_of(service: Service) -> Decider | None:
    """Return the decider in use, or None.

    It is None if the pipeline has no calibrator or no threshold.
    """
    try:
        return service.index.decider
    except NotCalibratedError:
        return None
