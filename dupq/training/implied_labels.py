"""Labels that follow from other labels.

Duplicates of duplicates are duplicates; questions distinct from a question are distinct from its duplicates.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import combinations, product

import numpy as np

from dupq.data.arguments import as_int, as_seed
from dupq.data.pairs import PairTable, as_table
from dupq.data.text import fingerprints
from dupq.training.samplers import duplicate_components

MAX_COMPONENT = 200
"""Questions of a component of duplicates above which it is skipped: one wrong label may have joined two."""


def implied_pairs(pairs: PairTable, *, per_question: int = 3, seed: int = 0) -> PairTable:
    """Return pairs without a label whose label follows from the others.

    Two questions joined by a chain of duplicates are duplicates. A pair labelled 0 makes each question of one chain
    distinct from each of the other. Left out are the questions of a chain with a label 0 inside, which contradicts
    itself, and of a chain of more than `MAX_COMPONENT` questions.

    Args:
        pairs: Labelled pairs; labels of -1 are ignored.
        per_question: Maximum number of new pairs of each label that a question occurs in.
        seed: Seed of the draw.

    Returns:
        Pairs with labels 1 and 0 that have no label in `pairs`, in either order. The draw does not depend on the order
        of the rows.

    Raises:
        InputError: `per_question` is below 1.
    """
    pairs = as_table(pairs)
    as_int(per_question, "per_question", 1)
    as_seed(seed)
    known = pairs.take(pairs.labels >= 0)
    prints = np.stack([fingerprints(known.left), fingerprints(known.right)], axis=1)
    labelled = {frozenset(pair) for pair in prints.tolist()}
    components = duplicate_components(known.left, known.right, known.labels)
    texts: dict[int, dict[int, str]] = defaultdict(dict)  # component -> fingerprint -> first text
    for side, column in enumerate((known.left, known.right)):
        for text, key, component in zip(column, prints[:, side].tolist(), components[:, side].tolist(), strict=True):
            texts[component].setdefault(key, text)
    apart = components[known.labels == 0]
    contradicted = set(apart[apart[:, 0] == apart[:, 1], 0].tolist())
    usable = {key for key, members in texts.items() if len(members) <= MAX_COMPONENT} - contradicted

    def candidates() -> Iterator[tuple[int, int, int, int, int]]:
        for key in sorted(usable):
            yield from ((key, key, one, two, 1) for one, two in combinations(sorted(texts[key]), 2))
        for key1, key2 in np.unique(np.sort(apart, axis=1), axis=0).tolist():
            if {key1, key2} <= usable:
                yield from ((key1, key2, one, two, 0) for one, two in product(sorted(texts[key1]), sorted(texts[key2])))

    new = [row for row in candidates() if frozenset(row[2:4]) not in labelled]
    drawn = Counter[tuple[int, int]]()
    rows = []
    for index in np.random.default_rng(seed).permutation(len(new)).tolist():
        key1, key2, one, two, label = new[index]
        if max(drawn[one, label], drawn[two, label]) < per_question:
            drawn.update([(one, label), (two, label)])
            rows.append((texts[key1][one], texts[key2][two], label))
    left, right, labels = ([row[column] for row in rows] for column in range(3))
    return PairTable(left, right, np.array(labels, dtype=np.int8))
