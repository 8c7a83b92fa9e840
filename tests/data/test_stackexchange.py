from __future__ import annotations

import gzip
import itertools
import lzma
import tracemalloc
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

import numpy as np
import pytest

from dupq.data.reading import ReadReport
from dupq.data.stackexchange import (
    COLUMNS,
    Post,
    pairs_from_stackexchange,
    read_links,
    read_posts,
)
from dupq.errors import InputError
from tests.fakes import WordEmbedder
from tests.questions import INTENTS, THINGS

Link = tuple[int, int, int]


def posts_xml(titles: dict[int, str]) -> str:
    rows = [
        f'  <row Id="{id_}" PostTypeId="1" CreationDate="2020-01-{1 + id_ % 28:02}T10:00:00.000" Score="3" '
        f'Body="&lt;p&gt;body&lt;/p&gt;" Title={quoteattr(title)} Tags="|a|b|" />\n'
        f'  <row Id="{1_000_000 + id_}" PostTypeId="2" ParentId="{id_}" Body="an answer, which has no title" />\n'
        for id_, title in titles.items()
    ]
    return '﻿<?xml version="1.0" encoding="utf-8"?>\n<posts>\n' + "".join(rows) + "</posts>\n"


def links_xml(links: list[Link]) -> str:
    rows = [
        f'  <row Id="{at}" PostId="{a}" RelatedPostId="{b}" LinkTypeId="{kind}" />\n'
        for at, (a, b, kind) in enumerate(links)
    ]
    return '<?xml version="1.0" encoding="utf-8"?>\n<postlinks>\n' + "".join(rows) + "</postlinks>\n"


def dump(folder: Path, titles: dict[int, str], links: list[Link]) -> Path:
    (folder / "Posts.xml").write_text(posts_xml(titles), encoding="utf-8")
    (folder / "PostLinks.xml").write_text(links_xml(links), encoding="utf-8")
    return folder


def forum() -> tuple[dict[int, str], list[Link], dict[int, int]]:
    """Questions of 20 things; of each way of asking the second and third are closed upon the first."""
    titles: dict[int, str] = {}
    links: list[Link] = []
    meaning: dict[int, int] = {}
    for number, (thing, asked) in enumerate(itertools.product(THINGS[:20], INTENTS)):
        ids = [10 * number + 1, 10 * number + 2, 10 * number + 3]
        titles |= {id_: phrase.format(thing=thing) for id_, phrase in zip(ids, asked, strict=True)}
        meaning |= dict.fromkeys(ids, number)
        links += [(ids[1], ids[0], 3), (ids[2], ids[0], 3)]
    return titles, links, meaning


def test_posts_are_the_questions_with_their_titles(tmp_path: Path) -> None:
    titles = {1: "Is <b> bold & strong?", 2: 'Who said "no"?', 30: "日本語の質問ですか"}
    dump(tmp_path, titles, [])
    wanted = [Post(id_, title, f"2020-01-{1 + id_ % 28:02}T10:00:00.000") for id_, title in titles.items()]
    assert list(read_posts(tmp_path)) == wanted
    assert list(read_posts(tmp_path / "Posts.xml")) == wanted
    for ending, module in (("gz", gzip), ("xz", lzma)):
        packed = tmp_path / f"Posts.xml.{ending}"
        packed.write_bytes(module.compress((tmp_path / "Posts.xml").read_bytes()))  # type: ignore[attr-defined]
        assert list(read_posts(packed)) == wanted


def test_links_tell_their_kind(tmp_path: Path) -> None:
    dump(tmp_path, {}, [(1, 2, 3), (4, 5, 1)])
    assert list(read_links(tmp_path)) == [(1, 2, "3"), (4, 5, "1")]


