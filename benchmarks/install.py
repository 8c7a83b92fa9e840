"""Size and duration of an installation: `python -m benchmarks.install` writes `benchmarks/results/install.json`.

Each row is a fresh virtual environment in a temporary folder: the core alone, and with everything (`dupq[all]`). The
size is that of the whole environment, pip included; the seconds are those of pip on a package cache that an
installation before it filled.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.readme import RESULTS, ROOT
from dupq.data.writing import write_json

EXTRAS = {"core": "", "everything": "[all]"}


def megabytes(folder: Path) -> float:
    """Return the size of the files in a folder, in MB of 10^6 bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink()) / 1e6


def measure(source: Path, extra: str, scratch: Path) -> dict[str, float]:
    """Install a copy of the repository into a fresh environment, twice; the second time counts."""
    for _ in range(2):
        shutil.rmtree(scratch / "venv", ignore_errors=True)
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "venv", str(scratch / "venv")], check=True)
        pip = [str(scratch / "venv" / "bin" / "python"), "-m", "pip", "install", "-q"]
        subprocess.run([*pip, "-c", str(source / "constraints.txt"), f"{source}{extra}"], check=True)
        seconds = time.perf_counter() - start
    dupq = [str(scratch / "venv" / "bin" / "dupq"), "score", "--json", "Why is the sky blue?", "Why is the sky blue?!"]
    answer = json.loads(subprocess.run(dupq, check=True, capture_output=True, text=True).stdout)
    if answer["decision"] != "duplicate":
        raise SystemExit("the installed model does not decide as it should")
    return {"megabytes": round(megabytes(scratch / "venv"), 1), "seconds": round(seconds, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=EXTRAS, nargs="+", default=list(EXTRAS))
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "dupq"
        shutil.copytree(
            ROOT, source, ignore=shutil.ignore_patterns(".git", ".venv", "build", "*.egg-info", "__pycache__")
        )
        rows = {name: measure(source, EXTRAS[name], Path(folder)) for name in args.only}
    write_json(RESULTS / "install.json", {"command": "python -m benchmarks.install", "rows": rows})
    print(rows)


if __name__ == "__main__":
    main()
