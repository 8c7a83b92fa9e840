"""The table of words of an exported network: rounded row by row, shared where it is the same, refused where damaged."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from safetensors.numpy import save_file

from dupq.errors import ModelFolderError
from dupq.models.onnx.embedding_table import (
    PACKED_TABLE_FILE,
    TABLE_FILE,
    TABLE_KEY,
    EmbeddingTable,
    share_table,
)
from dupq.models.onnx.export import export
from dupq.models.onnx.runtime import (
    FORMAT,
    SETTINGS,
    RuntimeBiEncoder,
    RuntimeCrossEncoder,
    RuntimeNetwork,
)
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
    words = EmbeddingTable.quantised(table)
    assert np.all(np.abs(words.rows * words.scales - table) <= 0.5001 * words.scales + 1e-6)
    largest = np.abs(table).max(axis=1)
    np.testing.assert_allclose(np.abs(words.rows).max(axis=1) * words.scales[:, 0], largest, rtol=1e-5, atol=1e-12)


@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 9), st.integers(1, 5).map(lambda half: 2 * half)),
        elements=st.floats(-99, 99, width=32, allow_subnormal=False),
    )
)
def test_four_bits_err_no_more_than_their_largest_value_asks_and_are_rounded_once(table: NDArray[np.float32]) -> None:
    words = EmbeddingTable.quantised(table, bits=4)
    assert words.packed
    coarse = np.maximum(np.abs(table).max(axis=1, keepdims=True), 1e-12) / 7
    plain = np.round(table / coarse) * coarse
    error, most, length = (
        np.linalg.norm(each, axis=1) for each in (words.rows * words.scales - table, plain - table, table)
    )
    assert np.all(error <= most + 2.0**-8 * length + 1e-9)  # a scale has 8 binary digits
    again = EmbeddingTable.quantised(words.rows * words.scales, bits=4)
    assert np.array_equal(again.rows, words.rows)
    assert np.array_equal(again.scales, words.scales)


def test_four_bits_clip_a_lone_large_value() -> None:
    row = np.array([[1.0, -1.0] * 40 + [2.2, 0.0]], dtype=np.float32)
    words = EmbeddingTable.quantised(row, bits=4)
    assert words.scales[0, 0] < 2.2 / 7
    assert words.rows[0, -2] == 7


def test_four_bits_are_found_again_in_a_table_kept_in_float16() -> None:
    table = np.random.default_rng(0).normal(0, 0.05, (500, 64)).astype(np.float32)
    words = EmbeddingTable.quantised(table, bits=4)
    again = EmbeddingTable.quantised((words.rows * words.scales).astype(np.float16).astype(np.float32), bits=4)
    assert np.array_equal(again.rows, words.rows)
    assert np.array_equal(again.scales, words.scales)


def test_a_table_in_4_bits_takes_half_the_bytes_and_comes_back(tiny_cross_encoder: Path, tmp_path: Path) -> None:
    whole, small = (export(tiny_cross_encoder, LEFT, RIGHT, word_bits=bits) for bits in (8, 4))
    assert small.table is not None
    whole.save(tmp_path / "whole")
    small.save(tmp_path / "small")
    sizes = [(tmp_path / "whole" / TABLE_FILE).stat().st_size, (tmp_path / "small" / PACKED_TABLE_FILE).stat().st_size]
    assert sizes[0] - sizes[1] >= small.table.rows.size // 2 - 64
    again = RuntimeNetwork.read(tmp_path / "small")
    assert again.table is not None
    assert np.array_equal(again.table.rows, small.table.rows)
    assert again.fingerprint == small.fingerprint
    assert small.settings["shift"]["rms"] >= whole.settings["shift"]["rms"]
    one, other = RuntimeCrossEncoder(tmp_path / "small"), RuntimeCrossEncoder(small)
    assert np.array_equal(one.score(LEFT, RIGHT), other.score(LEFT, RIGHT))
    one.save(tmp_path / "again")
    assert (tmp_path / "again" / PACKED_TABLE_FILE).read_bytes() == (
        tmp_path / "small" / PACKED_TABLE_FILE
    ).read_bytes()


@pytest.mark.parametrize("bits", [4, 8])
def test_two_networks_of_one_table_share_a_file(
    tiny_cross_encoder: Path, tiny_bi_encoder: Path, tmp_path: Path, bits: Literal[4, 8]
) -> None:
    network = export(tiny_cross_encoder, LEFT, RIGHT, word_bits=bits)
    bi_encoder = replace(export(tiny_bi_encoder, LEFT, RIGHT), table=network.table)
    one, other = RuntimeCrossEncoder(network), RuntimeBiEncoder(bi_encoder)
    one.save(tmp_path / "cross-encoder")
    other.save(tmp_path / "bi-encoder")
    share_table(tmp_path / "cross-encoder", tmp_path / "bi-encoder", SETTINGS)
    assert [path.parent.name for path in tmp_path.rglob("words_int*")] == ["bi-encoder"]
    again = RuntimeCrossEncoder(tmp_path / "cross-encoder")
    assert again.fingerprint == one.fingerprint
    assert np.array_equal(again.score(LEFT, RIGHT), one.score(LEFT, RIGHT))
    assert np.array_equal(RuntimeBiEncoder(tmp_path / "bi-encoder").embed(LEFT), other.embed(LEFT))
    again.save(tmp_path / "apart")  # what is saved from a folder that shares is whole
    assert np.array_equal(RuntimeCrossEncoder(tmp_path / "apart").score(LEFT, RIGHT), one.score(LEFT, RIGHT))


def test_other_words_are_not_shared_and_make_another_network(network: RuntimeNetwork, tmp_path: Path) -> None:
    assert network.table is not None
    other = replace(network, table=EmbeddingTable(network.table.rows, network.table.scales * 2))
    assert other.fingerprint != network.fingerprint
    for name, each in (("one", network), ("other", other)):
        each.save(tmp_path / name)
    share_table(tmp_path / "one", tmp_path / "other", SETTINGS)
    assert len(list(tmp_path.rglob(TABLE_FILE))) == 2


def test_a_damaged_or_missing_table_is_refused(network: RuntimeNetwork, tmp_path: Path) -> None:
    network.save(tmp_path)
    whole = (tmp_path / TABLE_FILE).read_bytes()
    save_file({"rows": np.zeros((3, 4), dtype=np.int8), "scales": np.ones(3, dtype=np.float32)}, tmp_path / "flat")
    for content in (whole[:-9], b"", (tmp_path / "flat").read_bytes()):
        (tmp_path / TABLE_FILE).write_bytes(content)
        with pytest.raises(ModelFolderError, match=TABLE_FILE):
            RuntimeCrossEncoder(tmp_path)
    (tmp_path / TABLE_FILE).unlink()
    with pytest.raises(ModelFolderError, match=TABLE_FILE):
        RuntimeCrossEncoder(tmp_path)


@pytest.mark.parametrize("place", ["/etc/passwd", "../../words_int8.safetensors", "other.safetensors", 7])
def test_words_are_read_from_nowhere_else(network: RuntimeNetwork, tmp_path: Path, place: object) -> None:
    network.save(tmp_path)
    (tmp_path / SETTINGS).write_text(json.dumps({**network.settings, TABLE_KEY: place}))
    with pytest.raises(ModelFolderError, match="words must name"):
        RuntimeCrossEncoder(tmp_path)


def test_an_older_format_is_refused(network: RuntimeNetwork, tmp_path: Path) -> None:
    network.save(tmp_path)
    (tmp_path / SETTINGS).write_text(json.dumps({**network.settings, "format": FORMAT - 1}))
    with pytest.raises(ModelFolderError, match="is older than 2, that of this dupq\n  -> export it again"):
        RuntimeCrossEncoder(tmp_path)
