"""Read the bytes and the text of a file or of standard input.

Compression, encoding and line ends follow from the content.
"""

from __future__ import annotations

import bz2
import codecs
import gzip
import io
import lzma
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from dupq.errors import InputError

SAMPLE = 1 << 18
"""Bytes at the start of a file that its format is detected from."""

COMPRESSIONS: dict[str, tuple[re.Pattern[bytes], Any]] = {
    "gzip": (re.compile(rb"\x1f\x8b"), gzip.open),
    "xz": (re.compile(rb"\xfd7zXZ\0"), lzma.open),
    "bzip2": (re.compile(rb"BZh[1-9]1AY&SY"), bz2.open),
}
UNSUPPORTED = {
    b"PK\x03\x04": ("a zip archive or an Excel workbook", "unpack it, or save the sheet as CSV UTF-8"),
    b"\xd0\xcf\x11\xe0": ("an Excel workbook", "save the sheet as CSV UTF-8"),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", "unpack it"),
    b"\x28\xb5\x2f\xfd": ("compressed with zstd", "decompress it, or compress it with gzip"),
    b"SQLite format 3\x00": ("an SQLite database", "export the table as CSV"),
    b"%PDF": ("a PDF document", "export the questions as CSV or JSONL"),
}
BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # starts with the mark of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_MULTIBYTE = re.compile(rb"[\xc2-\xdf][\x80-\xbf]|[\xe0-\xef][\x80-\xbf]{2}|[\xf0-\xf4][\x80-\xbf]{3}")
_LETTER = rb"[\x8c\x9c\xc0-\xcf\xd1-\xd6\xd8-\xdd\xdf-\xef\xf1-\xf6\xf8-\xfc]"
_CLEARLY_CP1252 = re.compile(rb"[A-Za-z]L|L[A-Za-z]|[A-Za-z]\x92[A-Za-z]".replace(b"L", _LETTER))
# Bytes of Cyrillic, Greek, Polish and MacRoman texts in places where a text of Western Europe has none: three such
# letters in a row, a capital after a small letter, a lone letter that is no word, punctuation inside a word.
_NOT_CP1252 = re.compile(
    rb"[\x81-\x83\x86-\x8a\x8d-\x90\x98\x9a\x9d-\x9f\xa2\xa4-\xa6\xa8\xaa\xac\xaf\xb1\xb5\xb6\xb8\xb9\xbc-\xbe"
    rb"\xd0\xd7\xde\xf0\xf7\xfd-\xff]|LLL|[a-z][\xc0-\xdd]|[A-Za-z][\x80\x84\x8b\x91\x93-\x95\x99\x9b\xa0-\xb6\xb8-\xbf]"
    rb"[A-Za-z]|(?<![A-Za-z\x80-\xff])[\x8c\x9c\xc1-\xdf\xe1-\xe7\xea-\xf1\xf4-\xfc](?![A-Za-z\x80-\xff])".replace(
        b"L", _LETTER
    )
)


@dataclass(frozen=True, slots=True)
class Source:
    """Decompressed bytes of a file.

    Attributes:
        stream: All bytes.
        head: The first `SAMPLE` bytes, which `stream` returns too.
        compression: "gzip", "xz", "bzip2" or "".
    """

    stream: IO[bytes]
    head: bytes
    compression: str

    @property
    def whole(self) -> bool:
        """True if `head` holds all bytes."""
        return len(self.head) < SAMPLE


class _Replayed(io.RawIOBase):
    """Stream that returns bytes read earlier before the rest."""

    def __init__(self, head: bytes, rest: Any) -> None:
        self._head, self._rest = memoryview(head), rest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if self._head:
            data: Any = self._head[: len(buffer)]
            self._head = self._head[len(data) :]
        else:
            data = self._rest.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


@contextmanager
def open_source(source: str | Path, name: str) -> Iterator[Source]:
    """Open a file, or standard input for `-`, and decompress it.

    The first bytes show the compression, one of `COMPRESSIONS` or none.

    Args:
        source: The file.
        name: The file, for the errors.

    Raises:
        InputError: The file is unreadable, damaged, or in an unsupported format.
    """
    if "\0" in str(source):
        raise InputError("it cannot be read (a NUL in its name)", location=name, hint="check the path")
    try:
        if str(source) == "-":
            yield _decompressed(sys.stdin.buffer, name)
        else:
            with open(source, "rb") as plain:
                yield _decompressed(plain, name)
    except (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error) as error:
        raise InputError(
            f"the archive is damaged or cut short ({error})", location=name, hint="fetch it again"
        ) from error
    except UnicodeError as error:
        reason = getattr(error, "reason", error)
        codec = getattr(error, "encoding", "of this encoding")
        raise InputError(f"the bytes are not {codec} ({reason})", location=name, hint="set --encoding") from error
    except OSError as error:
        raise InputError(
            f"it cannot be read ({error.strerror or error})", location=name, hint="check the path"
        ) from error


