"""Reading speed and memory: `python -m benchmarks.reading` writes `benchmarks/results/reading.json`.

A million questions as CSV (quoted bodies of several lines), JSONL and Parquet are read by this tree, by the tree at
`--before` (a commit), and by pandas, each in a process of its own. A row is read when its mapping from column to value
is there; all columns are read.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from dupq.data.writing import write_json, write_rows

ROOT = Path(__file__).parent.parent
COLUMNS = ["id", "title", "body", "created_at"]
KINDS = ("csv", "jsonl", "parquet")

READERS = {
    "now": """
from dupq.data.reading import ReadReport, file_rows
report = ReadReport()
count = sum(1 for _ in file_rows(path, None, path, report))
assert report.rows == report.accepted == count
""",
    "before": """
from dupq.data.reading import file_rows
def refuse(error):
    raise error
count = sum(1 for _ in file_rows(path, None, path, refuse))
""",
    "pandas": """
import pandas
kind = path.rsplit(".", 1)[1]
if kind == "csv":
    frame = pandas.read_csv(path, dtype=str, keep_default_na=False)
elif kind == "jsonl":
    frame = pandas.read_json(path, lines=True, dtype=False, convert_dates=False)
else:
    frame = pandas.read_parquet(path)
count = sum(1 for row in zip(*(frame[name] for name in frame), strict=True) if dict(zip(frame, row, strict=True)))
""",
}
TIMED = """
import json, resource, sys, time
path = sys.argv[1]
started, used = time.perf_counter(), time.process_time()
{reader}
print(json.dumps({{
    "rows": count,
    "seconds": round(time.perf_counter() - started, 2),
    "processor_seconds": round(time.process_time() - used, 2),
    "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
}}))
"""


def question(number: int) -> dict[str, Any]:
    return {
        "id": number,
        "title": f"How do I do thing number {number}, quickly?",
        "body": f'I have tried "this" and\nthat, {number * 7919} times;\nnothing helps, please advise',
        "created_at": "2021-02-05T10:00:00",
    }


def write(path: Path, rows: int) -> None:
    if path.suffix != ".csv":
        write_rows(path, map(question, range(rows)), COLUMNS)
        return
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(map(question, range(rows)))


def measure(reader: str, path: Path, tree: Path) -> dict[str, Any]:
    code = TIMED.format(reader=READERS[reader])
    command = [sys.executable, "-c", code, str(path)]
    done = subprocess.run(command, cwd=tree, env={"PYTHONPATH": str(tree)}, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return {**found, "rows_per_processor_second": round(found["rows"] / found["processor_seconds"])}


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure reading speed and memory.")
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--before", default="795177a", help="the commit to compare with (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks/results/reading.json")
    args = parser.parse_args()
    results: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        before = Path(folder) / "before"
        subprocess.run(["git", "worktree", "add", "-q", "--detach", before, args.before], cwd=ROOT, check=True)
        try:
            for kind in KINDS:
                path = Path(folder) / f"questions.{kind}"
                write(path, args.rows)
                for reader in READERS:
                    result = measure(reader, path, before if reader == "before" else ROOT)
                    results.setdefault(kind, {})[reader] = result
                    print(kind, reader, result, flush=True)
                path.unlink()
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", before], cwd=ROOT, check=True)
    write_json(args.output, {"rows": args.rows, "before": args.before, "results": results})


if __name__ == "__main__":
    main()
