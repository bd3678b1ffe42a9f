"""Rows that are made when they are asked for, each decided by its number alone: there are as many as you like."""

from collections.abc import Iterator
from pathlib import Path
from typing import Generic, TypeVar

from .rows import CptRow, PairRow
from .settings import Source

Row = TypeVar("Row", bound=CptRow | PairRow)


class NumberedRows(Generic[Row]):
    """What a mixture asks of a source; what a row holds is told by `_make` and `_task`."""

    def __init__(self, source: Source, size: int) -> None:
        """As many rows as the source's limit says, or `size`."""
        self.source = source
        self.name = Path(source.path).name.split(".")[0]
        self._size = source.limit or size

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> Row:
        if not 0 <= index < self._size:
            raise IndexError(f"{self.name} has {self._size} rows, and no row {index}")
        return self._make(index)

    def tasks(self) -> Iterator[str]:
        """The task of every row, in turn."""
        return map(self._task, range(self._size))

    def _make(self, index: int) -> Row:
        raise NotImplementedError

    def _task(self, index: int) -> str:
        raise NotImplementedError