BOMB = """<?xml version="1.0"?>
<!DOCTYPE posts [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>
<posts><row Id="1" PostTypeId="1" Title="&b;" /></posts>"""
OUTSIDE = """<?xml version="1.0"?>
<!DOCTYPE posts SYSTEM "file:///etc/hostname">
<posts><row Id="1" PostTypeId="1" Title="Why?" /></posts>"""


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (BOMB, "line 2: it declares a document type"),
        (OUTSIDE, "line 2: it declares a document type"),
        ('<posts>\n<row Id="1" PostTypeId="1" Title="&b;" /></posts>', "line 2: damaged XML .undefined entity"),
        ('<posts>\n<row Id="1" PostTypeId="1" Title="Why?" />\n', "damaged XML"),
        ("", "damaged XML"),
        (
            '<posts><row Id="x" PostTypeId="1" Title="Why?" /></posts>',
            "Id must be a whole number of at most 19 digits, got 'x'",
        ),
        ('<posts><row Id="--5" PostTypeId="1" Title="Why?" /></posts>', "Id must be a whole number .*, got '--5'"),
        (f'<posts><row Id="{"1" * 5000}" PostTypeId="1" Title="Why?" /></posts>', "Id must be a whole number"),
        ('<posts>\n<row Id="1" PostTypeId="1" Title=" " /></posts>', "line 2: the text is blank"),
        ('<posts>\n<row Id="1" PostTypeId="1" /></posts>', "line 2: the text is missing"),
    ],
)
def test_bad_posts_are_one_clear_error(tmp_path: Path, text: str, told: str) -> None:
    (tmp_path / "Posts.xml").write_text(text)
    with pytest.raises(InputError, match=told):
        list(read_posts(tmp_path))


def test_bad_titles_can_be_left_out(tmp_path: Path) -> None:
    (tmp_path / "Posts.xml").write_text(posts_xml({1: "Why?", 2: " ", 3: "How?"}), encoding="utf-8")
    report = ReadReport(True)
    assert [post.id for post in read_posts(tmp_path, report)] == [1, 3]
    assert report.rejected == 1


def test_bad_ids_can_be_left_out(tmp_path: Path) -> None:
    ids = ("--5", "5-", "-", "1" * 5000, "\u0665", "-7", "9" * 19)
    rows = "".join(f'<row Id="{id_}" PostTypeId="1" Title="Why?" />\n' for id_ in ids)
    (tmp_path / "Posts.xml").write_text(f"<posts>{rows}</posts>", encoding="utf-8")
    report = ReadReport(True)
    assert [post.id for post in read_posts(tmp_path, report)] == [-7, int("9" * 19)]
    assert report.rejected == 5


def test_missing_files_are_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no Posts\.xml"):
        list(read_posts(tmp_path))
    with pytest.raises(InputError, match=r"other\.xml"):
        list(read_posts(tmp_path / "other.xml"))


def test_reading_takes_constant_memory(tmp_path: Path) -> None:
    row = '<row Id="{}" PostTypeId="1" Body="' + "b" * 2000 + '" Title="Why is it so?" />\n'
    with (tmp_path / "Posts.xml").open("w") as stream:
        stream.write("<posts>\n")
        stream.writelines(row.format(at) for at in range(5000))
        stream.write("</posts>\n")
    tracemalloc.start()
    assert sum(1 for _ in read_posts(tmp_path)) == 5000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000 < (tmp_path / "Posts.xml").stat().st_size / 5


@pytest.mark.parametrize("embed", [None, WordEmbedder().embed])
def test_labels_are_true(tmp_path: Path, embed: Any) -> None:
    titles, links, meaning = forum()
    found = pairs_from_stackexchange(dump(tmp_path, titles, links), embed=embed)
    assert all(list(row) == COLUMNS for row in found.rows)
    for row in found.rows:
        assert (row["question1"], row["question2"]) == (titles[row["id1"]], titles[row["id2"]])
        assert row["label"] == (meaning[row["id1"]] == meaning[row["id2"]])
    pairs = [frozenset((row["id1"], row["id2"])) for row in found.rows]
    assert len(set(pairs)) == len(pairs)
    positives = {frozenset(pair) for row in found.rows if row["label"] for pair in [(row["id1"], row["id2"])]}
    assert positives == {frozenset(link[:2]) for link in links}
    report = found.report
    assert report["questions"] == 360
    assert (report["closed"], report["hard"] + report["random"]) == (240, 480)
    assert report["hard"] > 100
    vectors = WordEmbedder().embed
    likeness = {
        kind: np.mean(
            [
                float(vectors([r["question1"]])[0] @ vectors([r["question2"]])[0])
                for r in found.rows
                if r["kind"] == kind
            ]
        )
        for kind in ("hard", "random")
    }
    assert likeness["hard"] > likeness["random"] + 0.1


