"""`dupq distil candidates|contrast|targets`: what a student can learn beside the labelled pairs."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dupq.cli.console import add_reading_options, emit, parse_where, progress_bar, reading_options, report_skipped
from dupq.errors import InputError

if TYPE_CHECKING:
    from dupq.data.splits import PairTable
    from dupq.models.scorers import Embedder, Scorer


def add_commands(commands: Any, shared: argparse.ArgumentParser) -> None:
    distil = commands.add_parser("distil", help="have a large network teach a small one")
    steps = distil.add_subparsers(dest="step", required=True, metavar="candidates|contrast|targets")
    one = steps.add_parser("candidates", parents=[shared], help="draw unlabelled pairs that a bi-encoder finds alike")
    one.add_argument("pairs", help="labelled pairs of a training split")
    one.add_argument("-o", "--output", required=True, metavar="FILE")
    one.add_argument("--bi-encoder", required=True, metavar="DIR|ID", help="what finds the neighbours; int8 is faster")
    one.add_argument("--count", type=int, default=50_000, help="pairs to draw (default: 50000)")
    one.add_argument(
        "--least-cosine", type=float, default=-1.0, metavar="-1..1", help="leave out pairs less alike than this"
    )
    one.add_argument("--per-question", type=int, default=1, metavar="1..5", help="of how many near neighbours (1)")
    one.add_argument("--seed", type=int, default=0)
    add_reading_options(one)
    one.set_defaults(run=run_candidates)

    one = steps.add_parser("contrast", parents=[shared], help="make pairs of nearly the same words, labelled by rule")
    one.add_argument("pairs", help="pairs of a training split; their questions are rewritten")
    one.add_argument("-o", "--output", required=True, metavar="FILE")
    one.add_argument("--per-kind", type=int, default=1000, help="pairs of each kind (default: 1000)")
    one.add_argument("--held-out", action="store_true", help="the words and templates that are kept out of training")
    one.add_argument("--seed", type=int, default=0)
    add_reading_options(one)
    one.set_defaults(run=run_contrast)

    one = steps.add_parser("targets", parents=[shared], help="have a teacher say how likely each pair is a duplicate")
    one.add_argument("pairs", nargs="+", help="files of pairs, labelled or not")
    one.add_argument("-o", "--output", required=True, metavar="FILE")
    one.add_argument("--teacher", metavar="DIR|ID", help="a trained cross-encoder")
    one.add_argument(
        "--encoder", metavar="DIR|ID", help="a bi-encoder; the labels among the pairs make its cosine a probability"
    )
    one.add_argument(
        "--pipeline",
        metavar="DIR|ID",
        help="both networks of a pipeline, in both orders, and the words a pair shares; --teacher may join them",
    )
    one.add_argument("--held-out", metavar="FILE", help="with --pipeline: labelled pairs that set the weights of these")
    one.add_argument(
        "--cosine-of", metavar="DIR|ID", help="mix this bi-encoder's cosine into the targets of one that is to learn"
    )
    one.add_argument("--cosine-share", type=float, default=0.2, metavar="0..1", help="its share in them (0.2)")
    one.add_argument("--trust", type=float, default=0.7, help="the teacher's share in a labelled pair's target (0.7)")
    one.add_argument(
        "--where", action="append", metavar="COLUMN=VALUE", help="such rows only, of files with the column"
    )
    one.set_defaults(run=run_targets)


def run_candidates(args: argparse.Namespace) -> int:
    from dupq.data.splits import load_pairs
    from dupq.models.networks import form_of, open_bi_encoder
    from dupq.training.distillation import candidate_pairs

    options = reading_options(args)
    pairs = load_pairs(args.pairs, **options)
    report_skipped(options["skipped"])
    embedder = open_bi_encoder(form_of(args.bi_encoder), Path(args.bi_encoder))
    with ExitStack() as stack:
        stack.enter_context(_fast_arithmetic())
        progress = stack.enter_context(progress_bar("candidates"))
        found = candidate_pairs(
            pairs,
            embedder,
            args.count,
            least_cosine=args.least_cosine,
            per_question=args.per_question,
            seed=args.seed,
            progress=progress,
        )
    _write_unlabelled(args.output, found)
    emit(args, {"pairs": len(found)}, f"{len(found):,} unlabelled pairs -> {args.output}")
    return 0


def _write_unlabelled(path: str, pairs: Any) -> None:
    from dupq.data.writing import write_rows

    rows = ({"question1": a, "question2": b} for a, b in zip(pairs.left, pairs.right, strict=True))
    write_rows(path, rows, ["question1", "question2"])


def run_contrast(args: argparse.Namespace) -> int:
    from dupq.data.splits import load_pairs
    from dupq.data.writing import write_rows
    from dupq.training.contrast import KINDS, contrast_pairs

    options = reading_options(args)
    source = load_pairs(args.pairs, **options)
    report_skipped(options["skipped"])
    made = contrast_pairs(sorted({*source.left, *source.right}), args.per_kind, held_out=args.held_out, seed=args.seed)
    columns = ["question1", "question2", "label", "kind"]
    values = zip(made.pairs.left, made.pairs.right, made.pairs.labels.tolist(), made.kinds, strict=True)
    write_rows(args.output, (dict(zip(columns, row, strict=True)) for row in values), columns)
    counts = {kind: made.kinds.count(kind) for kind in KINDS}
    emit(args, counts, f"{len(made.kinds):,} contrast pairs of {len(counts)} kinds -> {args.output}")
    return 0


def run_targets(args: argparse.Namespace) -> int:
    from dupq.training.distillation import read_mixed, teacher_targets, write_targets

    if bool(args.encoder) == bool(args.teacher or args.pipeline):
        raise InputError(
            "who is to judge the pairs is not clear", mend="give --encoder, or --teacher, --pipeline or both of them"
        )
    if bool(args.pipeline) != bool(args.held_out):
        raise InputError("--pipeline and --held-out go together", mend="give both, or another teacher")
    pairs = read_mixed(args.pairs, parse_where(args.where))
    output = Path(args.output)
    with ExitStack() as stack:
        stack.enter_context(_fast_arithmetic())
        progress = stack.enter_context(progress_bar("judged by the teacher", len(pairs)))
        table = teacher_targets(
            pairs,
            _teacher(args, pairs),
            trust=args.trust,
            cosine_of=_embedder(args.cosine_of, pairs) if args.cosine_of else None,
            cosine_share=args.cosine_share,
            work=output.with_name(f".{output.name}.scores"),
            progress=progress,
        )
    write_targets(output, table)
    data = {"pairs": len(pairs), "labelled": int((pairs.labels >= 0).sum()), "mean_target": float(table.targets.mean())}
    told = f"{data['pairs']:,} pairs, {data['labelled']:,} of them labelled -> {output}"
    emit(args, data, f"{told}; mean target {data['mean_target']:.3f}")
    return 0


def _embedder(folder: str, pairs: PairTable) -> Embedder:
    from dupq.models.bi_encoder import BiEncoder
    from dupq.models.caching import CachedEmbedder

    # A text stands in several pairs, mostly far apart.
    return CachedEmbedder(BiEncoder(folder), len({*pairs.left, *pairs.right}))


def _teacher(args: argparse.Namespace, pairs: PairTable) -> Scorer:
    from dupq.models.caching import CachedEmbedder
    from dupq.models.cross_encoder import CrossEncoderScorer
    from dupq.training.distillation import cosine_teacher

    if not args.pipeline and args.teacher:
        return CrossEncoderScorer(args.teacher)
    texts = sorted({*pairs.left, *pairs.right})
    if args.encoder:
        return cosine_teacher(pairs, _embedder(args.encoder, pairs))

    from dupq.data.grouping import refuse_overlap
    from dupq.data.splits import load_pairs
    from dupq.models.networks import with_symmetry
    from dupq.models.stock import training_record
    from dupq.pipeline import DuplicatePipeline
    from dupq.training.stacked_teacher import stacked_teacher

    pipeline, held_out = DuplicatePipeline.from_pretrained(args.pipeline), load_pairs(args.held_out)
    if pipeline.cross_encoder is None or pipeline.bi_encoder is None:
        raise InputError("it holds one network", where=args.pipeline, mend="name a pipeline of both, or use --teacher")
    refuse_overlap(pipeline.trained_on, held_out.left, held_out.right, "weigh its networks")
    others = []
    if args.teacher:
        _, trained_on = training_record(Path(args.teacher))
        refuse_overlap(trained_on, held_out.left, held_out.right, "weigh the teacher")
        others.append(CrossEncoderScorer(args.teacher))
    embedder = CachedEmbedder(pipeline.bi_encoder, max(1, len(texts)))
    return stacked_teacher(with_symmetry(pipeline.cross_encoder, "both"), embedder, held_out, texts, others=others)


def _fast_arithmetic() -> Any:
    """bfloat16 where that is faster: a target needs two digits."""
    import torch

    from dupq.training.precision import bfloat16_is_faster

    device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.autocast(device, dtype=torch.bfloat16, enabled=bfloat16_is_faster())
