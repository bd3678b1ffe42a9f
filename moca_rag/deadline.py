"""Asks what may never answer, and goes on without it: a dead name server knows no time limit of its own."""

import threading
from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")


def ask_in_time(ask: Callable[[], Answer], seconds: float) -> Answer:
    """What `ask` returns, or raises; TimeoutError where it takes longer, and it is left to end by itself.

    >>> ask_in_time(lambda: 7, 1.0)
    7
    """
    answers: list[Answer] = []
    failures: list[BaseException] = []

    def run() -> None:
        """In a thread: the answer or the failure is carried over to the caller's."""
        try:
            answers.append(ask())
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if failures:
        raise failures[0]
    if not answers:
        raise TimeoutError(f"no answer in {seconds:g} s")
    return answers[0]
