"""What a person sees: data on standard output, progress and messages on standard error."""

import json
import sys
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

from rich.console import Console

PIPED_WIDTH = 140  # what is read by a program or a file is not folded to a window that is not there


class Terminal:
    """Both streams of one command, and its progress bars; it is the reporter that the library calls."""

    def __init__(self) -> None:
        piped = None if sys.stdout.isatty() else PIPED_WIDTH
        self.out = Console(highlight=False, width=piped)
        self.err = Console(stderr=True, highlight=False)
        self.as_json = False
        self._progress: Any = None
        self._tasks: dict[str, Any] = {}
        self._failed = 0

    def print_json(self, value: object) -> None:
        """One JSON object a line on standard output, ready for another program."""
        sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")

    # -- the reporter -------------------------------------------------------------------------------------------------

    def start(self, task: str, total: int | None) -> None:
        """Show a bar for this task; on a stream that is no terminal, nothing moves."""
        if not self.err.is_terminal:
            return
        if self._progress is None:
            self._progress = _make_progress(self.err)
            self._progress.start()
        for name in [name for name, known in self._tasks.items() if self._progress.tasks[known].total is None]:
            self._progress.update(self._tasks.pop(name), visible=False)
        self._tasks[task] = self._progress.add_task(task, total=total, failed="")

    def advance(self, task: str, amount: int = 1) -> None:
        """Move a bar."""
        if task in self._tasks:
            self._progress.advance(self._tasks[task], amount)

    def failed(self, amount: int = 1) -> None:
        """Count what could not be done, beside the bars."""
        self._failed += amount
        if self._failed and self._progress is not None:
            for task in self._tasks.values():
                self._progress.update(task, failed=f"[red]{self._failed} failed[/red]")

    def say(self, message: str) -> None:
        """One line on standard error, above the bars."""
        self.err.print(message, markup=False, soft_wrap=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def _make_progress(console: Console) -> Any:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, SpinnerColumn, TextColumn
    from rich.text import Text

    class PaceColumn(ProgressColumn):
        """Pages a second and the time left; documents are too unequal for either."""

        def render(self, task: Any) -> Text:
            """What stands in a task's row."""
            if task.description != "pages" or not task.speed or task.time_remaining is None:
                return Text("")
            left = timedelta(seconds=int(task.time_remaining))
            return Text(f"{task.speed:.1f} pages/s, {left} left", style="cyan")

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description:<9}"),
        BarColumn(),
        MofNCompleteColumn(),
        PaceColumn(),
        TextColumn("{task.fields[failed]}"),
        console=console,
        transient=True,
    )
