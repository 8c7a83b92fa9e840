"""The int8 path: a score is a pair's own, and no torch is loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dupq.errors import InputError, ModelFolderError
from dupq.models.onnx.runtime import (
    BATCH_TOKENS,
    FORMAT,
    MODEL,
    SETTINGS,
    TOKENIZER,
    RuntimeBiEncoder,
    RuntimeCrossEncoder,
    RuntimeNetwork,
    equal_lengths,
    unit_rows,
)
from dupq.models.vocabulary import _largest_token, _load_tokenizer
from dupq.pipeline import DuplicatePipeline
from tests.networks import HIDDEN
from tests.questions import labelled_table

TABLE = labelled_table(24)
LEFT, RIGHT = TABLE.left, TABLE.right
LONG = "How can I learn archery " * 40


@pytest.fixture(scope="module")
def cross_encoder(cross_network: RuntimeNetwork) -> RuntimeCrossEncoder:
    return RuntimeCrossEncoder(cross_network, threads=1)


# ---- a score is a pair's own -----------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, len(LEFT) - 1), min_size=1, max_size=30), st.booleans())
def test_a_score_depends_on_neither_batch_nor_order(
    cross_encoder: RuntimeCrossEncoder, rows: list[int], swapped: bool
) -> None:
    alone = np.array([cross_encoder.score([LEFT[row]], [RIGHT[row]])[0] for row in rows[:3]])
    left, right = [LEFT[row] for row in rows], [RIGHT[row] for row in rows]
    together = cross_encoder.score(right, left) if swapped else cross_encoder.score(left, right)
    assert np.array_equal(together[:3], alone)


def test_an_embedding_depends_on_no_neighbour(bi_network: RuntimeNetwork) -> None:
    encoder = RuntimeBiEncoder(bi_network, threads=1)
    together = encoder.embed([*LEFT, *LEFT[:5], LONG])
    assert together.shape == (len(LEFT) + 6, encoder.dimensions)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)
    assert np.array_equal(together[:5], together[-6:-1])
    for row in (0, 7, -1):
        assert np.array_equal(encoder.embed([[*LEFT, LONG][row]])[0], together[row if row >= 0 else -1])


def test_threads_change_nothing(cross_network: RuntimeNetwork) -> None:
    one, three = (RuntimeCrossEncoder(cross_network, threads=threads).score(LEFT, RIGHT) for threads in (1, 3))
    np.testing.assert_allclose(one, three, atol=1e-5, rtol=0)


def test_a_recurring_pair_is_scored_once(cross_network: RuntimeNetwork) -> None:
    encoder = RuntimeCrossEncoder(cross_network)
    seen: list[tuple[int, int]] = []
    scores = encoder.score([*LEFT, *RIGHT], [*RIGHT, *LEFT], progress=lambda done, total: seen.append((done, total)))
    assert np.array_equal(scores[: len(LEFT)], scores[len(LEFT) :])
    distinct = len({frozenset(pair) for pair in zip(LEFT, RIGHT, strict=True)})
    assert seen[-1] == (distinct, distinct)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})


def test_nothing_to_score(cross_network: RuntimeNetwork, bi_network: RuntimeNetwork) -> None:
    assert RuntimeCrossEncoder(cross_network).score([], []).shape == (0,)
    assert RuntimeBiEncoder(bi_network).embed([]).shape == (0, HIDDEN)
    with pytest.raises(InputError, match="must have the same length, got 2 and 1"):
        RuntimeCrossEncoder(cross_network).score(["a", "b"], ["a"])


@given(st.lists(st.integers(1, 3000), min_size=1, max_size=200))
def test_equal_lengths_hold_equal_lengths_and_bounded_tokens(lengths: list[int]) -> None:
    batches = list(equal_lengths(np.array(lengths, dtype=np.int64)))
    assert sorted(int(row) for rows in batches for row in rows) == list(range(len(lengths)))
    for rows in batches:
        assert len({lengths[row] for row in rows}) == 1
        assert len(rows) == 1 or sum(lengths[row] for row in rows) <= BATCH_TOKENS


def test_more_inputs_than_a_window_come_in_windows(bi_network: RuntimeNetwork, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = RuntimeBiEncoder(bi_network).embed(LEFT)
    monkeypatch.setattr("dupq.models.onnx.runtime._WINDOW", 7)
    assert np.array_equal(RuntimeBiEncoder(bi_network).embed(LEFT), whole)


def test_no_torch_is_loaded(cross_network: RuntimeNetwork, tmp_path: Path) -> None:
    cross_network.save(tmp_path / "network")
    code = (
        "import sys\n"
        "from dupq.models.loading import load_cross_encoder\n"
        "from pathlib import Path\n"
        "scorer = load_cross_encoder('onnx-int8', Path(sys.argv[1]))\n"
        "scorer.score(['Who invented chess?'], ['Is chess fun?'])\n"
        "heavy = {'torch', 'transformers', 'sentence_transformers', 'sklearn', 'scipy', 'pandas', 'onnx', 'pyarrow'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "network")], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("[]\n", "", 0)


# ---- the folder ------------------------------------------------------------------------------------------------------


def test_saved_and_opened_again_it_is_the_same(cross_network: RuntimeNetwork, tmp_path: Path) -> None:
    encoder = RuntimeCrossEncoder(cross_network)
    encoder.save(tmp_path / "network")
    again = RuntimeCrossEncoder(tmp_path / "network")
    assert again.network.settings == cross_network.settings
    assert again.fingerprint == encoder.fingerprint
    assert np.array_equal(again.score(LEFT, RIGHT), encoder.score(LEFT, RIGHT))


def test_another_network_has_another_fingerprint(cross_network: RuntimeNetwork, bi_network: RuntimeNetwork) -> None:
    shorter = RuntimeNetwork(cross_network.model, cross_network.tokenizer, {**cross_network.settings, "max_length": 9})
    assert len({cross_network.fingerprint, bi_network.fingerprint, shorter.fingerprint}) == 3


@pytest.mark.parametrize("name", [MODEL, TOKENIZER, SETTINGS])
def test_a_damaged_folder_is_refused(cross_network: RuntimeNetwork, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "network"
    cross_network.save(folder)
    (folder / name).write_bytes((folder / name).read_bytes()[:-40])
    with pytest.raises(ModelFolderError, match=name.replace(".", r"\.")):
        RuntimeCrossEncoder(folder)
    (folder / name).unlink()
    with pytest.raises(ModelFolderError, match=name.replace(".", r"\.")):
        RuntimeCrossEncoder(folder)


def test_a_newer_format_and_the_wrong_kind_are_refused(cross_network: RuntimeNetwork, tmp_path: Path) -> None:
    folder = tmp_path / "network"
    cross_network.save(folder)
    with pytest.raises(ModelFolderError, match="this must be a bi-encoder, got a cross-encoder"):
        RuntimeBiEncoder(folder)
    (folder / SETTINGS).write_text(json.dumps({**cross_network.settings, "format": FORMAT + 1}))
    with pytest.raises(ModelFolderError, match="is newer than 2, that of this dupq"):
        RuntimeCrossEncoder(folder)
    (folder / SETTINGS).write_text("[]")
    with pytest.raises(ModelFolderError, match="damaged"):
        RuntimeCrossEncoder(folder)


def test_unit_rows_leaves_a_row_of_zeros() -> None:
    vectors = unit_rows(np.array([[3, 4], [0, 0]], dtype=np.float32))
    np.testing.assert_allclose(vectors, [[0.6, 0.8], [0, 0]], atol=1e-7)


def test_the_networks_of_a_pipeline_share_one_tokenizer() -> None:
    _load_tokenizer.cache_clear()
    _largest_token.cache_clear()
    pipeline = DuplicatePipeline.from_pretrained()
    assert pipeline.score("How old are you?", "What is your age?").warnings == ()
    networks = [pipeline.cross_encoder, pipeline.bi_encoder]
    assert all(isinstance(network, (RuntimeCrossEncoder, RuntimeBiEncoder)) for network in networks)
    assert len({id(network._runner.tokenizer) for network in networks}) == 1
    assert _load_tokenizer.cache_info().misses == _largest_token.cache_info().misses == 1
