"""What may never answer is not waited for, and its failures are the caller's."""

import threading

import pytest

from moca_rag.deadline import ask_in_time


def test_answers_and_failures_come_through() -> None:
    assert ask_in_time(lambda: None, 5.0) is None
    with pytest.raises(ZeroDivisionError):
        ask_in_time(lambda: 1 / 0, 5.0)


def test_what_never_answers_is_left() -> None:
    never = threading.Event()
    with pytest.raises(TimeoutError, match=r"no answer in 0.05 s"):
        ask_in_time(never.wait, 0.05)
    never.set()