def test_negatives_are_never_joined_by_any_chain(tmp_path: Path) -> None:
    titles, links, _ = forum()
    titles, links = dict(list(titles.items())[:30]), links[:20]
    gone = 999_999
    # 1 and 11 are both duplicates of a post that was deleted; 21 is mentioned by 31; 41 has the title of 51.
    links += [(1, gone, 3), (gone, 11, 3), (21, 31, 1)]
    titles[41] = titles[51].upper()
    sets = [{1, 2, 3, 11, 12, 13}, {21, 22, 23, 31, 32, 33}, {41, 42, 43, 51, 52, 53}]
    for seed in range(4):
        rows = pairs_from_stackexchange(dump(tmp_path, titles, links), negatives=8.0, seed=seed).rows
        negatives = [{row["id1"], row["id2"]} for row in rows if not row["label"]]
        assert negatives
        assert not [pair for pair in negatives for joined in sets if pair <= joined]
        assert not any(gone in pair for pair in negatives)


def test_no_hard_negative_is_nearer_than_most_duplicates(tmp_path: Path) -> None:
    titles, links, _ = forum()
    embed = WordEmbedder().embed
    found = pairs_from_stackexchange(dump(tmp_path, titles, links), embed=embed, negatives=1.0, hard=1.0)

    def likeness(kind: str) -> list[float]:
        rows = [row for row in found.rows if row["kind"] == kind]
        left, right = (embed([row[side] for row in rows]) for side in ("question1", "question2"))
        return np.einsum("ij,ij->i", left, right).tolist()

    assert max(likeness("hard")) < np.quantile(likeness("closed"), 0.75) + 1e-6
    assert found.report["refused_as_possible_duplicates"] > 0


def test_the_draw_depends_on_the_seed_and_not_on_the_order(tmp_path: Path) -> None:
    titles, links, _ = forum()
    titles |= {id_: f"Where is place number {id_}?" for id_ in range(5000, 6000)}
    (one, other) = (tmp_path / "one", tmp_path / "other")
    for folder in (one, other):
        folder.mkdir()
    dump(one, titles, links)
    dump(other, dict(reversed(titles.items())), links[::-1])
    first = pairs_from_stackexchange(one, seed=1)
    assert pairs_from_stackexchange(other, seed=1) == first
    assert pairs_from_stackexchange(one, seed=2).rows != first.rows


def test_without_a_usable_link_there_is_an_error(tmp_path: Path) -> None:
    dump(tmp_path, {1: "Why?", 2: "How?"}, [(1, 2, 1), (1, 77, 3)])
    with pytest.raises(InputError, match="no duplicate link"):
        pairs_from_stackexchange(tmp_path)


@pytest.mark.parametrize("encoding", ["utf-9", "utf1e999-8", "rot13"])
def test_an_encoding_that_nobody_knows_is_an_error_of_ours(tmp_path: Path, encoding: str) -> None:
    posts = tmp_path / "Posts.xml"
    posts.write_text(
        f'<?xml version="1.0" encoding="{encoding}"?>\n<posts><row Id="1" PostTypeId="1" Title="Why?" /></posts>\n',
        encoding="utf-8",
    )
    with pytest.raises(InputError, match=r"Posts\.xml, line 1"):
        list(read_posts(posts))
