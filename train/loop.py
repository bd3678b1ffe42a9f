"""The loop of both stages: steps over global batches, resumed at the very next one, saved, logged, stopped with care."""

import json
import math
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from moca_rag.errors import MocaError
from moca_rag.progress import Reporter, SilentReporter

from .board import Board
from .checkpoints import Checkpoint, Draft, find_newest, read_tensors
from .optimizer import Optimizer
from .ranks import Ranks, whole
from .settings import RunSettings

PAUSE_S = 20.0  # between two lines that say how it goes


class TrainingError(MocaError):
    """A run that cannot go on: what it made so far is kept."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a run stands in its data: the epoch, and how much of it is used (rows, or batches: the stage knows)."""

    epoch: int = 0
    used: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """One global batch: its rows by number, its epoch, and where the data goes on after it."""

    rows: tuple[int, ...]
    epoch: int
    following: Place


class Stage(Protocol):
    """What the loop asks of a stage of training."""

    @property
    def module(self) -> nn.Module:
        """All that is trained."""
        ...

    @property
    def num_steps(self) -> int:
        """Steps in the whole run."""
        ...

    def take(self, place: Place) -> Batch:
        """The next global batch; the same on every rank."""
        ...

    def prepare(self, batch: Batch) -> Any:
        """This rank's part of a batch, ready for `run`; called ahead, in another thread."""
        ...

    def run(self, prepared: Any) -> dict[str, float]:
        """Forward and backward; figures to be added up over ranks. Gradients are averaged over ranks afterwards."""
        ...

    def figures(self, sums: Mapping[str, float]) -> dict[str, float]:
        """What is logged, from the figures summed over ranks; `loss` is among them."""
        ...

    def judge(self) -> dict[str, float]:
        """Figures on held-out rows, summed over this rank."""
        ...

    def show(self, step: int, done: bool) -> None:
        """Pictures of what the model makes of a few rows, if it is the step for them; every rank must call it."""
        ...

    def write_model(self, folder: Path, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Write the model folder; the tensors that it does not keep come back, to be saved beside it."""
        ...

    def fingerprint(self) -> str:
        """A hash of the rows to learn from."""
        ...

    def name_rows(self, batch: Batch) -> str:
        """The rows of a batch in words, for a message."""
        ...


def rate_at(step: int, num_steps: int, settings: RunSettings) -> float:
    """The learning rate of a step: up in a line over the warm-up, then down in a line to zero.

    >>> [rate_at(step, 10, RunSettings(learning_rate=1.0, warmup=0.2)) for step in (0, 1, 2, 6, 9)]
    [0.5, 1.0, 1.0, 0.5, 0.125]
    """
    rising = max(1, round(settings.warmup * num_steps))
    if step < rising:
        return settings.learning_rate * (step + 1) / rising
    return settings.learning_rate * (num_steps - step) / max(1, num_steps - rising)


def train(stage: Stage, settings: RunSettings, ranks: Ranks, reporter: Reporter) -> dict[str, float]:
    """Run a stage to its end, or to a signal; the last figures. The newest checkpoint of the run is gone on from.

    Raises TrainingError where the loss is not finite, naming the batch's rows; the last checkpoint is kept.
    """
    run = Path(settings.out)
    optimizer = Optimizer(stage.module, settings, sharded=ranks.number > 1)
    found = find_newest(run)
    step, place = _restore(optimizer, found)
    last: dict[str, float] = {} if found is None else {**found.state["figures"], "step": step}
    if step >= stage.num_steps:
        return last
    reporter.start("steps", stage.num_steps)
    reporter.advance("steps", step)
    voice = _Voice(reporter if ranks.leads else SilentReporter(), step, stage.num_steps)
    with (
        _listen() as stopping,
        ThreadPoolExecutor(1) as ahead,
        _Journal(run, ranks, step) as journal,
        Board(run, ranks, step, reporter) as board,
    ):
        batch = stage.take(place)
        coming = ahead.submit(stage.prepare, batch)
        while step < stage.num_steps:
            started = time.monotonic()
            prepared, current = coming.result(), batch
            if step + 1 < stage.num_steps:
                batch = stage.take(current.following)
                coming = ahead.submit(stage.prepare, batch)
            last = _step(stage, optimizer, settings, ranks, prepared, current, step)
            seconds = time.monotonic() - started
            last |= {"step": step + 1, "epoch": current.epoch, "seconds": seconds}
            last |= {"tokens_per_second": last["tokens"] / seconds, "teraflops": last["flops"] / seconds / 1e12}
            if ranks.peak:
                last["mfu"] = last["teraflops"] / ranks.peak
            step += 1
            done = step == stage.num_steps or stopping()
            if step % settings.held_out_steps == 0 or done:
                last |= {f"held_out_{name}": value for name, value in _judge(stage, ranks).items()}
            if step % settings.log_steps == 0 or done:
                journal.write(last)
                board.write(last)
                voice.tell(last)
            reporter.advance("steps")
            if step % settings.save_steps == 0 or done:
                save(stage, optimizer, settings, ranks, step, current.following, last)
            stage.show(step, done)
            if done:
                break
    return last


def _step(
    stage: Stage,
    optimizer: Optimizer,
    settings: RunSettings,
    ranks: Ranks,
    prepared: Any,
    batch: Batch,
    step: int,
) -> dict[str, float]:
    rate = rate_at(step, stage.num_steps, settings)
    optimizer.clear()
    figures = stage.figures(ranks.add_up(stage.run(prepared)))
    norm = float(whole(nn.utils.clip_grad_norm_(stage.module.parameters(), settings.clip)))
    if not math.isfinite(norm) or not math.isfinite(figures["loss"]):
        raise TrainingError(
            f"step {step + 1} gave a loss of {figures['loss']} and a gradient of {norm} over {stage.name_rows(batch)}: "
            "nothing of it was kept; look at these rows, or lower learning_rate"
        )
    optimizer.step(rate)
    return figures | {"gradient_norm": norm, "learning_rate": rate}


def _judge(stage: Stage, ranks: Ranks) -> dict[str, float]:
    sums = ranks.add_up(stage.judge())
    figures = stage.figures(sums) if sums else {}
    return {name: value for name, value in figures.items() if name not in ("tokens", "flops")}


def save(
    stage: Stage,
    optimizer: Optimizer,
    settings: RunSettings,
    ranks: Ranks,
    step: int,
    place: Place,
    figures: Mapping[str, float],
) -> None:
    """Write a checkpoint, atomically; every rank must call it. A disk that is full leaves the ones before."""
    weights = {name: whole(weight).cpu() for name, weight in stage.module.named_parameters()}
    moments = optimizer.moments()
    if ranks.leads:
        draft = Draft(Path(settings.out), step)
        try:
            largest = settings.file_mb * 10**6
            draft.write_tensors("heads", stage.write_model(draft.folder, weights), largest)
            draft.write_tensors("moments", moments, largest)
            draft.write_state(
                {
                    "step": step,
                    "epoch": place.epoch,
                    "used": place.used,
                    "seed": settings.seed,
                    "figures": dict(figures),
                }
            )
            draft.finish(settings.keep)
        except OSError as error:
            draft.discard()
            raise TrainingError(
                f"step {step} could not be saved ({error.strerror or error}): the checkpoints before it are kept; "
                "make room and give the same command"
            ) from error
    ranks.wait()


def _restore(optimizer: Optimizer, found: Checkpoint | None) -> tuple[int, Place]:
    """Put a checkpoint's moments back; the model and its heads were loaded by the stage."""
    if found is None:
        return 0, Place()
    optimizer.restore(read_tensors(found, "moments"), found.step)
    return found.step, Place(found.state["epoch"], found.state["used"])


@contextmanager
def _listen() -> Iterator[Callable[[], bool]]:
    """Whether SIGTERM has come, as from a cluster that wants its machine back."""
    heard: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        yield lambda: bool(heard)
    finally:
        signal.signal(signal.SIGTERM, before)


class _Voice:
    """Says how it goes: at once, after that not more often than a person can read, and whenever held-out rows were judged."""

    SHOWN = (
        "mlm_loss",
        "mae_loss",
        "masked_accuracy",
        "letter_f1",
        "token_accuracy",
        "accuracy",
        "gradient_norm",
        "held_out_loss",
        "held_out_accuracy",
        "held_out_letter_f1",
        "held_out_words_read",
    )

    def __init__(self, reporter: Reporter, step: int, num_steps: int) -> None:
        """The run goes on after `step`."""
        self._reporter = reporter
        self._began, self._first, self._num_steps = time.monotonic(), step, num_steps
        self._spoke = -math.inf

    def tell(self, figures: Mapping[str, float]) -> None:
        """One line, if it is time for one."""
        now, step = time.monotonic(), figures["step"]
        if now - self._spoke < PAUSE_S and "held_out_loss" not in figures:
            return
        self._spoke = now
        shown = "".join(f", {name.replace('_', ' ')} {figures[name]:.3g}" for name in self.SHOWN if name in figures)
        speed = f"{figures['tokens_per_second']:,.0f} tokens/s"
        if "mfu" in figures:
            speed += f" ({figures['mfu']:.0%} MFU)"
        left = timedelta(seconds=round((now - self._began) / (step - self._first) * (self._num_steps - step)))
        told = f"step {step:,} of {self._num_steps:,}: loss {figures['loss']:.4g}{shown}, {speed}, {left} left"
        self._reporter.say(told)


class _Journal:
    """`log.jsonl`: a line a step. What lies behind the step that a run goes on from is written again."""

    def __init__(self, run: Path, ranks: Ranks, step: int) -> None:
        self._path = run / "log.jsonl"
        self._leads = ranks.leads
        if not self._leads:
            return
        run.mkdir(parents=True, exist_ok=True)
        lines = self._path.read_text(encoding="utf-8").splitlines() if self._path.exists() else []
        kept = [line for line in lines if (number := _read_step(line)) is not None and number <= step]
        self._path.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")

    def write(self, figures: Mapping[str, float]) -> None:
        """One line."""
        if self._leads:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(dict(figures)) + "\n")

    def __enter__(self) -> "_Journal":
        return self

    def __exit__(self, *_: object) -> None:
        return None


def _read_step(line: str) -> int | None:
    """The step of a line of the log; None for one that a full disk or a power cut tore."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return None
