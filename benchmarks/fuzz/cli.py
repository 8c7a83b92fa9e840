"""Run random commands in this process, with valid and invalid options and files."""

from __future__ import annotations

import argparse
import hashlib
import io
import random
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from benchmarks.fuzz import values as v
from benchmarks.fuzz.documents import document, seeds
from benchmarks.fuzz.reader import NAMES, UntrueError
from benchmarks.fuzz.world import MODEL, World

Leaf = tuple[tuple[str, ...], argparse.ArgumentParser]

KEEP = {
    "train": 0.03,
    "fit": 0.02,
    "distill": 0.1,
    "calibrate": 0.5,
    "model export": 0.15,
    "model reduce": 0.15,
    "model average": 0.15,
    "model push": 0.3,
    "model inspect": 0.5,
    "model to-torch": 0.3,
    "model card": 0.7,
    "serve": 0.0,  # it runs until it is stopped
    "webhook": 0.0,  # it calls an address
    "data check": 0.7,
    "data split": 0.7,
}
"""Probability with which a drawn command is run: low for slow commands and those with few outcomes, 0 for some."""
CAREFUL: dict[str, tuple[str, ...]] = {
    "base_rate": ("0.1", "0.4", "0.01"),
    "delta": ("0.05", "0.2"),
    "miss_rate": ("0.3", "0.5"),
    "threshold": ("0.5", "0.9", "1"),
    "min_cosine": ("0.5", "0.8", "1"),
    "share": ("0.9", "0.99"),
    "hard": ("0", "0.5"),
    "false_alarm_rate": ("0.01", "0.1"),
    "policy": ("f1", "accuracy", "cost=3:1", "recall>=0.5"),
    "wait": ("0", "1"),
    "fractions": ("0.25",),
    "seed": ("0", "1", "7"),
    "k": ("1", "3", "10"),
    "neighbours": ("0", "1", "10"),
    "candidate_recall": ("0.1", "0.5"),
    "max_pairs": ("1", "10", "1000"),
    "max_judged": ("100", "1000"),
    "approximate_above": ("1000", "2"),
    "negatives": ("1", "2", "0"),
    "dimensions": ("2", "8"),
    "ids": ("1", "2", "3", "q4"),
    "cascade": ("0.9",),
    "max_ap_loss": ("0.1", "1"),
    "embedding_bits": ("8", "4"),
    "batch_size": ("4",),
    "max_steps": ("1", "2"),
    "save_steps": ("1",),
    "max_length": ("16",),
    "learning_rate": ("1e-4",),
}
"""Valid values of an option."""
NARROW = (
    "columns",
    "id_column",
    "text_column",
    "created_column",
    "label_column",
    "format",
    "output_format",
    "delimiter",
)
NARROW += (
    "encoding",
    "device",
    "threads",
    "where",
    "held_out_where",
    "date_format",
    "revision",
    "links",
    "add",
)
"""Options that most files and settings do not allow."""
NUMBERS = [
    "0",
    "1",
    "2",
    "3",
    "10",
    "-1",
    "0.5",
    "0.9",
    "0.05",
    "1e-9",
    "1e9",
    "nan",
    "inf",
    "-inf",
    "",
    "x",
    "9" * 30,
    "1,5",
]
PATHS_OUT = [
    "out.jsonl",
    "out.csv",
    "out.tsv",
    "out.parquet",
    "out.json",
    "out",
    "sub/out.jsonl",
    "-",
    "out.xlsx",
    "",
    "folder",
]
INDEX = "index.db"
STATUS = (0, 1, 2, 130)


@cache
def leaves() -> tuple[Leaf, ...]:
    """Return every command that can be run, with its parser."""
    from dupq.cli.main import build_parser

    def walk(parser: argparse.ArgumentParser, names: tuple[str, ...]) -> Iterator[Leaf]:
        below = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
        if not below:
            yield names, parser
        for action in below:
            for name, child in action.choices.items():
                yield from walk(child, (*names, name))

    return tuple(walk(build_parser(), ()))


