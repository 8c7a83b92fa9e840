"""Options out of their range: one clear error before any file is read, and nothing is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dupq.data.splits import SplitSettings, split_file
from dupq.data.stackexchange import pairs_from_stackexchange
from dupq.errors import InputError
from dupq.fit import check_cascade
from dupq.models.loading import network_kind, require_kind
from dupq.pipeline import DuplicatePipeline
from dupq.training.contrast_sets import contrast_pairs
from dupq.training.teacher import candidate_pairs, compute_soft_labels
from tests.cli.test_commands import model, run
from tests.fakes import WordEmbedder, WordScorer
from tests.test_pipeline import TABLE

__all__ = ["model"]

TRAINING = [
    ("--learning-rate", "1e9", "learning_rate"),
    ("--learning-rate", "nan", "learning_rate"),
    ("--learning-rate", "0", "learning_rate"),
    ("--epochs", "0", "epochs"),
    ("--epochs", "inf", "epochs"),
    ("--batch-size", "1", "batch_size"),
    ("--dropout", "1", "dropout"),
    ("--freeze-layers", "-1", "freeze_layers"),
    ("--max-length", "0", "max_length"),
    ("--max-steps", "-5", "max_steps"),
    ("--save-steps", "0", "save_steps"),
    ("--seed", "-1", "seed"),
    ("--seed", "4294967296", "seed"),
]
POLICY = [
    ("--delta", "0", "delta"),
    ("--delta", "1.5", "delta"),
    ("--delta", "nan", "delta"),
    ("--miss-rate", "1", "miss rate"),
    ("--miss-rate", "-0.1", "miss rate"),
    ("--policy", "precision>0.9", "policy"),
    ("--policy", "precision>=90", "precision"),
]


@pytest.mark.parametrize(
    ("command", "option", "value", "printed"),
    [
        *((("train", kind), *case) for kind in ("bi-encoder", "cross-encoder") for case in TRAINING),
        *((("fit",), *case) for case in (*TRAINING, *POLICY)),
        *((("calibrate", "--bi-encoder", "nowhere"), *case) for case in POLICY),
        (("data", "split"), "--seed", "-1", "seed"),
        (("model", "export", "nowhere"), "--cascade", "1", "min_agreement"),
        (("model", "export", "nowhere"), "--cascade", "-0.5", "min_agreement"),
        (("model", "export", "nowhere", "--cascade=0.9"), "--max-ap-loss", "2", "max_ap_loss"),
        (("distill", "candidates", "--bi-encoder", "nowhere"), "--count", "0", "count"),
        (("distill", "candidates", "--bi-encoder", "nowhere"), "--per-question", "6", "per_question"),
        (("distill", "candidates", "--bi-encoder", "nowhere"), "--min-cosine", "2", "min_cosine"),
        (("distill", "candidates", "--bi-encoder", "nowhere"), "--seed", "-1", "seed"),
        (("distill", "contrast"), "--per-kind", "0", "--per-kind"),
        (("distill", "contrast"), "--per-kind", str(10**30), "--per-kind"),
        (("distill", "contrast"), "--seed", "-1", "seed"),
        (("distill", "implied"), "--per-question", "0", "--per-question"),
        (("distill", "implied"), "--seed", "-1", "seed"),
        (("distill", "soft-labels", "--encoder", "nowhere"), "--teacher-weight", "1.1", "teacher_weight"),
        (("model", "reduce", "nowhere"), "--dimensions", "0", "dimensions"),
    ],
)
def test_an_option_out_of_its_range_is_refused_before_anything_is_read(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, command: tuple[str, ...], option: str, value: str, printed: str
) -> None:
    """The file of pairs is not there: an error about it would come first if it were read first."""
    output = tmp_path / "out.jsonl"
    status, out, err = run(capsys, *command, tmp_path / "missing.csv", f"{option}={value}", "-o", output)
    assert (status, out) == (2, "")
    assert printed in err.splitlines()[0]
    assert "must" in err or "unknown policy" in err
    assert "missing.csv" not in err
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_false_alarms_are_a_share(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for value in ("0", "1", "nan", "5"):
        status, _, err = run(capsys, "drift", "nowhere", tmp_path / "missing.csv", "--false-alarm-rate", value)
        assert status == 2
        assert "false-alarm rate must be a number in (0, 1)" in err


@pytest.mark.parametrize(
    "fractions",
    [(0.5, 0.5, 0.5, -0.5), (0.7, 0.1, 0.1, 0.2), (1, 0, 0, 0), (float("nan"), 0.3, 0.3, 0.4), (7, 1, 1, 1)],
)
def test_fractions_are_shares_that_sum_to_1(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, fractions: tuple[float, ...]
) -> None:
    asked = [f"{share:g}" for share in fractions]
    status, _, err = run(
        capsys, "data", "split", "--fractions", *asked, "-o", tmp_path / "s", "--", tmp_path / "missing.csv"
    )
    assert status == 2
    assert "missing.csv" not in err
    assert "fraction" in err
    names = ("train", "validation", "calibration", "test")
    with pytest.raises(InputError, match="fraction"):
        split_file(tmp_path / "missing.csv", tmp_path / "s", SplitSettings(dict(zip(names, fractions, strict=True))))


@pytest.mark.parametrize(
    ("given", "printed"),
    [
        ({"hard": 5}, "hard must be a number in"),
        ({"hard": -0.1}, "hard must be a number in"),
        ({"hard": float("nan")}, "hard must be a number in"),
        ({"hard": "half"}, "hard must be a number in"),
        ({"negatives": -1}, "negatives must be a number in"),
        ({"negatives": float("inf")}, "negatives must be a number in"),
        ({"negatives": None}, "negatives must be a number in"),
        ({"seed": -1}, "seed must be an integer"),
    ],
)
def test_pairs_of_a_dump_are_asked_for_within_reason(tmp_path: Path, given: dict[str, Any], printed: str) -> None:
    with pytest.raises(InputError, match=printed):
        pairs_from_stackexchange(tmp_path / "missing", **given)


@pytest.mark.parametrize("option", [("--hard", "5"), ("--negatives", "-1"), ("--seed", "-1"), ("--hard", "nan")])
def test_the_command_says_so_too(capsys: pytest.CaptureFixture[str], tmp_path: Path, option: tuple[str, str]) -> None:
    status, _, err = run(
        capsys,
        "data",
        "from-stackexchange",
        tmp_path / "missing",
        f"{option[0]}={option[1]}",
        "-o",
        tmp_path / "o.jsonl",
    )
    assert status == 2
    assert f"{option[0][2:]} must be" in err


def test_the_functions_check_what_the_commands_check() -> None:
    with pytest.raises(InputError, match="count must be"):
        candidate_pairs(TABLE, WordEmbedder(), -1)
    with pytest.raises(InputError, match="min_cosine must be"):
        candidate_pairs(TABLE, WordEmbedder(), 5, min_cosine=float("nan"))
    with pytest.raises(InputError, match="per_kind must be"):
        contrast_pairs(["Is go hard?"], 2.5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="teacher_weight must be"):
        compute_soft_labels(TABLE, WordScorer(), teacher_weight=float("nan"))
    for bad in (0, 1, 2, float("nan"), "0.9", None):
        with pytest.raises(InputError, match="min_agreement must be"):
            check_cascade(bad, 0.1)  # type: ignore[arg-type]


# ---- networks of another kind ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", ["bi-encoder", "cross-encoder"])
def test_a_network_of_another_kind_is_refused(
    capsys: pytest.CaptureFixture[str], tiny_bi_encoder: Path, tiny_cross_encoder: Path, tmp_path: Path, named: str
) -> None:
    folders = {"bi-encoder": tiny_bi_encoder, "cross-encoder": tiny_cross_encoder}
    other = "cross-encoder" if named == "bi-encoder" else "bi-encoder"
    assert network_kind(folders[named]) == named
    pairs = tmp_path / "pairs.csv"
    rows = [f'"{a}","{b}",{c}' for a, b, c in zip(TABLE.left, TABLE.right, TABLE.labels, strict=True)]
    pairs.write_text("\n".join(["question1,question2,label", *rows]), encoding="utf-8")
    status, _, err = run(capsys, "calibrate", pairs, f"--{named}", folders[other], "-o", tmp_path / "pipe")
    assert status == 2
    assert f"this must be a {named}, got a {other}" in err
    assert not (tmp_path / "pipe").exists()
    with pytest.raises(InputError, match=f"give it as the {other}"):
        DuplicatePipeline.from_networks(**{named.replace("-", "_"): folders[other]})
    # The right one beside it does not help.
    with pytest.raises(InputError, match=f"this must be a {named}, got"):
        DuplicatePipeline.from_networks(folders[other], folders[other])


def test_pipelines_and_int8_forms_are_no_stock_networks(model: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="got a pipeline folder") as caught:
        DuplicatePipeline.from_networks(bi_encoder=model)
    assert str(caught.value.hint).endswith("/bi-encoder")
    assert DuplicatePipeline.from_networks(bi_encoder=model / "bi-encoder").bi_encoder is not None
    from dupq.pipeline import SHIPPED

    for kind in ("bi-encoder", "cross-encoder"):
        with pytest.raises(InputError, match="got an int8 network"):
            require_kind(SHIPPED / kind, kind)  # type: ignore[arg-type]


def test_distilling_looks_at_its_networks_first(
    capsys: pytest.CaptureFixture[str], tiny_bi_encoder: Path, tiny_cross_encoder: Path, tmp_path: Path
) -> None:
    asked = tmp_path / "missing.csv", "-o", tmp_path / "o.jsonl"
    for command in (
        ("candidates", "--bi-encoder", tiny_cross_encoder),
        ("soft-labels", "--encoder", tiny_cross_encoder),
        ("soft-labels", "--teacher", tiny_bi_encoder),
    ):
        status, _, err = run(capsys, "distill", command[0], *asked, *command[1:])
        assert status == 2
        assert "this must be a" in err


@pytest.mark.parametrize("command", ["calibrate", "model export", "fit", "model to-torch"])
def test_a_folder_that_would_not_be_replaced_is_found_out_first(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, command: str
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "diary.txt").write_text("mine")
    arguments = {
        "calibrate": (tmp_path / "missing.csv", "--model", "nowhere"),
        "model export": ("nowhere", tmp_path / "missing.csv"),
        "fit": (tmp_path / "missing.csv",),
        "model to-torch": ("nowhere",),
    }[command]
    status, _, err = run(capsys, *command.split(), *arguments, "-o", other)
    assert status == 2
    assert "something that is no pipeline folder is there" in err
    assert [path.name for path in tmp_path.iterdir()] == ["other"]


def test_adapting_keeps_the_policies_and_says_so(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path
) -> None:
    for option in (("--policy", "f1"), ("--miss-rate", "0.1"), ("--delta", "0.01")):
        asked = "--model", model, "--add", tmp_path / "missing.csv", *option, "-o", tmp_path / "ours"
        status, _, err = run(capsys, "calibrate", *asked)
        assert status == 2
        assert f"{option[0]} has no effect with --add" in err


def test_delta_is_that_of_something(capsys: pytest.CaptureFixture[str], model: Path) -> None:
    pair = ("Who invented chess?", "Is sailing fun?")
    status, _, err = run(capsys, "score", "--model", model, "--delta", "0.01", *pair)
    assert status == 2
    assert "--delta needs --policy or --miss-rate" in err
    for delta in ("0.01", "0.2"):
        stated = ("--delta", delta, "--miss-rate", "0.4", "--verbose")
        status, out, err = run(capsys, "score", "--model", model, *stated, *pair)
        assert status == 0, err
        assert f"recall >= 0.6 with confidence {1 - float(delta):g}" in out
        status, out, _ = run(capsys, "score", "--model", model, *stated, "--policy", "recall>=0.6", *pair)
        assert out.count(f"recall >= 0.6 with confidence {1 - float(delta):g}") == 2
    assert np.isfinite(DuplicatePipeline.from_pretrained(model).threshold)
