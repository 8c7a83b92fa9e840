"""The commands that adapt, watch and export a pipeline."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dupq.data.pairs import PairTable, load_pairs
from dupq.data.text import fingerprints
from dupq.data.writing import write_rows
from dupq.models.cascade import MAX_AP_LOSS
from dupq.pipeline import DuplicatePipeline
from tests.cli.test_commands import model, run
from tests.test_pipeline import TABLE

__all__ = ["model"]


def labelled_file(path: Path, count: int, folder: Path) -> Path:
    """Labels that are 1 where the pipeline's score is above its median, a fifth of them turned round."""
    scores = DuplicatePipeline.from_pretrained(folder).raw_scores(TABLE.left, TABLE.right)
    labels = (scores > np.median(scores)).astype(int)
    labels[::5] = 1 - labels[::5]
    rows = np.random.default_rng(0).permutation(len(TABLE))[:count]
    write_rows(
        path,
        ({"question1": TABLE.left[i], "question2": TABLE.right[i], "label": int(labels[i])} for i in rows),
        ["question1", "question2", "label"],
    )
    return path


def test_verdicts_adapt_a_pipeline(capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path) -> None:
    verdicts = labelled_file(tmp_path / "verdicts.csv", 60, model)
    before = DuplicatePipeline.from_pretrained(model)
    status, out, err = run(capsys, "calibrate", "--model", model, "--add", verdicts, "-o", tmp_path / "ours", "--json")
    assert status == 0, err
    assert json.loads(out)["verdicts"] == 60
    after = DuplicatePipeline.from_pretrained(tmp_path / "ours")
    assert after.fingerprint == before.fingerprint
    assert after.calibrator != before.calibrator
    assert after.guarantee == json.loads(out)["guarantee"]


def test_without_a_blend_the_cross_encoder_makes_the_score(
    capsys: pytest.CaptureFixture[str], tiny_cross_encoder: Path, tiny_bi_encoder: Path, tmp_path: Path
) -> None:
    pairs = labelled_file(tmp_path / "pairs.csv", 60, tiny_cross_encoder)
    named = ("--bi-encoder", tiny_bi_encoder, "--cross-encoder", tiny_cross_encoder)
    status, _, err = run(capsys, "calibrate", pairs, "-o", tmp_path / "alone", *named)
    assert status == 2
    assert "--no-blend" in err
    status, _, err = run(
        capsys, "calibrate", pairs, "-o", tmp_path / "alone", *named, "--no-blend", "--symmetry", "canonical"
    )
    assert status == 0, err
    pipeline, stock = (DuplicatePipeline.from_pretrained(name) for name in (tmp_path / "alone", tiny_cross_encoder))
    assert pipeline.blend is None
    assert pipeline.bi_encoder is not None
    ours, theirs = (each.raw_scores(TABLE.left, TABLE.right) for each in (pipeline, stock))
    np.testing.assert_allclose(ours, theirs, atol=1e-5)  # a saved network's weights are rounded


def test_a_pipeline_is_blended_anew(
    capsys: pytest.CaptureFixture[str], tiny_cross_encoder: Path, tiny_bi_encoder: Path, tmp_path: Path
) -> None:
    pairs = labelled_file(tmp_path / "pairs.csv", 900, tiny_cross_encoder)
    named = ("--bi-encoder", tiny_bi_encoder, "--cross-encoder", tiny_cross_encoder, "--validation", pairs)
    old = ("--symmetry", "canonical", "--long-texts", "whole", "--long-pairs", "head_and_tail")
    status, _, err = run(capsys, "calibrate", pairs, "-o", tmp_path / "old", *named, *old)
    assert status == 0, err
    anew = ("calibrate", pairs, "-o", tmp_path / "new", "--model", tmp_path / "old")
    assert run(capsys, *anew, "--symmetry", "both")[0] == 2  # a blend of what was read otherwise
    assert run(capsys, *anew, "--reblend")[0] == 2  # on which pairs?
    status, _, err = run(capsys, *anew, "--reblend", "--validation", pairs, "--corpus", pairs)
    assert status == 0, err
    before, after = (DuplicatePipeline.from_pretrained(tmp_path / name) for name in ("old", "new"))
    scoring_options = [(each.cross_encoder.symmetry, each.bi_encoder.long_texts) for each in (before, after)]  # type: ignore[union-attr]
    assert scoring_options == [("canonical", "whole"), ("adaptive", "lead")]
    assert [each.cross_encoder.long_pairs for each in (before, after)] == ["head_and_tail"] * 2  # type: ignore[union-attr]
    assert before.idf_overlap is None
    assert after.blend != before.blend
    adapt_decisions = after.with_blend(load_pairs(pairs), {*TABLE.left, *TABLE.right})
    assert after.idf_overlap == adapt_decisions.idf_overlap
    assert after.blend == pytest.approx(adapt_decisions.blend)