class Words:
    """Arguments of one command, and the files they name."""

    def __init__(self, rng: random.Random, world: World, names: tuple[str, ...]) -> None:
        self.rng, self.world, self.names = rng, world, names
        self.inputs: dict[str, bytes] = {}
        self.outputs: list[str] = []
        self.careful = rng.random() < 0.6

    def put(self, name: str) -> str:
        """Copy a file or folder of the world beside the command, and return its name."""
        source, target = self.world.files / name, self.world.folder / name
        if source.is_dir():
            shutil.copytree(source, target, dirs_exist_ok=True)
        elif source.is_file():
            shutil.copyfile(source, target)
            if name == INDEX and source.with_name(f"{name}.vectors").is_file():
                shutil.copyfile(source.with_name(f"{name}.vectors"), target.with_name(f"{name}.vectors"))
        return name

    def file(self, *good: str) -> str:
        """Return the name of an input: mostly a valid one, else any, a damaged or missing one, or a folder."""
        roll = self.rng.random()
        if roll < (0.95 if self.careful else 0.7):
            name = self.put(self.rng.choice(good))
        elif roll < 0.8:
            name = self.put(self.rng.choice(seeds())[0])
        elif roll < 0.92:
            name, data = document(self.rng)
            (self.world.folder / name).write_bytes(data)
        else:
            name = self.rng.choice(
                ("missing.csv", "folder", "", "-", "x" * 300, "owner/name", "\udcff.csv", "pairs.csv/")
            )
            (self.world.folder / "folder").mkdir(exist_ok=True)
        return name

    def output(self) -> str:
        rng = self.rng
        inputs = [name for name in self.world.folder.iterdir() if name.is_file()]
        if self.careful:
            name = rng.choice(PATHS_OUT[:4])
        elif inputs and rng.random() < 0.12:
            name = str(rng.choice(sorted(inputs)))
        else:
            name = rng.choice(PATHS_OUT)
            if rng.random() < 0.15 and name not in ("", "-", "folder") and "/" not in name:
                (self.world.folder / name).write_text("was here\n", encoding="utf-8")
        self.outputs.append(name)
        return name

    def folder(self) -> str:
        name = self.rng.choice(("made", "made", "made", "folder", "out/made", "", "splits", "pairs.csv"))
        name = "made" if self.careful else name
        if name == "folder":
            (self.world.folder / name).mkdir(exist_ok=True)
            (self.world.folder / name / "mine.txt").write_text("keep me\n", encoding="utf-8")
        elif name in ("splits", "pairs.csv"):
            self.put(name)
        return name

    def model(self) -> str:
        if self.rng.random() < 0.85 or self.careful:
            return self.put(self.rng.choice((MODEL, MODEL, MODEL, "stock", *(() if self.careful else ("bi", "cross")))))
        return self.file("folder", "base", "splits", "pairs.csv")

    def value(self, action: argparse.Action) -> str:
        """Return one value of an option or position, by its name."""
        rng, dest = self.rng, action.dest
        if self.careful and dest in CAREFUL:
            return rng.choice(CAREFUL[dest])
        if self.careful and dest in ("bi_encoder", "cross_encoder"):
            return self.put("bi" if dest == "bi_encoder" else "cross")
        if action.choices is not None and rng.random() < 0.97:
            return str(rng.choice(list(action.choices)))
        if dest in ("output", "groups", "html") and dest + str(action.metavar) != "groupsN":
            return self.folder() if action.metavar == "DIR" else self.output()
        if dest == "work":
            return self.folder()
        if dest in (
            "model",
            "reference",
            "folder",
            "teacher",
            "pipeline",
            "encoder",
            "base",
            "bi_encoder",
            "cross_encoder",
        ):
            return self.model()
        if dest in ("bi", "networks", "network", "models"):
            return self.put(rng.choice(("bi", "cross", "base", MODEL)))
        if dest == "index":
            return self.file(INDEX) if rng.random() < 0.9 else rng.choice(("new.db", "sub/new.db"))
        if dest in ("questions",) and action.nargs == "*":
            return v.text(rng).replace("\0", "")
        if dest in ("questions", "against", "old", "new"):
            return self.file(
                "questions.csv", "questions.jsonl", "semicolon.csv", "questions.parquet", "dump", "ascii.jsonl"
            )
        if dest in ("dump", "links"):
            return self.file("dump", "Posts.xml")
        if dest in ("pairs", "live", "a", "b", "add", "validation", "held_out", "corpus"):
            return self.file(
                "pairs.csv", "labelled.jsonl", "few.jsonl", "splits", "pairs.tsv", "pairs.parquet", "pairs.csv.gz"
            )
        if dest == "elsewhere":
            return rng.choice(("there=", "", "=")) + self.file("report.json")
        if dest in ("about",):
            return self.file("about.json", "report.json")
        if dest in ("question", "question1", "question2"):
            return v.text(rng).replace("\0", "")[: rng.choice((50, 50, 100_000))]
        if dest == "ids":
            return rng.choice(("1", "2", "3", "q4", "-1", "", "9" * 30, "01", "x", "\udcff"))
        if dest in ("columns", "id_column", "text_column", "created_column", "label_column"):
            return rng.choice(NAMES)
        if dest == "date_format":
            return rng.choice(("%d/%m/%Y", "%Y-%m-%d", "", "%", "%Q", "d"))
        if dest == "delimiter":
            return rng.choice((",", ";", "tab", "|", "", ",,", '"', "\n", "é"))
        if dest == "encoding":
            return rng.choice(("utf-8", "cp1252", "utf-16", "hex", "", "nope"))
        if dest in ("where", "held_out_where"):
            return rng.choice(("label=1", "is_duplicate=0", "nope=1", "=", "", "label"))
        if dest == "policy":
            return rng.choice((*v.POLICIES, *v.ODD_POLICIES))
        if dest == "device":
            return rng.choice(("cpu", "cpu", "cpu", "cuda", "gpu", ""))
        if dest in (
            "base_rate",
            "delta",
            "miss_rate",
            "threshold",
            "min_cosine",
            "share",
            "hard",
            "false_alarm_rate",
            "candidate_recall",
        ):
            return rng.choice(("0.1", "0.5", "0.9", "0.01", "1", "0", "-1", "2", "nan", "inf", "x", ""))
        if dest in ("epochs", "max_steps", "save_steps"):
            return rng.choice(("1", "1", "0", "-1", "x", "nan"))
        if dest == "fractions":
            return rng.choice(("0.25", "0.25", "0.7", "0", "-1", "nan", "1e9"))
        if dest == "wait":
            return rng.choice(("0", "0.1", "-1", "nan", "inf", "x"))
        if action.type in (int, float):
            return rng.choice(NUMBERS)
        return rng.choice((*NUMBERS, "a", *NAMES))

    def several(self, action: argparse.Action) -> list[str]:
        if action.nargs == 0:
            return []
        if isinstance(action.nargs, int):
            n = action.nargs
        else:
            n = 1 if action.nargs is None else self.rng.choice((0, 1, 2) if action.nargs in ("*", "?") else (1, 2, 3))
            n = min(n, 1) if action.nargs == "?" else n
            n = 1 if action.nargs == "?" and self.careful else n
        if action.dest == "questions" and action.nargs == "*":
            n = 2 if self.careful else self.rng.choice((2, 2, 2, 0, 1, 3))
        return [self.value(action) for _ in range(n)]

    def all(self, parser: argparse.ArgumentParser) -> list[str]:
        rng = self.rng
        # One question or a file of them; a model or the networks of one.
        either = (
            {"score": "questions", "flag": "question", "calibrate": "model"}.get(self.names[0], "")
            if self.careful
            else ""
        )
        one = rng.random() < 0.5
        wanted = {
            "score": ("pairs", "output"),
            "flag": ("questions", "output"),
            "calibrate": ("bi_encoder", "cross_encoder"),
        }
        needed = () if one or not either else wanted[self.names[0]]
        barred = (wanted[self.names[0]] if one else (either,)) if either else ()
        if either == "model" and one:
            needed = ("model",)
        options: list[list[str]] = []
        taken: set[str] = set()
        positions: list[str] = []
        for action in parser._actions:
            if isinstance(action, (argparse._HelpAction, argparse._VersionAction)):
                continue
            if action.dest in barred or (self.careful and action.dest in NARROW and rng.random() < 0.9):
                continue
            if not action.option_strings:
                if not (action.nargs == "?" and rng.random() < 0.4 and not self.careful) and rng.random() > 0.01:
                    positions += self.several(action)
            elif action.dest in needed:
                options.append([rng.choice(action.option_strings), *self.several(action)])
            elif (action.required and rng.random() < 0.98) or rng.random() < min(0.3, 2.5 / len(parser._actions)):
                taken.add(action.dest)
                for _ in range(2 if rng.random() < 0.05 else 1):
                    options.append([rng.choice(action.option_strings), *self.several(action)])
        if self.careful and not {"miss_rate", "policy"} & taken:
            options = [option for option in options if option[0] != "--delta"]
        rng.shuffle(options)
        given = [word for option in options for word in option]
        if "--" not in given and any(word.startswith("-") and word != "-" for word in positions) and rng.random() < 0.7:
            positions = ["--", *positions]
        return [*given, *positions] if rng.random() < 0.7 else [*positions, *given]


