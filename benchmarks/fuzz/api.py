"""Public functions and methods, called with values of every kind."""

from __future__ import annotations

import inspect
import random
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from typing import Any

from benchmarks.fuzz import values as v
from benchmarks.fuzz.reader import UntrueError
from benchmarks.fuzz.values import Make, either
from benchmarks.fuzz.world import MODEL, World
from dupq.errors import DupqError

MAX_ITEMS = 2000
"""Maximum number of results that are read from an iterator."""

texts, clean = v.sequence(v.text), v.sequence(v.clean_text)


def _texts(rng: random.Random, world: World) -> Any:
    return (clean if rng.random() < 0.7 else texts)(rng, world)


def _questions(rng: random.Random, world: World) -> Any:
    return v.frames(rng, world) if rng.random() < 0.1 else _texts(rng, world)


def _pairs_given(rng: random.Random, world: World) -> Any:
    pairs = [(v.clean_text(rng), v.text(rng)) for _ in range(world.length)]
    return iter(pairs) if rng.random() < 0.3 else v.contained(rng, list(pairs))


def _settings(rng: random.Random, world: World) -> Any:
    from dupq.mining.find_duplicates import MiningSettings

    names = list(inspect.signature(MiningSettings).parameters)
    given = {name: GOOD[name](rng, world) for name in v.some(names, rng)}
    return None if rng.random() < 0.5 else MiningSettings(**given)


def _own(name: str) -> Make:
    return lambda rng, world: getattr(world.pipeline, name)


def _table(rng: random.Random, world: World) -> Any:
    return world.pipeline.rule.table if world.pipeline.rule else None


def _reference(rng: random.Random, world: World) -> Any:
    return world.pipeline.score_reference()


def _where(rng: random.Random, world: World) -> Any:
    return rng.choice((None, None, {"label": "1"}, {"nope": "x"}, {}))


