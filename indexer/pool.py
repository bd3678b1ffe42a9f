"""Turns requests for pages into pages, read by worker processes that can be killed: a hanging page harms only itself."""

import contextlib
import hashlib
import json
import os
import queue
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np

from moca_rag.errors import DocumentError
from moca_rag.records import DocumentInfo, Heading, PageContent, PixelBudget
from moca_rag.textlayer import unpack_words

START_SECONDS = 60.0  # for a worker to come up; no page's time is spent on it
QUEUED_PER_WORKER = 4  # finished pages that may wait: with 2.4 MB a page, memory stays small


@dataclass(frozen=True, slots=True)
class Limits:
    """What one page may cost."""

    timeout_s: int = 30
    memory_mb: int = 1024


@dataclass(frozen=True, slots=True)
class Request:
    """Page `page` (from 1) of a document, or with page 0 its description; `key` comes back with the answer."""

    key: int
    path: Path
    page: int
    pixels: PixelBudget | None = None
    skip: bool = False  # not read: its document was given up


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a request: a description, a page with the key of its picture, or an error."""

    request: Request
    info: DocumentInfo | None = None
    content: PageContent | None = None
    image_key: bytes | None = None
    error: DocumentError | None = None


class _Worker:
    """One process and the pipe to it; it is started when first needed and again after every death."""

    def __init__(self, limits: Limits, passwords: tuple[str, ...]) -> None:
        self._limits = limits
        self._passwords = passwords
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, request: Request) -> Answer:
        """The answer to one request, within the time limit; a worker that is late or dies is an error of the page."""
        if request.skip:
            return self._failed(request, "given_up", "was not read: others of this document killed their reader")
        try:
            process = self._ready()
            line = {"path": str(request.path), "page": request.page, "passwords": self._passwords}
            line["pixels"] = asdict(request.pixels) if request.pixels else None
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(json.dumps(line).encode() + b"\n")
            process.stdin.flush()
            stream = _TimedStream(process.stdout, time.monotonic() + self._limits.timeout_s)
            head = json.loads(stream.read_line())
            words, pixels = stream.read(head["words"]), stream.read(head["pixels"])
        except TimeoutError:
            self.kill()
            return self._failed(request, "page_timeout", f"took longer than {self._limits.timeout_s} s")
        except (EOFError, BrokenPipeError):
            self.kill()
            return self._failed(request, "page_crashed", "crashed its reader")
        if "code" in head:
            if head["code"] == "page_memory":
                self.kill()  # what a failed allocation left behind is not worth trusting
            return Answer(request, error=DocumentError(head["reason"], head["code"]))
        return _read_answer(request, head, words, pixels)

    def _ready(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            self.kill()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "moca_rag.indexer.worker"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            assert self._process.stdin is not None
            first = {"parent": os.getpid(), **asdict(self._limits)}
            self._process.stdin.write(json.dumps(first).encode() + b"\n")
            self._process.stdin.flush()
            assert self._process.stdout is not None
            _TimedStream(self._process.stdout, time.monotonic() + START_SECONDS).read_line()
        return self._process

    @staticmethod
    def _failed(request: Request, code: str, what: str) -> Answer:
        subject = f"page {request.page}" if request.page else "opening it"
        return Answer(request, error=DocumentError(f"{subject} {what}", code))

    def interrupt(self) -> None:
        """Make a request that is under way fail; any thread may call it."""
        process = self._process
        if process is not None:
            process.kill()

    def kill(self) -> None:
        """End the process at once and close its pipes."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                assert stream is not None
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
            self._process = None


class _TimedStream:
    """Reads a pipe up to a deadline; raises TimeoutError at it and EOFError where the other side is gone."""

    def __init__(self, pipe: IO[bytes], deadline: float) -> None:
        self._file = pipe.fileno()
        self._deadline = deadline
        self._buffer = bytearray()

    def read_line(self) -> bytes:
        """Bytes up to and without the next newline."""
        while (end := self._buffer.find(b"\n")) < 0:
            self._fill()
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line

    def read(self, length: int) -> bytes:
        """Exactly so many bytes."""
        while len(self._buffer) < length:
            self._fill()
        data = bytes(self._buffer[:length])
        del self._buffer[:length]
        return data

    def _fill(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0 or not select.select([self._file], [], [], left)[0]:
            raise TimeoutError
        data = os.read(self._file, 1 << 20)
        if not data:
            raise EOFError
        self._buffer += data


def _read_answer(request: Request, head: dict[str, Any], words: bytes, pixels: bytes) -> Answer:
    if request.page == 0:
        outline = tuple(Heading(*entry) for entry in head["outline"])
        info = DocumentInfo(head["kind"], head["num_pages"], head["title"], head["metadata"], outline)
        return Answer(request, info=info)
    image, key = None, None
    if pixels:
        image = np.frombuffer(pixels, np.uint8).reshape(head["shape"])
        key = hashlib.sha256(repr(head["shape"]).encode() + pixels).digest()[:16]
    content = PageContent(request.page, head["width"], head["height"], unpack_words(words), image)
    return Answer(request, content=content, image_key=key)


class RenderPool:
    """Worker processes that read documents; use it in a `with`, which ends them.

    Each process is started by a thread that lives as long as the pool: Linux ends a child with the thread that made it.
    """

    def __init__(self, num_workers: int, limits: Limits, passwords: Iterable[str] = ()) -> None:
        self._workers = [_Worker(limits, tuple(passwords)) for _ in range(num_workers)]
        self._inboxes: list[queue.Queue[_Job | None]] = [queue.Queue() for _ in self._workers]
        self._threads = [
            threading.Thread(target=self._serve, args=pair, daemon=True)
            for pair in zip(self._workers, self._inboxes, strict=True)
        ]
        self._stop = threading.Event()

    def read(self, requests: Iterable[Request]) -> Iterator[Answer]:
        """Answers as they come, in no order; a consumer that is slow slows the workers down."""
        job = _Job(_Shared(requests), queue.Queue(QUEUED_PER_WORKER * len(self._workers)))
        for inbox in self._inboxes:
            inbox.put(job)
        running = len(self._workers)
        while running:
            answer = job.answers.get()
            if isinstance(answer, BaseException):
                raise answer
            if answer is None:
                running -= 1
            else:
                yield answer

    def _serve(self, worker: _Worker, inbox: "queue.Queue[_Job | None]") -> None:
        while (job := inbox.get()) is not None:
            try:
                while not self._stop.is_set() and (request := job.requests.take()) is not None:
                    self._put(job, worker.ask(request))
            except BaseException as error:  # it is raised again in the consumer
                self._put(job, error)
            self._put(job, None)

    def _put(self, job: "_Job", answer: Answer | BaseException | None) -> None:
        while not self._stop.is_set():
            try:
                job.answers.put(answer, timeout=0.2)
                return
            except queue.Full:
                continue

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for worker, inbox in zip(self._workers, self._inboxes, strict=True):
            worker.interrupt()
            inbox.put(None)
        for thread, worker in zip(self._threads, self._workers, strict=True):
            thread.join()
            worker.kill()


@dataclass(frozen=True, slots=True)
class _Job:
    """One call of `read`: where requests come from and answers go."""

    requests: "_Shared"
    answers: "queue.Queue[Answer | BaseException | None]"


class _Shared:
    """An iterator that several threads take from."""

    def __init__(self, requests: Iterable[Request]) -> None:
        self._requests = iter(requests)
        self._lock = threading.Lock()

    def take(self) -> Request | None:
        """The next one, or None at the end."""
        with self._lock:
            return next(self._requests, None)