@contextmanager
def streams(rng: random.Random, world: World) -> Iterator[str]:
    """Replace the three standard streams by files in memory."""
    kept = sys.stdin, sys.stdout, sys.stderr
    data = (world.files / rng.choice(("pairs.csv", "questions.jsonl", "empty.csv"))).read_bytes()
    encoding = "cp1252" if rng.random() < 0.03 else "utf-8"
    out = io.BytesIO()
    sys.stdin = io.TextIOWrapper(io.BytesIO(data), encoding="utf-8", errors="surrogateescape")
    sys.stdout = io.TextIOWrapper(out, encoding=encoding, write_through=True)
    sys.stderr = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace", write_through=True)
    try:
        yield encoding
    finally:
        sys.stdin, sys.stdout, sys.stderr = kept


@contextmanager
def tiny_models(world: World, real: bool) -> Iterator[None]:
    """Open the tiny pipeline in place of the shipped one and, unless `real`, in place of its folder."""
    import dupq.pipeline
    from dupq.pipeline import DuplicatePipeline

    opened = DuplicatePipeline.__dict__["from_pretrained"]
    shipped = dupq.pipeline.SHIPPED

    def from_pretrained(cls: type, name: Any = None, **options: Any) -> Any:
        if (name is None or Path(name).name == MODEL) and not real:
            return world.pipeline
        return opened.__func__(cls, world.files / MODEL if name is None else name, **options)

    dupq.pipeline.SHIPPED = world.files / MODEL
    DuplicatePipeline.from_pretrained = classmethod(from_pretrained)  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        DuplicatePipeline.from_pretrained = opened  # type: ignore[method-assign]
        dupq.pipeline.SHIPPED = shipped


