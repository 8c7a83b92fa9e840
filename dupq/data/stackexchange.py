"""Read questions of Stack Exchange dumps, and make labelled pairs of them.

The duplicates are those that the community closed. `Posts.xml` and `PostLinks.xml` are parsed in constant memory.
Document types, and so all expandable entities, are refused; the dumps have none.
"""

from __future__ import annotations

import hashlib
import heapq
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, NoReturn
from xml.parsers import expat

import numpy as np
from numpy.typing import NDArray

from dupq.data.arguments import as_number, as_seed
from dupq.data.reading import ReadReport
from dupq.data.sources import open_source
from dupq.data.text import check_text, fingerprint
from dupq.errors import InputError

QUESTION, LINKED, DUPLICATE = "1", "1", "3"
"""PostTypeId of a question; LinkTypeId of linked posts, and of duplicates."""
TITLE, BODY, TAGS = "Title", "Body", "Tags"
TEXT_COLUMNS = (TITLE, BODY, TAGS)
"""Text attributes of a question: a plain title, an HTML body, and tags as `<a><b>` or `|a|b|`."""
DATE_COLUMNS = ("CreationDate", "LastActivityDate", "LastEditDate", "ClosedDate", "CommunityOwnedDate")
COMPRESSIONS = (".gz", ".xz", ".bz2")
MAX_NEGATIVES = 1000.0
NEIGHBOURS = 20
"""Nearest neighbours of each question that are candidates for a hard negative."""
TOO_NEAR = 0.75
"""Quantile of the closed duplicates' similarity above which a pair is no negative, as a possible missed duplicate."""
COLUMNS = ["question1", "question2", "label", "id1", "id2", "kind"]

_INTEGER = re.compile(r"-?\d{1,19}", re.ASCII)
"""Integer of at most 64 bits."""

