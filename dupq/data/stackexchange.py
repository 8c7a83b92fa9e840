"""A Stack Exchange dump: its questions, and labelled pairs from the duplicates that its community has closed.

`Posts.xml` and `PostLinks.xml` are read attribute by attribute in constant memory. A document type, and with it every
entity that could be expanded, is refused: the dumps have none.
"""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, NoReturn
from xml.parsers import expat

import numpy as np
from numpy.typing import NDArray

from dupq.data.reading import Skipped, opened
from dupq.data.text import check_text, fingerprint
from dupq.errors import InputError

QUESTION, LINKED, DUPLICATE = "1", "1", "3"
"""PostTypeId of a question; LinkTypeId of posts that mention each other, and of duplicates."""
PACKINGS = {".gz": "gz", ".xz": "xz"}
NEIGHBOURS = 20
"""Of each question so many of the nearest others are looked at for a hard negative."""
TOO_NEAR = 0.75
"""A pair nearer than this share of the closed duplicates is no negative: it may be a duplicate that nobody saw."""
COLUMNS = ["question1", "question2", "label", "id1", "id2", "kind"]

Embed = Callable[[Sequence[str]], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Post:
    """A question of the dump: its id, its title, and when it was asked, as an ISO date."""

    id: int
    title: str
    created: str | None


@dataclass(frozen=True, slots=True)
class MinedPairs:
    """Labelled pairs made of a dump.

    Attributes:
        rows: One mapping a pair, with the keys `COLUMNS`; `kind` is "closed", "hard" or "random".
        report: What they were made of, as JSON can hold it.
    """

    rows: list[dict[str, Any]]
    report: Mapping[str, Any]


@dataclass(slots=True)
class _Counts:
    questions: int = 0
    duplicate_links: int = 0
    links_to_missing_posts: int = 0
    closed: int = 0
    hard: int = 0
    random: int = 0
    refused_as_possible_duplicates: int = 0
    skipped_bad_titles: int = 0
    notes: list[str] = field(default_factory=list)


def read_posts(path: str | Path, skipped: Skipped | None = None) -> Iterator[Post]:
    """The questions of a `Posts.xml` (or `.xml.gz`, `.xml.xz`), one at a time; answers and wiki pages are passed over.

    Args:
        path: The file, or the folder of the dump.
        skipped: Where to note questions whose title cannot be used, and go on; None: the first one raises.

    Raises:
        InputError: Naming file and line; for damaged XML, a document type or entity, or a bad title.
    """
    file = _found(path, "Posts")
    for line, row in _rows(file):
        if row.get("PostTypeId") != QUESTION:
            continue
        at = f"{file}, line {line}"
        try:
            yield Post(_number(row, "Id", at), check_text(row.get("Title"), at), row.get("CreationDate"))
        except InputError as error:
            if skipped is None:
                raise
            skipped.add(error)


def read_links(path: str | Path) -> Iterator[tuple[int, int, str]]:
    """(post, the post it points to, LinkTypeId) of each row of a `PostLinks.xml`; type "3" says "is a duplicate of"."""
    file = _found(path, "PostLinks")
    for line, row in _rows(file):
        at = f"{file}, line {line}"
        yield _number(row, "PostId", at), _number(row, "RelatedPostId", at), row.get("LinkTypeId", "")


def _found(path: str | Path, name: str) -> Path:
    path = Path(path)
    if not path.is_dir():
        return path
    for ending in (".xml", *(f".xml{packing}" for packing in PACKINGS)):
        if (path / f"{name}{ending}").is_file():
            return path / f"{name}{ending}"
    raise InputError(f"there is no {name}.xml", where=str(path), mend="unpack the dump's .7z archive there")


def _number(row: Mapping[str, str], name: str, at: str) -> int:
    value = row.get(name, "")
    if not value.isascii() or not value.lstrip("-").isdigit():
        raise InputError(f"{name} is {value!r}, not a number", where=at, mend="fetch the dump again")
    return int(value)


def _rows(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    with opened(file, PACKINGS.get(file.suffix, ""), str(file)) as stream:
        yield from _parsed(stream, file)


def _parsed(stream: IO[bytes], file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The attributes of each <row>, with its line."""
    rows: list[tuple[int, dict[str, str]]] = []
    parser = expat.ParserCreate()

    def start(name: str, attributes: dict[str, str]) -> None:
        if name == "row":
            rows.append((parser.CurrentLineNumber, attributes))

    def refuse(*_: object) -> NoReturn:
        raise InputError(
            "it declares a document type or an entity, which a dump of Stack Exchange does not",
            where=f"{file}, line {parser.CurrentLineNumber}",
            mend="entities are not expanded; fetch the dump from Stack Exchange itself",
        )

    parser.StartElementHandler = start
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = refuse
    try:
        while data := stream.read(1 << 16):
            parser.Parse(data, False)
            yield from rows
            rows.clear()
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        problem = f"damaged XML ({expat.errors.messages[error.code]})"
        raise InputError(problem, where=f"{file}, line {error.lineno}", mend="unpack or fetch it again") from error
    yield from rows


# ---- labelled pairs ------------------------------------------------------------------------------------------------


class _Sets:
    """Ids joined into sets."""

    def __init__(self) -> None:
        self._above: dict[int, int] = {}

    def of(self, id_: int) -> int:
        root = id_
        while self._above.get(root, root) != root:
            root = self._above[root]
        while id_ != root:
            self._above[id_], id_ = root, self._above.get(id_, id_)
        return root

    def join(self, a: int, b: int) -> None:
        a, b = sorted((self.of(a), self.of(b)))
        self._above[b] = a


def pairs_from_stackexchange(
    posts: str | Path,
    links: str | Path | None = None,
    *,
    negatives: float = 2.0,
    hard: float = 0.5,
    embed: Embed | None = None,
    seed: int = 0,
    skipped: Skipped | None = None,
) -> MinedPairs:
    """Labelled pairs of a forum: titles closed as duplicates of each other, and pairs that are surely not.

    A negative is never within a set of questions that duplicates join, directly or over others (posts since deleted
    included), nor between two such sets that the forum links, nor of equal titles. Hard negatives are near each other,
    but not nearer than three quarters of the closed duplicates, and both sides were themselves closed or closed upon:
    what the community has looked at is unlikely to hold a duplicate that nobody saw.

    The share of duplicates among these pairs is made, not natural: state your own base rate when you use the model.

    Args:
        posts: `Posts.xml`, or the folder that holds both files.
        links: `PostLinks.xml`; None: beside `posts`.
        negatives: Distinct pairs for each duplicate.
        hard: The share of them, in [0, 1], that is hard; the others are drawn at random from the whole forum.
        embed: Texts -> unit vectors, to find hard negatives with; None: they are found by the words they share.
        seed: Another seed draws other negatives.
        skipped: Where to note questions whose title cannot be used; None: they are counted in the report only.

    Raises:
        InputError: Files that cannot be read, or no duplicate links between questions that are there.
    """
    skipped = skipped if skipped is not None else Skipped()
    if links is None:
        links = posts if Path(posts).is_dir() else Path(posts).parent
    sets, linked, closed = _Sets(), set[tuple[int, int]](), set[tuple[int, int]]()
    for a, b, kind in read_links(links):
        if kind == DUPLICATE and a != b:
            closed.add((min(a, b), max(a, b)))
            sets.join(a, b)
        elif a != b:
            linked.add((a, b))
    counts = _Counts(duplicate_links=len(closed))
    wanted = {id_ for pair in closed for id_ in pair}
    most = int(2 * negatives * len(closed)) + 1
    titles, others, counts.questions = _titles(posts, wanted, most, seed, skipped)
    counts.skipped_bad_titles = skipped.count
    # Two questions with one title are one question, whether or not anybody closed them.
    first_with: dict[int, int] = {}
    for id_, title in [*titles.items(), *others.items()]:
        sets.join(first_with.setdefault(fingerprint(title), id_), id_)
    near_sets = {tuple(sorted((sets.of(a), sets.of(b)))) for a, b in linked}

    def distinct(a: int, b: int) -> bool:
        one, other = sorted((sets.of(a), sets.of(b)))
        return one != other and (one, other) not in near_sets

    positives = sorted(pair for pair in closed if pair[0] in titles and pair[1] in titles)
    counts.links_to_missing_posts = len(closed) - len(positives)
    if not positives:
        raise InputError(
            "there is no duplicate link between two questions that are there",
            where=str(links),
            mend="check that both files are of one dump, and not of its meta site",
        )
    counts.closed = len(positives)
    total = round(negatives * len(positives))
    found_hard = _hard_negatives(titles, positives, round(hard * total), embed, distinct, counts)
    found_random = _random_negatives({**others, **titles}, total - len(found_hard), seed, distinct, {*found_hard})
    counts.hard, counts.random = len(found_hard), len(found_random)
    if len(found_hard) < round(hard * total):
        counts.notes.append("too few hard negatives were safe; random ones took their place")
    texts = {**others, **titles}
    rows = [
        dict(zip(COLUMNS, (texts[a], texts[b], label, a, b, kind), strict=True))
        for pairs, label, kind in ((positives, 1, "closed"), (found_hard, 0, "hard"), (found_random, 0, "random"))
        for a, b in pairs
    ]
    return MinedPairs(rows, asdict(counts))


def _titles(
    posts: str | Path, wanted: set[int], most: int, seed: int, skipped: Skipped
) -> tuple[dict[int, str], dict[int, str], int]:
    """Titles of the wanted ids, and of `most` others drawn by a hash of their ids; and how many questions there are."""
    titles: dict[int, str] = {}
    drawn: list[tuple[int, int, str]] = []
    count = 0
    for post in read_posts(posts, skipped):
        count += 1
        if post.id in wanted:
            titles[post.id] = post.title
            continue
        digest = hashlib.blake2b(f"{seed}:{post.id}".encode(), digest_size=8).digest()
        entry = (-int.from_bytes(digest, "big"), post.id, post.title)
        if len(drawn) < most:
            heapq.heappush(drawn, entry)
        else:
            heapq.heappushpop(drawn, entry)
    return dict(sorted(titles.items())), {id_: title for _, id_, title in sorted(drawn, reverse=True)}, count


def _hard_negatives(
    titles: Mapping[int, str],
    positives: Sequence[tuple[int, int]],
    count: int,
    embed: Embed | None,
    distinct: Callable[[int, int], bool],
    counts: _Counts,
) -> list[tuple[int, int]]:
    """The nearest pairs that are surely distinct, a few of each question, none nearer than most duplicates are."""
    ids = list(titles)
    place = {id_: at for at, id_ in enumerate(ids)}
    vectors = _word_vectors(list(titles.values())) if embed is None else embed(list(titles.values()))
    left, right = (np.array([place[pair[side]] for pair in positives]) for side in (0, 1))
    if embed is None:
        likeness = np.asarray(vectors[left].multiply(vectors[right]).sum(axis=1)).ravel()
    else:
        likeness = np.einsum("ij,ij->i", vectors[left], vectors[right])
    too_near = float(np.quantile(likeness, TOO_NEAR))
    found: dict[tuple[int, int], float] = {}
    each = 1 + 2 * count // len(ids)
    for start in range(0, len(ids), 512):
        product: Any = vectors[start : start + 512] @ vectors.T
        block = product.toarray() if embed is None else product
        for row, likes in enumerate(block, start):
            likes[row] = -1
            near = np.flatnonzero(likes >= too_near).tolist()
            counts.refused_as_possible_duplicates += sum(at > row and distinct(ids[row], ids[at]) for at in near)
            likes[near] = -1
            kept = 0
            nearest = np.argpartition(-likes, min(NEIGHBOURS, len(ids) - 1))[:NEIGHBOURS]
            for at in nearest[np.lexsort((nearest, -likes[nearest]))]:
                pair = (min(ids[row], ids[at]), max(ids[row], ids[at]))
                if likes[at] > 0 and kept < each and pair not in found and distinct(*pair):
                    found[pair] = float(likes[at])
                    kept += 1
    return sorted(sorted(found, key=lambda pair: (-found[pair], pair))[:count])


def _word_vectors(texts: Sequence[str]) -> Any:
    """Texts by their words, rare ones counting more: unit rows of a sparse matrix (TF-IDF, Salton & Buckley 1988)."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\b\w+\b").fit_transform(texts).tocsr()


def _random_negatives(
    texts: Mapping[int, str],
    count: int,
    seed: int,
    distinct: Callable[[int, int], bool],
    taken: set[tuple[int, int]],
) -> list[tuple[int, int]]:
    ids = sorted(texts)
    draw = np.random.default_rng(seed)
    found: set[tuple[int, int]] = set()
    for _ in range(50 * count):
        if len(found) == count:
            break
        a, b = sorted(ids[int(at)] for at in draw.integers(len(ids), size=2))
        if a != b and (a, b) not in taken and distinct(a, b):
            found.add((a, b))
    return sorted(found)
