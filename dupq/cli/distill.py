"""`dupq distill`: make pairs and soft labels to train a small network.

The pairs are unlabelled candidates, contrast pairs, and pairs whose label follows from others.
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dupq.cli.console import emit, progress_bar
from dupq.cli.inputs import add_pair_options, pair_options, parse_where, print_report
from dupq.errors import InputError

if TYPE_CHECKING:
    from dupq.data.pairs import PairTable
    from dupq.types import Embedder, Scorer

_OUTPUT_HELP = "pairs as JSONL, CSV, TSV or Parquet"


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    distill = commands.add_parser("distill", help="train a small network on a large one's soft labels")
    steps = distill.add_subparsers(dest="step", required=True, metavar="STEP")
    one = steps.add_parser("candidates", parents=[shared], help="draw unlabelled pairs that a bi-encoder finds near")
    one.add_argument("pairs", metavar="PAIRS", help="labelled pairs of a training split, whose questions are paired")
    one.add_argument("-o", "--output", required=True, metavar="OUT", help=_OUTPUT_HELP)
    one.add_argument(
        "--bi-encoder", required=True, metavar="DIR|ID", help="bi-encoder that finds neighbours; int8 is faster"
    )
    one.add_argument("--count", type=int, default=50_000, help="number of pairs to draw (default: 50000)")
    one.add_argument(
        "--min-cosine", type=float, default=-1.0, metavar="C", help="minimum cosine of a pair, in [-1, 1] (default: -1)"
    )
    one.add_argument(
        "--per-question",
        type=int,
        default=1,
        metavar="N",
        help="nearest neighbours of each question to draw from, 1 to 5 (default: 1)",
    )
    one.add_argument("--seed", type=int, default=0, help="seed of the draw (default: 0)")
    add_pair_options(one)
    one.set_defaults(run=run_candidates)

    one = steps.add_parser("soft-labels", parents=[shared], help="label pairs with a teacher's probabilities")
    one.add_argument("pairs", nargs="+", metavar="PAIRS", help="files of pairs, labelled or not")
    one.add_argument("-o", "--output", required=True, metavar="OUT", help=_OUTPUT_HELP)
    one.add_argument("--teacher", metavar="DIR|ID", help="cross-encoder to use as teacher (default: none)")
    one.add_argument(
        "--encoder",
        metavar="DIR|ID",
        help="bi-encoder to use as teacher; the labelled pairs calibrate its cosine (default: none)",
    )
    one.add_argument(
        "--pipeline",
        metavar="DIR|ID",
        help="pipeline to use as teacher: both networks in both orders and the IDF overlap, joined by --teacher if it "
        "is given (default: none)",
    )
    one.add_argument(
        "--held-out",
        metavar="FILE",
        help="labelled pairs that fit the weights of the teachers (default: none, needed with --pipeline)",
    )
    one.add_argument(
        "--teacher-weight",
        type=float,
        default=0.7,
        help="weight of the teacher in the soft label of a labelled pair, in [0, 1] (default: 0.7)",
    )
    one.add_argument(
        "--where",
        action="append",
        metavar="COLUMN=VALUE",
        help="use such rows only, in files that have the column (default: all rows)",
    )
    add_pair_options(one)
    one.set_defaults(run=run_soft_labels)

    one = steps.add_parser("contrast", parents=[shared], help="make contrast pairs of nearly the same words")
    one.add_argument("pairs", metavar="PAIRS", help="labelled pairs of a training split, which are rewritten")
    one.add_argument("-o", "--output", required=True, metavar="OUT", help=_OUTPUT_HELP)
    one.add_argument("--per-kind", type=int, default=1000, help="number of pairs of each kind (default: 1000)")
    one.add_argument("--held-out", action="store_true", help="use the words and templates that are reserved for tests")
    one.add_argument("--seed", type=int, default=0, help="seed of the draw (default: 0)")
    add_pair_options(one)
    one.set_defaults(run=run_contrast)

    one = steps.add_parser("implied", parents=[shared], help="make pairs whose label follows from other labels")
    one.add_argument("pairs", metavar="PAIRS", help="labelled pairs of a training split")
    one.add_argument("-o", "--output", required=True, metavar="OUT", help=_OUTPUT_HELP)
    one.add_argument(
        "--per-question",
        type=int,
        default=3,
        metavar="N",
        help="maximum number of new pairs of each label that a question occurs in (default: 3)",
    )
    one.add_argument("--seed", type=int, default=0, help="seed of the draw (default: 0)")
    add_pair_options(one)
    one.set_defaults(run=run_implied)


def run_candidates(args: argparse.Namespace) -> int:
    from dupq.data.pairs import load_pairs
    from dupq.data.writing import output_format, write_rows
    from dupq.models.loading import STOCK, form_of, load_bi_encoder, require_kind
    from dupq.training.teacher import candidate_pairs, check_candidate_options

    check_candidate_options(args.count, args.min_cosine, args.per_question, args.seed)
    output_format(args.output)
    folder = Path(args.bi_encoder)
    if folder.is_dir() and form_of(folder) == STOCK:
        require_kind(folder, "bi-encoder")
    options = pair_options(args)
    pairs = load_pairs(args.pairs, **options)
    print_report(options["report"])
    embedder = load_bi_encoder(form_of(args.bi_encoder), Path(args.bi_encoder))
    with ExitStack() as stack:
        stack.enter_context(_fast_arithmetic())
        progress = stack.enter_context(progress_bar("candidates"))
        found = candidate_pairs(
            pairs,
            embedder,
            args.count,
            min_cosine=args.min_cosine,
            per_question=args.per_question,
            seed=args.seed,
            progress=progress,
        )
    rows = ({"question1": a, "question2": b} for a, b in zip(found.left, found.right, strict=True))
    write_rows(args.output, rows, ["question1", "question2"], escape_formulas=False)
    emit(args, {"pairs": len(found)}, f"{len(found):,} unlabelled pairs -> {args.output}")
    return 0


def run_contrast(args: argparse.Namespace) -> int:
    from dupq.data.arguments import as_int, as_seed
    from dupq.data.pairs import load_pairs
    from dupq.data.writing import output_format, write_rows
    from dupq.training.contrast_sets import KINDS, MAX_PER_KIND, contrast_pairs

    as_int(args.per_kind, "--per-kind", 1, MAX_PER_KIND)
    as_seed(args.seed)
    output_format(args.output)
    options = pair_options(args)
    source = load_pairs(args.pairs, **options)
    print_report(options["report"])
    questions = sorted({*source.left, *source.right})
    made = contrast_pairs(questions, args.per_kind, duplicates=source, held_out=args.held_out, seed=args.seed)
    columns = ["question1", "question2", "label", "kind"]
    values = zip(made.pairs.left, made.pairs.right, made.pairs.labels.tolist(), made.kinds, strict=True)
    write_rows(args.output, (dict(zip(columns, row, strict=True)) for row in values), columns, escape_formulas=False)
    counts = {kind: made.kinds.count(kind) for kind in KINDS}
    emit(args, counts, f"{len(made.kinds):,} contrast pairs of {len(counts)} kinds -> {args.output}")
    return 0


def run_implied(args: argparse.Namespace) -> int:
    from dupq.data.arguments import as_int, as_seed
    from dupq.data.pairs import load_pairs
    from dupq.data.writing import output_format, write_rows
    from dupq.training.implied_labels import implied_pairs

    as_int(args.per_question, "--per-question", 1)
    as_seed(args.seed)
    output_format(args.output)
    options = pair_options(args)
    source = load_pairs(args.pairs, **options)
    print_report(options["report"])
    made = implied_pairs(source, per_question=args.per_question, seed=args.seed)
    columns = ["question1", "question2", "label"]
    values = zip(made.left, made.right, made.labels.tolist(), strict=True)
    write_rows(args.output, (dict(zip(columns, row, strict=True)) for row in values), columns, escape_formulas=False)
    counts = {"duplicates": int((made.labels == 1).sum()), "distinct": int((made.labels == 0).sum())}
    text = f"{counts['duplicates']:,} duplicates and {counts['distinct']:,} distinct pairs -> {args.output}"
    emit(args, counts, text)
    return 0


def run_soft_labels(args: argparse.Namespace) -> int:
    from dupq.data.arguments import as_number
    from dupq.data.writing import output_format
    from dupq.models.loading import require_kind
    from dupq.training.teacher import (
        compute_soft_labels,
        read_mixed,
        write_soft_labels,
    )

    if not (args.encoder or args.teacher or args.pipeline):
        raise InputError("no teacher is given", hint="pass --encoder, or --teacher and/or --pipeline")
    if args.encoder and (args.teacher or args.pipeline):
        raise InputError("--encoder excludes --teacher and --pipeline", hint="give --encoder alone, or leave it out")
    if bool(args.pipeline) != bool(args.held_out):
        raise InputError("--pipeline and --held-out need each other", hint="give both, or another teacher")
    as_number(args.teacher_weight, "teacher_weight", 0, 1)
    output_format(args.output)
    if args.teacher and Path(args.teacher).is_dir():
        require_kind(Path(args.teacher), "cross-encoder")
    if args.encoder and Path(args.encoder).is_dir():
        require_kind(Path(args.encoder), "bi-encoder")
    options = pair_options(args)
    pairs = read_mixed(args.pairs, parse_where(args.where), **options)
    print_report(options["report"])
    output = Path(args.output)
    with ExitStack() as stack:
        stack.enter_context(_fast_arithmetic())
        progress = stack.enter_context(progress_bar("scoring by the teacher", len(pairs)))
        table = compute_soft_labels(
            pairs,
            _teacher(args, pairs),
            teacher_weight=args.teacher_weight,
            checkpoint=output.with_name(f".{output.name}.scores"),
            progress=progress,
        )
    write_soft_labels(output, table)
    data = {
        "pairs": len(pairs),
        "labelled": int((pairs.labels >= 0).sum()),
        "mean_soft_label": float(table.soft_labels.mean()),
    }
    text = f"{data['pairs']:,} pairs, {data['labelled']:,} of them labelled -> {output}"
    emit(args, data, f"{text}; mean soft label {data['mean_soft_label']:.3f}")
    return 0


def _cached_embedder(folder: str, pairs: PairTable) -> Embedder:
    """Return a bi-encoder that embeds each text of the pairs only once."""
    from dupq.models.bi_encoder import BiEncoder
    from dupq.models.embedding_cache import EmbeddingCache

    return EmbeddingCache(BiEncoder(folder), len({*pairs.left, *pairs.right}))


def _teacher(args: argparse.Namespace, pairs: PairTable) -> Scorer:
    """Return the teacher that the options describe.

    Raises:
        InputError: The pipeline has one network only, or the pairs have too few labels to calibrate a cosine.
        LeakError: The held-out pairs hold a question that a network was trained on.
    """
    from dupq.models.cross_encoder import CrossEncoderScorer
    from dupq.models.embedding_cache import EmbeddingCache
    from dupq.training.teacher import cosine_teacher

    if args.encoder:
        return cosine_teacher(pairs, _cached_embedder(args.encoder, pairs))
    if not args.pipeline:
        return CrossEncoderScorer(args.teacher)

    from dupq.data.grouping import refuse_overlap
    from dupq.data.pairs import load_pairs
    from dupq.models.scoring_options import with_symmetry
    from dupq.models.sentence_transformers_io import training_record
    from dupq.pipeline import DuplicatePipeline
    from dupq.training.teacher import fit_stacked_teacher

    pipeline, held_out = DuplicatePipeline.from_pretrained(args.pipeline), load_pairs(args.held_out)
    if pipeline.cross_encoder is None or pipeline.bi_encoder is None:
        raise InputError(
            "the pipeline must hold two networks, got one",
            location=args.pipeline,
            hint="name a pipeline of both, or use --teacher",
        )
    refuse_overlap(pipeline.trained_on, held_out.left, held_out.right, "weigh its networks")
    others = []
    if args.teacher:
        _, trained_on = training_record(Path(args.teacher))
        refuse_overlap(trained_on, held_out.left, held_out.right, "weigh the teacher")
        others.append(CrossEncoderScorer(args.teacher))
    texts = sorted({*pairs.left, *pairs.right})
    embedder = EmbeddingCache(pipeline.bi_encoder, max(1, len(texts)))
    return fit_stacked_teacher(with_symmetry(pipeline.cross_encoder, "both"), embedder, held_out, texts, others=others)


def _fast_arithmetic() -> Any:
    """Return a context that computes in bfloat16 where that is faster.

    A soft label needs only two digits.
    """
    import torch

    from dupq.training.precision import bfloat16_is_faster

    device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.autocast(device, dtype=torch.bfloat16, enabled=bfloat16_is_faster())
