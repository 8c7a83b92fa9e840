"""The core: what must work without the extras, and the one error that names a missing extra."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import distributions
from importlib.util import find_spec
from pathlib import Path

import pytest

import dupq
from dupq.errors import EXTRAS

SHIPPED = str(Path(dupq.__file__).parent / "pretrained")
HEAVY = sorted({name for names in EXTRAS.values() for name in names} | {"pyarrow", "pandas", "polars"})

BLOCKED = """
import importlib.util, sys

HEAVY = {heavy!r}
ordinary = importlib.util.find_spec

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in HEAVY:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
for name in [name for name in sys.modules if name.partition(".")[0] in HEAVY]:
    del sys.modules[name]

def missing(name, package=None):
    return None if name.partition(".")[0] in HEAVY else ordinary(name, package)

importlib.util.find_spec = missing
"""


def run(code: str, folder: Path) -> str:
    """Run code in a process in which no extra can be imported; in a core environment none is there anyway."""
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED.format(heavy=HEAVY) + code],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


QUESTIONS = "id,title\n1,How do I reset my password?\n2,How can I reset my password?\n3,Why is the sky blue?\n"
PAIRS = "question1,question2,label\n" + "".join(
    f"How do I cook {dish} number {at}?,How is {dish} number {at} cooked?,1\n"
    f"How do I cook {dish} {at}?,Where was {dish} invented {at}?,0\n"
    for at, dish in enumerate(["rice", "pasta", "soup", "bread", "fish", "stew"] * 6)
)


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "questions.csv").write_text(QUESTIONS, encoding="utf-8")
    (tmp_path / "pairs.csv").write_text(PAIRS, encoding="utf-8")
    return tmp_path


@pytest.mark.core
@pytest.mark.parametrize(
    "command",
    [
        ["score", "How old are you?", "What is your age?"],
        ["score", "--pairs", "pairs.csv", "-o", "scored.jsonl"],
        ["explain", "How old are you?", "How old is your dog?"],
        ["mine", "questions.csv", "-o", "duplicates.csv", "--groups", "groups.csv"],
        ["index", "add", "forum.db", "questions.csv"],
        ["calibrate", "--add", "pairs.csv", "-o", "adapted"],
        ["evaluate", SHIPPED, "pairs.csv"],
    ],
    ids=lambda command: " ".join(command[:2]),
)
def test_everyday_commands_need_no_extra(files: Path, command: list[str]) -> None:
    loaded = run(f"from dupq.cli.main import main\nassert main({command!r}) == 0\nprint(*sys.modules)", files)
    assert not {*HEAVY} & {name.partition(".")[0] for name in loaded.split()}


@pytest.mark.core
def test_a_live_index_needs_no_extra(files: Path) -> None:
    code = (
        "from dupq import DuplicatePipeline, QuestionIndex\n"
        "with QuestionIndex('forum.db', DuplicatePipeline.from_pretrained()) as index:\n"
        "    index.add([1, 2], ['How do I reset my password?', 'Why is the sky blue?'])\n"
        "    print(index.flag('How can I reset my password?').flags[0].id)\n"
    )
    assert run(code, files).split() == ["1"]


@pytest.mark.core
@pytest.mark.parametrize(
    ("command", "extra"),
    [
        (["train", "bi-encoder", "pairs.csv", "-o", "bi", "--base", "bert"], "train"),
        (["mine", "questions.parquet", "-o", "out.csv"], "parquet"),
        (["serve", "--port", "0"], "serve"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_missing_extra_is_one_error_that_names_it(files: Path, command: list[str], extra: str) -> None:
    (files / "questions.parquet").write_bytes(b"PAR1")
    code = (
        "import contextlib, io\nfrom dupq.cli.main import main\nerrors = io.StringIO()\n"
        f"with contextlib.redirect_stderr(errors):\n    assert main({command!r}) == 2\nprint(errors.getvalue())"
    )
    told = run(code, files)
    assert told.count("dupq: ") == 1
    assert f"pip install 'dupq[{extra}]'" in told


@pytest.mark.core
def test_the_package_alone_is_installed() -> None:
    """Neither scripts nor data of the repository; an editable installation lists only its own record."""
    # A build leaves its own list of the sources in the repository; an installation has a record.
    records = [found.read_text("RECORD") for found in distributions(name="dupq")]
    installed = {line.partition("/")[0] for record in records if record for line in record.splitlines()}
    assert installed
    assert not installed & {"benchmarks", "data_scripts", "docs", "model_cards", "tests"}


@pytest.mark.core
def test_this_environment_is_whole_or_the_core_alone() -> None:
    """`.ci/run` runs these tests in both; an environment with some extras only would show nothing."""
    there = [name for name in EXTRAS["train"] if find_spec(name) is not None]
    assert there in ([], [*EXTRAS["train"]])
