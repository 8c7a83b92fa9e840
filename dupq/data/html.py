"""Remove HTML from forum texts: drop tags, decode entities, keep words and code.

Only elements of HTML are removed: "a < b" and "List<String>" stay. So the parser is `html.parser` of the standard
library; browsers, lxml and selectolax drop every unknown element.
"""

from __future__ import annotations

import html
import re
from html.entities import html5
from html.parser import HTMLParser

_BLOCKS = (
    "address article aside blockquote br caption center dd details dialog div dl dt fieldset figcaption figure footer "
    "form h1 h2 h3 h4 h5 h6 header hr legend li main nav ol option p pre section select summary table tbody td tfoot "
    "th thead title tr ul"
)
BLOCKS = frozenset(_BLOCKS.split())
"""Elements whose start and end become a line break."""
DROPPED = frozenset(("script", "style", "template", "noscript", "head"))
"""Elements whose content is dropped."""
_INLINE = (
    "a abbr acronym area audio b base bdi bdo big body button canvas cite code col colgroup data datalist del dfn em "
    "embed figure font html i iframe img input ins kbd label link map mark menu meta meter nobr object optgroup "
    "output param picture progress q rp rt ruby s samp small source spacer span strike strong sub sup svg textarea "
    "time track tt u var video wbr"
)

_NAMES = "|".join(sorted({*BLOCKS, *DROPPED, *_INLINE.split()}, key=len, reverse=True))
_REST = r"""(?:[\s/](?:[^<>"']|"[^"<]*"|'[^'<]*')*)?>"""
# No alternative matches "<", so that the search takes linear time.
_TAG = re.compile(rf"</?(?:{_NAMES}){_REST}", re.IGNORECASE)
_LONE_LESS = re.compile(rf"<(?!/?(?:{_NAMES}){_REST})", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_LONE_AND = re.compile(rf"&(?!{_ENTITY.pattern[1:]})")
_ESCAPED = re.compile(
    r"&(?:amp|lt|gt|quot|apos|nbsp|[lr]squo|[lr]dquo|[mn]dash|hellip|#\d{2,7}|#[xX][0-9a-fA-F]{2,6});"
)
"""Entities that programs write into texts; others are more likely the subject of the text."""
_OPENS_BLOCK = re.compile(rf"\s*<(?:p|div|blockquote|ul|ol|table|h[1-6]){_REST}\s*[^\s<]", re.IGNORECASE)
_BREAK = re.compile(
    rf"[\w.,:;!?)]<(?:br|hr|img){_REST}|<(?:br|hr|img){_REST}(?:\w|\s*\n)|<img\s[^<>]*\bsrc\s*=", re.IGNORECASE
)
_OPENING = re.compile(rf"<({_NAMES}){_REST}", re.IGNORECASE)
_SPACES = re.compile(r"[ \t\f\v\r\n]+")
_BREAKS = re.compile(r" ?\n(?:[ \t]*\n)*")


def strip_html(text: str) -> str:
    """Return the text of HTML, with its entities decoded.

    Blocks start and end with a line break. Quotes, code, preformatted text and the alternative texts of images are
    kept; scripts, styles and comments are dropped. BBCode, Markdown and pseudo-elements such as "List<String>" are not
    changed.
    """
    text = _drop_comments(text)
    if not _TAG.search(text):
        return _ENTITY.sub(_decoded, text)
    parser = _TextParser()
    parser.feed(_LONE_AND.sub("&amp;", _LONE_LESS.sub("&lt;", text)))
    parser.close()
    return parser.text()


def strip_clear_html(text: str) -> str:
    """Remove HTML from a text that clearly is HTML.

    A text that may be about HTML is kept. Clear signs are a closed element ("<p>…</p>"), a block at the start of the
    text, and a line break or an image beside a word. Without them only entities that programs write ("&amp;", "&#39;")
    are decoded, and "How do I use <div>?" stays.
    """
    if "<" in text and _has_markup(text):
        return strip_html(text)
    if "&" in text and _ESCAPED.search(text):
        return _ENTITY.sub(_decoded, text)
    return text


def _decoded(entity: re.Match[str]) -> str:
    found = entity[0]
    if found[1] != "#" and found[1:] not in html5:
        return found
    return html.unescape(found).replace("\xa0", " ")


def _has_markup(text: str) -> bool:
    if _OPENS_BLOCK.match(text) or _BREAK.search(text):
        return True
    lower = text.lower()
    first: dict[str, int] = {}
    for opening in _OPENING.finditer(lower):
        first.setdefault(opening[1], opening.end())
    return any(lower.find(f"</{name}>", at) >= 0 for name, at in first.items())


def _drop_comments(text: str) -> str:
    if "<!--" not in text:
        return text
    kept, at = [], 0
    while (start := text.find("<!--", at)) >= 0 and (end := text.find("-->", start + 4)) >= 0:
        kept.append(text[at:start])
        at = end + 3
    return "".join([*kept, text[at:]])


class _TextParser(HTMLParser):
    """Parser that collects the text of HTML in which every "<" starts a whole tag."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=False)
        self._parts: list[str] = []
        self._preformatted = 0
        self._dropped: tuple[str, int] | None = None

    def set_cdata_mode(self, elem: str, *, escapable: bool = False) -> None:
        """Ignore the mode: an unclosed script would swallow the text after it."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in BLOCKS:
            self._parts.append("\n")
        elif tag in DROPPED:
            self._dropped = self._dropped or (tag, len(self._parts))
        elif tag == "img" and (alternative := dict(attrs).get("alt")):
            self._parts.append(f" {alternative} ")
        self._preformatted += tag == "pre"

    def handle_endtag(self, tag: str) -> None:
        if tag in BLOCKS:
            self._parts.append("\n")
        elif self._dropped and self._dropped[0] == tag:
            del self._parts[self._dropped[1] :]
            self._dropped = None
        self._preformatted = max(0, self._preformatted - (tag == "pre"))

    def handle_data(self, data: str) -> None:
        # Whitespace of the source is layout, except in preformatted text.
        if not self._preformatted:
            data = _SPACES.sub(" ", data)
            if not self._parts or self._parts[-1].endswith("\n"):
                data = data.lstrip(" ")
        self._parts.append(data)

    def handle_entityref(self, name: str) -> None:
        self._parts.append(_ENTITY.sub(_decoded, f"&{name};"))

    def handle_charref(self, name: str) -> None:
        self._parts.append(_ENTITY.sub(_decoded, f"&#{name};"))

    def text(self) -> str:
        return _BREAKS.sub("\n", "".join(self._parts)).strip()
