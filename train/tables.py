"""Reads the raw rows of parquet files, JSON lines and folders, each by its number."""

import json
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate, repeat
from pathlib import Path
from typing import Any, Protocol

from moca_rag.errors import ConfigError, one_line
from moca_rag.render import SUFFIXES

from .rows import RowError

IMAGE_SUFFIXES = SUFFIXES - {".pdf"}


class Table(Protocol):
    """Rows by number, from 0."""

    @property
    def files(self) -> Sequence[Path]:
        """What the rows lie in."""
        ...

    @property
    def columns(self) -> frozenset[str]:
        """The names that all rows share; none where each has its own."""
        ...

    def __len__(self) -> int:
        """How many rows there are."""
        ...

    def __getitem__(self, index: int) -> dict[str, Any]:
        """One row. Raises RowError."""
        ...

    def read_column(self, name: str) -> Iterator[Any]:
        """One value of every row, None where it has none; nothing else is read where the files allow it."""
        ...


class ParquetTable:
    """Rows of parquet files, one row group in memory: in order it is a stream, at random each row costs a group."""

    def __init__(self, files: Sequence[Path], columns: Sequence[str] | None = None) -> None:
        """Only these columns are read. Raises ConfigError on a file that is no parquet, or without pyarrow."""
        try:
            import pyarrow.parquet as parquet
        except ImportError as error:
            raise ConfigError("parquet files need pyarrow: pip install 'moca_rag[train]'") from error
        self.files = files
        self._wanted = columns
        self._groups: list[tuple[Path, int]] = []
        shared: list[set[str]] = []
        sizes = []
        for path in files:
            try:
                with parquet.ParquetFile(path) as file:
                    shared.append(set(file.schema_arrow.names))
                    sizes += [file.metadata.row_group(number).num_rows for number in range(file.num_row_groups)]
                    self._groups += [(path, number) for number in range(file.num_row_groups)]
            except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
                raise ConfigError(f"{path} is not a parquet file ({one_line(error)}): copy it again") from error
        self.columns = frozenset(set.intersection(*shared))
        self._ends = list(accumulate(sizes))
        self._held: tuple[int, Any] | None = None

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, index: int) -> dict[str, Any]:
        number = bisect_right(self._ends, index)
        held = self._held  # one assignment below: threads see an old group or a new one, never a mixture
        if held is None or held[0] != number:
            self._held = held = (number, self._read_group(number))
        first = self._ends[number - 1] if number else 0
        row: dict[str, Any] = held[1].slice(index - first, 1).to_pylist()[0]
        return row

    def read_column(self, name: str) -> Iterator[Any]:
        """One value of every row."""
        import pyarrow.parquet as parquet

        if name not in self.columns:
            yield from repeat(None, len(self))
            return
        for path, group in self._groups:
            try:
                with parquet.ParquetFile(path) as file:
                    values = file.read_row_group(group, columns=[name], use_threads=False).column(0).to_pylist()
            except (OSError, ValueError) as error:
                raise RowError(f"{path} is broken ({one_line(error)}): copy it again") from error
            yield from values

    def _read_group(self, number: int) -> Any:
        import pyarrow.parquet as parquet

        path, group = self._groups[number]
        columns = None if self._wanted is None else [name for name in self._wanted if name in self.columns]
        try:
            with parquet.ParquetFile(path) as file:
                return file.read_row_group(group, columns=columns, use_threads=False)  # threads do not outlive a fork
        except (OSError, ValueError) as error:
            raise RowError(f"{path} is broken ({one_line(error)}): copy it again") from error

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_held": None}


class LinesTable:
    """Rows of JSON lines: where each begins is found once, then any is one read."""

    columns: frozenset[str] = frozenset()

    def __init__(self, files: Sequence[Path]) -> None:
        self.files = files
        self._places: list[tuple[int, int]] = []
        for number, path in enumerate(files):
            start = 0
            with path.open("rb") as file:
                for line in file:
                    if line.strip():
                        self._places.append((number, start))
                    start += len(line)

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, index: int) -> dict[str, Any]:
        number, start = self._places[index]
        with self.files[number].open("rb") as file:
            file.seek(start)
            line = file.readline()
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise RowError(f"it is not JSON ({one_line(error)})") from error
        if not isinstance(row, dict):
            raise RowError(f"it must be one JSON object, not {type(row).__name__}")
        return row

    def read_column(self, name: str) -> Iterator[Any]:
        """One value of every row; a row that is broken has none."""
        for index in range(len(self)):
            try:
                yield self[index].get(name)
            except RowError:
                yield None


class FolderTable:
    """Rows of a folder: a picture and the text file of its name.

    For CPT each name is a row, its text after its picture; either may be missing. For CL each line of the text is a
    query whose positive is the picture.
    """

    def __init__(self, folder: Path, *, pairs: bool) -> None:
        names: dict[Path, list[Path | None]] = {}
        for path in sorted(folder.rglob("*")):
            suffix = path.suffix.lower()
            if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts):
                if suffix in IMAGE_SUFFIXES:
                    names.setdefault(path.with_suffix(""), [None, None])[0] = path
                elif suffix == ".txt":
                    names.setdefault(path.with_suffix(""), [None, None])[1] = path
        self.files = [path for entry in names.values() for path in entry if path is not None]
        self.columns = frozenset({"query_text", "positive_images"} if pairs else {"text", "images"})
        self._rows: list[tuple[Path | None, Path | None, int]] = []
        for image, text in names.values():
            if not pairs:
                self._rows.append((image, text, 0))
            elif image is not None and text is not None:
                self._rows += [(image, text, number) for number, line in enumerate(_read_lines(text)) if line]
        self._pairs = pairs

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        image, text, number = self._rows[index]
        try:
            images = [image.read_bytes()] if image is not None else []
            if self._pairs and text is not None:
                return {"query_text": _read_lines(text)[number], "positive_images": images}
            return {"text": text.read_text(encoding="utf-8") if text is not None else "", "images": images}
        except (OSError, ValueError) as error:
            raise RowError(f"{image or text} cannot be read ({one_line(error)})") from error

    def read_column(self, name: str) -> Iterator[Any]:
        """Nothing: a folder's rows have no such values."""
        return repeat(None, len(self))


def _read_lines(path: Path) -> list[str]:
    return [line.strip() for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
