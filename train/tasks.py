"""Orders rows into batches of one task each (MoCa, section 2.3): in-batch negatives of the own kind are harder.

A batch is global, a list of row numbers that depends on (seed, epoch) alone. Ranks cut it among themselves, so all have
the same task, and their number changes nothing; a run that resumes goes on with `epoch(n)[k:]`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches

import numpy as np

from moca_rag.errors import ConfigError
from moca_rag.records import Ids

from .corruption import derive_seed

MIXED = "mixed"

Batch = tuple[str, list[int]]  # task, rows


@dataclass(frozen=True)
class TaskBatches:
    """The batches of any epoch. Rows are numbered through all tasks, in the order of `sizes`; see `locate`.

    A weight says how often an epoch sees each row of its task: 1 unless given, which mixes in proportion to the sizes
    and sees every row once; 3 for three times, 0.5 for another random half each epoch, 0 for never. A task's batches
    have `batch_size` rows unless `batch_sizes` names a number of its own: texts cost little, pages much. A task's last
    incomplete batch is dropped unless `keep_last`. Without `task_aware` (an ablation) batches mix all tasks, and have
    `batch_size` rows. Of a task that has `neighbours`, so many rows that follow one another stay together, as far as a
    batch holds them. Raises ConfigError on an unknown weight, and on a task that would silently fill no batch.

    >>> batches = TaskBatches({"charts": 4, "scans": 2}, batch_size=2, seed=0)
    >>> [task for task, rows in batches.epoch(0)].count("charts"), len(batches)
    (2, 3)
    """

    sizes: Mapping[str, int]
    batch_size: int
    seed: int
    weights: Mapping[str, float] | None = None
    task_aware: bool = True
    keep_last: bool = field(default=False, kw_only=True)
    batch_sizes: Mapping[str, int] | None = field(default=None, kw_only=True)
    neighbours: Mapping[str, int] | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        for task, weight in (self.weights or {}).items():
            if task not in self.sizes:
                near = get_close_matches(task, self.sizes, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(self.sizes)}"
                raise ConfigError(f"a weight is given for {task!r}, and there is no such task: {hint}")
            if not 0 <= weight < math.inf:
                raise ConfigError(f"the weight of {task!r} is {weight}: give 0 or more, 1 for every row once an epoch")
        for number in (self.batch_size, *(self.batch_sizes or {}).values()):
            if number < 1:
                raise ConfigError(f"batch_size={number}: give 1 or more")
        for number in (self.neighbours or {}).values():
            if number < 1:
                raise ConfigError(f"neighbours={number}: give 1 or more")
        for task in self.sizes:
            least = self._size(task) if self.task_aware and not self.keep_last else 1
            if self._weight(task) and self._num_rows(task) < least:
                raise ConfigError(
                    f"{task!r} has {self._num_rows(task)} rows an epoch, where a batch takes {least}: give it more rows, "
                    "a larger weight or the weight 0, or set a smaller batch_size or keep_last"
                )
        if not len(self):
            raise ConfigError(f"no batch of {self.batch_size} rows in an epoch: give more rows or a smaller batch_size")

    def __len__(self) -> int:
        """Batches in an epoch, the same in each."""
        numbers = {task: self._num_rows(task) for task in self.sizes}
        parts = numbers if self.task_aware else {MIXED: sum(numbers.values())}
        return sum(len(self._starts(task, number)) for task, number in parts.items())

    def epoch(self, number: int) -> list[Batch]:
        """The epoch's batches in order, each with its task's name."""
        drawn: dict[str, Ids] = {}
        first = 0
        for task, size in self.sizes.items():
            drawn[task] = first + self._draw(task, number)
            first += size
        if not self.task_aware:
            rows = np.concatenate(list(drawn.values()))
            drawn = {MIXED: rows[self._shuffle(len(rows), number, "rows")]}
        batches = [
            (task, rows[start : start + self._size(task)].tolist())
            for task, rows in drawn.items()
            for start in self._starts(task, len(rows))
        ]
        return [batches[place] for place in self._shuffle(len(batches), number, "order")]

    def locate(self, row: int) -> tuple[str, int]:
        """A row's task, and its number within that task."""
        place = row
        for task, size in self.sizes.items():
            if place < size:
                return task, place
            place -= size
        raise IndexError(f"row {row} of {sum(self.sizes.values())}")

    def _draw(self, task: str, epoch: int) -> Ids:
        """A task's rows in this epoch: pass after pass over all of them, the last one cut short."""
        number, size = self._num_rows(task), self.sizes[task]
        together = (self.neighbours or {}).get(task, 1)
        passes = []
        for start in range(0, number, max(size, 1)):
            groups = self._shuffle(math.ceil(size / together), epoch, f"task {task}, pass {start}")
            rows = (groups[:, None] * together + np.arange(together)).ravel()
            passes.append(rows[rows < size])
        return np.concatenate([np.zeros(0, np.int64), *passes])[:number]

    def _shuffle(self, number: int, epoch: int, name: str) -> Ids:
        return np.random.default_rng(derive_seed(self.seed, epoch, name)).permutation(number)

    def _weight(self, task: str) -> float:
        return (self.weights or {}).get(task, 1.0)

    def _num_rows(self, task: str) -> int:
        return round(self._weight(task) * self.sizes[task])

    def _size(self, task: str) -> int:
        return (self.batch_sizes or {}).get(task, self.batch_size)

    def _starts(self, task: str, num_rows: int) -> range:
        size = self._size(task)
        return range(0, num_rows if self.keep_last else num_rows - size + 1, size)


def split_ranks(rows: list[int], rank: int, world: int) -> list[int]:
    """One rank's rows of a batch; all ranks' shares end to end are the batch, and none has two rows more than another.

    >>> [split_ranks([4, 0, 3, 1, 2], rank, 2) for rank in range(2)]
    [[4, 0], [3, 1, 2]]
    """
    return rows[len(rows) * rank // world : len(rows) * (rank + 1) // world]
