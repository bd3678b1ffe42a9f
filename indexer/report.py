"""What a run of the indexer is asked for and what it answers."""

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from moca_rag.records import Failure

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """The knobs of a run. The last three are for a new collection with a model; the others never change what it holds."""

    jobs: int = 0  # worker processes; 0 is one a core, eight at most
    page_timeout_s: int = 30
    page_memory_mb: int = 1024
    commit_pages: int = 64
    commit_seconds: float = 2.0
    dimension: int = 0  # keep an embedding's first numbers; 0 is all of them
    max_pixels: int = 0  # what the model sees of a page; 0 is its own limit
    passages: bool | None = None  # embed the passages of each page's text; unnamed: as it is, a new collection does

    @property
    def num_workers(self) -> int:
        """Worker processes to start."""
        return self.jobs or min(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 4, 8)


@dataclass(slots=True)
class IndexReport:
    """What a run did, in documents; `documents` and `pages` are what the collection holds now."""

    documents: int = 0
    pages: int = 0
    pages_without_text: int = 0
    added: int = 0
    changed: int = 0
    unchanged: int = 0
    removed: int = 0
    failed: list[Failure] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    new_pages: int = 0
    dry_run: bool = False
    mode: str = "text"
    seconds: dict[str, float] = field(default_factory=dict)


class Stopwatch:
    """Seconds by stage, as a person waits for them: the stages add up to the whole."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = self._begun = time.perf_counter()

    def lap(self, stage: str) -> None:
        """Count the time since the last lap to this stage."""
        now = time.perf_counter()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + now - self._since
        self._since = now

    def timed(self, items: Iterable[Item], inside: str, outside: str) -> Iterator[Item]:
        """The items; waiting for each counts to the stage `inside`, what is done with each to `outside`."""
        iterator = iter(items)
        while True:
            self.lap(outside)
            try:
                item = next(iterator)
            except StopIteration:
                return
            finally:
                self.lap(inside)
            yield item

    def total(self) -> dict[str, float]:
        """All stages and their sum, to the millisecond."""
        stages = {stage: round(seconds, 3) for stage, seconds in self.seconds.items() if seconds >= 0.001}
        return stages | {"total": round(time.perf_counter() - self._begun, 3)}
