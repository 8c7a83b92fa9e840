"""The table of words of an exported network: rounded row by row, shared where it is the same, refused where damaged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from safetensors.numpy import save_file

from dupq.errors import ModelFolderError
from dupq.models.export import export
from dupq.models.runtime import FORMAT, SETTINGS, RuntimeBiEncoder, RuntimeCrossEncoder, RuntimeNetwork
from dupq.models.words import PLACE, WORDS, Words, share_words
from tests.questions import labelled_table

TABLE = labelled_table(24)
LEFT, RIGHT = TABLE.left, TABLE.right


@pytest.fixture(scope="module")
def network(tiny_cross_encoder: Path) -> RuntimeNetwork:
    return export(tiny_cross_encoder, LEFT, RIGHT)


@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 9), st.integers(1, 9)),
        elements=st.floats(-99, 99, width=32, allow_subnormal=False),
    )
)
def test_a_word_is_off_by_half_a_step_at_most(table: NDArray[np.float32]) -> None:
    words = Words.rounded(table)
    assert np.all(np.abs(words.rows * words.scales - table) <= 0.5001 * words.scales + 1e-6)
    largest = np.abs(table).max(axis=1)
    np.testing.assert_allclose(np.abs(words.rows).max(axis=1) * words.scales[:, 0], largest, rtol=1e-5, atol=1e-12)


def test_two_networks_of_one_table_share_a_file(network: RuntimeNetwork, tiny_bi_encoder: Path, tmp_path: Path) -> None:
    bi_encoder = replace(export(tiny_bi_encoder, LEFT, RIGHT), words=network.words)
    one, other = RuntimeCrossEncoder(network), RuntimeBiEncoder(bi_encoder)
    one.save(tmp_path / "cross-encoder")
    other.save(tmp_path / "bi-encoder")
    share_words(tmp_path / "cross-encoder", tmp_path / "bi-encoder", SETTINGS)
    assert [path.parent.name for path in tmp_path.rglob(WORDS)] == ["bi-encoder"]
    again = RuntimeCrossEncoder(tmp_path / "cross-encoder")
    assert again.fingerprint == one.fingerprint
    assert np.array_equal(again.score(LEFT, RIGHT), one.score(LEFT, RIGHT))
    assert np.array_equal(RuntimeBiEncoder(tmp_path / "bi-encoder").embed(LEFT), other.embed(LEFT))
    again.save(tmp_path / "apart")  # what is saved from a folder that shares is whole
    assert np.array_equal(RuntimeCrossEncoder(tmp_path / "apart").score(LEFT, RIGHT), one.score(LEFT, RIGHT))


def test_other_words_are_not_shared_and_make_another_network(network: RuntimeNetwork, tmp_path: Path) -> None:
    assert network.words is not None
    other = replace(network, words=Words(network.words.rows, network.words.scales * 2))
    assert other.fingerprint != network.fingerprint
    for name, each in (("one", network), ("other", other)):
        each.save(tmp_path / name)
    share_words(tmp_path / "one", tmp_path / "other", SETTINGS)
    assert len(list(tmp_path.rglob(WORDS))) == 2


def test_a_damaged_or_missing_table_is_refused(network: RuntimeNetwork, tmp_path: Path) -> None:
    network.save(tmp_path)
    whole = (tmp_path / WORDS).read_bytes()
    save_file({"rows": np.zeros((3, 4), dtype=np.int8), "scales": np.ones(3, dtype=np.float32)}, tmp_path / "flat")
    for content in (whole[:-9], b"", (tmp_path / "flat").read_bytes()):
        (tmp_path / WORDS).write_bytes(content)
        with pytest.raises(ModelFolderError, match=WORDS):
            RuntimeCrossEncoder(tmp_path)
    (tmp_path / WORDS).unlink()
    with pytest.raises(ModelFolderError, match=WORDS):
        RuntimeCrossEncoder(tmp_path)


@pytest.mark.parametrize("place", ["/etc/passwd", "../../words_int8.safetensors", "other.safetensors", 7])
def test_words_are_read_from_nowhere_else(network: RuntimeNetwork, tmp_path: Path, place: object) -> None:
    network.save(tmp_path)
    (tmp_path / SETTINGS).write_text(json.dumps({**network.settings, PLACE: place}))
    with pytest.raises(ModelFolderError, match="its words lie in"):
        RuntimeCrossEncoder(tmp_path)


def test_an_older_format_is_refused(network: RuntimeNetwork, tmp_path: Path) -> None:
    network.save(tmp_path)
    (tmp_path / SETTINGS).write_text(json.dumps({**network.settings, "format": FORMAT - 1}))
    with pytest.raises(ModelFolderError, match="older than this dupq knows\n  -> export it again"):
        RuntimeCrossEncoder(tmp_path)
