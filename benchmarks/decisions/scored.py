"""Raw scores of a pipeline on labelled files, kept in a cache folder so that each benchmark need not score again."""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dupq import DuplicatePipeline
from dupq.data.grouping import holds_trained
from dupq.data.pairs import PairTable, load_pairs
from dupq.data.reading import ReadReport
from dupq.models.bi_encoder import BiEncoder
from dupq.models.ensemble import CosineScorer

# The other worlds, and the files each is read from; several files of one world are joined.
WORLDS = {
    "PAWS-Wiki": ("paws_wiki_dev.tsv.xz",),
    "MRPC": ("mrpc_train.tsv.xz", "mrpc_test.tsv.xz"),
    "Twitter URL": ("twitter_url_train.tsv.xz",),
    "PIT": ("pit2015_dev.tsv.xz",),
    "SemEval forum": (
        "semeval2016_cqa_train_part1.tsv.xz",
        "semeval2016_cqa_train_part2.tsv.xz",
        "semeval2016_cqa_dev.tsv.xz",
    ),
}
_BLOCK = 2048
RECIPE = "3"
"""Raised when a part measures otherwise, so that `all` runs it again."""


@dataclass(frozen=True)
class Scored:
    """Labelled pairs with their raw scores and question groups, (n,) each."""

    scores: NDArray[np.float64]
    labels: NDArray[np.int8]
    groups: NDArray[np.int64]
    fingerprint: str

    def take(self, rows: NDArray[Any]) -> Scored:
        return Scored(self.scores[rows], self.labels[rows], self.groups[rows], self.fingerprint)

    def __len__(self) -> int:
        return len(self.scores)


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--pipeline", metavar="DIR", help="the shipped model if not given")
    parser.add_argument("--splits", metavar="DIR", required=True, help="made by `dupq data split`")
    parser.add_argument("--cache", metavar="DIR", required=True, help="where raw scores are kept")
    parser.add_argument("--worlds", metavar="DIR", help="the folder of the other data sets")
    parser.add_argument("--encoder", metavar="DIR", help="an untrained sentence encoder, for hand-picked cosines")
    parser.add_argument("--most", type=int, default=8000, help="pairs of another world at most, drawn by group")


class Source:
    """Scores what it is asked for, once."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.pipeline = DuplicatePipeline.from_pretrained(args.pipeline)
        self.cache = Path(args.cache)
        self.cache.mkdir(parents=True, exist_ok=True)

    @property
    def identity(self) -> dict[str, str]:
        """What the figures are of: the scorer, and its calibrator and thresholds."""
        decided = [self.pipeline.calibrator, self.pipeline.rule]
        text = json.dumps([part.to_dict() if part else None for part in decided], sort_keys=True)
        decisions = hashlib.sha256(text.encode()).hexdigest()[:16]
        return {"pipeline": self.pipeline.fingerprint, "decisions": decisions, "recipe": RECIPE}

    def split(self, name: str) -> Scored:
        return self._scored(load_pairs(Path(self.args.splits) / f"{name}.jsonl"), "pipeline")

    def cosine(self, name: str) -> Scored:
        """The same split, scored by the cosine of the untrained encoder."""
        return self._scored(load_pairs(Path(self.args.splits) / f"{name}.jsonl"), "cosine")

    def world(self, name: str) -> Scored:
        pairs = PairTable([], [], np.zeros(0, dtype=np.int8))
        for file in WORLDS[name]:
            more = load_pairs(Path(self.args.worlds) / file, report=ReadReport(skip_bad=True))
            pairs = PairTable(pairs.left + more.left, pairs.right + more.right, np.append(pairs.labels, more.labels))
        # A world that the networks have learnt from is measured on what they have not seen of it.
        pairs = pairs.take(~holds_trained(self.pipeline.trained_on, pairs.left, pairs.right))
        if len(pairs) > self.args.most:
            keys, index = np.unique(pairs.groups, return_inverse=True)
            rank = np.random.default_rng(0).permutation(len(keys))[index]
            order = np.argsort(rank, kind="stable")[: self.args.most]
            pairs = pairs.take(np.sort(order))
        # Chains of pairs join nearly all of SemEval and PIT, so a group is here what shares the first text.
        first = np.unique(np.array(pairs.left), return_inverse=True)[1].astype(np.int64)
        return replace(self._scored(pairs, "pipeline"), groups=first)

    def _scored(self, pairs: PairTable, by: str) -> Scored:
        labels, groups = pairs.labels, pairs.groups
        maker = self.pipeline.fingerprint if by == "pipeline" else Path(self.args.encoder).name
        # The fingerprint of a set of pairs does not know their order, which the cached scores follow.
        order = hashlib.sha256("\x1e".join([*pairs.left, *pairs.right]).encode()).hexdigest()[:12]
        file = self.cache / f"{by}-{maker}-{order}.npy"
        if not file.exists():
            scorer = self.pipeline if by == "pipeline" else CosineScorer(BiEncoder(self.args.encoder))
            score = scorer.raw_scores if by == "pipeline" else scorer.score
            parts = []
            for start in range(0, len(pairs), _BLOCK):
                block = slice(start, start + _BLOCK)
                parts.append(score(pairs.left[block], pairs.right[block]))
                print(f"{by}: {min(start + _BLOCK, len(pairs)):,} of {len(pairs):,}", file=sys.stderr, flush=True)
            np.save(file, np.concatenate(parts))
        scores = np.load(file, allow_pickle=False)
        return Scored(scores, labels, groups, pairs.fingerprint)
