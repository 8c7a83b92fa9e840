"""`dupq index reembed` and `dupq index models`: change an index's model.

Readers and writers can use the index meanwhile.
"""

from __future__ import annotations

import argparse
from typing import Any

from dupq.cli.console import emit, format_table, join_lines, progress_bar
from dupq.cli.index_options import add_index, open_without_model
from dupq.cli.pipeline_options import add_model_options, open_pipeline


def add_actions(actions: Any, shared: argparse.ArgumentParser) -> None:
    """Add the commands below `dupq index`."""
    reembed = actions.add_parser("reembed", parents=[shared], help="switch to another model beside the running index")
    add_index(reembed)
    reembed.add_argument(
        "--drop-old", action="store_true", help="delete the vectors of all other models after the switch"
    )
    add_model_options(reembed)
    reembed.set_defaults(run=run_reembed)

    models = actions.add_parser("models", parents=[shared], help="list the models that have vectors")
    add_index(models)
    models.set_defaults(run=run_models)


def run_reembed(args: argparse.Namespace) -> int:
    from dupq.decisions.decider import embedder_of

    open_without_model(args).close()  # refuses a file that is no index before the model is opened
    pipeline = open_pipeline(args)
    dropped = []
    with open_without_model(args) as index:
        with progress_bar("embedding") as bar:
            embedded = index.reembed(pipeline, progress=bar)
        own = embedder_of(pipeline).fingerprint
        if args.drop_old:
            dropped = [model["fingerprint"] for model in index.stats()["models"] if model["fingerprint"] != own]
            for fingerprint in dropped:
                index.drop_model(fingerprint)
        count, place = len(index), index.location
    text = f"{embedded:,} of {count:,} questions embedded; {place} uses the model {own}"
    text += f"\n{len(dropped)} old models dropped; `dupq index compact` frees their space" if dropped else ""
    emit(args, {"model": own, "embedded": embedded, "questions": count, "dropped": dropped}, text)
    return 0


def run_models(args: argparse.Namespace) -> int:
    with open_without_model(args) as index:
        count, models, place = len(index), index.stats()["models"], index.location
    rows = [
        (
            "in use" if model["present"] else "",
            *(model[name] for name in ("fingerprint", "dimensions", "form")),
            f"{model['embedded']:,} of {count:,}",
        )
        for model in models
    ]
    table = format_table(rows, ("", "model", "dimensions", "vectors", "questions")) if rows else f"{place}: no model"
    emit(args, {"questions": count, "models": models}, join_lines([table]))
    return 0