_count = v.one_of(1, 1, 2, 5, 10, 0, 3, None)
GOOD: dict[str, Make] = {
    **dict.fromkeys(("left", "right", "texts", "corpus", "question1s", "a_texts"), _texts),
    **dict.fromkeys(("questions", "against"), _questions),
    **dict.fromkeys(("question", "question1", "question2", "text", "string"), v.text),
    **dict.fromkeys(("pairs", "verdicts", "validation", "table"), v.table),
    **dict.fromkeys(("ids",), v.unique_ids),
    **dict.fromkeys(("created",), v.sequence(v.moment)),
    **dict.fromkeys(("scores",), v.floats),
    **dict.fromkeys(("probabilities",), v.shares),
    **dict.fromkeys(("labels", "flagged"), v.zero_one),
    **dict.fromkeys(("groups",), v.whole),
    **dict.fromkeys(("progress",), v.progress),
    **dict.fromkeys(("policy",), v.policy),
    **dict.fromkeys(("k", "batch_size", "folds", "resamples", "bins", "draws", "threads"), _count),
    **dict.fromkeys(("seed",), v.one_of(0, 1, 7)),
    **dict.fromkeys(("max_pairs", "approximate_above"), v.one_of(1, 2, 100, 10**6)),
    **dict.fromkeys(("neighbours",), v.one_of(None, 0, 1, 10, 2000)),
    **dict.fromkeys(("max_judged",), v.one_of(None, 100, 1000, 5)),
    **dict.fromkeys(("settings",), _settings),
    **dict.fromkeys(("columns",), v.one_of(None, ("q1", "q2"), ("question1", "question2"), ("a", "b", "c"), "q1")),
    **dict.fromkeys(("text_columns",), v.one_of((), "title", ["title"], ("a", "b"), "text")),
    **dict.fromkeys(("id_column", "created_column"), v.one_of(None, "id", "nope", "created")),
    **dict.fromkeys(("on_error",), v.one_of("raise", "skip", "skip")),
    **dict.fromkeys(("date_format",), v.one_of(None, "%d/%m/%Y", "%Y", "", "%", "%Q", "%s", "\ud800")),
    **dict.fromkeys(("linkage",), v.one_of("average", "complete", "connected")),
    **dict.fromkeys(("canonical",), v.one_of("central", "oldest")),
    **dict.fromkeys(("table",), _table),
    **dict.fromkeys(("reference",), _reference),
    **dict.fromkeys(("rule",), _own("rule")),
    **dict.fromkeys(("calibrator",), _own("calibrator")),
    **dict.fromkeys(("path", "folder", "output", "work"), v.path),
    **dict.fromkeys(("source",), v.rows),
    **dict.fromkeys(("fresh", "all_pairs", "colour"), v.one_of(True, False)),
    **dict.fromkeys(("wait",), v.one_of(0, 0.1, 1)),
    **dict.fromkeys(
        ("pipeline", "judge", "successor"), lambda rng, world: rng.choice((world.pipeline, world.pipeline, world.bare))
    ),
    **dict.fromkeys(("value",), v.text),
    **dict.fromkeys(("values",), _texts),
    **dict.fromkeys(("where",), v.one_of("there", "")),
    **dict.fromkeys(("name",), v.one_of("values", "ids")),
    **dict.fromkeys(("methods",), v.one_of(("platt",), ("platt", "beta"), ["isotonic"], (), ("nope",))),
    **dict.fromkeys(("scheme",), v.one_of("mass", "width")),
    **dict.fromkeys(("level",), v.rate),
    **dict.fromkeys(("symmetry",), v.one_of("adaptive", "both", "canonical")),
    **dict.fromkeys(("long_texts",), v.one_of("lead", "whole")),
    **dict.fromkeys(("languages",), v.one_of(None, ["en"], ["de", "fr"], "en", [])),
    **dict.fromkeys(("allow_unknown",), v.one_of(True, False, None)),
    **dict.fromkeys(("word_bits",), v.one_of(4, 8)),
    **dict.fromkeys(("device",), v.one_of("cpu", None, "cuda", "gpu", "CPU")),
    **dict.fromkeys(("half",), v.one_of(True, False)),
}
RATES = (
    "rate",
    "base_rate",
    "miss_rate",
    "delta",
    "min_agreement",
    "max_ap_loss",
    "threshold",
    "threshold_score",
    "near",
    "min_cosine",
)
GOOD |= dict.fromkeys((*RATES, "from_rate", "to_rate", "false_alarm_rate", "false_flag", "miss"), v.rate)

TRUSTED = ("progress", "where", "location", "name")
"""Arguments that get no random value: callbacks, and names that only label an error."""
WRONG = 0.12
"""Share of arbitrary arguments in an input that has some."""


def arguments(
    rng: random.Random, world: World, function: Callable[..., Any], own: Mapping[str, Make]
) -> dict[str, Any]:
    """Return keyword arguments for the signature of a function, most of them valid."""
    given: dict[str, Any] = {}
    wrong = WRONG if rng.random() < 0.6 else 0.0
    for name, parameter in inspect.signature(function).parameters.items():
        if name == "self" or parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        if parameter.default is not parameter.empty and rng.random() > 0.45:
            continue
        make = own.get(name) or GOOD.get(name) or v.anything
        trusted = name in TRUSTED and name not in own
        given[name] = make(rng, world) if trusted else either(make, 1 - wrong)(rng, world)
    if rng.random() < 0.01:
        given[rng.choice(("nope", "kk", "Left"))] = 1
    if given and rng.random() < 0.01:
        given.pop(rng.choice(list(given)))
    return given


def called(
    rng: random.Random,
    world: World,
    function: Callable[..., Any],
    own: Mapping[str, Make] | None = None,
    like: Callable[..., Any] | None = None,
) -> Any:
    """Return the result of one call; None if it raised a `DupqError`.

    `like` has the names that `function` takes, where it hands them on.
    """
    given = arguments(rng, world, like or function, own or {})
    if like is not None:
        given.pop("judge", None)
    try:
        inspect.signature(like or function).bind_partial(**given)
        inspect.signature(function).bind(**given)
    except TypeError:
        return None  # Python's own check of the arguments
    try:
        result = function(**given)
        if isinstance(result, Iterator):
            result = [item for _, item in zip(range(MAX_ITEMS), result)]  # noqa: B905
        return result
    except DupqError as error:
        if not str(error).strip():
            raise UntrueError("an error without words") from error
        return None


