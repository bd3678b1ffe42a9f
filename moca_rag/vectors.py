"""Embeddings on disk: unit vectors into append-only fp16 shards that are read back through memory maps.

A vector's id is its address. Ids are consecutive from 0, `id // rows_per_shard` names the file and `id %
rows_per_shard` the row in it; a file is nothing but rows of `dimension` halves. Which ids are committed is the
catalog's to say: bytes past them are what an interrupted run left behind, and are never read.
"""

import errno
import os
import re
import shutil
import threading
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .errors import CollectionError
from .records import Floats, Ids

Halves: TypeAlias = NDArray[np.float16]
Checksums: TypeAlias = NDArray[np.uint32]

ROWS_PER_SHARD = 65_536  # 256 MiB at 2,048 numbers: few files, and a copy of one shard stays quick
_SHARD_NAME = re.compile(r"(\d{4,})-(\d{5,})\.f16")
_UNSHIFT = np.float32(2.0**112)  # the exponents of fp32 and fp16 differ by 127 - 15


def widen(halves: Halves, out: NDArray[np.int32] | None = None) -> Floats:
    """Finite fp16 numbers as fp32, 2**112 times too small: `amplify` gives the other factor of a product that power.

    `out` may lend the memory (int32, same shape). Shifting bits is five times as fast as numpy's own conversion, which
    tests each number for infinity: 45 against 255 ms for 100,000 rows of 2,048.

    >>> widen(np.array([[0.5, -2.0]], np.float16)) * np.float32(2.0**112)
    array([[ 0.5, -2. ]], dtype=float32)
    """
    bits = np.empty(halves.shape, np.int32) if out is None else out
    bits[...] = halves.view(np.int16)  # sign extends: after the shift the sign fills bits 31 to 28
    np.left_shift(bits, 13, out=bits)
    np.bitwise_and(bits, np.int32(-0x70000001), out=bits)  # only bit 31 stays of these
    return bits.view(np.float32)


def amplify(queries: Floats) -> Floats:
    """The queries times 2**112, so that an inner product with `widen`ed rows comes out right."""
    return queries * _UNSHIFT


def list_generations(folder: Path) -> list[int]:
    """Generations that have a shard in the folder, ascending; other files, and a missing folder, count for nothing."""
    if not folder.is_dir():
        return []
    matches = (_SHARD_NAME.fullmatch(entry.name) for entry in folder.iterdir())
    return sorted({int(match[1]) for match in matches if match})


def delete_generation(folder: Path, generation: int) -> int:
    """Remove a generation's shards, as compaction does with the one it replaced; returns the bytes set free.

    A file that is already gone or may not be removed is passed over: it costs room, never an answer.
    """
    freed = 0
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        match = _SHARD_NAME.fullmatch(path.name)
        if match and int(match[1]) == generation:
            try:
                size = path.stat().st_size
                path.unlink()
            except OSError:
                continue
            freed += size
    return freed


