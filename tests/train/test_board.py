"""What a run tells TensorBoard where it is installed, and that a run lacks nothing where it is not."""

from pathlib import Path

import pytest
import torch
from moca_rag.train import board
from moca_rag.train.board import Board
from moca_rag.train.ranks import Ranks

from moca_rag.progress import SilentReporter
from tests.train.test_cpt import log, run

LEADER, FOLLOWER = (Ranks(number, 2, torch.device("cpu"), None) for number in (0, 1))


class Listener(SilentReporter):
    """Keeps what is said."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def say(self, message: str) -> None:
        self.heard.append(message)


def test_without_the_package_it_is_said_once_and_by_one_rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(board, "find_spec", lambda name: None)
    for ranks, lines in ((LEADER, 1), (FOLLOWER, 0)):
        listener = Listener()
        with Board(tmp_path, ranks, 0, listener) as quiet:
            quiet.write({"step": 1, "loss": 2.0})
            quiet.write({"step": 2, "loss": 1.0})
        assert len(listener.heard) == lines
    assert list(tmp_path.iterdir()) == []


def read_scalars(folder: Path, name: str) -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(name)]


def test_every_figure_of_a_run_is_a_scalar(model: Path, cpt_rows: Path, tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    run(model, cpt_rows, tmp_path, "steps=3", "log_steps=2")
    wanted = log(tmp_path)
    for name in ("loss", "mlm_loss", "gradient_norm"):
        told = read_scalars(tmp_path / "tensorboard", name)
        assert [step for step, _ in told] == [2, 3]
        assert [value for _, value in told] == pytest.approx([line[name] for line in wanted], rel=1e-6)


def test_a_run_that_goes_on_takes_back_the_steps_after_its_checkpoint(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    for start, end, loss in ((0, 5, 9.0), (2, 4, 1.0)):
        with Board(tmp_path, LEADER, start, SilentReporter()) as told:
            for step in range(start + 1, end + 1):
                told.write({"step": step, "loss": loss})
    assert read_scalars(tmp_path / "tensorboard", "loss") == [(1, 9.0), (2, 9.0), (3, 1.0), (4, 1.0)]


def test_a_rank_that_does_not_lead_writes_nothing(tmp_path: Path) -> None:
    with Board(tmp_path, FOLLOWER, 0, SilentReporter()) as told:
        told.write({"step": 1, "loss": 2.0})
    assert list(tmp_path.iterdir()) == []
