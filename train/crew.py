"""Other processes that build rows, each with the same source open: what is drawn on the fly keeps no GPU waiting."""

import ctypes
import multiprocessing
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any, Generic, TypeVar

Key = TypeVar("Key")
Built = TypeVar("Built")

PR_SET_PDEATHSIG = 1
_build: Callable[[Any], Any]


class Crew(Generic[Key, Built]):
    """Builds rows by their numbers or other keys, in order; with no processes of its own, in this one."""

    def __init__(self, number: int, open_source: Callable[..., Callable[[Key], Built]], *arguments: Any) -> None:
        """Each process calls `open_source(*arguments)`, a function of a module, for the function that builds a row."""
        self._pool: ProcessPoolExecutor | None = None
        if not number:
            self._build = open_source(*arguments)
            return
        # Spawned, not forked: a fork of a process that runs torch or CUDA inherits locks that nobody gives back.
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(number, context, _open, (open_source, arguments))
        # All of them now, by this thread: Linux ends a child with the thread that started it, and what they open may go.
        list(self._pool.map(_wait, range(number)))

    def build(self, keys: Sequence[Key]) -> list[Built]:
        """The rows of these keys. Raises what building one of them raises."""
        return list(map(self._build, keys) if self._pool is None else self._pool.map(_call, keys))


def _open(open_source: Callable[..., Callable[[Any], Any]], arguments: Sequence[Any]) -> None:
    global _build
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # whatever ends the parent ends this process, too
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent is told, and stops when its step is done
    _build = open_source(*arguments)


def _wait(_: int) -> None:
    """Done once a process is there, slowly enough for each task to get one of its own."""
    time.sleep(0.1)


def _call(key: Any) -> Any:
    return _build(key)