Embed = Callable[[Sequence[str]], NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Post:
    """Question of a dump: its id, its title, and its creation date in ISO 8601."""

    id: int
    title: str
    created: str | None


@dataclass(frozen=True, slots=True)
class MinedPairs:
    """Labelled pairs of a dump.

    Attributes:
        rows: One mapping a pair, with the keys `COLUMNS`; `kind` is "closed", "hard" or "random".
        report: Counts of questions, links and pairs, as plain data for JSON.
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


def read_posts(path: str | Path, report: ReadReport | None = None) -> Iterator[Post]:
    """Yield the questions of a `Posts.xml`, plain or compressed.

    Answers and wiki pages are left out.

    Args:
        path: The file, or the folder of the dump.
        report: Counts the questions, and collects bad titles with `skip_bad`; None: the first bad title raises.

    Raises:
        InputError: The XML is damaged or declares a document type or entity, or a title is bad; file and line are
            named.
    """
    report = report if report is not None else ReadReport()
    file = dump_file(path, "Posts")
    for line, row in post_rows(path, report):
        try:
            title = check_text(row.get(TITLE), f"{file}, line {line}")
        except InputError as error:
            report.add(error)
            continue
        yield Post(row["Id"], title, row.get("CreationDate"))


def post_rows(path: str | Path, report: ReadReport) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the line and the attributes of each question of a `Posts.xml`.

    The Id is an int, and the other values are text.

    Args:
        path: The file, or the folder of the dump.
        report: Counts the questions, and collects those without a usable Id with `skip_bad`.

    Raises:
        InputError: The XML is damaged or declares a document type or entity, or an Id is bad; file and line are named.
    """
    file = dump_file(path, "Posts")
    for line, row in _rows(file):
        if row.get("PostTypeId") != QUESTION:
            continue
        report.rows += 1
        try:
            id_ = _number(row, "Id", f"{file}, line {line}")
        except InputError as error:
            report.add(error)
            continue
        yield line, {**row, "Id": id_}


def is_dump(source: str | Path) -> bool:
    """Return True for a folder, and for the name of an XML file, plain or compressed."""
    suffixes = [suffix.lower() for suffix in Path(source).suffixes[-2:]]
    if suffixes and suffixes[-1] in COMPRESSIONS:
        suffixes.pop()
    return suffixes[-1:] == [".xml"] or os.path.isdir(source)


def tag_words(tags: str) -> str:
    """Return the tags of a question as words: "<a><b-c>" or "|a|b-c|" as "a b-c"."""
    return " ".join(re.findall(r"[^<>|\s]+", tags))


def read_links(path: str | Path) -> Iterator[tuple[int, int, str]]:
    """Yield (post, linked post, LinkTypeId) of each row of a `PostLinks.xml`.

    The type "3" means "is a duplicate of".

    Raises:
        InputError: The XML is damaged or declares a document type or entity, or an id is bad.
    """
    file = dump_file(path, "PostLinks")
    for line, row in _rows(file):
        at = f"{file}, line {line}"
        yield _number(row, "PostId", at), _number(row, "RelatedPostId", at), row.get("LinkTypeId", "")


def dump_file(path: str | Path, name: str) -> Path:
    """Return the file `name`.xml of a dump, plain or compressed.

    A path that is no folder is returned as the file itself.

    Raises:
        InputError: The folder has no such file.
    """
    path = Path(path)
    if not os.path.isdir(path):
        return path
    for suffix in ("", *COMPRESSIONS):
        if (file := path / f"{name}.xml{suffix}").is_file():
            return file
    raise InputError(f"there is no {name}.xml", location=str(path), hint="unpack the dump's .7z archive there")


def _number(row: Mapping[str, str], name: str, at: str) -> int:
    value = row.get(name, "")
    if not _INTEGER.fullmatch(value):
        problem = f"{name} must be a whole number of at most 19 digits, got {value!r:.60}"
        raise InputError(problem, location=at, hint="fetch the dump again")
    return int(value)


def _rows(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    with open_source(file, str(file)) as source:
        yield from _parse_rows(source.stream, file)


def _parse_rows(stream: IO[bytes], file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield the line and the attributes of each <row>."""
    rows: list[tuple[int, dict[str, str]]] = []
    parser = expat.ParserCreate()

    def start(name: str, attributes: dict[str, str]) -> None:
        if name == "row":
            rows.append((parser.CurrentLineNumber, attributes))

    def refuse(*_: object) -> NoReturn:
        raise InputError(
            "it declares a document type or an entity, unlike a dump of Stack Exchange",
            location=f"{file}, line {parser.CurrentLineNumber}",
            hint="fetch the dump from Stack Exchange itself",
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
        raise InputError(problem, location=f"{file}, line {error.lineno}", hint="unpack or fetch it again") from error
    except InputError:
        raise
    except (LookupError, ValueError) as error:  # the declaration names an encoding that Python does not have
        raise InputError(
            f"its encoding is unknown ({error})", location=f"{file}, line 1", hint="declare utf-8 in its first line"
        ) from error
    yield from rows


# ---- labelled pairs ------------------------------------------------------------------------------------------------


def pairs_from_stackexchange(
    posts: str | Path,
    links: str | Path | None = None,
    *,
    negatives: float = 2.0,
    hard: float = 0.5,
    embed: Embed | None = None,
    seed: int = 0,
    report: ReadReport | None = None,
) -> MinedPairs:
    """Make labelled pairs of the titles in a Stack Exchange dump.

    Positives are titles closed as duplicates, and negatives are pairs that are unlikely to be duplicates. Duplicate
    links join questions into sets, through deleted posts too. A negative never lies within such a set, nor between two
    sets that the forum links, nor has equal titles. Hard negatives are similar pairs, but less similar than three
    quarters of the closed duplicates. Both their questions are part of a closed duplicate: the community has reviewed
    them, so that a missed duplicate is unlikely.

    The share of duplicates among these pairs is not natural: state your own base rate when you use the model.

    Args:
        posts: `Posts.xml`, or the folder that holds both files.
        links: `PostLinks.xml`; None: beside `posts`.
        negatives: The number of distinct pairs a duplicate (default: 2).
        hard: The share of hard negatives, in [0, 1] (default: 0.5); the others are random pairs of the whole forum.
        embed: n texts -> unit vectors (n, d), to find hard negatives; None: TF-IDF vectors.
        seed: The seed of the random negatives (default: 0).
        report: Counts the questions, and collects those with a bad title; None: they are only counted.

    Raises:
        InputError: A file is unreadable, a number is out of range, or no duplicate link joins two questions.
    """
    from scipy.cluster.hierarchy import DisjointSet

    report = report if report is not None else ReadReport(skip_bad=True)
    as_number(negatives, "negatives", 0, MAX_NEGATIVES, hint="give one such as 2")
    as_number(hard, "hard", 0, 1, hint="give a share such as 0.5")
    as_seed(seed)
    if links is None:
        links = posts if Path(posts).is_dir() else Path(posts).parent
    sets = DisjointSet()
    linked, closed = set[tuple[int, int]](), set[tuple[int, int]]()
    for a, b, kind in read_links(links):
        if a == b:
            continue
        sets.add(a)
        sets.add(b)
        if kind == DUPLICATE:
            closed.add((min(a, b), max(a, b)))
            sets.merge(a, b)
        else:
            linked.add((a, b))
    counts = _Counts(duplicate_links=len(closed))
    wanted = {id_ for pair in closed for id_ in pair}
    max_others = int(2 * negatives * len(closed)) + 1
    titles, others, counts.questions = _titles(posts, wanted, max_others, seed, report)
    counts.skipped_bad_titles = report.rejected
    texts = {**others, **titles}
    # Two questions with one title are one question, closed or not.
    first_with: dict[int, int] = {}
    for id_, title in texts.items():
        sets.add(id_)
        sets.merge(first_with.setdefault(fingerprint(title), id_), id_)
    linked_sets = {frozenset((sets[a], sets[b])) for a, b in linked}

    def distinct(a: int, b: int) -> bool:
        return sets[a] != sets[b] and frozenset((sets[a], sets[b])) not in linked_sets

    positives = sorted(pair for pair in closed if pair[0] in titles and pair[1] in titles)
    counts.links_to_missing_posts = len(closed) - len(positives)
    if not positives:
        raise InputError(
            "no duplicate link joins two questions of the dump",
            location=str(links),
            hint="check that both files are of one dump, and not of its meta site",
        )
    counts.closed = len(positives)
    total = round(negatives * len(positives))
    found_hard = _hard_negatives(titles, positives, round(hard * total), embed, distinct, counts)
    found_random = _random_negatives(texts, total - len(found_hard), seed, distinct, {*found_hard})
    counts.hard, counts.random = len(found_hard), len(found_random)
    if len(found_hard) < round(hard * total):
        counts.notes.append("there were too few safe hard negatives; random ones replace them")
    rows = [
        dict(zip(COLUMNS, (texts[a], texts[b], label, a, b, kind), strict=True))
        for pairs, label, kind in ((positives, 1, "closed"), (found_hard, 0, "hard"), (found_random, 0, "random"))
        for a, b in pairs
    ]
    return MinedPairs(rows, asdict(counts))


def _titles(
    posts: str | Path, wanted: set[int], max_others: int, seed: int, report: ReadReport
) -> tuple[dict[int, str], dict[int, str], int]:
    """Return the wanted titles, other titles, and the number of questions.

    Titles are id -> title. A hash of the id draws the other ones, at most `max_others`.
    """
    titles: dict[int, str] = {}
    drawn: list[tuple[int, int, str]] = []
    count = 0
    for post in read_posts(posts, report):
        count += 1
        if post.id in wanted:
            titles[post.id] = post.title
            continue
        digest = hashlib.blake2b(f"{seed}:{post.id}".encode(), digest_size=8).digest()
        entry = (-int.from_bytes(digest, "big"), post.id, post.title)
        if len(drawn) < max_others:
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
    """Return the most similar distinct pairs, at most `count`.

    Each question gives a few. Their similarity is below the quantile `TOO_NEAR` of that of the duplicates.
    """
    ids = list(titles)
    place = {id_: at for at, id_ in enumerate(ids)}
    vectors = _word_vectors(list(titles.values())) if embed is None else embed(list(titles.values()))
    left, right = (np.array([place[pair[side]] for pair in positives]) for side in (0, 1))
    if embed is None:
        similarity = np.asarray(vectors[left].multiply(vectors[right]).sum(axis=1)).ravel()
    else:
        similarity = np.einsum("ij,ij->i", vectors[left], vectors[right])
    too_near = float(np.quantile(similarity, TOO_NEAR))
    found: dict[tuple[int, int], float] = {}
    max_each = 1 + 2 * count // len(ids)
    for start in range(0, len(ids), 512):
        product: Any = vectors[start : start + 512] @ vectors.T
        block = product.toarray() if embed is None else product
        for row, similar in enumerate(block, start):
            similar[row] = -1
            near = np.flatnonzero(similar >= too_near).tolist()
            counts.refused_as_possible_duplicates += sum(at > row and distinct(ids[row], ids[at]) for at in near)
            similar[near] = -1
            kept = 0
            nearest = np.argpartition(-similar, min(NEIGHBOURS, len(ids) - 1))[:NEIGHBOURS]
            for at in nearest[np.lexsort((nearest, -similar[nearest]))]:
                pair = (min(ids[row], ids[at]), max(ids[row], ids[at]))
                if similar[at] > 0 and kept < max_each and pair not in found and distinct(*pair):
                    found[pair] = float(similar[at])
                    kept += 1
    return sorted(sorted(found, key=lambda pair: (-found[pair], pair))[:count])


def _word_vectors(texts: Sequence[str]) -> Any:
    """Return the TF-IDF vectors of texts.

    They are the unit rows of a sparse matrix (Salton & Buckley 1988).
    """
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(sublinear_tf=True, token_pattern=r"(?u)\b\w+\b").fit_transform(texts).tocsr()


def _random_negatives(
    texts: Mapping[int, str],
    count: int,
    seed: int,
    distinct: Callable[[int, int], bool],
    excluded: set[tuple[int, int]],
) -> list[tuple[int, int]]:
    ids = sorted(texts)
    draw = np.random.default_rng(seed)
    found: set[tuple[int, int]] = set()
    for _ in range(50 * count):
        if len(found) == count:
            break
        a, b = sorted(ids[int(at)] for at in draw.integers(len(ids), size=2))
        if a != b and (a, b) not in excluded and distinct(a, b):
            found.add((a, b))
    return sorted(found)
