"""Figures of a run for TensorBoard, where it is installed."""

from collections.abc import Mapping
from contextlib import AbstractContextManager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from moca_rag.progress import Reporter

from .ranks import Ranks


class Board(AbstractContextManager["Board"]):
    """`<run>/tensorboard`, a scalar a figure; without the package, or on a rank that does not lead, nothing is written."""

    def __init__(self, run: Path, ranks: Ranks, step: int, reporter: Reporter) -> None:
        """What lies behind the step that a run goes on from is taken out of the curves."""
        self._writer: Any = None
        if not ranks.leads:
            return
        if find_spec("tensorboard") is None:
            reporter.say("no TensorBoard here, log.jsonl holds all figures: pip install tensorboard, if you like")
            return
        from torch.utils.tensorboard import SummaryWriter  # a second to import

        self._writer = SummaryWriter(run / "tensorboard", purge_step=step + 1)

    def write(self, figures: Mapping[str, float]) -> None:
        """All figures of a step, which is one of them."""
        if self._writer is not None:
            for name, value in figures.items():
                if name != "step":
                    self._writer.add_scalar(name, value, int(figures["step"]))

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()