class Shards:
    """The vectors of one generation: rows of `dimension` numbers, addressed by id.

    Safe for one writer and any number of readers, threads or processes: committed rows never change.

    >>> import tempfile
    >>> shards = Shards(Path(tempfile.mkdtemp()), dimension=2, generation=0)
    >>> checksums = shards.write(0, np.eye(2, dtype=np.float32))
    >>> shards.read(np.array([1, 0, 1]))
    array([[0., 1.],
           [1., 0.],
           [0., 1.]], dtype=float32)
    """

    def __init__(self, folder: Path, dimension: int, generation: int, rows_per_shard: int = ROWS_PER_SHARD) -> None:
        if dimension < 1 or rows_per_shard < 1 or generation < 0:
            raise ValueError(f"no such shards: {dimension=}, {rows_per_shard=}, {generation=}")
        self.folder = folder
        self.dimension = dimension
        self.generation = generation
        self.rows_per_shard = rows_per_shard
        self._maps: dict[int, Halves] = {}
        self._mapping = threading.Lock()

    def shard_path(self, shard: int) -> Path:
        """The file of a shard, present or not."""
        return self.folder / f"{self.generation:04d}-{shard:05d}.f16"

    def write(self, first_id: int, vectors: Floats) -> Checksums:
        """Store vectors [N, D] at ids `first_id` and on, in place of what stood there; durable on return.

        Returns the CRC-32 of each row's fp16 bytes [N]. Raises ValueError on another shape or a number that fp16 cannot
        hold, and CollectionError when the disk does not take them: the rows are then simply not committed, and writing
        again is safe.
        """
        if first_id < 0 or vectors.ndim != 2 or vectors.shape[1] != self.dimension:
            raise ValueError(
                f"expected vectors [N, {self.dimension}] from an id >= 0, got {vectors.shape} from {first_id}"
            )
        if len(vectors) and not np.abs(vectors).max() <= np.finfo(np.float16).max:  # also false for NaN
            raise ValueError(
                f"an embedding among ids {first_id} to {first_id + len(vectors) - 1} is not finite in fp16"
            )
        halves = np.ascontiguousarray(vectors, dtype=np.float16)
        written = 0
        while written < len(halves):
            shard, slot = divmod(first_id + written, self.rows_per_shard)
            rows = halves[written : written + self.rows_per_shard - slot]
            self._write_rows(shard, slot, rows)
            written += len(rows)
        return _checksum_rows(halves)

    def read(self, ids: Ids) -> Floats:
        """The vectors [N, D] of these ids, in their order; ids may repeat. Raises CollectionError when a shard is cut."""
        return self.read_scaled(ids) * _UNSHIFT

    def read_scaled(self, ids: Ids) -> Floats:
        """`read`, 2**112 times too small (see `widen`): what a scan multiplies with amplified queries."""
        return widen(self._gather(np.asarray(ids, np.int64)))

    def checksum(self, ids: Ids) -> Checksums:
        """The CRC-32 of the stored bytes of each id [N], to hold against what `write` returned."""
        return _checksum_rows(self._gather(np.asarray(ids, np.int64)))

    def blocks(self, num_rows: int, first_id: int = 0, block_rows: int = 256) -> Iterator[tuple[int, Halves]]:
        """Rows `first_id` to `num_rows` in order, as (id of the first, memory-mapped rows [at most block_rows, D]).

        Raises CollectionError when a shard is missing or too short.
        """
        while first_id < num_rows:
            shard, slot = divmod(first_id, self.rows_per_shard)
            stop = min(slot + block_rows, self.rows_per_shard, slot + num_rows - first_id)
            yield first_id, self._map(shard, stop)[slot:stop]
            first_id += stop - slot

    def check(self, num_rows: int) -> None:
        """Raise CollectionError, naming the shard, unless every file is long enough for the committed rows."""
        for shard in range(-(-num_rows // self.rows_per_shard)):
            needed = min(num_rows - shard * self.rows_per_shard, self.rows_per_shard)
            if self._rows_on_disk(shard) < needed:
                self._refuse(shard, needed)

    def _gather(self, ids: Ids) -> Halves:
        """The fp16 rows [N, D] of these ids."""
        if ids.size and ids.min() < 0:
            raise ValueError(f"no vector has the id {ids.min()}")
        shards, slots = np.divmod(ids, self.rows_per_shard)
        found = np.empty((len(ids), self.dimension), np.float16)
        for shard in np.unique(shards).tolist():
            here = np.flatnonzero(shards == shard)
            wanted = slots[here]
            found[here] = self._map(shard, int(wanted.max()) + 1)[wanted]
        return found

    def _map(self, shard: int, needed: int) -> Halves:
        """The shard's rows as a read-only map of at least `needed` rows; mapped anew when the file has grown."""
        rows = self._maps.get(shard)
        if rows is not None and len(rows) >= needed:
            return rows
        with self._mapping:
            on_disk = self._rows_on_disk(shard)
            if on_disk < needed:
                self._refuse(shard, needed)
            mapped = np.memmap(self.shard_path(shard), np.float16, "r", shape=(on_disk, self.dimension))
            rows = mapped.view(np.ndarray)  # indexing a memmap object costs several times as much
            self._maps[shard] = rows
        return rows

    def _rows_on_disk(self, shard: int) -> int:
        try:
            size = self.shard_path(shard).stat().st_size
        except FileNotFoundError:
            return 0
        return min(size // (2 * self.dimension), self.rows_per_shard)

    def _refuse(self, shard: int, needed: int) -> NoReturn:
        path, there = self.shard_path(shard), self._rows_on_disk(shard)
        what = f"is cut: it holds {there:,} of {needed:,} committed vectors" if path.exists() else "is missing"
        raise CollectionError(
            f"{path} {what}. Bring the file back from a backup, or run `moca verify --repair`: "
            "its pages are dropped, and the next run indexes them again."
        )

    def _write_rows(self, shard: int, slot: int, rows: Halves) -> None:
        path = self.shard_path(shard)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            created = not path.exists()
            handle = os.open(path, os.O_WRONLY | os.O_CREAT, 0o666)
            with os.fdopen(handle, "wb") as file:
                file.seek(slot * 2 * self.dimension)
                file.write(rows.data)
                file.flush()
                os.fsync(file.fileno())
            if created:
                _sync_folder(self.folder)
        except OSError as error:
            raise CollectionError(self._explain(error, path, rows.nbytes)) from error

    def _explain(self, error: OSError, path: Path, num_bytes: int) -> str:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = shutil.disk_usage(self.folder).free if self.folder.exists() else 0
            return (
                f"no room for {num_bytes / 1e6:,.1f} MB of vectors in {path}: {free / 1e6:,.1f} MB are free. "
                "Free some space and start again; what was committed is kept."
            )
        return f"cannot write {path}: {error.strerror or error}. Check the folder's permissions, then start again."


def _checksum_rows(halves: Halves) -> Checksums:
    return np.fromiter((zlib.crc32(row) for row in halves), np.uint32, len(halves))


def _sync_folder(folder: Path) -> None:
    """A new file survives a power cut only once its folder's entry is on disk too."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