def _tree(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.blake2b(path.read_bytes(), digest_size=8).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def command(rng: random.Random, world: World) -> tuple[list[str], Words]:
    """Return the arguments of one command, with its files in place."""
    while True:
        names, parser = rng.choice(leaves())
        if rng.random() < KEEP.get(" ".join(names), KEEP.get(names[0], 1.0)):
            break
    words = Words(rng, world, names)
    given = [*names, *words.all(parser)]
    if rng.random() < 0.02:
        given.insert(
            rng.randrange(len(given) + 1), rng.choice(("--nope", "-x", "--", "--json", "-h", "--version", "mine"))
        )
    return given, words


WRITES = ("index", "token", "flag", "model card", "evaluate", "train", "fit", "distill")
"""Commands that may change an input: an index, the card or report of a folder, the work of an interrupted run."""


def run(rng: random.Random, world: World) -> None:
    """Run one command."""
    from dupq.cli.main import main

    given, words = command(rng, world)
    real = rng.random() < 0.4
    before = _tree(world.folder)
    with streams(rng, world) as encoding, tiny_models(world, real and world.networks):
        try:
            status: object = main(given)
        except SystemExit as ended:
            # argparse exits with 2 for invalid arguments, and with 0 after --help.
            status = ended.code
            if status not in (0, 2):
                raise UntrueError(f"ended with {status!r}") from ended
    if status not in STATUS or isinstance(status, bool):
        raise UntrueError(f"status {status!r}")
    after = _tree(world.folder)
    # A file may be complete although standard output cannot encode the summary.
    _check_files(words, before, after, int(str(status)) if encoding == "utf-8" else 0)


def _check_files(words: Words, before: dict[str, str], after: dict[str, str], status: int) -> None:
    for name in after:
        if name.endswith((".part", ".tmp", "~")):
            raise UntrueError(f"a temporary file is left: {name}")
    named = {str(Path(name)) for name in words.outputs if name not in ("", "-")}
    named |= {Path(name).name for name in named if Path(name).is_absolute()}
    writes = words.names[0] in WRITES or " ".join(words.names) in WRITES
    for name, content in before.items():
        if after.get(name) == content:
            continue
        if name in named:
            if status == 2:
                raise UntrueError(
                    f"an output was changed by a command that failed: {name if len(name) < 20 else 'NAME'}"
                )
            continue
        if not writes and not name.startswith(("made", "out/made", "splits")):
            raise UntrueError(f"an input was {'changed' if name in after else 'deleted'}: {words.names[0]} {name}")
    if status == 2:
        for name in after.keys() - before.keys():
            if name in named:
                raise UntrueError(f"a failed command left an output: {words.names[0]}")
