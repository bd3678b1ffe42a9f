"""Embeddings in fewer bytes: half floats, 8-bit integers, single bits."""

from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from .errors import ConfigError
from .records import Floats

Precision: TypeAlias = Literal["float32", "float16", "int8", "binary"]


def convert_embeddings(embeddings: Floats, precision: Precision) -> NDArray[Any]:
    """Unit embeddings [..., D] in the given precision.

    `float16` halves the bytes. `int8` stretches each vector to -127..127 by itself: compare by cosine, no calibration
    is needed. `binary` keeps the signs, eight to a byte (uint8 [..., D / 8]): compare by Hamming distance.
    Raises ConfigError on another name.

    >>> convert_embeddings(np.array([0.6, -0.8], np.float32), "int8").tolist()
    [95, -127]
    """
    if precision not in get_args(Precision):
        raise ConfigError(f"the precision {precision!r} is not one of {', '.join(get_args(Precision))}")
    if precision == "binary":
        return np.packbits(embeddings > 0, axis=-1)
    if precision == "int8":
        largest = np.abs(embeddings).max(axis=-1, keepdims=True)
        return np.rint(embeddings * (127 / np.where(largest > 0, largest, 1))).astype(np.int8)
    return embeddings.astype(precision)
