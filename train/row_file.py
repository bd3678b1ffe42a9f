"""Writes rows whose images lie in a zip, a tar or a folder beside them, as a parquet file of our own columns."""

from pathlib import Path
from typing import Any, Literal, Self

from moca_rag.errors import ConfigError

ROWS_AT_ONCE = 512  # a row group: small, as a row read at random costs its whole group


class RowFile:
    """A parquet file that grows row by row; it is whole when it is closed."""

    def __init__(self, path: Path, stage: Literal["cpt", "cl"]) -> None:
        """Raises ConfigError without pyarrow."""
        try:
            import pyarrow
            import pyarrow.parquet as parquet
        except ImportError as error:
            raise ConfigError("rows are parquet files, which need pyarrow: pip install 'moca_rag[train]'") from error
        text, texts = pyarrow.string(), pyarrow.list_(pyarrow.string())
        if stage == "cpt":
            columns = {"text": text, "images": texts}
        else:
            columns = {"task": text, "instruction": text, "query_text": text, "query_images": texts}
            columns |= {"positive_text": text, "positive_images": texts}
            columns |= {"negative_texts": texts, "negative_images": pyarrow.list_(texts)}
        self._schema = pyarrow.schema(list(columns.items()))
        self._writer: Any = parquet.ParquetWriter(path, self._schema)
        self._waiting: list[dict[str, Any]] = []
        self.num_rows = 0

    def add(self, row: dict[str, Any]) -> None:
        """One more row; a column that it lacks stays empty."""
        self._waiting.append(row)
        self.num_rows += 1
        if len(self._waiting) == ROWS_AT_ONCE:
            self._flush()

    def close(self) -> None:
        """Write what waits, and the file's end."""
        if self._waiting:
            self._flush()
        self._writer.close()

    def _flush(self) -> None:
        import pyarrow

        self._writer.write_table(pyarrow.Table.from_pylist(self._waiting, self._schema))
        self._waiting = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
