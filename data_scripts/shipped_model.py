"""Makes the model that ships with the package, by the commands a user has, and nothing else.

    python data_scripts/shipped_model.py --pairs qqp_open.tsv.xz --base all-MiniLM-L6-v2 --work DIR \\
        --elsewhere PAWS-Wiki=paws_wiki_dev.tsv.xz --elsewhere MRPC=mrpc_test.tsv.xz

`--pairs`: Quora Question Pairs with the columns question1, question2, is_duplicate and natural (see README.md here).
`--base`: folder or Hub id of the encoder to start from. `--work`: where splits, networks and checkpoints go; an
interrupted run goes on from there. `--elsewhere`: labelled pairs of another data set, by the name that it has on the
card; may be given several times. The last step writes `dupq/pretrained/` and its card.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from dupq.cli.main import main as dupq

ROOT = Path(__file__).resolve().parent.parent
PRETRAINED = ROOT / "dupq" / "pretrained"
ABOUT = Path(__file__).with_suffix(".json")
CARD = ROOT / "model_cards" / "dupq-quora-minilm.md"


def run(*arguments: str | Path) -> None:
    """One dupq command; stops at the first that fails."""
    print("$ dupq", *arguments, flush=True)
    if dupq([str(argument) for argument in arguments]):
        sys.exit(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", required=True)
    parser.add_argument("--base", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--elsewhere", action="append", default=[], metavar="NAME=PAIRS")
    args = parser.parse_args()
    others = [told.partition("=")[::2] for told in args.elsewhere]
    if not all(name and Path(pairs).is_file() for name, pairs in others):
        parser.error("--elsewhere takes NAME=PAIRS, PAIRS being a file")
    splits, stock, shipped = (args.work / name for name in ("splits", "pipeline", "pipeline-int8"))
    bi_encoder, cross_encoder = args.work / "bi-encoder", args.work / "cross-encoder"
    members = [args.work / "cross-encoder-1", args.work / "cross-encoder-2"]
    # Rows that are all duplicates shift the base rate: they train the bi-encoder, and never calibrate or test.
    run("split", args.pairs, "-o", splits, "--held-out-where", "natural=1")
    run("train", "bi-encoder", splits, "-o", bi_encoder, "--base", args.base, "--epochs", "2", "--batch-size", "128")
    pairs = ("train", "cross-encoder", splits, "--base", bi_encoder, "--where", "natural=1")
    run(*pairs, "-o", members[0])
    run(*pairs, "-o", members[1], "--epochs", "2", "--learning-rate", "5e-5", "--dropout", "0.1")
    run("average", "cross-encoder", *members, "-o", cross_encoder)
    networks = ("--bi-encoder", bi_encoder, "--cross-encoder", cross_encoder)
    run("calibrate", splits, "-o", stock, *networks, "--miss-rate", "0.05")
    run("export", stock, splits, "-o", shipped)
    run("evaluate", shipped, splits, "--attach")
    reports: list[str] = []
    for number, (name, pairs) in enumerate(others):
        report = args.work / f"elsewhere-{number}.json"
        run("evaluate", shipped, pairs, "-o", report, "--skip-bad")
        reports += ["--elsewhere", f"{name}={report}"]
    run("card", shipped, "--about", ABOUT, *reports)
    shutil.rmtree(PRETRAINED, ignore_errors=True)
    shutil.copytree(shipped, PRETRAINED)
    run("card", PRETRAINED, "-o", CARD)


if __name__ == "__main__":
    main()
