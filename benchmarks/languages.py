"""How many questions in other languages are warned of, and how many English ones by mistake.

    python -m benchmarks.languages [--english FILE ...] [--model DIR]

The sentences of other languages are in `benchmarks/data/languages.json`, 25 a language, beside 61 English ones with
names, code, slang and loan words. FILE holds English texts, a line each; or, as `.jsonl` or `.jsonl.xz`, records with
texts in lists and strings. Results go to `benchmarks/results/languages.json`.
"""

from __future__ import annotations

import argparse
import json
import lzma
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.readme import RESULTS
from dupq import DuplicatePipeline
from dupq.data.writing import write_json
from dupq.evaluation.metrics import wilson

SENTENCES = Path(__file__).parent / "data" / "languages.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--english", nargs="*", default=[], metavar="FILE", help="files of English texts")
    parser.add_argument("--model", help="pipeline folder (default: the shipped one)")
    parser.add_argument("-o", "--output", default=str(RESULTS / "languages.json"))
    args = parser.parse_args()
    pipeline = DuplicatePipeline.from_pretrained(args.model)
    sentences: dict[str, list[str]] = json.loads(SENTENCES.read_text(encoding="utf-8"))
    rows = [warned(pipeline, language, texts) for language, texts in sentences.items()]
    rows += [warned(pipeline, Path(path).name, sorted(set(texts_of(path)))) for path in args.english]
    for row in rows:
        share = row["warned"]
        print(f"{row['texts_of']:<24} {row['texts']:>6} texts  warned of {share['value']:.4f} ", end="")
        print(f"({share['low']:.4f}-{share['high']:.4f})")
    content = {"command": "python -m benchmarks.languages", "learned": pipeline.languages, "rows": rows}
    write_json(args.output, {**content, "model": pipeline.scorer.fingerprint})


def warned(pipeline: DuplicatePipeline, name: str, texts: Sequence[str]) -> dict[str, Any]:
    """The share of texts that are warned of as in an unknown language, with Wilson's 95 % interval."""
    found = pipeline.text_warnings(texts)
    count = sum(any(warning.kind == "unknown_language" for warning in warnings) for warnings in found)
    low, high = wilson(count / len(texts), len(texts))
    return {"texts_of": name, "texts": len(texts), "warned": {"value": count / len(texts), "low": low, "high": high}}


def texts_of(path: str) -> Iterator[str]:
    """The texts of a file, see the head of this module."""
    with lzma.open(path, "rt", encoding="utf-8") if path.endswith(".xz") else open(path, encoding="utf-8") as lines:
        for line in lines:
            if ".jsonl" in Path(path).name:
                yield from _strings({key: value for key, value in json.loads(line).items() if key != "w"})
            elif line.strip():
                yield line.rstrip("\n")


def _strings(value: Any) -> Iterator[str]:
    """The texts in a record; a `[kind, text]` of `worlds` gives its text."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from (pair[1] for pair in part) if key == "d" else _strings(part)
    else:
        for part in value:
            yield from _strings(part)


if __name__ == "__main__":
    main()