# ---- the pipeline ------------------------------------------------------------

QUICK = (
    "score",
    "score_pairs",
    "score_iter",
    "raw_scores",
    "probabilities",
    "explain",
    "with_policy",
    "with_base_rate",
)
OTHER = ("text_warnings", "with_languages", "with_options", "find_duplicates", "find_duplicates", "estimate_base_rate")
SLOW = ("calibrate", "adapt", "evaluate", "with_blend", "with_cascade", "save", "export", "to_torch")


def _columns_of(rng: random.Random, world: World) -> Any:
    return v.frames(rng, world) if rng.random() < 0.3 else _texts(rng, world)


def on_pipeline(rng: random.Random, world: World) -> None:
    """Call one to three methods, each on the pipeline that the one before returned, if it did."""
    pipeline: Any = world.pipeline if rng.random() < 0.92 else world.bare
    for _ in range(rng.choice((1, 1, 2, 3))):
        roll = rng.random()
        name = rng.choice(QUICK if roll < 0.6 else OTHER if roll < 0.95 else SLOW)
        if not hasattr(pipeline, name):
            continue
        own: dict[str, Make] = {}
        if name == "score_pairs":
            own = {"left": _columns_of}
        elif name == "score_iter":
            own = {"pairs": _pairs_given}
        elif name == "estimate_base_rate" and rng.random() < 0.3:
            own = {side: (lambda r, w: [v.clean_text(r) for _ in range(60)]) for side in ("left", "right")}
        like = import_module("dupq.mining.find_duplicates").find_duplicates if name == "find_duplicates" else None
        result = called(rng, world, getattr(pipeline, name), own, like)
        if isinstance(result, type(world.pipeline)):
            pipeline = result
        elif name == "find_duplicates" and result is not None:
            _used(rng, world, result, ("at", "templates", "fold", "groups", "rows", "summary"))
        elif name == "explain" and result is not None:
            _used(rng, world, result, ("mirrored", "to_dict", "to_text", "to_html"))
        elif name == "evaluate" and result is not None:
            _used(rng, world, result, ("to_dict", "to_html", "to_svg"))


def _used(rng: random.Random, world: World, result: Any, methods: tuple[str, ...]) -> None:
    for name in v.some(methods, rng):
        if hasattr(result, name):
            called(rng, world, getattr(result, name), {"groups": lambda r, w: []})
    str(result), repr(result)


# ---- the index ------------------------------------------------------------

STEPS = ("add", "add", "remove", "flag", "flag_all", "flag_stored", "stats", "verify", "decisions", "compact", "close")


def on_index(rng: random.Random, world: World) -> None:
    """Call up to five methods of one index, some of them after `close`."""
    from dupq.index.question_index import QuestionIndex

    own: dict[str, Make] = {"ids": v.sequence(v.id_) if rng.random() < 0.5 else v.unique_ids}
    if rng.random() < 0.08:
        index = called(rng, world, QuestionIndex)
    else:
        pipeline = rng.choice((world.pipeline,) * 8 + (world.bare, None))
        index = called(rng, world, lambda: QuestionIndex(world.folder / "index.db", pipeline))
    if index is None:
        return
    closed = False
    for _ in range(rng.choice((1, 2, 3, 5))):
        name = rng.choice(STEPS)
        if name == "decisions" and not hasattr(index, name):
            continue
        result = called(rng, world, getattr(index, name), own)
        if name in ("flag", "flag_all", "flag_stored") and result:
            _used(rng, world, result if name == "flag" else result[0], ("at",))
        closed = closed or name == "close"
        if name == "verify" and result and not closed:
            raise UntrueError(f"an intact index is reported as damaged: {result[0]:.80}")
        if rng.random() < 0.2:
            called(rng, world, index.__contains__, {"id_": v.id_})
            called(rng, world, index.__len__)
    called(rng, world, index.close)