def _decompressed(plain: Any, name: str) -> Source:
    head = _read_sample(plain)
    stream = io.BufferedReader(_Replayed(head, plain), SAMPLE)
    for magic_bytes, (content, hint) in UNSUPPORTED.items():
        if head.startswith(magic_bytes):
            raise InputError(f"this is {content}, not a text file", location=name, hint=hint)
    for compression, (magic, opener) in COMPRESSIONS.items():
        if magic.match(head):
            inner = opener(stream, "rb")
            head = _read_sample(inner)
            return Source(io.BufferedReader(_Replayed(head, inner), SAMPLE), head, compression)
    return Source(stream, head, "")


def _read_sample(stream: Any) -> bytes:
    parts: list[bytes] = []
    missing = SAMPLE
    while missing and (data := stream.read(missing)):
        parts.append(data)
        missing -= len(data)
    return b"".join(parts)


def detect_encoding(source: Source) -> str:
    """Return the encoding by byte order mark and first bytes.

    Without a mark it is UTF-8, unless the bytes are clearly UTF-16 or cp1252.
    """
    head = source.head
    for mark, encoding in BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return encoding
    if b"\0" in head and len(head) >= 8:
        # UTF-16 without a mark: every second byte of ASCII text is zero.
        for encoding, zeros in (("utf-16-le", head[1::2]), ("utf-16-be", head[::2])):
            if zeros.count(0) > 0.6 * len(zeros) and head.count(0) < 1.2 * zeros.count(0):
                return encoding
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        cut = not source.whole and error.start >= len(head) - 3
        if not (cut or _MULTIBYTE.search(head) or _NOT_CP1252.search(head)) and _CLEARLY_CP1252.search(head):
            return "cp1252"
    return "utf-8"


class Text:
    """Text of a source.

    Undecodable bytes become lone surrogates, which `check_text` refuses in their field.

    Args:
        source: The bytes.
        encoding: A Python codec; None: by content.
        name: The source, for the errors.
        note: Called with a line for the user.

    Attributes:
        sample: The start of the text.
        newline: The end of a line, a line feed or a carriage return.

    Raises:
        InputError: The encoding is unknown, or does not fit the bytes.
    """

    def __init__(self, source: Source, encoding: str | None, name: str, note: Callable[[str], None]) -> None:
        self._name, self._guessed = name, False
        self.encoding = encoding or detect_encoding(source)
        if encoding is None and self.encoding not in ("utf-8", "utf-8-sig"):
            note(f"{name}: read as {self.encoding}; to change it, set --encoding")
            self._guessed = self.encoding == "cp1252"
        try:
            # UTF-16 and UTF-32 have no single bytes to escape.
            wide = codecs.lookup(self.encoding).name.startswith(("utf-16", "utf-32"))
            errors = "surrogatepass" if wide else "surrogateescape"
            decoder = codecs.getincrementaldecoder(self.encoding)(errors)
            self.sample = decoder.decode(source.head, source.whole)
            ends = re.search(r"[\r\n]+", self.sample)
            self.newline = "\n" if ends is None or "\n" in ends.group() else "\r"
            self._stream = io.TextIOWrapper(source.stream, encoding=self.encoding, errors=errors, newline=self.newline)
        except LookupError as error:
            raise InputError(
                f"encoding must be a text codec of Python, got {encoding!r}",
                location=name,
                hint="give one such as utf-8 or cp1252",
            ) from error

    def lines(self) -> Iterator[str]:
        """Return the lines, each with its end, `newline`.

        Raises:
            InputError: The text mixes encodings.
        """
        return self._checked(self._stream) if self._guessed else self._stream

    def chunks(self) -> Iterator[str]:
        """Return the text in pieces of 65,536 characters.

        Raises:
            InputError: The text mixes encodings.
        """
        chunks = iter(lambda: self._stream.read(1 << 16), "")
        return self._checked(chunks) if self._guessed else chunks

    def _checked(self, pieces: Iterable[str]) -> Iterator[str]:
        for number, piece in enumerate(pieces, 1):
            if not piece.isascii() and _is_utf8(piece):
                raise InputError(
                    f"line {number:,} is UTF-8, and the lines before it are not",
                    location=self._name,
                    hint="write the file in one encoding, or set --encoding",
                )
            yield piece


def _is_utf8(line: str) -> bool:
    try:
        line.encode("cp1252", "surrogateescape").decode("utf-8")
    except UnicodeError:
        return False
    return True


def is_undecoded(text: str) -> bool:
    """Return True for a text with undecodable bytes."""
    return not text.isascii() and any("\udc80" <= character <= "\udcff" for character in text)
