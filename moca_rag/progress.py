"""How long work tells how far it is: a small reporter that the command line draws and the library only calls."""

from typing import Protocol


class Reporter(Protocol):
    """What is told while work goes on. A task is named once with its unit, then moves."""

    def start(self, task: str, total: int | None) -> None:
        """A task begins; `total` in its own unit (documents, pages), or None while it is unknown."""
        ...

    def advance(self, task: str, amount: int = 1) -> None:
        """So much more of a task is done."""
        ...

    def failed(self, amount: int = 1) -> None:
        """So many things could not be done."""
        ...

    def say(self, message: str) -> None:
        """One line that a person should see now."""
        ...


class SilentReporter:
    """Tells nothing; what the library uses unless it is given another."""

    def start(self, task: str, total: int | None) -> None:
        """Do nothing."""

    def advance(self, task: str, amount: int = 1) -> None:
        """Do nothing."""

    def failed(self, amount: int = 1) -> None:
        """Do nothing."""

    def say(self, message: str) -> None:
        """Do nothing."""
