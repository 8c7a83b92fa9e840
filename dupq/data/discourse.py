"""Read the topics of a Discourse export.

The file is written by `script/discourse export_topics` or `export_categories`. It is one JSON object with a list
`topics`; each topic has `id`, `title`, `created_at`, `views`, `archetype` and `posts`, and each post `post_number`,
`raw` (Markdown) and `created_at`. Source: discourse/discourse, `lib/import_export/base_exporter.rb` (TOPIC_ATTRS,
POST_ATTRS, `export_topics`) at commit 0a9b83a6d3b18c1e9ec42b799011e7a4b94e4fa5. The CSV files of Discourse's
administration list users and actions, not topics (`app/jobs/regular/export_csv_file.rb` at commit
04f361eb72b418902cfd1207156005e61824d688).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dupq.data.reading import ReadReport, source_name
from dupq.data.sources import open_source
from dupq.errors import InputError

HINT = "write it with `script/discourse export_categories`; a CSV of the topics is read by --csv"
PRIVATE = "private_message"


def discourse_rows(source: str | Path, report: ReadReport) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the topics of a Discourse export, numbered from 1.

    Private messages are left out. The keys are `id`, `title`, `body` (the first post), `created_at`, `views` and
    `answers` (further posts), and `tags`, `url` and `score` (likes), which only some versions write. The file is held
    in memory.

    Args:
        source: The file, plain or compressed; `-` for standard input.
        report: Counts the topics, and collects the bad ones with `skip_bad`.

    Raises:
        InputError: The file is unreadable or no export, or a topic is no object.
    """
    name = source_name(source)
    with open_source(source, name) as found:
        try:
            data = json.loads(found.stream.read().decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise InputError(f"not valid JSON ({error})", location=name, hint=HINT) from error
    topics = data.get("topics") if isinstance(data, dict) else None
    if not isinstance(topics, list):
        raise InputError("it has no list of topics", location=name, hint=HINT)
    private = 0
    for number, topic in enumerate(topics, 1):
        report.rows += 1
        try:
            row = _row(topic, f"{name}, topic {number}")
        except InputError as error:
            report.add(error)
            continue
        if row is None:
            report.rows -= 1
            private += 1
        else:
            yield number, row
    if private:
        report.note(f"{name}: {private:,} private messages are left out")


def _row(topic: Any, at: str) -> dict[str, Any] | None:
    """Return a topic as one row; None for a private message."""
    if not isinstance(topic, Mapping):
        raise InputError("a topic must be an object", location=at, hint=HINT)
    if topic.get("archetype") == PRIVATE:
        return None
    posts = topic.get("posts", [])
    if not isinstance(posts, list) or not all(isinstance(post, Mapping) for post in posts):
        raise InputError("posts must be a list of objects", location=at, hint=HINT)
    first: Mapping[str, Any] = next((post for post in posts if post.get("post_number") == 1), {})
    names = {"id": "id", "title": "title", "created_at": "created_at", "views": "views", "tags": "tags", "url": "url"}
    row = {key: topic[name] for key, name in (names | {"score": "like_count"}).items() if name in topic}
    return row | {"body": first.get("raw"), "answers": sum(post is not first for post in posts)}
