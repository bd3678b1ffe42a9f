"""Embeddings in fewer bytes keep their order."""

from typing import Any

import numpy as np
import pytest

from moca_rag.errors import ConfigError
from moca_rag.precision import convert_embeddings
from moca_rag.records import Floats


def unit(rows: int, size: int = 256) -> Floats:
    vectors = np.random.default_rng(0).normal(size=(rows, size)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize(("precision", "error"), [("float32", 0), ("float16", 1e-3), ("int8", 1e-2)])
def test_cosines_survive(precision: Any, error: float) -> None:
    exact = unit(20)
    stored = convert_embeddings(exact, precision).astype(np.float32)
    stored /= np.linalg.norm(stored, axis=1, keepdims=True)
    assert np.abs(stored @ stored.T - exact @ exact.T).max() <= error + 1e-6
    assert convert_embeddings(exact, precision).dtype == precision


def test_bits_are_the_signs() -> None:
    exact = unit(20)
    bits = convert_embeddings(exact, "binary")
    assert bits.shape == (20, 32)
    assert np.array_equal(np.unpackbits(bits, axis=1), exact > 0)


def test_each_vector_uses_all_of_int8_by_itself() -> None:
    stored = convert_embeddings(unit(20) * np.linspace(0.01, 1, 20, dtype=np.float32)[:, None], "int8")
    assert np.abs(stored).max(axis=1).tolist() == [127] * 20
    assert not convert_embeddings(np.zeros((1, 8), np.float32), "int8").any()


def test_an_unknown_precision_is_refused_by_name() -> None:
    wrong: Any = "int4"
    with pytest.raises(ConfigError, match="'int4' is not one of float32, float16, int8, binary"):
        convert_embeddings(unit(1), wrong)
