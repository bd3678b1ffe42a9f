"""Several sources as one table of rows; what cannot be read is counted and passed over, up to a limit."""

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Generic, TypeVar

from moca_rag.errors import ConfigError

from .rows import CptRow, PairRow, RowError
from .settings import RunSettings, Source
from .sources import Rows, SkipLimit

Row = TypeVar("Row", bound=CptRow | PairRow)
Built = TypeVar("Built")


@dataclass(frozen=True, slots=True)
class Fault:
    """Why a row cannot be read."""

    reason: str


def open_mixtures(
    settings: RunSettings, open_source: Callable[[Source], Rows[Row]]
) -> tuple["Mixture[Row]", "Mixture[Row]"]:
    """The rows to learn from, and those to be judged by. Raises ConfigError where there are none to learn from."""
    rows, held_out = (
        Mixture([open_source(source) for source in sources], settings.max_bad_rows)
        for sources in (settings.data, settings.held_out)
    )
    if not len(rows):
        raise ConfigError("no data to learn from: set data=FILE, or a list of sources in the config")
    return rows, held_out


class Mixture(Generic[Row]):
    """Rows of all sources by one number, source after source."""

    def __init__(self, sources: Sequence[Rows[Row]], max_bad_rows: int) -> None:
        """More than `max_bad_rows` unreadable rows end the run."""
        self._sources = list(sources)
        self._ends = list(accumulate(len(source) for source in self._sources))
        self._limit = SkipLimit(max_bad_rows)
        self._bad: set[int] = set()

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def take(self, number: int, build: Callable[[Row], Built]) -> Built | None:
        """What `build` makes of a row, or None where it or the row fails. Raises DocumentError over the limit."""
        return self.keep(number, self.attempt(number, build)) if number not in self._bad else None

    def attempt(self, number: int, build: Callable[[Row], Built]) -> Built | Fault:
        """What `build` makes of a row, or why it cannot; nothing is counted."""
        source, index = self._find(number)
        try:
            row = source[index]
        except RowError as error:
            return Fault(str(error))
        try:
            return build(row)
        except RowError as error:
            return Fault(f"{source.name}, row {index + 1}: {error}")

    def keep(self, number: int, built: Built | Fault) -> Built | None:
        """What came of a row; a fault is counted, and becomes None. Raises DocumentError over the limit."""
        if not isinstance(built, Fault):
            return built
        if number not in self._bad:
            self._bad.add(number)
            self._limit.skip(built.reason)
        return None

    def is_bad(self, number: int) -> bool:
        """Whether the row is known to be unreadable."""
        return number in self._bad

    @property
    def num_bad(self) -> int:
        """Rows that could not be read so far."""
        return len(self._bad)

    def name_rows(self, numbers: Sequence[int], shown: int = 8) -> str:
        """Where rows stand, as a person would look for them."""
        places = [self._find(number) for number in numbers[:shown]]
        names = ", ".join(f"{source.name} row {index + 1}" for source, index in places)
        more = f" and {len(numbers) - shown} more" if len(numbers) > shown else ""
        return f"{len(numbers)} rows ({names}{more})"

    def group_tasks(self) -> dict[str, list[int]]:
        """The rows' numbers by task, the tasks by name; a row without a task of its own belongs to its source's."""
        groups: dict[str, list[int]] = {}
        start = 0
        for source in self._sources:
            for index, task in enumerate(source.tasks()):
                groups.setdefault(task, []).append(start + index)
            start += len(source)
        return dict(sorted(groups.items()))

    def find_sources(self, tasks: Iterable[str]) -> dict[str, Source]:
        """The first source that has each task: it says how often the task is drawn, and how much at once."""
        found: dict[str, Source] = {}
        for source in self._sources:
            for task in set(source.tasks()):
                found.setdefault(task, source.source)
        return {task: found[task] for task in tasks}

    def fingerprint(self) -> str:
        """A hash of all sources, in order, and of how they are drawn."""
        told = [
            (rows.fingerprint(), rows.source.weight, rows.source.batch_size, rows.source.neighbours)
            for rows in self._sources
        ]
        return hashlib.blake2b(repr(told).encode(), digest_size=16).hexdigest()

    def _find(self, number: int) -> tuple[Rows[Row], int]:
        place = bisect_right(self._ends, number)
        return self._sources[place], number - (self._ends[place - 1] if place else 0)
