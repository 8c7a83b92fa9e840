"""The stock networks behind dupq's scorers: symmetric, indifferent to their batch, and still stock when saved."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers import CrossEncoder, SentenceTransformer

from dupq.errors import InputError, ModelFolderError
from dupq.models.batching import UniquePairs
from dupq.models.bi_encoder import BiEncoder
from dupq.models.cross_encoder import CrossEncoderScorer
from dupq.models.ensemble import CosineScorer
from dupq.models.loading import STOCK, load_bi_encoder, load_cross_encoder
from dupq.models.sentence_transformers_io import round_weights
from dupq.types import Scorer
from tests.questions import labelled_table

TABLE = labelled_table(12)


@pytest.fixture(params=["canonical", "adaptive", "both", "cosine"])
def scorer(request: pytest.FixtureRequest, tiny_cross_encoder: Path, tiny_bi_encoder: Path) -> Scorer:
    if request.param == "cosine":
        return CosineScorer(BiEncoder(tiny_bi_encoder, batch_size=16))
    return CrossEncoderScorer(tiny_cross_encoder, symmetry=request.param, batch_size=16)


def test_a_pair_has_no_order_to_the_last_bit(scorer: Scorer) -> None:
    assert np.array_equal(scorer.score(TABLE.left, TABLE.right), scorer.score(TABLE.right, TABLE.left))


def test_a_score_does_not_depend_on_its_batch(scorer: Scorer) -> None:
    together = scorer.score(TABLE.left, TABLE.right)
    alone = [scorer.score([a], [b])[0] for a, b in zip(TABLE.left[:30], TABLE.right[:30], strict=True)]
    assert np.abs(together[:30] - alone).max() < 1e-5
    shuffled = np.random.default_rng(0).permutation(len(TABLE))
    other = scorer.score([TABLE.left[i] for i in shuffled], [TABLE.right[i] for i in shuffled])
    assert np.array_equal(other, together[shuffled])


def test_repeated_pairs_get_one_score(scorer: Scorer) -> None:
    scores = scorer.score(TABLE.left[:3] * 2, TABLE.right[:3] * 2)
    assert np.array_equal(scores[:3], scores[3:])
    assert scorer.score([], []).shape == (0,)


def test_progress_ends_at_the_total(tiny_cross_encoder: Path) -> None:
    seen: list[tuple[int, int]] = []
    CrossEncoderScorer(tiny_cross_encoder, batch_size=1).score(
        TABLE.left, TABLE.right, lambda done, total: seen.append((done, total))
    )
    assert seen[-1][0] == seen[-1][1]
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_scores_are_the_stock_logits(tiny_cross_encoder: Path) -> None:
    unique = UniquePairs.of(TABLE.left, TABLE.right)
    stock = CrossEncoder(str(tiny_cross_encoder), device="cpu").predict(
        list(zip(unique.left, unique.right, strict=True)), activation_fn=torch.nn.Identity()
    )
    ours = CrossEncoderScorer(tiny_cross_encoder).score(TABLE.left, TABLE.right)
    assert np.abs(stock[unique.inverse] - ours).max() < 1e-5
    # The trap: left to itself, a stock cross-encoder squashes its logits.
    squashed = CrossEncoder(str(tiny_cross_encoder), device="cpu").predict(
        list(zip(unique.left, unique.right, strict=True))
    )
    assert np.allclose(squashed, 1 / (1 + np.exp(-stock)), atol=1e-6)


def test_embeddings_are_the_stock_ones_at_unit_length(tiny_bi_encoder: Path) -> None:
    ours = BiEncoder(tiny_bi_encoder)
    vectors = ours.embed(TABLE.left)
    stock = SentenceTransformer(str(tiny_bi_encoder), device="cpu").encode(TABLE.left, normalize_embeddings=True)
    assert np.abs(vectors - stock).max() < 1e-6
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert vectors.dtype == np.float32
    assert ours.embed([]).shape == (0, ours.dimensions)


def test_saved_in_half_the_space_without_loss(tiny_cross_encoder: Path, tmp_path: Path) -> None:
    scorer = CrossEncoderScorer(tiny_cross_encoder)
    before = scorer.score(TABLE.left, TABLE.right)
    round_weights(scorer.model)
    rounded = scorer.score(TABLE.left, TABLE.right)
    assert not np.array_equal(before, rounded)
    scorer.save(tmp_path / "saved")
    again = CrossEncoderScorer(tmp_path / "saved")
    assert np.array_equal(again.score(TABLE.left, TABLE.right), rounded)
    assert again.fingerprint == scorer.fingerprint
    whole = (tiny_cross_encoder / "model.safetensors").stat().st_size
    assert (tmp_path / "saved" / "model.safetensors").stat().st_size < 0.7 * whole
    assert next(CrossEncoder(str(tmp_path / "saved"), device="cpu").parameters()).dtype == torch.float32


def test_weights_that_float16_cannot_hold_are_kept_whole(tiny_bi_encoder: Path, tmp_path: Path) -> None:
    scorer = BiEncoder(tiny_bi_encoder)
    scorer.save(tmp_path / "saved")
    assert np.array_equal(BiEncoder(tmp_path / "saved").embed(TABLE.left), scorer.embed(TABLE.left))


def test_fingerprint_moves_with_any_weight(tiny_bi_encoder: Path) -> None:
    first, second = BiEncoder(tiny_bi_encoder), BiEncoder(tiny_bi_encoder)
    assert first.fingerprint == second.fingerprint
    third = BiEncoder(tiny_bi_encoder)
    with torch.no_grad():
        next(third.model.parameters()).view(-1)[0].add_(1e-3)
    assert third.fingerprint != first.fingerprint


def test_two_outputs_are_refused(tiny_base: Path, tmp_path: Path) -> None:
    CrossEncoder(str(tiny_base), num_labels=2, device="cpu").save_pretrained(str(tmp_path / "two"))
    with pytest.raises(ModelFolderError, match="must have 1 output, got 2"):
        CrossEncoderScorer(tmp_path / "two")


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("modules.json", lambda content: [{**content[0], "type": "os.path.Module"}, *content[1:]]),
        ("config.json", lambda content: {**content, "auto_map": {"AutoModel": "evil.Model"}}),
        ("tokenizer_config.json", lambda content: {**content, "auto_map": {"AutoTokenizer": ["evil.T", None]}}),
    ],
)
def test_a_folder_with_code_of_its_own_is_refused(tiny_bi_encoder: Path, tmp_path: Path, name: str, change) -> None:  # type: ignore[no-untyped-def]
    import shutil

    folder = tmp_path / "foreign"
    shutil.copytree(tiny_bi_encoder, folder)
    content = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(change(content)))
    with pytest.raises(ModelFolderError, match=name.replace(".", r"\.")):
        BiEncoder(folder)


def test_a_damaged_network_is_told_by_name(tiny_bi_encoder: Path, tmp_path: Path) -> None:
    import shutil

    folder = tmp_path / "short"
    shutil.copytree(tiny_bi_encoder, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelFolderError, match="cannot be opened"):
        BiEncoder(folder)


# ---- what they run on ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "device", "threads", "said"),
    [
        ("onnx-int8", "cuda", None, "an int8 network runs on the processor only"),
        ("sentence-transformers", "cuda", None, "no CUDA device"),
        ("sentence-transformers", "cuda:1", 2, "no CUDA device"),
        ("sentence-transformers", "tpu", None, "device must be cpu or cuda, got 'tpu'"),
        ("onnx-int8", None, 0, "threads must be .* got 0"),
    ],
)
def test_what_cannot_run_is_told_in_one_error(
    monkeypatch: pytest.MonkeyPatch, form: str, device: str | None, threads: int | None, said: str
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for opened in (load_cross_encoder, load_bi_encoder):
        with pytest.raises(InputError, match=said):
            opened(form, Path("nowhere"), device, threads)


def test_torch_is_given_its_threads(tiny_bi_encoder: Path) -> None:
    import torch

    before = torch.get_num_threads()
    try:
        load_bi_encoder(STOCK, tiny_bi_encoder, "cpu", before + 1)
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)


def test_half_precision_gives_unit_vectors_and_like_scores(tiny_bi_encoder: Path, tiny_cross_encoder: Path) -> None:
    vectors = BiEncoder(tiny_bi_encoder, device="cpu", half=True).embed(TABLE.left[:40])
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(vectors, BiEncoder(tiny_bi_encoder, device="cpu").embed(TABLE.left[:40]), atol=5e-3)
    left, right = TABLE.left[:40], TABLE.right[:40]
    half = CrossEncoderScorer(tiny_cross_encoder, device="cpu", half=True).score(left, right)
    np.testing.assert_allclose(half, CrossEncoderScorer(tiny_cross_encoder, device="cpu").score(left, right), atol=5e-3)
