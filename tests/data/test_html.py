from __future__ import annotations

import html
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dupq.data.html import strip_clear_html, strip_html


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<p>How do I reset my password?</p>", "How do I reset my password?"),
        ("<P CLASS='x'>How?</P >", "How?"),
        ("Why can&#39;t I log in &amp; out?", "Why can't I log in & out?"),
        ("<p>I forgot it &amp; can't log in.<br>What now?</p>", "I forgot it & can't log in.\nWhat now?"),
        ("one<br/>two<br />\nthree", "one\ntwo\nthree"),
        ("<p>first<p>second", "first\nsecond"),
        ("<div><blockquote><b>bob</b> wrote: try it</blockquote><p>How?</p></div>", "bob wrote: try it\nHow?"),
        ("<p>Use List<String> and <code>a &lt; b</code></p>", "Use List<String> and a < b"),
        ("<p>a < b</p>", "a < b"),
        ("<p>loop:</p><pre><code>for x in y:\n    print(x)</code></pre>", "loop:\nfor x in y:\n    print(x)"),
        ("<p>source\n   layout</p>\n\n<p>and</p>", "source layout\nand"),
        ("<ul><li>one<li>two</ul>", "one\ntwo"),
        ("<table><tr><td>a</td><td>b</td></tr></table>", "a\nb"),
        ("<a href=\"x?a>b&amp;c\" title='q'>link</a>", "link"),
        ('<p>see <img src="m.png" alt="the map"> there</p>', "see  the map  there"),
        ("<p>x</p><script>if (a < b) alert('<p>')</script><style>p {}</style>y", "x\ny"),
        ("<!-- a > b --><b>x</b><!-- <p>", "x<!--"),
        ("<p>a&nbsp;b&eacute;&#x263a;&nosuch;&copy=1</p>", "a bé☺&nosuch;&copy=1"),
        ("<p>&lt;p&gt; is a paragraph</p>", "<p> is a paragraph"),
    ],
)
def test_html_becomes_its_words(text: str, words: str) -> None:
    assert strip_html(text) == words
    assert strip_clear_html(text) == strip_html(text)


@pytest.mark.parametrize(
    "text",
    [
        "How are you?",
        "Is a < b and c > d?",
        "Why is List<String> no List<Object>?",
        "How do I use <div>?",
        "How do I use <br> in a table?",
        "What does <br>?",
        "Is <b> bold & strong?",
        "I <3 you & me",
        "AT&T or R&D?",
        "x?a=1&copy=2&lt=3",
        "What is &eacute; for?",
        "[quote=bob]try it[/quote] How?",
        "**bold** `code`\n\n- a list",
        "<o:p>",
        "if a<b or b>c",
        "<",
        "<!-- why?",
        "",
    ],
)
def test_what_is_not_clearly_html_stays_as_it_is(text: str) -> None:
    assert strip_clear_html(text) == text


PIECES = [
    "<p>",
    "</p>",
    "<b>",
    "<pre>",
    "</pre>",
    "<script>",
    "</script>",
    "<br/>",
    "<img alt='x'>",
    "<!--",
    "-->",
    "&",
    "&amp;",
]


@pytest.mark.parametrize("strip", [strip_html, strip_clear_html])
@given(
    st.lists(
        st.one_of(
            st.text(max_size=5),
            st.sampled_from(PIECES),
        )
    ).map("".join)
)
def test_any_text_is_stripped_without_an_error(strip: Callable[[str], str], text: str) -> None:
    assert isinstance(strip(text), str)


@given(st.text(alphabet=st.characters(blacklist_categories=["C", "Z"]), min_size=1).map(str.split).map(" ".join))
def test_escaped_text_in_a_paragraph_comes_back(text: str) -> None:
    assert strip_html(f"<p>{html.escape(text)}</p>") == text.strip()


@pytest.mark.parametrize(
    "part",
    [
        "<p ",
        '<p "',
        '<p " ',
        "<!--",
        "<b>",
        "<div>",
        "&#",
        "&a",
        "<",
        "<img ",
        "<script>",
        '<p ""',
        "<script>a</style>",
        "\n <br>",
    ],
)
def test_hostile_texts_are_searched_once(part: str) -> None:
    # A search that begins again at each part would not end within the life of the test.
    strip_clear_html("<p>x</p>" + part * 100_000 + "</p>" * 10)
