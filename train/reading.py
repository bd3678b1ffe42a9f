"""Reads documents in child processes: a file that breaks its reader, or keeps it for ever, costs itself and not the run."""

import multiprocessing
import queue
import resource
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Literal, Self, TypeAlias

from moca_rag.errors import DocumentError, one_line

from .documents import PageText
from .layouts import read_layout
from .manuals import read_manual
from .markup import read_markup

MEMORY = 8 << 30  # that one process may ask for; a file that needs more is broken

ReadKind: TypeAlias = Literal["pdf", "html", "man"]


@dataclass(frozen=True, slots=True)
class Reading:
    """What is read as one document: a PDF, a folder of HTML, or a manual page; of a PDF at most so many pages."""

    kind: ReadKind
    paths: tuple[Path, ...]
    most: int = 0

    def read(self) -> list[PageText]:
        """The pages; whatever a broken file makes of its reader comes through."""
        if self.kind == "pdf":
            return read_layout(self.paths[0], self.most)
        return read_markup(self.paths) if self.kind == "html" else read_manual(self.paths[0])


class Readers:
    """So many processes that read; they end with the `with` block."""

    def __init__(self, num_processes: int, seconds: float) -> None:
        """`seconds`: how long one document may take."""
        self._threads = ThreadPoolExecutor(num_processes)
        self._children = [_Child(seconds) for _ in range(num_processes)]
        self._idle: queue.SimpleQueue[_Child] = queue.SimpleQueue()
        for child in self._children:
            self._idle.put(child)

    def read(self, readings: Iterable[Reading]) -> Iterator[list[PageText] | DocumentError]:
        """The pages of each reading in turn, or why it has none: `broken`, `crashed` or `timeout`.

        Those not begun are not read where the caller stops asking.
        """
        return self._threads.map(self._read_one, readings)

    def _read_one(self, reading: Reading) -> list[PageText] | DocumentError:
        child = self._idle.get()
        try:
            return child.read(reading)
        finally:
            self._idle.put(child)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)
        for child in self._children:
            child.stop(for_ever=True)  # the thread that waits for it sees its end
        self._threads.shutdown()


class _Child:
    """One process that reads, started when first needed and again after each death."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._context = multiprocessing.get_context("spawn")
        self._lock = threading.Lock()  # it is started by one thread, and stopped by another where the run ends early
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None
        self._closed = False

    def read(self, reading: Reading) -> list[PageText] | DocumentError:
        """The pages of one reading, or why there are none."""
        try:
            pipe = self._pipe or self._start()
            pipe.send(reading)
            if not pipe.poll(self._seconds):
                self.stop()
                return DocumentError(f"was not read within {self._seconds:g} s", "timeout")
            answer = pipe.recv()
        except (EOFError, OSError):
            self.stop()
            return DocumentError("ended the process that read it", "crashed")
        return DocumentError(answer, "broken") if isinstance(answer, str) else answer

    def _start(self) -> Connection:
        with self._lock:
            if self._closed:
                raise EOFError
            self._pipe, theirs = self._context.Pipe()
            self._process = self._context.Process(target=_serve, args=(theirs,), daemon=True)
            self._process.start()
            theirs.close()
            return self._pipe

    def stop(self, *, for_ever: bool = False) -> None:
        """End the process, in the middle of its work too."""
        with self._lock:
            self._closed |= for_ever
            process, pipe, self._process, self._pipe = self._process, self._pipe, None, None
        if process is not None and pipe is not None:
            process.kill()
            process.join()
            pipe.close()


def _serve(pipe: Connection) -> None:
    """Answer until the other end is closed: pages, or in words why there are none."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    with suppress(EOFError, KeyboardInterrupt):
        while True:
            reading = pipe.recv()
            try:
                answer: list[PageText] | str = reading.read()
            except Exception as error:  # MuPDF and odd files raise dozens of types without a common root
                answer = one_line(error)
            pipe.send(answer)
