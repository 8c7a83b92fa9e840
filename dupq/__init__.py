"""Tells whether two questions ask the same thing, and finds the duplicates of a whole forum.

Every public name is imported when it is first used, so that `import dupq` itself loads no network library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dupq.data.grouping import leak_report
    from dupq.data.reading import read_pairs
    from dupq.data.splits import load_pairs, split_file
    from dupq.errors import DupqError
    from dupq.forum.index import QuestionIndex
    from dupq.pipeline import DuplicatePipeline
    from dupq.records import Decision, DuplicateGroup, PairScore, QuestionPair
    from dupq.training.trainer import TrainSettings, train

__version__ = "0.1.0"

__all__ = [
    "Decision",
    "DuplicateGroup",
    "DuplicatePipeline",
    "DupqError",
    "PairScore",
    "QuestionIndex",
    "QuestionPair",
    "TrainSettings",
    "__version__",
    "leak_report",
    "load_pairs",
    "read_pairs",
    "split_file",
    "train",
]

_HOMES = {
    "Decision": "records",
    "DuplicateGroup": "records",
    "DuplicatePipeline": "pipeline",
    "DupqError": "errors",
    "PairScore": "records",
    "QuestionIndex": "forum.index",
    "QuestionPair": "records",
    "TrainSettings": "training.trainer",
    "leak_report": "data.grouping",
    "load_pairs": "data.splits",
    "read_pairs": "data.reading",
    "split_file": "data.splits",
    "train": "training.trainer",
}
"""The module under `dupq` that each public name is defined in."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'dupq' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"dupq.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