def test_too_few_verdicts_say_how_many_more(capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path) -> None:
    verdicts = labelled_file(tmp_path / "verdicts.csv", 7, model)
    status, _, err = run(capsys, "calibrate", "--model", model, "--add", verdicts, "-o", tmp_path / "ours")
    assert status == 2
    assert "label" in err
    assert not (tmp_path / "ours").exists()


def test_drift_is_quiet_at_home_and_alarms_abroad(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path
) -> None:
    home, abroad = tmp_path / "home.csv", tmp_path / "abroad.csv"
    columns = ["question1", "question2"]
    write_rows(home, ({"question1": a, "question2": b} for a, b in zip(TABLE.left, TABLE.right, strict=True)), columns)
    write_rows(abroad, ({"question1": a, "question2": a} for a in TABLE.left[:300]), columns)
    status, out, _ = run(capsys, "drift", model, home)
    assert status == 0
    assert out.startswith("no drift")
    status, out, _ = run(capsys, "drift", model, abroad, "--json")
    assert status == 1
    assert json.loads(out)["alarm"] is True


def test_export_needs_no_torch_and_decides_alike(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path
) -> None:
    labelled = labelled_file(tmp_path / "labelled.csv", len(TABLE), model)
    status, _, err = run(capsys, "model", "export", model, labelled, "-o", tmp_path / "int8")
    assert status == 0, err
    plain, int8 = (DuplicatePipeline.from_pretrained(folder) for folder in (model, tmp_path / "int8"))
    scores = [pipeline.raw_scores(TABLE.left, TABLE.right) for pipeline in (plain, int8)]
    assert np.corrcoef(*scores)[0, 1] > 0.95
    assert int8.rule.duplicate.policy == plain.rule.duplicate.policy
    status, _, err = run(capsys, "model", "export", tmp_path / "int8", labelled, "-o", tmp_path / "again")
    assert status == 2
    assert "int8 form already" in err
    status, _, err = run(capsys, "model", "export", model, labelled, "--embedding-bits", "4", "-o", tmp_path / "int4")
    assert status == 0, err
    small = DuplicatePipeline.from_pretrained(tmp_path / "int4")
    assert {path.name for path in (tmp_path / "int4").rglob("words_*")} == {"words_int4.safetensors"}
    assert np.corrcoef(scores[0], small.raw_scores(TABLE.left, TABLE.right))[0, 1] > 0.9


def test_export_with_a_cascade(
    capsys: pytest.CaptureFixture[str], tiny_cross_encoder: Path, tiny_bi_encoder: Path, tmp_path: Path
) -> None:
    pipeline = DuplicatePipeline.from_networks(tiny_cross_encoder, tiny_bi_encoder)
    scores = pipeline.raw_scores(TABLE.left, TABLE.right)
    labels = (scores > np.median(scores)).astype(np.int8)
    labels[::9] = 1 - labels[::9]
    pipeline.calibrate(PairTable(TABLE.left, TABLE.right, labels)).save(tmp_path / "whole")
    labelled = labelled_file(tmp_path / "labelled.csv", len(TABLE), tmp_path / "whole")
    status, out, err = run(
        capsys, "model", "export", tmp_path / "whole", labelled, "--cascade", "0.9", "-o", tmp_path / "fast"
    )
    assert status == 0, err
    assert "are decided by the bi-encoder alone" in out
    fast = DuplicatePipeline.from_pretrained(tmp_path / "fast")
    assert fast.is_int8
    assert fast.cascade.min_agreement == 0.9
    assert "cascade" in run(capsys, "model", "inspect", tmp_path / "fast")[1]
    # What is int8 already is given another cascade, and an exported cascade stays one.
    status, out, err = run(
        capsys, "model", "export", tmp_path / "fast", labelled, "--cascade", "-o", tmp_path / "x", "--json"
    )
    assert status == 2
    assert "needs at least" in err
    status, out, err = run(
        capsys, "model", "export", tmp_path / "fast", labelled, "--cascade", "0.8", "-o", tmp_path / "x", "--json"
    )
    assert status == 0, err
    assert json.loads(out)["cascade"]["min_agreement"] == 0.8
    assert json.loads(out)["cascade"]["max_ap_loss"] == MAX_AP_LOSS
    most = "--max-ap-loss", "0.2", "--json"
    status, out, err = run(
        capsys, "model", "export", tmp_path / "fast", labelled, "--cascade", "0.8", *most, "-o", tmp_path / "y"
    )
    assert status == 0, err
    assert json.loads(out)["cascade"]["max_ap_loss"] == 0.2
    status, out, err = run(
        capsys, "model", "export", tmp_path / "whole", labelled, "--max-ap-loss", "0.2", "-o", tmp_path / "z"
    )
    assert (status, (tmp_path / "z").exists()) == (2, False)
    assert "give --cascade too" in err


