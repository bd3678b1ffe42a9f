"""Writes rows with their images inside as parquet files of small row groups, so that any row is one short read."""

import json
from pathlib import Path
from typing import Any, Self

from moca_rag.records import PixelBudget

from .mixes import Stage
from .row_file import ROWS_AT_ONCE
from .rows import CptRow, PairRow, measure_image, split_text

GROUP_BYTES = 4 << 20  # a row read at random costs its whole group
SKIPPED = "moca_rag.skipped"


class ShardFile:
    """A parquet file that grows row by row, and knows which rows were left out of it."""

    def __init__(self, path: Path, stage: Stage) -> None:
        import pyarrow
        import pyarrow.parquet as parquet

        text, image = pyarrow.string(), pyarrow.list_(pyarrow.binary())
        columns = {"text": text, "images": image}
        if stage == "cl":
            columns = {"task": text, "instruction": text, "query_text": text, "query_images": image}
            columns |= {"positive_text": text, "positive_images": image}
            columns |= {"negative_texts": pyarrow.list_(text), "negative_images": pyarrow.list_(image)}
        self._schema = pyarrow.schema(list(columns.items()))
        # Images are packed already; as a dictionary each would be kept in memory.
        plain = {"use_dictionary": False, "write_statistics": False}
        self._writer: Any = parquet.ParquetWriter(path, self._schema, compression="zstd", **plain)
        self._waiting: list[dict[str, Any]] = []
        self._size = 0
        self.num_rows = 0

    def add(self, row: CptRow | PairRow) -> None:
        """One more row."""
        values, size = _columns_of(row)
        self._waiting.append(values)
        self._size += size
        self.num_rows += 1
        if self._size >= GROUP_BYTES or len(self._waiting) == ROWS_AT_ONCE:
            self._flush()

    def note_skipped(self, reasons: list[str]) -> None:
        """Why rows were left out."""
        self._writer.add_key_value_metadata({SKIPPED: json.dumps(reasons)})

    def _flush(self) -> None:
        import pyarrow

        self._writer.write_table(pyarrow.Table.from_pylist(self._waiting, self._schema))
        self._waiting, self._size = [], 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._waiting:
            self._flush()
        self._writer.close()


def read_shard(path: Path) -> tuple[int, list[str]]:
    """How many rows a finished file has, and why others were left out."""
    import pyarrow.parquet as parquet

    footer = parquet.read_metadata(path)
    return footer.num_rows, json.loads(footer.metadata[SKIPPED.encode()])


def check_row(row: CptRow | PairRow) -> None:
    """Raises RowError on what training could not read: slots without images, and images that are none by their heads."""
    sides = [row] if isinstance(row, CptRow) else [row.query, row.positive, *row.negatives]
    for side in sides:
        split_text(side.text, len(side.images))
        for image in side.images:
            measure_image(image, PixelBudget())


def _columns_of(row: CptRow | PairRow) -> tuple[dict[str, Any], int]:
    """A row as columns, and its bytes, about."""
    if isinstance(row, CptRow):
        sides: list[Any] = [row]
        values: dict[str, Any] = {"text": row.text, "images": row.images}
    else:
        sides = [row.query, row.positive, *row.negatives]
        values = {"task": row.task, "instruction": row.instruction}
        for name, side in (("query", row.query), ("positive", row.positive)):
            values |= {f"{name}_text": side.text, f"{name}_images": side.images}
        values["negative_texts"] = [side.text for side in row.negatives]
        values["negative_images"] = [side.images for side in row.negatives]
    return values, sum(len(side.text) + sum(map(len, side.images)) for side in sides)