# ---- functions ------------------------------------------------------------


def _two_columns(rng: random.Random, world: World) -> Any:
    return _texts(rng, world), _texts(rng, world)


def _report_data(world: World) -> Any:
    if "report" not in world.facts:
        world.facts["report"] = world.pipeline.evaluate(world.table).to_dict()
    return world.facts["report"]


def _rule_data(world: World) -> Any:
    return world.pipeline.rule.to_dict() if world.pipeline.rule else {}


def _candidate_data(world: World) -> Any:
    from dupq.decisions.candidate_calibration import calibrate_candidates

    scores, labels = [at / 7 - 3 for at in range(40)], [at % 3 // 2 for at in range(40)]
    cosines = [0.5 + at / 100 for at in range(40)]
    return calibrate_candidates(world.pipeline.calibrator, scores, labels, cosines=cosines).to_dict()


def _model(rng: random.Random, world: World) -> Any:
    # None would open the shipped model, which takes a second.
    name = rng.choice((MODEL, MODEL, "stock", "bi", "cross", "base", "folder", "questions.csv"))
    return world.files / name if rng.random() < 0.8 else v.path(rng, world)


def _no_training(rng: random.Random, world: World) -> Any:
    from dupq.training.trainer import TrainSettings

    return TrainSettings("missing")  # a training takes seconds


Own = Mapping[str, Make]
FUNCTIONS: tuple[tuple[str, str, Own], ...] = (
    ("decisions.thresholds", "Policy", {"kind": v.one_of("f1", "cost", "recall", "precision", "accuracy", "nope")}),
    ("decisions.thresholds", "Policy.min_cost", {}),
    ("decisions.thresholds", "Policy.recall", {}),
    ("decisions.thresholds", "Policy.precision", {}),
    ("decisions.thresholds", "Policy.parse", {"text": v.policy}),
    ("decisions.thresholds", "choose_threshold", {}),
    ("decisions.thresholds", "Threshold.from_dict", {"data": v.changed_data(lambda w: _rule_data(w).get("duplicate"))}),
    ("decisions.decision_rule", "choose_rule", {"near": v.one_of(None)}),
    ("decisions.decision_rule", "fit_rule", {"near": v.one_of(None)}),
    ("decisions.decision_rule", "DecisionRule.from_dict", {"data": v.changed_data(_rule_data)}),
    ("decisions.threshold_table", "build_threshold_table", {"cuts": v.one_of(None, [0.0, 1.0], [1.0, 0.0], [])}),
    (
        "decisions.threshold_table",
        "ThresholdTable.from_dict",
        {"data": v.changed_data(lambda w: _rule_data(w).get("table"))},
    ),
    ("calibration.calibrators", "fit_calibrator", {}),
    (
        "calibration.calibrators",
        "calibrator_from_dict",
        {"data": v.changed_data(lambda w: w.pipeline.calibrator.to_dict())},
    ),
    ("calibration.prior_shift", "adjust_prior", {}),
    ("calibration.prior_shift", "estimate_base_rate", {}),
    ("evaluation.metrics", "compute_metrics", {}),
    ("evaluation.metrics", "reliability", {}),
    ("calibration.adaptation", "adapt_calibrator", {}),
    (
        "calibration.candidates",
        "fit_candidate_calibrator",
        {"weights": v.one_of(None, [1.0], [0.0], "w"), "cosines": v.one_of(None, [0.5], [2.0], "c")},
    ),
    ("decisions.candidate_calibration", "CandidateCalibration.from_dict", {"data": v.changed_data(_candidate_data)}),
    ("decisions.adapted_rule", "adapt_rule", {}),
    ("evaluation.report", "Report.from_dict", {"data": v.changed_data(_report_data)}),
    ("explain.explanation", "explain", {"embed": v.one_of(None), "result": v.one_of(None)}),
    ("evaluation.contrast_slices", "contrast_rows", {}),
    (
        "data.pairs",
        "load_pairs",
        {"path": v.rows, "where": _where, "report": v.one_of(None), "options": v.one_of(None)},
    ),
    (
        "data.judged",
        "load_judged",
        {"source": v.rows, "weight_column": v.one_of(None, "weight", 7), "report": v.one_of(None)},
    ),
    ("data.splits", "split_file", {"settings": v.one_of(None), "report": v.one_of(None), "options": v.one_of(None)}),
    ("data.splits", "SplitSettings", {"fractions": v.one_of(None, {"a": 0.5, "b": 0.5}), "held_out_where": _where}),
    ("data.pairs", "PairTable.from_pairs", {"pairs": _pairs_given}),
    ("data.grouping", "question_groups", {}),
    ("data.grouping", "leak_report", {"a": _two_columns, "b": _two_columns}),
    ("data.dates", "parse_date", {"value": v.moment}),
    ("data.dates", "parse_dates", {"values": v.sequence(v.moment)}),
    ("data.dates", "check_date_format", {}),
    ("data.text", "check_text", {}),
    ("data.arguments", "as_list", {}),
    ("data.arguments", "as_texts", {}),
    ("data.arguments", "as_id", {"value": v.id_}),
    ("data.arguments", "as_ids", {"values": v.sequence(v.id_)}),
    ("mining.find_duplicates", "MiningSettings", {}),
    ("training.trainer", "TrainSettings", {"base": _model}),
    ("training.trainer", "train", {"kind": v.one_of("bi-encoder", "cross-encoder", "nope"), "settings": _no_training}),
    ("pipeline", "DuplicatePipeline.from_pretrained", {"name": _model, "revision": v.one_of(None, "main")}),
    ("pipeline", "DuplicatePipeline.from_networks", {"cross_encoder": _model, "bi_encoder": _model}),
    ("mining.find_duplicates", "find_duplicates", {}),
)
STRINGS = (("data.html", "strip_html"), ("data.html", "strip_clear_html"), ("data.text", "normalise"))
"""Functions that take a checked str."""


def _rule(rng: random.Random, world: World) -> None:
    rule, calibrator = world.pipeline.rule, world.pipeline.calibrator
    if rule is None or calibrator is None:
        return
    function = rng.choice((rule.codes, rule.at_base_rate, rule.expected, calibrator.probabilities, calibrator.log_odds))
    called(rng, world, function)


def _drift(rng: random.Random, world: World) -> None:
    from dupq.decisions.drift import DriftMonitor

    monitor = called(rng, world, DriftMonitor, {"draws": v.one_of(50, 100, 1, 0)})
    if monitor is not None:
        n = rng.choice((world.length, 60, 200))
        own: Own = {"scores": lambda r, w: [r.gauss(0, 3) for _ in range(n)], "groups": v.one_of(None)}
        called(rng, world, monitor.check, own)


def on_function(rng: random.Random, world: World) -> None:
    """Call one function of a module."""
    roll = rng.random()
    if roll < 0.06:
        _rule(rng, world)
    elif roll < 0.1:
        _drift(rng, world)
    elif roll < 0.16:
        home, name = rng.choice(STRINGS)
        getattr(import_module(f"dupq.{home}"), name)(v.text(rng))
    else:
        home, name, own = rng.choice(FUNCTIONS)
        function: Any = import_module(f"dupq.{home}")
        for part in name.split("."):
            function = getattr(function, part)
        called(rng, world, function, own)


def run(rng: random.Random, world: World) -> None:
    """Make one call, or a few on one object."""
    world.length = rng.choice((0, 1, 2, 3, 3, 4, 6, 10))
    roll = rng.random()
    (on_pipeline if roll < 0.45 else on_index if roll < 0.65 else on_function)(rng, world)
