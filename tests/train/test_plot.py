"""Loss curves of runs: read from their logs, smoothed, and drawn where the axes say."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from moca_rag.train.plot import COLOURS, find_ticks, plot_runs, read_curve, read_log, smooth
from PIL import Image

from moca_rag.errors import ConfigError
from tests.train.test_cpt import run


def write_log(run: Path, lines: list[dict[str, Any]], rest: str = "") -> Path:
    run.mkdir(parents=True)
    (run / "log.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines) + rest)
    return run


def level(run: Path, loss: float, num_steps: int = 200, **more: float) -> Path:
    return write_log(run, [{"step": step, "loss": loss, **more} for step in range(1, num_steps + 1)])


def find_ink(picture: Path, colour: tuple[int, int, int]) -> np.ndarray:
    """Where [H, W] a picture has this colour, nearly: lines are smooth at their edges."""
    with Image.open(picture) as image:
        pixels = np.asarray(image).astype(int)
    return np.asarray((abs(pixels - colour) < 30).all(axis=-1))


def find_rows(picture: Path, colour: tuple[int, int, int]) -> np.ndarray:
    """The heights at which a colour runs over more than half of the picture."""
    return np.flatnonzero(find_ink(picture, colour).mean(axis=1) > 0.5)


def test_the_higher_loss_is_drawn_higher_and_each_run_in_its_colour(tmp_path: Path) -> None:
    runs = [level(tmp_path / name, loss) for name, loss in (("low", 1.0), ("high", 3.0), ("middle", 2.0))]
    report = plot_runs(runs, tmp_path / "new" / "losses.png")
    low, high, middle = (find_rows(report.out, colour).mean() for colour in COLOURS[:3])
    assert high < middle < low
    assert middle == pytest.approx((low + high) / 2, abs=1)
    assert [(line.step, line.loss, line.held_out_loss) for line in report.runs] == [
        (200, 1.0, None),
        (200, 3.0, None),
        (200, 2.0, None),
    ]
    with Image.open(report.out) as image:
        assert image.width == 1200


def test_a_run_that_tells_more_losses_has_more_panels(tmp_path: Path) -> None:
    sizes, lines = [], []
    for name, more in (("one", {}), ("three", {"mlm_loss": 1.0, "mae_loss": 2.0})):
        out = plot_runs([level(tmp_path / name, 1.0, **more)], tmp_path / f"{name}.png").out
        with Image.open(out) as image:
            sizes.append(image.height)
        rows = find_rows(out, COLOURS[0])
        lines.append(1 + int((np.diff(rows) > 1).sum()))
    assert lines == [1, 3]
    assert sizes[1] - sizes[0] == 2 * 400


def test_a_held_out_loss_is_a_dot_at_its_step(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = [{"step": step, "loss": 1.0} for step in range(1, 102)]
    lines[50] |= {"held_out_loss": 2.0}
    report = plot_runs([write_log(tmp_path / "run", lines)], tmp_path / "losses.png")
    assert report.runs[0].held_out_loss == 2.0
    line = int(find_rows(report.out, COLOURS[0]).min())
    rows, columns = np.nonzero(find_ink(report.out, COLOURS[0])[80 : line - 5])
    assert len(rows) > 30
    assert columns.mean() == pytest.approx((90 + 1170) / 2, abs=2)


def test_the_smoothed_line_is_a_mean_of_neighbours() -> None:
    values = np.random.default_rng(0).normal(size=250).astype(np.float32)
    wanted = [values[max(0, place - 2) : place + 3].mean() for place in range(250)]
    assert smooth(values) == pytest.approx(np.array(wanted), abs=1e-5)


def test_ticks_are_round_and_few() -> None:
    for low, high in ((0.03, 0.11), (1, 1200), (2.2, 9.7), (-3, 4), (0.0, 1e-4)):
        ticks = find_ticks(low, high, 7)
        assert 2 <= len(ticks) <= 7
        assert all(low - 1e-9 <= tick <= high * (1 + 1e-9) for tick in ticks)


def test_a_line_that_is_still_being_written_is_left_out(tmp_path: Path) -> None:
    run = write_log(tmp_path / "run", [{"step": 1, "loss": 2.0}, {"step": 2, "loss": float("nan")}], '{"step": 3, "lo')
    assert read_curve(read_log(run), "loss").steps.tolist() == [1.0]
    plot_runs([run], tmp_path / "losses.png")


def test_what_cannot_be_drawn_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none is no run: it has no log\.jsonl"):
        plot_runs([tmp_path / "none"], tmp_path / "losses.png")
    with pytest.raises(ConfigError, match="holds no loss yet"):
        plot_runs([write_log(tmp_path / "empty", [])], tmp_path / "losses.png")
    with pytest.raises(ConfigError, match="holds no loss yet"):
        plot_runs([level(tmp_path / "lost", float("nan"))], tmp_path / "losses.png")
    with pytest.raises(ConfigError, match="damaged in line 1"):
        plot_runs([write_log(tmp_path / "torn", [], 'x\n{"step": 1, "loss": 1}\n')], tmp_path / "losses.png")
    many = [level(tmp_path / str(number), 1.0, 2) for number in range(len(COLOURS) + 1)]
    with pytest.raises(ConfigError, match="8 runs cannot be told apart in one picture: name 7 or fewer"):
        plot_runs(many, tmp_path / "losses.png")
    assert not (tmp_path / "losses.png").exists()


def test_the_log_of_a_real_run_is_drawn(model: Path, cpt_rows: Path, tmp_path: Path) -> None:
    run(model, cpt_rows, tmp_path / "run", "steps=2", f"held_out={cpt_rows}")
    (line,) = plot_runs([tmp_path / "run"], tmp_path / "losses.png").runs
    assert (line.step, line.held_out_loss is None) == (2, False)