def test_a_policy_is_chosen_on_the_evidence_of_the_folder(capsys: pytest.CaptureFixture[str], model: Path) -> None:
    pair = ("Who invented chess?", "Is sailing an expensive hobby?")
    asked = ("--model", model, "--json", *pair)
    plain = json.loads(run(capsys, "score", *asked)[1])
    eager = json.loads(run(capsys, "score", "--policy", "recall>=0.6", *asked)[1])
    assert eager["threshold"] != plain["threshold"]
    assert "recall >= 0.6" in eager["guarantee"]
    status, _, err = run(capsys, "score", "--policy", "perfection", *asked)
    assert status == 2
    assert "perfection" in err
    rare = json.loads(run(capsys, "score", "--base-rate", "0.01", *asked)[1])
    assert rare["probability"] < plain["probability"]


def test_pairs_it_was_trained_on_are_refused_or_left_out_and_counted(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path
) -> None:
    pairs = labelled_file(tmp_path / "pairs.csv", 200, model)
    pipeline = DuplicatePipeline.from_pretrained(model)
    some = TABLE.left[int(np.random.default_rng(0).permutation(len(TABLE))[0])]
    replace(pipeline, trained_on=fingerprints([some]), calibrated_on=None).save(tmp_path / "trained")
    status, _, err = run(capsys, "evaluate", tmp_path / "trained", pairs)
    assert status == 2
    assert "hold a question that the network was trained on" in err
    status, out, err = run(capsys, "evaluate", tmp_path / "trained", pairs, "--unseen", "--json")
    assert status == 0, err
    left_out = int(err.split("left out ")[1].split()[0])
    assert left_out >= 1
    assert json.loads(out)["sample"]["pairs"] == 200 - left_out


def test_a_report_is_attached_to_a_local_folder_alone(
    capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = labelled_file(tmp_path / "pairs.csv", 200, model)
    monkeypatch.chdir(tmp_path)
    status, _, err = run(capsys, "evaluate", "me/forum", pairs, "--attach")
    assert status == 2
    assert "me/forum: --attach needs a local pipeline folder" in err
    assert not (tmp_path / "me").exists()


def test_the_candidate_rule_is_fitted_alone(capsys: pytest.CaptureFixture[str], model: Path, tmp_path: Path) -> None:
    pairs, forum = tmp_path / "pairs.csv", tmp_path / "forum.csv"
    asked = [(TABLE.left[at], TABLE.right[at]) for at in np.flatnonzero(TABLE.labels == 1)[:20]]
    write_rows(
        pairs, ({"question1": a, "question2": b, "label": 1} for a, b in asked), ["question1", "question2", "label"]
    )
    write_rows(forum, ({"id": at, "text": text} for at, text in enumerate(TABLE.left)), ["id", "text"])
    fitted = ("calibrate", "--model", model, "--candidates-from", pairs, "-o", tmp_path / "ours")
    status, out, err = run(capsys, *fitted, "--among", forum, "--candidate-recall", "0.7", "--json")
    assert status == 0, err
    before, after = (DuplicatePipeline.from_pretrained(folder) for folder in (model, tmp_path / "ours"))
    assert after.candidate_rule.to_dict() == json.loads(out)
    assert json.loads(out)["recall"] >= 0.7
    assert json.loads(out)["questions"] > 2 * len(asked)
    assert replace(after, candidate_rule=before.candidate_rule) == before
    for arguments, told in (
        ((*fitted, "--candidate-recall", "0"), "candidate_recall must be a number in (0, 1], got 0.0"),
        ((*fitted, "--policy", "f1"), "--policy has no effect with --candidates-from"),
        ((*fitted, "--add", pairs), "--candidates-from excludes --add"),
        ((*fitted, pairs), "--candidates-from excludes PAIRS"),
        (
            ("calibrate", "--cross-encoder", model, "--add", pairs, "-o", tmp_path / "x"),
            "--add excludes --cross-encoder",
        ),
        (("calibrate", pairs, "-o", tmp_path / "x"), "either --model, or"),
        (("calibrate", pairs, "--model", model, "--among", forum, "-o", tmp_path / "x"), "needs --candidates-from"),
    ):
        status, _, err = run(capsys, *arguments)
        assert status == 2
        assert told in err
