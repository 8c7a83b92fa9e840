"""Score question pairs, and find likely duplicates in a whole forum.

Every public name is imported when it is first used, so that `import dupq` itself loads no network library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dupq.version import __version__

if TYPE_CHECKING:
    from dupq.data.grouping import leak_report
    from dupq.data.judged import load_judged
    from dupq.data.pairs import load_pairs
    from dupq.data.reading import read_pairs
    from dupq.data.splits import split_file
    from dupq.decisions.thresholds import Policy
    from dupq.errors import DupqError
    from dupq.index.question_index import QuestionIndex
    from dupq.mining.find_duplicates import MiningSettings, find_duplicates
    from dupq.mining.results import MiningResult
    from dupq.pipeline import DuplicatePipeline
    from dupq.training.trainer import TrainSettings, train
    from dupq.types import (
        Decision,
        DuplicateGroup,
        PairScore,
        QuestionPair,
        TextWarning,
    )

__all__ = [
    "Decision",
    "DuplicateGroup",
    "DuplicatePipeline",
    "DupqError",
    "MiningResult",
    "MiningSettings",
    "PairScore",
    "Policy",
    "QuestionIndex",
    "QuestionPair",
    "TextWarning",
    "TrainSettings",
    "__version__",
    "find_duplicates",
    "leak_report",
    "load_judged",
    "load_pairs",
    "read_pairs",
    "split_file",
    "train",
]

_HOMES = {
    "Decision": "types",
    "DuplicateGroup": "types",
    "DuplicatePipeline": "pipeline",
    "DupqError": "errors",
    "MiningResult": "mining.results",
    "MiningSettings": "mining.find_duplicates",
    "PairScore": "types",
    "Policy": "decisions.thresholds",
    "QuestionIndex": "index.question_index",
    "QuestionPair": "types",
    "TextWarning": "types",
    "TrainSettings": "training.trainer",
    "find_duplicates": "mining.find_duplicates",
    "leak_report": "data.grouping",
    "load_judged": "data.judged",
    "load_pairs": "data.pairs",
    "read_pairs": "data.reading",
    "split_file": "data.splits",
    "train": "training.trainer",
}
"""Module under `dupq` of each public name."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'dupq' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"dupq.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
