"""One-bit codes into one checked file, and back: a cache beside the vectors that may be missing, damaged or out of date."""

import contextlib
import io
import json
import logging
import os
import time
import zlib
from pathlib import Path

import numpy as np

from .codes import Codes, checksum_last, load_faiss
from .vectors import Shards

_MAGIC = b"moca-codes-1"
_PLAIN = ("generation", "num_rows", "fitted_rows", "last_checksum", "num_lists", "num_probes", "spread")
_STALE_SECONDS = 3_600
_UNREADABLE = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    TypeError,
    RuntimeError,
)  # the last is how faiss refuses an index
_log = logging.getLogger(__name__)


def save_codes(codes: Codes, path: Path) -> bool:
    """Write the codes, whole or not at all; False where that cannot be done, for a cache may always be missing."""
    faiss = load_faiss()

    plain = {name: getattr(codes, name) for name in _PLAIN}
    payload = io.BytesIO()
    payload.write(json.dumps(plain).encode() + b"\n")
    for array in (codes.mean, codes.left, codes.right, faiss.serialize_index(codes.index)):
        np.save(payload, array, allow_pickle=False)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            file.write(b"%s %08x\n" % (_MAGIC, zlib.crc32(payload.getbuffer())))
            file.write(payload.getbuffer())
        part.replace(path)
        _remove_leftovers(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            part.unlink()
        _log.info("the codes were not kept in %s: %s", path, error)
        return False
    return True


def load_codes(path: Path, shards: Shards, num_rows: int) -> Codes | None:
    """The saved codes if they are whole and belong to these rows, else None.

    They belong when generation and dimension agree, no more rows were coded than are committed, and the last rows coded
    are still the same: an interrupted run's rows may have been coded and then overwritten.
    """
    faiss = load_faiss()

    try:
        with path.open("rb") as file:
            head = file.readline(64)
            if head != b"%s %08x\n" % (_MAGIC, _checksum_rest(file)):
                return None
            file.seek(len(head))
            plain = json.loads(file.readline())
            arrays = [np.load(file, allow_pickle=False) for _ in range(4)]
        made_of = (plain["generation"], len(arrays[0]))
        if made_of != (shards.generation, shards.dimension) or plain["num_rows"] > num_rows:
            return None
        if plain["last_checksum"] != checksum_last(shards, plain["num_rows"]):
            return None
        return Codes(**plain, mean=arrays[0], left=arrays[1], right=arrays[2], index=faiss.deserialize_index(arrays[3]))
    except _UNREADABLE:
        return None


def _remove_leftovers(path: Path) -> None:
    """Delete what killed processes left half written; a file of the last hour may still be somebody's work."""
    for part in path.parent.glob(f"{path.name}.*.part"):
        if part.stat().st_mtime < time.time() - _STALE_SECONDS:
            part.unlink()


def _checksum_rest(file: io.BufferedReader) -> int:
    """CRC-32 from the file's position to its end."""
    checksum = 0
    while chunk := file.read(1 << 20):
        checksum = zlib.crc32(chunk, checksum)
    return checksum
